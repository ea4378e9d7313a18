"""Options, networks and error reports that the commands share."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.cli.options import Argument, Exit, Option, UsageError
from npmobilenet.errors import KernelError, NpMobileNetError, WeightsError
from npmobilenet.hub.load import DIGITS, as_float, load_with_names, names_a_file, with_rule
from npmobilenet.hub.published_models import find_model
from npmobilenet.models.class_names import AnyModel
from npmobilenet.models.image_model import ImageModel
from npmobilenet.models.model import Model
from npmobilenet.models.opening import Loaded
from npmobilenet.models.preprocessing import RAW, SYMMETRIC, TORCH, UNIT, choose_scaling
from npmobilenet.output import print_json, print_note, waiting
from npmobilenet.reference.graph import Graph

if TYPE_CHECKING:
    from npmobilenet.analysis.engine_check import ByteEngineCheck, EngineCheck

DEFAULT_MODEL = "mobilenet_v2_1.0_224"
FLOAT_BYTES, QUANTIZED_BYTES = 4, 1
COMPILING = "compiling the kernels for this CPU"


class Resize(StrEnum):
    """Resizing of an image to the network's input size: the names in `resizing.RESIZES`."""

    crop = "crop"
    keras = "keras"
    keras_dataset = "keras-dataset"
    teachable_machine = "teachable-machine"
    torch_bilinear_875 = "torch-bilinear-0.875"
    torch_bilinear_900 = "torch-bilinear-0.9"
    torch_bilinear_950 = "torch-bilinear-0.95"
    torch_bilinear_232 = "torch-bilinear-232"
    torch_bilinear_1000 = "torch-bilinear-1"
    torch_bicubic_875 = "torch-bicubic-0.875"
    torch_bicubic_900 = "torch-bicubic-0.9"
    torch_bicubic_950 = "torch-bicubic-0.95"
    torch_bicubic_232 = "torch-bicubic-232"
    torch_bicubic_1000 = "torch-bicubic-1"
    stretch_nearest = "stretch-nearest"
    stretch_box = "stretch-box"
    stretch_bilinear = "stretch-bilinear"
    stretch_hamming = "stretch-hamming"
    stretch_bicubic = "stretch-bicubic"
    stretch_lanczos = "stretch-lanczos"


class Range(StrEnum):
    """Input range of a network for pixels in 0..255."""

    symmetric = "-1..1"
    unit = "0..1"
    raw = "0..255"
    torch = "torch"


SCALINGS = {Range.symmetric: SYMMETRIC, Range.unit: UNIT, Range.raw: RAW, Range.torch: TORCH}


class Language(StrEnum):
    """Language of texts in figures and in the page."""

    en = "en"
    zh = "zh"


class Backend(StrEnum):
    """Execution backend."""

    auto = "auto"
    compiled = "compiled"
    reference = "reference"


class RuleName(StrEnum):
    """How a quantized model rounds: the names in `quantized.rules.RULES`."""

    tflite = "tflite"
    xnnpack = "xnnpack"
    tflm = "tflm"
    single = "single"
    neon = "neon"
    xnnpack_arm_uint8 = "xnnpack-arm-uint8"


AsJson = Annotated[bool, Option("--json", help="Print a single JSON document.")]
ModelName = Annotated[
    str, Option("--model", "-m", metavar="M", help="Known name, file (.safetensors, .h5, .keras, .tflite) or digits.")
]
RangeOption = Annotated[
    Range | None, Option("--range", help="Input range of the network; torch: ImageNet's mean and standard deviation.")
]
ResizeOption = Annotated[
    Resize | None,
    Option(
        "--resize",
        help="crop: keep the aspect ratio, center-crop (unless the size fits); keras: stretch, as load_img; "
        "keras-dataset: as image_dataset_from_directory; torch-*: as torchvision and timm, by filter and crop_pct "
        "(232: torchvision's resize_size); stretch-*: Pillow's filters. "
        "Default: the model's own, or crop.",
    ),
]
RuleOption = Annotated[
    RuleName | None,
    Option(
        "--rule",
        help="How a quantized model rounds: tflite: TensorFlow Lite's reference kernels (the default); xnnpack: LiteRT "
        "as it runs by default; tflm: TensorFlow Lite Micro, CMSIS-NN; others: docs/quantized.md.",
    ),
]
NETWORK = Argument(metavar="ARCH|M", help="Architecture, known name, file or digits.")
Itemsize = Annotated[
    int | None,
    Option(
        min=1, help="Bytes per value: 4 for float32 (the default), 2 for float16, 1 for 8 bits (of a quantized file)."
    ),
]
ImageName = Annotated[str, Argument(metavar="IMAGE", help="Image file.")]
LayerPatterns = Annotated[
    list[str] | None,
    Option("--layers", metavar="PATTERN", help="Layer name or glob pattern; may be repeated. Default: all."),
]
Force = Annotated[bool, Option("--force", "-f", help="Overwrite existing output.")]


@dataclass(frozen=True)
class NetworkOptions:
    """Options that turn the name of an architecture into a network."""

    alpha: Annotated[float | None, Option(help="Width multiplier of the architecture.")] = None
    resolution: Annotated[str | None, Option(help="Input size in pixels: N or HxW.")] = None
    minimalistic: Annotated[bool, Option("--minimalistic", help="Minimalistic variant of V3.")] = False
    output_stride: Annotated[
        int | None, Option(help="Image side over last map's side: 32, 16 or 8 (strides become dilations).")
    ] = None
    no_top: Annotated[bool, Option("--no-top", help="Without the classifier.")] = False

    def any_given(self) -> bool:
        """Whether any option differs from its default."""
        return self != NetworkOptions()

    def graph(self, arch: str, classes: int | None = None, activation: str | None = None) -> Graph:
        """The network of an architecture.

        Args:
            arch: its name, one of `ARCHITECTURES`.
            classes: outputs of the classifier; None for ImageNet's.
            activation: activation after the classifier; None for softmax.

        Raises:
            UsageError: unknown architecture, or options that do not apply to it.
        """
        if arch not in ARCHITECTURES:
            raise UsageError(f"unknown architecture {arch!r}; choose from {', '.join(ARCHITECTURES)}")
        given: dict[str, Any] = {"alpha": self.alpha, "minimalistic": self.minimalistic or None, "classes": classes}
        given["output_stride"] = self.output_stride
        arguments = {name: value for name, value in given.items() if value is not None}
        if activation is not None:
            arguments["classifier_activation"] = None if activation == "linear" else activation
        try:
            sides = [int(side) for side in (self.resolution or "224").split("x")]
            return ARCHITECTURES[arch](resolution=(sides[0], sides[-1]), include_top=not self.no_top, **arguments)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{arch}: {error}") from None


@contextmanager
def reported(as_json: bool, exit_code: int = 1, *, verbose: bool = False) -> Iterator[None]:
    """Report a failure on standard error (with --json, also as a document), and exit; `verbose` with all details."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (NpMobileNetError, OSError, UnicodeDecodeError) as error:
        if as_json:
            print_json({"error": str(error)})
        print_note(f"npmobilenet: {error}")
        for line in error.details if verbose and isinstance(error, WeightsError) else ():
            print_note(f"  {line}")
        raise Exit(exit_code) from None


def load_any_with_notes(model: str, given: Mapping[str, object] | None = None, rule: RuleName | None = None) -> Loaded:
    """Load a model, float or quantized; print what was assumed about it on standard error.

    Args:
        model: its name or file.
        given: as for `print_notes`.
        rule: how a quantized model rounds.
    """
    network = with_rule(load_with_names(model)[0], rule)
    print_notes(model, network, given)
    return network


def load_with_notes(model: str, given: Mapping[str, object] | None = None) -> Model:
    """As `load_any_with_notes`, for commands that need a float model.

    Raises:
        WeightsError: the model is quantized.
    """
    return as_float(load_any_with_notes(model, given), model)


def print_notes(name: str, network: ImageModel, given: Mapping[str, object] | None = None) -> None:
    """Print on standard error what a model's file does not specify and was assumed, and other notes about it.

    Args:
        name: of the model.
        network: the model.
        given: the user's "range" and "resize", None for one that is left to the model; notes on the others are omitted.
    """
    known = {key for key, value in (given or {}).items() if value}
    known |= {f"assumed_{key}" for key in known}
    for keys in (("assumed",), ("assumed_range",), ("notes", "range", "resize")):
        if texts := [network.source[key] for key in keys if key not in known and network.source.get(key)]:
            print_note(f"npmobilenet: {name}: {'; '.join(texts)}")


def with_range(network: AnyModel, pixels: Range | None) -> AnyModel:
    """A model for another input range, if one is given; a note if its own layers rescale pixels as well."""
    if pixels is None:
        return network
    if pixels is not Range.raw and isinstance(network, Model) and choose_scaling(network.graph) == RAW:
        print_note(f"npmobilenet: --range {pixels}: {network.graph.name} rescales its input itself; scaled twice")
    return network.changed(scaling=SCALINGS[pixels])


def print_resize_note(name: str, network: ImageModel) -> None:
    """Print which resize is assumed for a model file that does not specify it."""
    if network.resize is None and name != DIGITS and names_a_file(name):
        print_note(
            f"npmobilenet: {name}: the file does not specify how images are resized; {network.resize_rule()} is "
            f"assumed. --resize changes it: {Resize.keras_dataset} as image_dataset_from_directory, {Resize.keras} as "
            "load_img, stretch-* as Pillow"
        )


def graph_of(model: str, options: NetworkOptions) -> Graph:
    """The graph of an architecture, of a known model (which is not downloaded for it), or of a file."""
    return sized_graph(model, options)[0]


def sized_graph(model: str, options: NetworkOptions) -> tuple[Graph, int]:
    """As `graph_of`, of a quantized file too, and the bytes per value: 4, or 1 of a quantized file."""
    if model in ARCHITECTURES:
        return options.graph(model), FLOAT_BYTES
    if options.any_given():
        names = ", ".join(f"--{name.replace('_', '-')}" for name in NetworkOptions.__dataclass_fields__)
        raise UsageError(f"{names} apply only to an architecture ({', '.join(ARCHITECTURES)}), not to {model!r}")
    if not names_a_file(model):
        return find_model(model).graph(), FLOAT_BYTES
    network = load_any_with_notes(model)
    if isinstance(network, Model):
        return network.graph, FLOAT_BYTES
    from npmobilenet_weights_convert.tflite_graph import network_graph

    return network_graph(network.network)[0], QUANTIZED_BYTES


def compile_with_notice(network: Loaded) -> None:
    """Compile a model's kernels unless they are ready, with a line on standard error."""
    if not network.is_compiled():
        with waiting(COMPILING):
            network.compile()


def finish_compilation() -> None:
    """Wait for kernels that are being compiled for the next command."""
    try:
        from npmobilenet.compiler import compilation
    except ImportError:
        return
    sys.stdout.flush()  # results first
    build = compilation.compilation()
    if build is None:
        return
    try:
        with waiting(f"{COMPILING}, for the next time; Ctrl+C does no harm"):
            compilation.finish_compilation()
    except KeyboardInterrupt:  # wherever it came, the process has to end
        build.stop()
    except KernelError as error:
        print_note(f"npmobilenet: computed with the NumPy reference, which is slower: {error}")


def checked_engine(network: Loaded) -> "EngineCheck | ByteEngineCheck":
    """Compile a model's kernels with notice, and compare the engine with the reference, step by step."""
    from npmobilenet.analysis.engine_check import check_byte_engine, check_engine

    compile_with_notice(network)
    return check_engine(network) if isinstance(network, Model) else check_byte_engine(network)


def available_threads(asked: int | None) -> int:
    """Threads to measure with: as requested, or the engine's default; at most one per core.

    Raises:
        UsageError: more are requested than there are cores.
        NpMobileNetError: there is no Numba.
    """
    from npmobilenet_kernels.runtime.thread_pool import available_cores

    try:
        from npmobilenet.compiler.thread_count import default_threads
    except ImportError as error:
        raise NpMobileNetError(f"the kernels need Numba: {error}") from error
    cores = available_cores()
    if asked is not None and asked > cores:
        raise UsageError(f"--threads {asked}: only {counted(cores, 'core')} available to this process")
    return min(default_threads(), cores) if asked is None else asked


def counted(number: int, what: str) -> str:
    """A number and a noun, in the plural unless the number is 1."""
    return f"{number} {what}{'' if number == 1 else 's'}"
