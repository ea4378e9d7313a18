"""The check that parameters are those of a graph."""

from collections.abc import Mapping

from npmobilenet.errors import WeightsError
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array


def check_params(graph: Graph, params: Mapping[str, Array]) -> None:
    """Check that `params` are exactly the arrays of the graph.

    Raises:
        WeightsError: they are not; one message lists every missing, unexpected and wrongly shaped array.
    """
    problems = [f"missing: {name} {shape}" for name, shape in graph.param_shapes.items() if name not in params]
    problems += [f"unexpected: {name} {params[name].shape}" for name in params if name not in graph.param_shapes]
    problems += [
        f"wrong shape: {name}: expected {shape}, got {params[name].shape}"
        for name, shape in graph.param_shapes.items()
        if name in params and params[name].shape != shape
    ]
    if problems:
        raise WeightsError(f"{graph.name}: the weights do not fit ({len(problems)} arrays)\n  " + "\n  ".join(problems))
