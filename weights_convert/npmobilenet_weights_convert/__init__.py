"""Keras files to models of npmobilenet: the only package that knows HDF5, zip archives and Keras's names."""

from npmobilenet.models.preprocessing import choose_scaling
from npmobilenet_weights_convert.converter import convert_file, read_model

__all__ = ["choose_scaling", "convert_file", "read_model"]
