"""Networks and counting conventions of published figures: which graph to count, and what to count in it."""

from collections.abc import Callable

from npmobilenet.analysis.published import V3, Figure
from npmobilenet.architectures import baselines, mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.architectures.ssd import COCO_80, COCO_90, ssd
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.transforms import with_filters


def _classes(figure: Figure) -> int:
    """Number of classes in table 10: 120, but its multiply-adds include the 1000-class layer."""
    return 120 if figure.metric == "params" else 1000


def _v1(figure: Figure) -> Graph:
    return mobilenet_v1(_alpha(figure), _resolution(figure))


def _v2(figure: Figure) -> Graph:
    return mobilenet_v2(_alpha(figure), _resolution(figure))


def _large(figure: Figure) -> Graph:
    return mobilenet_v3_large(_alpha(figure), _resolution(figure))


def _small(figure: Figure) -> Graph:
    return mobilenet_v3_small(_alpha(figure), _resolution(figure))


def _small_1280(figure: Figure) -> Graph:
    """V3-Small with the 1280 channels of the paper's table 2; all released code and weights have 1024."""
    return with_filters(_small(figure), {"conv_2": 1280})


def _large_minimal(figure: Figure) -> Graph:
    return mobilenet_v3_large(_alpha(figure), _resolution(figure), minimalistic=True)


def _small_minimal(figure: Figure) -> Graph:
    return mobilenet_v3_small(_alpha(figure), _resolution(figure), minimalistic=True)


def _lite(arch: str, *, reduced_tail: bool = False) -> Callable[[Figure], Graph]:
    """SSDLite; V1 and V2 at full width are those of the V2 paper, with 80 classes, all others have 90."""

    def build(figure: Figure) -> Graph:
        older = arch in ("mobilenet_v1", "mobilenet_v2") and figure.alpha == 1.0
        return ssd(arch, _alpha(figure), reduced_tail=reduced_tail, slots=COCO_80 if older else COCO_90)

    return build


def _alpha(figure: Figure) -> float:
    return 1.0 if figure.alpha is None else figure.alpha


def _resolution(figure: Figure) -> int:
    """Input resolution; table 3 of V2 gives the map size instead, and parameters do not depend on it."""
    by_map = figure.metric in ("max_channels", "max_activation_memory")
    return 224 if by_map or figure.resolution is None else figure.resolution


HEADS = {
    "SSD head + extras on MobileNetV2 (80 classes)": False,
    "SSDLite head + extras on MobileNetV2 (80 classes)": True,
}

NETWORKS: dict[str, Callable[[Figure], Graph]] = {
    "MobileNetV1": _v1,
    "MobileNet": _v1,
    "mobilenetv1_100": _v1,
    "Conv MobileNet": lambda figure: mobilenet_v1(full_convolution=True),
    "Shallow MobileNet": lambda figure: mobilenet_v1(shallow=True),
    "MobileNetV1 Stanford Dogs (120 classes)": lambda figure: mobilenet_v1(
        _alpha(figure), _resolution(figure), classes=_classes(figure)
    ),
    "MobileNetV1 face attributes (no 1000-class FC)": lambda figure: mobilenet_v1(
        _alpha(figure), _resolution(figure), include_top=False
    ),
    "MobileNetV2": _v2,
    "MobileNetV2 range": _v2,
    "mobilenet_v2": _v2,
    "mobilenetv2_100": _v2,
    "MobileNetV3-Large": _large,
    "MobileNetV3Large": _large,
    "mobilenet_v3_large": _large,
    "mobilenetv3_large_100": _large,
    "tf_mobilenetv3_large_075": _large,
    "MobileNetV3-Small": _small_1280,
    "MobileNetV3Small": _small,
    "mobilenet_v3_small": _small,
    "mobilenetv3_small_100": _small,
    "tf_mobilenetv3_small_075": _small,
    "MobileNetV3-Large minimalistic": _large_minimal,
    "tf_mobilenetv3_large_minimal_100": _large_minimal,
    "MobileNetV3-Small minimalistic": _small_minimal,
    "tf_mobilenetv3_small_minimal_100": _small_minimal,
    "VGG 16": lambda figure: baselines.vgg16(),
    "GoogleNet": lambda figure: baselines.googlenet(),
    "AlexNet": lambda figure: baselines.alexnet(),
    "Squeezenet": lambda figure: baselines.squeezenet(),
    "SSD300 MobileNetV1": lambda figure: ssd("mobilenet_v1", resolution=300, lite=False, predictor_kernel=1),
    "MobileNetV1 SSDLite": _lite("mobilenet_v1"),
    "MobileNetV2 SSDLite": _lite("mobilenet_v2"),
    "MobileNetV3-Large SSDLite": _lite("mobilenet_v3_large"),
    "MobileNetV3-Large SSDLite reduced tail": _lite("mobilenet_v3_large", reduced_tail=True),
    "MobileNetV3-Small SSDLite": _lite("mobilenet_v3_small"),
    "MobileNetV3-Small SSDLite reduced tail": _lite("mobilenet_v3_small", reduced_tail=True),
    "ssdlite320_mobilenet_v3_large COCO_V1": lambda figure: ssd(
        "mobilenet_v3_large", reduced_tail=True, world="torchvision"
    ),
}  # fmt: skip


def convention_of(figure: Figure) -> str:
    """Counting convention of the figure's source; `docs/cost.md` gives the evidence."""
    fixed = {
        "params_trainable": "trainable",
        "params_non_trainable": "non_trainable",
        "flops": "flops",
        "activations": "activations",
        "depth": "keras_depth",
        "size": "keras_bytes",
    }
    if figure.metric in fixed:
        return fixed[figure.metric]
    return _params_convention(figure) if figure.metric == "params" else _macs_convention(figure)


def _macs_convention(figure: Figure) -> str:
    for source, convention in (
        ("huggingface", "timm"),
        ("Lyken17/pytorch-OpCounter README", "thop"),
        ("Lyken17/pytorch-OpCounter issue", "timm"),
        ("sovrasov", "ptflops"),
    ):
        if figure.source.startswith(source):
            return convention
    if figure.model == "Conv MobileNet" or figure.model == "AlexNet":
        return "macs_no_classifier"
    if figure.model == "VGG 16":
        return "macs_convolutions"
    if figure.model == "Squeezenet":
        return "flops"
    if figure.source.endswith("mobilenet_v1.md") and figure.alpha == 0.75:
        return "macs_no_stem"
    return "macs"


def _params_convention(figure: Figure) -> str:
    if figure.source.startswith(("keras.io", "older keras-docs", "Keras model.summary")):
        return "keras_total"
    if figure.source.startswith(("pytorch/vision", "huggingface")):
        return "trainable"
    if figure.source.endswith("mobilenet_v1.md"):
        return "slim_v1"
    if figure.model == "Squeezenet":
        return "weights_bias"
    if (figure.source, figure.table) == (V3, "6") or figure.source.endswith(".config"):
        return "weights_bias"
    trained = figure.model.startswith(("SSD", "MobileNetV3-Small")) or figure.model.endswith("SSDLite")
    return "trainable" if trained or figure.model == "Conv MobileNet" else "weights"
