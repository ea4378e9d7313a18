"""Verification of the engine: every step of a plan, compared with the reference on the step's own inputs.

The self-check in a file is computed by the reference and does not cover the engine, which computes most predictions.
Here the engine computes the image of the self-check step by step, and each result must be within rounding of the
reference's result for the same inputs in float64. So errors are not inherited from earlier steps, and the tolerance is
derived, as in `porting.diagnose`.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.errors import KernelError
from npmobilenet.models.model import Model
from npmobilenet.models.quantized_execution import engine_of
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.models.self_check import synthetic_image

if TYPE_CHECKING:
    from npmobilenet.compiler.plan import Plan


@dataclass(frozen=True)
class EngineCheck:
    """Result of an engine check.

    Attributes:
        width: floats per vector of the kernels.
        checked: number of results: one per step, two if a step also computes the global average of its map. The outputs
            of the whole plan must be those of its steps.
        differing: names of the layers whose result differs by more than rounding, in the order of computation.
        worst: maximum difference, as a multiple of the tolerance of its value.
    """

    width: int
    checked: int
    differing: tuple[str, ...]
    worst: float

    @property
    def passed(self) -> bool:
        return not self.differing

    def to_json(self) -> dict[str, Any]:
        """The attributes and the first layer that differs, for a JSON document."""
        return asdict(self) | {"first_differing": self.differing[0] if self.differing else None}

    def __str__(self) -> str:
        width = f"{self.width} floats per vector"
        if self.passed:
            return f"all {self.checked} results within rounding of the reference, {width}"
        wrong = f"{len(self.differing)} of {self.checked} results differ from the reference"
        return f"{wrong}, first {self.differing[0]}, {width}"


@dataclass(frozen=True)
class ByteEngineCheck:
    """Result of a check of the engine of a quantized network.

    Attributes:
        target: name of the kernels.
        checked: number of results, one per step and output.
        differing: names of the tensors that are not those of the reference, in the order of computation.
    """

    target: str
    checked: int
    differing: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.differing

    def to_json(self) -> dict[str, Any]:
        """The attributes and the first tensor that differs, for a JSON document."""
        return asdict(self) | {"first_differing": self.differing[0] if self.differing else None}

    def __str__(self) -> str:
        if self.passed:
            return f"all {self.checked} results are the reference's integers, {self.target} kernels"
        wrong = f"{len(self.differing)} of {self.checked} results are not the reference's integers"
        return f"{wrong}, first {self.differing[0]}, {self.target} kernels"


def check_byte_engine(model: QuantizedModel) -> ByteEngineCheck:
    """Check the engine of a quantized model on this CPU, on the image of the self-check: every integer counts.

    Raises:
        KernelError: there are no compiled kernels for this CPU, and they cannot be compiled.
    """
    from npmobilenet.compiler.byte_operations import as_stored

    plan = engine_of(model, model.computed).plan()
    x = model.scale(synthetic_image(model.interface.input_shape)[None])
    expected = dict(model.trace(x))
    found = [(name, y[None]) for made in plan.step_outputs(x[0]) for name, y in made.items() if name in expected]
    outputs = [model.names[number] for number in model.computed.outputs]
    found += [(name, as_stored(y)) for name, y in zip(outputs, plan.outputs(x), strict=True)]
    wrong = [name for name, y in found if not np.array_equal(y.ravel(), as_stored(expected[name]).ravel())]
    return ByteEngineCheck(plan.target.name, len(found), tuple(dict.fromkeys(wrong)))


def check_engine(model: Model) -> EngineCheck:
    """Check the engine on this CPU with a model, on the image of the self-check.

    Raises:
        KernelError: there are no compiled kernels for this CPU, and they cannot be compiled.
    """
    try:
        from npmobilenet.compiler.plan import compile_graph

        plan = compile_graph(model.graph, model.params)
    except ImportError as error:
        raise KernelError(f"no compiled kernels: {error}") from error
    return check_plan(model, plan)


def check_plan(model: Model, plan: "Plan") -> EngineCheck:
    """Check one plan of a model; errors as `check_engine`."""
    from npmobilenet.analysis.segments import excess, segment_to

    x = model.scale(synthetic_image(model.graph.input_shape)[None])  # (1, H, W, C)
    params = {name: array.astype(np.float64) for name, array in model.params.items()}
    given = {model.graph.layers[0].name: x.astype(np.float64)}
    ratios: dict[str, float] = {}

    def compare(name: str, y: np.ndarray[Any, Any]) -> None:
        segment = segment_to(model.graph, params, name, given)
        ratios[name] = excess(y, segment.y, segment.tolerance())
        given[name] = y.astype(np.float64)

    for made in plan.step_outputs(x[0]):
        for name, y in made.items():
            if name in model.graph.shapes and name not in given:
                compare(name, y[None])
    for layer, y in zip(model.graph.output_layers, plan.outputs(x), strict=True):
        if layer not in ratios:  # an alias of another value, or the image itself
            compare(layer, y)
        elif not np.array_equal(y, given[layer], equal_nan=True):  # overwritten before the end
            ratios[layer] = np.inf
    differing = tuple(name for name, ratio in ratios.items() if not ratio <= 1)
    return EngineCheck(plan.target.width, len(ratios), differing, max(ratios.values(), default=0.0))
