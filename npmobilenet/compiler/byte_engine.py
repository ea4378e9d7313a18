"""The engine of quantized networks: a plan for one network and rule, made when it is first needed."""

from functools import cached_property

from npmobilenet_kernels.runtime.cpu import host_byte_target

from npmobilenet.compiler.byte_plan import BytePlan, compile_network
from npmobilenet.quantized.rules import TFLITE, Rule
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Array


class ByteEngine:
    """A quantized network on compiled kernels; every bit is that of the NumPy operators under the same rule.

    Args:
        network: operators of TensorFlow Lite's own.
        rule: how results are rounded.

    Raises:
        ImportError: there are no kernels for this architecture.
    """

    def __init__(self, network: Network, rule: Rule = TFLITE) -> None:
        self._target = host_byte_target()
        self.network = network
        self.rule = rule

    @cached_property
    def _plan(self) -> BytePlan:
        return compile_network(self.network, self.rule, self._target)

    def plan(self) -> BytePlan:
        """The plan, ready to run: kernels that are missing are compiled now.

        Raises:
            WeightsError: an operator is not supported.
            KernelError: the kernels cannot be compiled.
        """
        self._plan.compile_kernels()
        return self._plan

    def is_ready(self) -> bool:
        """Whether images can be computed without compiling anything; errors as `plan`."""
        return self._plan.is_ready()

    def begin_to_compile(self) -> None:
        """Have another process compile the kernels; errors as `plan`."""
        self._plan.begin_to_compile()

    def outputs(self, x: Array, threads: int | None = None) -> list[Array]:
        """Compute images; arguments, result and errors as `BytePlan.outputs`, and errors as `plan`."""
        return self.plan().outputs(x, threads)
