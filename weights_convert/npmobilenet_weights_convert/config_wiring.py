"""Wiring of a Keras config, in the dialects of Keras 2 and Keras 3: names, inputs, shapes, places of the weights."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from npmobilenet.errors import WeightsError
from npmobilenet_weights_convert.name_matching import snake_case

Operand = str | float  # name of a layer, or a number of an arithmetic operation


class Tensor(NamedTuple):
    """A value in a config: the name of its layer, and the number of its output, 0 unless it is a model of several."""

    layer: str
    output: int


Source = Tensor | float  # a value, or a number of an arithmetic operation


def operands_of(entry: dict[str, Any]) -> list[Source]:
    """Inputs of a layer, in order.

    Args:
        entry: the layer in the config.
    """
    operands: list[Source] = []
    for node in (entry.get("inbound_nodes") or [])[:1]:
        if isinstance(node, dict):  # Keras 3
            keywords = [value for key, value in node["kwargs"].items() if key in ("x", "x1", "x2", "inputs")]
            _collect_3([node["args"], keywords], operands)
        elif node and isinstance(node[0], str):  # Keras 2, a TensorFlow function
            _collect_2([node], operands)
        else:  # Keras 2
            _collect_2(node, operands)
    return operands


def _collect_3(value: Any, operands: list[Source]) -> None:
    if isinstance(value, list):
        for item in value:
            _collect_3(item, operands)
    elif isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        operands.append(_tensor(value["config"]["keras_history"]))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        operands.append(float(value))


def _collect_2(tensors: Iterable[Any], operands: list[Source]) -> None:
    for tensor in tensors:
        kwargs = tensor[3] if len(tensor) > 3 else {}
        operands.append(_tensor_or_constant(tensor))
        for key in ("x", "y"):
            value = kwargs.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                operands.append(float(value))
            elif isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str):
                operands.append(_tensor_or_constant(value))


def _tensor_or_constant(value: list[Any]) -> Source:
    return float(value[2]) if value[0] == "_CONSTANT_VALUE" else _tensor(value)


def _tensor(history: list[Any]) -> Tensor:
    """The value of (name, node, output)."""
    return Tensor(str(history[0]), int(history[2]))


def has_constant(operands: Sequence[Operand]) -> bool:
    """Whether a number is among the operands."""
    return any(not isinstance(operand, str) for operand in operands)


def ancestors(names: Iterable[str], operands: Mapping[str, Sequence[Source]]) -> set[str]:
    """Layers and all layers that they depend on, directly or indirectly."""
    found: set[str] = set()
    stack = list(names)
    while stack:
        current = stack.pop()
        if current not in found:
            found.add(current)
            stack += [operand.layer for operand in operands.get(current, []) if isinstance(operand, Tensor)]
    return found


def called_in_training(entry: dict[str, Any]) -> bool:
    """Whether a call has training=True, which Keras 2 obeys at inference, unlike Keras 3."""
    return any(
        isinstance(tensor, list) and len(tensor) > 3 and tensor[3].get("training") is True
        for node in entry.get("inbound_nodes") or []
        if isinstance(node, list)
        for tensor in node
    )


def call_arguments(entry: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the call of a TensorFlow function in Keras 2; Keras 3 has an operation's in its config."""
    for node in (entry.get("inbound_nodes") or [])[:1]:
        if isinstance(node, list) and len(node) > 3 and isinstance(node[3], dict):
            return node[3]
    return {}


def operation_name(kind: str, config: dict[str, Any]) -> str:
    """Plain name, such as "multiply", of TensorFlow's `math.multiply` or of Keras 3's class `Multiply`."""
    if kind == "TFOpLambda":
        return str(config["function"]).rpartition(".")[2]
    return snake_case(kind)


def name_of(entry: dict[str, Any]) -> str:
    """Name of a layer.

    Raises:
        WeightsError: it has none.
    """
    name = entry.get("name") or entry["config"].get("name")
    if not isinstance(name, str) or not name:
        raise WeightsError(f"a {entry['class_name']} in the config has no name")
    return name


def weight_paths(layers: Sequence[Any], path: str) -> list[str]:
    """Path of each layer in a `.weights.h5`: its class, numbered in the order of the model."""
    seen: Counter[str] = Counter()
    paths = []
    for layer in layers:
        kind = snake_case(str(layer["class_name"]))
        paths.append(f"{path}{'/' if path else ''}layers/{kind}{f'_{seen[kind]}' if seen[kind] else ''}")
        seen[kind] += 1
    return paths


def named_tensors(layers: Any) -> dict[str, Tensor]:
    """The inputs or outputs of a model by name: ["name", 0, 0], alone, or in lists and dictionaries.

    An output has its key in a dictionary as name, or else its layer's, with _1, _2, ... where that is taken, as in
    Keras 2.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in _tensors_in(layers, ""):
        stem = name = key or tensor.layer
        number = 0
        while name in found:
            number += 1
            name = f"{stem}_{number}"
        found[name] = tensor
    return found


def _tensors_in(layers: Any, key: str) -> Iterator[tuple[str, Tensor]]:
    """(key in a dictionary or "", value) in order."""
    if isinstance(layers, dict):
        for name, value in layers.items():
            yield from _tensors_in(value, f"{key}/{name}" if key else str(name))
    elif isinstance(layers[0], str):
        yield key, _tensor(layers)
    else:
        for value in layers:
            yield from _tensors_in(value, key)


def only_input(layers: Any) -> str:
    """Name of the only input of a model.

    Raises:
        WeightsError: there are several.
    """
    found = list(named_tensors(layers).values())
    if len(found) != 1:
        raise WeightsError(f"the model has {len(found)} inputs; only one is supported")
    return found[0].layer


def batch_shape(config: dict[str, Any]) -> Any:
    """(batch, H, W, C) in the config of a layer, or None."""
    return config.get("batch_shape") or config.get("batch_input_shape")


def sequential_shape(entry: dict[str, Any]) -> Any:
    """(batch, H, W, C) of a sequential model: that of its first layer, or that for which it was built; or None."""
    first = entry["config"]["layers"][0]
    nested = first["config"].get("layers") if isinstance(first["config"].get("layers"), list) else None
    return (
        batch_shape(first["config"])
        or entry["config"].get("build_input_shape")
        or (entry.get("build_config") or {}).get("input_shape")
        or (sequential_shape(first) if nested else None)
    )


def input_name(layers: Sequence[Any]) -> str:
    """Name of the input of a sequential model."""
    return name_of(layers[0]) if layers[0]["class_name"] == "InputLayer" else "input_layer"
