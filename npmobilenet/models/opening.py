"""A `.safetensors` of this package, float or quantized, to its model."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from npmobilenet.models.model import Model
from npmobilenet.models.model_file import is_quantized

if TYPE_CHECKING:
    from npmobilenet.models.quantized_model import QuantizedModel

Loaded: TypeAlias = "Model | QuantizedModel"


def open_stored(path: Path, *, intact: bool = True) -> Loaded:
    """A model that `save` wrote; arguments and errors as `Model.open`."""
    if not path.is_file() or not is_quantized(path):
        return Model.open(path, intact=intact)
    from npmobilenet.models.quantized_model import QuantizedModel

    return QuantizedModel.open(path, intact=intact)
