"""The command bench: compilation is announced before anything is measured."""

import pytest

from npmobilenet.errors import NpMobileNetError
from npmobilenet.models.model import Model
from tests.helpers.command_line import run


@pytest.mark.parametrize("measurement", [["--against", "onnxruntime"], ["--steps"]], ids=" ".join)
def test_compilation_is_announced_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, measurement: list[str]
) -> None:
    if "onnxruntime" in measurement:
        pytest.importorskip("onnxruntime", reason="requires a runtime to compare with: pip install npmobilenet[bench]")
    compiled: list[Model] = []

    def measured(model: Model, *_: object, **__: object) -> None:
        assert compiled == [model]
        raise NpMobileNetError("enough")

    monkeypatch.setattr(Model, "is_compiled", lambda model: False)
    monkeypatch.setattr(Model, "compile", lambda model: compiled.append(model))
    monkeypatch.setattr("npmobilenet.cli.bench_command.compare_engines", measured)
    monkeypatch.setattr("npmobilenet.cli.bench_command.profile_steps", measured)
    result = run("bench", "digits", "--threads", 1, *measurement)
    assert result.stderr == "compiling the kernels for this CPU\nnpmobilenet: enough\n"
