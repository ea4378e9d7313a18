"""The errors that this package raises on purpose.

NpMobileNetError
├── ShapeError (ValueError)              arrays or layers that do not fit together
├── WeightsError (ValueError)            a weight or model file that cannot be read or does not fit its network
├── DumpError (ValueError)               arrays of another implementation that cannot be read or matched with ours
├── ImageError (ValueError)              a picture that cannot be decoded or is not what the network takes
├── LabelFileError (ValueError)          a file of class names that cannot be read
├── KernelError (RuntimeError)           compiled kernels that cannot be had
├── ModelNotFoundError (LookupError)     a model name that is not known
└── DownloadError (OSError)              a file that could not be fetched

Every message says where, what came, what was needed and, where there is one, the next step.
"""


class NpMobileNetError(Exception):
    """Root of all errors of this package; catch it to catch them all."""


class ShapeError(NpMobileNetError, ValueError):
    """Arrays or layers that do not fit together."""


class WeightsError(NpMobileNetError, ValueError):
    """A weight or model file that cannot be read, or does not fit its network."""


class DumpError(NpMobileNetError, ValueError):
    """Arrays of another implementation that cannot be read, or matched with the layers of a network."""


class ImageError(NpMobileNetError, ValueError):
    """A picture that cannot be decoded, or pixels that are not what the network takes."""


class LabelFileError(NpMobileNetError, ValueError):
    """A file of class names that cannot be read, or does not fit the network."""


class KernelError(NpMobileNetError, RuntimeError):
    """Compiled kernels that cannot be had: no Numba, no process to compile in, code that LLVM refuses."""


class AssumptionWarning(UserWarning):
    """Something about a network that its file does not tell, and that was assumed."""


class ModelNotFoundError(NpMobileNetError, LookupError):
    """A model name that is neither known nor a file."""


class DownloadError(NpMobileNetError, OSError):
    """A file that could not be fetched, or is not the one expected."""
