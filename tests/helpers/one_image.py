"""Drawn operators as networks of one image."""

from dataclasses import replace

from npmobilenet.quantized.tensors import Network, Operator, Options, Tensor
from npmobilenet.types import Array
from tests.helpers.drawn_operators import DrawnOperator


def after_identities(drawn: DrawnOperator) -> tuple[Network, Array]:
    """The operator with an image instead of its inputs: each input is a maximum over the image or one pixel of it."""
    network, x = drawn.network, drawn.inputs[0]
    x = x.reshape(1, 1, 1, -1) if x.ndim == 2 else x
    tensors = [*network.tensors, Tensor("image", x.shape, x.dtype, network.tensors[network.inputs[0]].quantization)]
    image, operators = len(tensors) - 1, []
    for number in network.inputs:
        tensor = tensors[number]
        window = x.shape[1:3] if len(tensor.shape) == 4 and tensor.shape[:3] == (1, 1, 1) else (1, 1)
        pooled = replace(
            tensor, name=f"{tensor.name} (map)", shape=(1, 1, 1, x.shape[3]) if window != (1, 1) else x.shape
        )
        tensors.append(pooled)
        operators.append(Operator("MAX_POOL_2D", (image,), (len(tensors) - 1,), Options(filter=window)))
        operators.append(Operator("RESHAPE", (len(tensors) - 1,), (number,), Options(shape=tensor.shape)))
    return replace(network, tensors=tuple(tensors), operators=(*operators, *network.operators), inputs=(image,)), x
