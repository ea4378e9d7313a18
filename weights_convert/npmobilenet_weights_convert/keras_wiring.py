"""Wiring of a Keras config: names, operands and shapes of its entries, in the dialects of Keras 2 and Keras 3."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from npmobilenet.errors import WeightsError
from npmobilenet_weights_convert.name_matching import snake_case


def operands_of(entry: dict[str, Any]) -> list[str | float]:
    """Operands of a layer in order: names of layers, and the numbers of arithmetic."""
    operands: list[str | float] = []
    for node in (entry.get("inbound_nodes") or [])[:1]:
        if isinstance(node, dict):  # Keras 3
            _collect_3(
                [node["args"], [v for k, v in node["kwargs"].items() if k in ("x", "x1", "x2", "inputs")]], operands
            )
        elif node and isinstance(node[0], str):  # Keras 2, a TensorFlow function
            _collect_2([node], operands)
        else:  # Keras 2
            _collect_2(node, operands)
    return operands


def _collect_3(value: Any, operands: list[str | float]) -> None:
    if isinstance(value, list):
        for item in value:
            _collect_3(item, operands)
    elif isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        operands.append(_tensor(value["config"]["keras_history"]))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        operands.append(float(value))


def _collect_2(tensors: Iterable[Any], operands: list[str | float]) -> None:
    for tensor in tensors:
        kwargs = tensor[3] if len(tensor) > 3 else {}
        operands.append(float(tensor[2]) if tensor[0] == "_CONSTANT_VALUE" else _tensor(tensor))
        for key in ("x", "y"):
            value = kwargs.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                operands.append(float(value))
            elif isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str):
                operands.append(float(value[2]) if value[0] == "_CONSTANT_VALUE" else _tensor(value))


def _tensor(history: list[Any]) -> str:
    if history[2] != 0:
        raise WeightsError(f"{history[0]}: has several outputs (only one is supported)")
    return str(history[0])


def called_in_training(entry: dict[str, Any]) -> bool:
    """Whether a call has training=True, which Keras 2 keeps at inference. Keras 3 does not."""
    return any(
        isinstance(tensor, list) and len(tensor) > 3 and tensor[3].get("training") is True
        for node in entry.get("inbound_nodes") or []
        if isinstance(node, list)
        for tensor in node
    )


def has_constant(operands: list[str | float]) -> bool:
    return any(not isinstance(operand, str) for operand in operands)


def name_of(entry: dict[str, Any]) -> str:
    name = entry.get("name") or entry["config"].get("name")
    if not isinstance(name, str) or not name:
        raise WeightsError(f"a {entry['class_name']} in the config has no name")
    return name


def numbered_paths(layers: list[Any], path: str) -> list[str]:
    """Path of each layer in a `.weights.h5`: its class, numbered in the order of the model."""
    seen: Counter[str] = Counter()
    paths = []
    for layer in layers:
        kind = snake_case(str(layer["class_name"]))
        paths.append(f"{path}{'/' if path else ''}layers/{kind}{f'_{seen[kind]}' if seen[kind] else ''}")
        seen[kind] += 1
    return paths


def ancestors(name: str, reads: dict[str, list[str | float]]) -> set[str]:
    """The layer itself and all its direct and indirect inputs."""
    found, stack = set(), [name]
    while stack:
        current = stack.pop()
        if current not in found:
            found.add(current)
            stack += [operand for operand in reads.get(current, []) if isinstance(operand, str)]
    return found


def only_tensor(layers: Any, what: str) -> str:
    """The one input or output: ["name", 0, 0], or that in a list or in a dictionary."""
    found = list(layers.values()) if isinstance(layers, dict) else layers
    if isinstance(found[0], str):
        found = [found]
    if len(found) != 1:
        raise WeightsError(f"the model has {len(found)} {what}s (only one is supported)")
    return _tensor(found[0])


def batch_shape(config: dict[str, Any]) -> Any:
    return config.get("batch_shape") or config.get("batch_input_shape")


def sequential_shape(entry: dict[str, Any]) -> Any:
    """(batch, H, W, C) of a sequential model: of its first layer, or the shape that it was built with."""
    first = entry["config"]["layers"][0]
    nested = first["config"].get("layers") if isinstance(first["config"].get("layers"), list) else None
    return (
        batch_shape(first["config"])
        or entry["config"].get("build_input_shape")
        or (entry.get("build_config") or {}).get("input_shape")
        or (sequential_shape(first) if nested else None)
    )


def input_name(layers: list[Any]) -> str:
    return name_of(layers[0]) if layers[0]["class_name"] == "InputLayer" else "input_layer"
