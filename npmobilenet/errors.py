"""The errors that this package raises.

NpMobileNetError
├── ShapeError (ValueError)              arrays or layers that do not fit together
│   └── ArgumentError                    an argument out of range; under ShapeError for one version, as it was
├── WeightsError (ValueError)            a weight or model file that cannot be read or does not fit its network
├── DumpError (ValueError)               arrays of another implementation that cannot be read or matched with ours
├── ImageError (ValueError)              an image that cannot be decoded or does not fit the network
├── LabelFileError (ValueError)          a file of class names that cannot be read or does not fit the network
├── KernelError (RuntimeError)           kernels that cannot be compiled
├── ModelNotFoundError (LookupError)     an unknown model name
└── DownloadError (OSError)              a file that could not be downloaded

Every message names the place, what was expected, what it got and, if there is one, the next step.
"""

from collections.abc import Sequence

LONGEST = 4000  # characters of a message


class NpMobileNetError(Exception):
    """Base class of all errors of this package.

    Args:
        message: shortened if it is longer than `LONGEST`, since a file's names may be of any length.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


def shortened(text: str) -> str:
    """A text without its middle, if it is longer than `LONGEST`."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]} ... ({len(text) - 2 * half:,} characters) ... {text[-half:]}"


class ShapeError(NpMobileNetError, ValueError):
    """Arrays or layers that do not fit together."""


class ArgumentError(ShapeError):
    """An argument out of range: alpha, a policy, an activation, a number of classes.

    In the next version it is an NpMobileNetError and a ValueError only.
    """


SHOWN = 10  # lines of a message about arrays or layers that do not fit


class WeightsError(NpMobileNetError, ValueError):
    """A weight or model file that cannot be read, or does not fit its network.

    Args:
        message: with at most ten lines of what does not fit.
        details: all lines, if there are more.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)

    @classmethod
    def listing(cls, title: str, lines: Sequence[str]) -> "WeightsError":
        """The error with a line for everything that does not fit, at most `SHOWN` of them in its message."""
        if len(lines) <= SHOWN:
            return cls("\n  ".join([title, *lines]))
        rest = f"and {len(lines) - SHOWN + 1} more: see npmobilenet convert --verbose, or error.details"
        return cls("\n  ".join([title, *lines[: SHOWN - 1], rest]), lines)


class DumpError(NpMobileNetError, ValueError):
    """Arrays of another implementation that cannot be read, or matched with the layers of a network."""


class ImageError(NpMobileNetError, ValueError):
    """An image that cannot be decoded, or pixels that do not fit the network."""


class LabelFileError(NpMobileNetError, ValueError):
    """A file of class names that cannot be read, or does not fit the network."""


class KernelError(NpMobileNetError, RuntimeError):
    """Kernels that cannot be compiled: no Numba, no process to compile in, code that LLVM rejects."""


class AssumptionWarning(UserWarning):
    """An assumption about a network that its file does not specify."""


class ModelNotFoundError(NpMobileNetError, LookupError):
    """A model name that is neither a known name nor a file."""


class DownloadError(NpMobileNetError, OSError):
    """A file that could not be downloaded, or whose hash is not the expected one."""
