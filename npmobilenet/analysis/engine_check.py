"""Is the engine right about a model? Every step of its plan, judged by the reference on what the step really read.

The self-check in a file is computed by the reference and says nothing about the engine, which most answers come from.
Here the engine computes the picture of the self-check step by step, and each result must lie within rounding of what
the reference makes of the same inputs in float64. So nothing is inherited from earlier steps, and the tolerance is
derived, as in `compare`.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.errors import KernelError
from npmobilenet.models.model import Model, made_up_pixels

if TYPE_CHECKING:
    from npmobilenet.compiler.plan import Plan


@dataclass(frozen=True)
class EngineCheck:
    """Result of judging an engine.

    Attributes:
        width: floats in a vector, which the kernels differ by.
        checked: number of results that were judged: one per step, two where a step also takes the average of its map.
        differing: names of the layers whose result is off by more than rounding, in the order of computation.
        worst: largest difference as a multiple of what rounding may make of it, at its place.
    """

    width: int
    checked: int
    differing: tuple[str, ...]
    worst: float

    @property
    def passed(self) -> bool:
        return not self.differing

    def to_json(self) -> dict[str, Any]:
        """Its attributes for a JSON document, and the first layer that differs."""
        return asdict(self) | {"first_differing": self.differing[0] if self.differing else None}

    def __str__(self) -> str:
        width = f"{self.width} floats per vector"
        if self.passed:
            return f"all {self.checked} results within rounding of the reference, {width}"
        wrong = f"{len(self.differing)} of {self.checked} results differ from the reference"
        return f"{wrong}, first {self.differing[0]}, {width}"


def check_engine(model: Model) -> EngineCheck:
    """Judge the engine on a model, for this CPU, on the picture of the self-check.

    Raises:
        KernelError: there are no compiled kernels for this CPU, and none can be made.
    """
    try:
        from npmobilenet.compiler.plan import compile_graph

        plan = compile_graph(model.graph, model.params)
    except ImportError as error:
        raise KernelError(f"no compiled kernels: {error}") from error
    return check_plan(model, plan)


def check_plan(model: Model, plan: "Plan") -> EngineCheck:
    """Judge one plan for a model; errors as `check_engine`."""
    from npmobilenet.analysis.segments import excess, segment_to

    x = model.scale(made_up_pixels(model.graph.input_shape)[None])  # (1, H, W, C)
    params = {name: array.astype(np.float64) for name, array in model.params.items()}
    given = {model.graph.layers[0].name: x.astype(np.float64)}
    output = model.graph.layers[-1].name
    ratios: dict[str, float] = {}

    def judge(name: str, y: np.ndarray[Any, Any]) -> None:
        segment = segment_to(model.graph, params, name, given)
        ratios[name] = excess(y, segment.y, segment.tolerance())
        given[name] = y.astype(np.float64)

    for made in plan.step_outputs(x[0]):
        for name, y in made.items():
            if name in model.graph.shapes and name not in given:
                judge(name, y[None])
    if output not in ratios:  # a view of another value, or the image itself
        judge(output, plan.run(x))
    differing = tuple(name for name, ratio in ratios.items() if not ratio <= 1)
    return EngineCheck(plan.target.width, len(ratios), differing, max(ratios.values(), default=0.0))
