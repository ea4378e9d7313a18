"""The command cost: counts, shares, conventions and tables."""

from pathlib import Path

import pytest

from npmobilenet import architectures
from npmobilenet.analysis.conventions import CONVENTIONS
from tests.helpers.command_line import document, run


def test_totals_of_mobilenet_v1_are_sums_over_its_layers() -> None:
    answer = document(run("cost", "mobilenet_v1", "--json"))
    assert answer["model"] == "mobilenet_v1"
    assert answer["macs"] == 568_740_352 == sum(layer["macs"] for layer in answer["layers"])
    assert answer["params"] == 4_253_864 == sum(layer["params"] for layer in answer["layers"])
    assert answer["trainable_params"] == 4_231_976
    assert {"name", "type", "output_shape", "params", "macs"} <= set(answer["layers"][0])


def test_per_layer_prints_one_row_per_layer_and_the_total() -> None:
    lines = run("cost", "mobilenet_v2", "--alpha", 0.5, "--resolution", "128x96", "--per-layer").stdout.splitlines()
    graph = architectures.mobilenet_v2(alpha=0.5, resolution=(128, 96))
    assert len(lines) == 1 + len(graph.layers) + 1
    assert lines[-1].split()[-1] == f"{graph.macs:,}"


@pytest.mark.parametrize("name", ["mobilenet_v3_small_1.0_224", "digits"])
def test_published_models_need_no_download_and_files_are_read(name: str, small_network: Path) -> None:
    assert document(run("cost", name, "--json"))["macs"] > 0
    assert document(run("cost", small_network, "--json"))["params"] == 219_315


def test_convention_prints_every_convention() -> None:
    lines = run("cost", "mobilenet_v2", "--convention").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(CONVENTIONS)
    answer = document(run("cost", "mobilenet_v2", "--convention", "--json"))
    counts = {entry["name"]: entry["count"] for entry in answer["conventions"]}
    assert (counts["macs"], counts["keras_total"]) == (answer["macs"], answer["params"])


def test_shares_are_those_of_the_v1_paper_except_for_its_swapped_digits() -> None:
    shares = {entry["kind"]: entry for entry in document(run("cost", "mobilenet_v1", "--json"))["shares"]}
    assert {kind: round(share["macs_share"], 2) for kind, share in shares.items()} == {
        "Conv 1x1": 94.86,
        "Conv DW 3x3": 3.06,
        "Conv 3x3": 1.91,
        "Fully connected": 0.18,
    }


def test_traffic_is_proportional_to_the_size_of_a_value() -> None:
    four, one = (document(run("cost", "digits", "--itemsize", size, "--json")) for size in (4, 1))
    assert four["bytes_read"] == 4 * one["bytes_read"]
    assert run("cost", "digits", "--traffic").stdout.splitlines()[0].split()[-1] == "FLOPs/byte"


def test_tables_have_a_column_per_heading() -> None:
    tables = document(run("cost", "--tables", "--json"))
    assert tables[0]["title"].startswith("V1 paper, table 1")
    assert all(len(row) == len(table["header"]) for table in tables for row in table["rows"])


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
def test_an_output_stride_changes_the_cost_and_not_the_parameters(arch: str) -> None:
    plain, dilated = (document(run("cost", arch, "--json", *more)) for more in ([], ["--output-stride", "8"]))
    assert dilated["params"] == plain["params"]
    assert dilated["macs"] == architectures.ARCHITECTURES[arch](output_stride=8).macs > plain["macs"]


def test_an_output_stride_that_is_not_supported_is_refused() -> None:
    answer = run("cost", "mobilenet_v2", "--output-stride", "7")
    assert answer.exit_code == 2
    assert "expected output_stride as one of 8, 16, 32, got 7" in answer.stderr
