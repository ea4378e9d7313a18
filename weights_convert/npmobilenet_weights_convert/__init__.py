"""Conversion of Keras files to models: the only room that knows HDF5, zip and Keras's names."""

from npmobilenet.models.preprocessing import choose_scaling
from npmobilenet_weights_convert.converter import convert_file, read_model

__all__ = ["choose_scaling", "convert_file", "read_model"]
