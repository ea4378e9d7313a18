"""The engine: a plan per image size, made when it is first needed."""

from npmobilenet_kernels.runtime.cpu import host_target

from npmobilenet.compiler.plan import Plan, compile_graph
from npmobilenet.compiler.thread_count import default_threads
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array, Outputs, Pair, Params

PLANS = 4  # image sizes whose plans an engine keeps: each holds a packed copy of the weights


class Engine:
    """A network that makes a plan for every image size it meets, and keeps the last few.

    Args:
        graph: the network.
        params: arrays by `layer/array`.

    Raises:
        ImportError: there are no kernels for this architecture.
    """

    def __init__(self, graph: Graph, params: Params) -> None:
        self._target = host_target()
        self.graph = graph
        self._params = params
        self._plans: dict[Pair, Plan] = {}

    def plan(self, H: int, W: int) -> Plan:
        """The plan for images of H x W pixels, ready to run: kernels that are missing are compiled now.

        Raises:
            ShapeError: the network fixes another size, or the images are too small for it.
            KernelError: the kernels cannot be compiled.
        """
        plan = self._plan(H, W)
        plan.compile_kernels()
        return plan

    def is_ready(self, H: int, W: int) -> bool:
        """Whether images of H x W pixels can be computed without compiling anything; errors as `plan`."""
        return self._plan(H, W).is_ready()

    def begin_to_compile(self, H: int, W: int) -> None:
        """Have another process compile the kernels for images of H x W pixels; errors as `plan`."""
        self._plan(H, W).begin_to_compile()

    def run(self, x: Array, threads: int | None = None) -> Outputs:
        """Compute the network on scaled images (N, H, W, C); arguments, result and errors as `plan` and `Plan.run`."""
        return self.plan(*self.size(x)).run(x, threads)

    def threads(self, requested: int | None) -> int:
        """Maximum number of threads; arguments and errors as `Plan.run`."""
        return default_threads() if requested is None else requested

    def size(self, x: Array) -> Pair:
        """(H, W) of images (N, H, W, C).

        Raises:
            ShapeError: x has another shape.
        """
        if x.ndim != 4 or x.shape[3] != self.graph.input_shape[2]:
            expected = ", ".join(map(str, self.graph.input_shape))
            raise ShapeError(f"{self.graph.name}: expected x of shape (N, {expected}), got {x.shape}")
        return x.shape[1], x.shape[2]

    def _plan(self, H: int, W: int) -> Plan:
        plan = self._plans.get((H, W))
        if plan is None:
            graph = self.graph if self.graph.input_shape[:2] == (H, W) else self.graph.with_input(H, W)
            plan = compile_graph(graph, self._params, self._target)
            while len(self._plans) >= PLANS:
                self._plans.pop(next(iter(self._plans)), None)
            self._plans[H, W] = plan
        return plan
