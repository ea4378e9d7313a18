"""Parts of a network: up to some tensors, up to a detector's heads, up to the vector in front of the classifier."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import prod

from npmobilenet.quantized.tensors import Network, Operator

POST_PROCESSING = "CUSTOM:TFLite_Detection_PostProcess"
REWRITES = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE")  # the same values, in other steps or another shape
POOLS = ("AVERAGE_POOL_2D", "MEAN", "MAX_POOL_2D")


def network_to(network: Network, outputs: Sequence[int]) -> Network:
    """The operators that some tensors depend on; these, by number, are the outputs."""
    needed, kept = set(outputs), []
    for operator in reversed(network.operators):
        if needed.intersection(operator.outputs):
            needed.update(operator.inputs)
            kept.append(operator)
    return replace(network, operators=tuple(reversed(kept)), outputs=tuple(outputs))


def without_post_processing(network: Network) -> Network:
    """A detector up to its heads, boxes and scores; any other network as it is."""
    if not network.operators or network.operators[-1].code != POST_PROCESSING:
        return network
    heads = network.operators[-1].inputs
    return network_to(network, [number for number in heads if network.tensors[number].data is None])


def makers(network: Network) -> dict[int, Operator]:
    """The operator that makes each tensor, by the tensor's number."""
    return {number: operator for operator in network.operators for number in operator.outputs}


def final_operator(network: Network, output: int) -> Operator | None:
    """The operator that computes an output's values; None if the network only passes on its input."""
    making = makers(network)
    while output in making and making[output].code in REWRITES:
        output = making[output].inputs[0]
    return making.get(output)


def embedding(network: Network) -> int | None:
    """Number of the tensor that is one vector per image, from before the classifier; None if there is none.

    It is made by the last pool that turns a map into one pixel and that every path goes through: the pools of
    squeeze-and-excitation have a path around them.
    """
    readers = Counter(number for operator in network.operators for number in set(operator.inputs))
    live, found = {network.inputs[0]}, None
    for operator in network.operators:
        for number in set(operator.inputs):
            readers[number] -= 1
        live = {number for number in live if readers[number] > 0} | set(operator.outputs)
        if live == set(operator.outputs) and operator.code in POOLS and _gives_vector(network, operator):
            found = operator.outputs[0]
    return found


def _gives_vector(network: Network, operator: Operator) -> bool:
    x, y = (network.tensors[numbers[0]].shape for numbers in (operator.inputs, operator.outputs))
    return prod(x[1:-1]) > 1 and prod(y[1:-1]) == 1


def unique_names(network: Network) -> tuple[str, ...]:
    """A name for every tensor: its own, followed by its number if that is empty or taken by one before."""
    names: dict[str, int] = {}
    for number, tensor in enumerate(network.tensors):
        name = tensor.name
        while not name or name in names:
            name = f"{name}:{number}"
        names[name] = number
    return tuple(names)
