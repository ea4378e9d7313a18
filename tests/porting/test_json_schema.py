"""Our reading of the manifests' schemas against jsonschema's, and manifests that are wrong with a right hash."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from npmobilenet.errors import WeightsError
from npmobilenet.hub.load import load
from npmobilenet.porting.golden import GoldenData
from npmobilenet.porting.golden_manifest import MANIFEST, manifest_hash
from npmobilenet.porting.golden_writer import write_golden_data
from npmobilenet.porting.integer_pack_writer import write_integer_pack
from npmobilenet.porting.json_schema import schema_named, violations
from tests.helpers.quantized_models import small_model

SCHEMAS = ("pack.schema.json", "integer_pack.schema.json")
STRANGE: tuple[Any, ...] = (None, True, -1, 3, 2.5, float("nan"), "", "other", [], [None], {}, {"file": 3})
CHANGES = 400  # of each manifest


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """A manifest for each schema."""
    folder = tmp_path_factory.mktemp("packs")
    digits, small = load("digits"), small_model()
    write_golden_data(digits, np.zeros((32, 32, 3), np.uint8), folder / "float", layers=["conv1", "conv_dw_*"])
    write_integer_pack(small, np.zeros(small.interface.input_shape, np.uint8), folder / "integers")
    return {
        name: json.loads((folder / kind / MANIFEST).read_text())
        for name, kind in zip(SCHEMAS, ("float", "integers"), strict=True)
    }


def changed(document: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """A copy in which a value, anywhere, is another one, or missing."""
    copy = deepcopy(document)
    place: Any = copy
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[int(rng.integers(len(keys)))]
        inner = place[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
            place = inner
            continue
        if rng.random() < 0.2:
            del place[key]
        else:
            place[key] = STRANGE[int(rng.integers(len(STRANGE)))]
        return copy


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_same_documents_fit(name: str, manifests: dict[str, dict[str, Any]]) -> None:
    schema, rng = schema_named(name), np.random.default_rng(0)
    judge = jsonschema.Draft202012Validator(schema)
    assert not list(violations(manifests[name], schema, schema))
    refused = 0
    for _ in range(CHANGES):
        document = changed(manifests[name], rng)
        wrong = list(violations(document, schema, schema))
        if "nan" not in json.dumps(document).lower():  # which jsonschema takes for a number of any size
            assert bool(wrong) == (not judge.is_valid(document)), wrong
        refused += bool(wrong)
    assert refused > CHANGES / 4


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model", "scaling", "scale"), "1", "model.scaling.scale: expected number or array, got '1'"),
        (("chosen",), "conv1", "chosen: expected array, got 'conv1'"),
        (("tensors", 0, "shape"), [-1], r"tensors\[0\].shape\[0\]: expected at least 0, got -1"),
        (("tensors", 0, "sha256"), "abc", r"tensors\[0\].sha256: expected \^\[0-9a-f\]\{64\}\$, got 'abc'"),
        (("layout",), "CHWN", r"layout: expected one of \['NHWC', 'NCHW'\], got 'CHWN'"),
        (("image",), {"source": None}, "image: resize is missing"),
    ],
)
def test_a_wrong_manifest_behind_a_right_hash_is_refused_on_opening(
    path: tuple[Any, ...], value: object, message: str, manifests: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    document = deepcopy(manifests[SCHEMAS[0]])
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    document["sha256"] = manifest_hash(document)
    (tmp_path / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(WeightsError, match=message):
        GoldenData.open(tmp_path)
