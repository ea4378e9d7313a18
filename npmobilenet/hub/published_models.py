"""Published models: the networks of Keras Applications, their names, addresses, hashes and accuracies.

find_model   a name, in any of its spellings  ->  KnownModel
"""

import os
from dataclasses import dataclass, replace
from functools import cache
from urllib.parse import urlsplit

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.errors import DownloadError, ModelNotFoundError
from npmobilenet.hub.download import without_password
from npmobilenet.reference.graph import Graph

KERAS_WEIGHTS = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True)
class KnownModel:
    """One published set of weights, trained on ImageNet.

    Attributes:
        arch: name of the network in `architectures.ARCHITECTURES`.
        alpha: width multiplier.
        resolution: height and width of the input image, in pixels.
        minimalistic: V3 without squeeze-and-excite, hard swish and 5 x 5 kernels.
        include_top: with the classifier.
        md5: MD5 of the published file, if Keras's source has it (V3).
        top1: published top-1 accuracy on ImageNet, in percent.
        top5: published top-5 accuracy, in percent.
        accuracy_source: publication of the accuracy.
    """

    arch: str
    alpha: float
    resolution: int
    minimalistic: bool = False
    include_top: bool = True
    md5: str | None = None
    top1: float | None = None
    top5: float | None = None
    accuracy_source: str = ""

    @property
    def name(self) -> str:
        """`mobilenet_v3_large_minimalistic_1.0_224`, followed by `_no_top` if the classifier is left out."""
        top = "" if self.include_top else "_no_top"
        return f"{self.arch}{self._minimalistic}_{self.alpha}_{self.resolution}{top}"

    @property
    def file_name(self) -> str:
        """Name of Keras's weight file, as keras.applications requests it."""
        top = "" if self.include_top else "_no_top"
        if self.arch == "mobilenet_v1":
            return f"mobilenet_{_V1_ALPHA[self.alpha]}_{self.resolution}_tf{top}.h5"
        if self.arch == "mobilenet_v2":
            return f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{self.alpha}_{self.resolution}{top}.h5"
        top = "" if self.include_top else "_no_top_v2"
        return f"weights_{self.arch}{self._minimalistic}_{self.resolution}_{self.alpha}_float{top}.h5"

    @property
    def url_path(self) -> str:
        """Path of the file relative to `KERAS_WEIGHTS`, to a mirror, and to `keras` in the cache folder."""
        return f"{_FOLDERS[self.arch]}/{self.file_name}"

    @property
    def url(self) -> str:
        """URL of the file, on Keras's server or on the mirror set in NPMOBILENET_MIRROR.

        A mirror has the folders `mobilenet`, `mobilenet_v2` and `mobilenet_v3` directly below its URL.

        Raises:
            DownloadError: NPMOBILENET_MIRROR is not an http or https URL.
        """
        mirror = os.environ.get("NPMOBILENET_MIRROR") or KERAS_WEIGHTS
        if not _is_url(mirror):
            raise DownloadError(
                f"NPMOBILENET_MIRROR: expected a URL such as {KERAS_WEIGHTS}, got {without_password(mirror)!r}"
            )
        return f"{mirror.rstrip('/')}/{self.url_path}"

    def graph(self) -> Graph:
        """Graph of the network: layers, shapes, parameter shapes and costs."""
        return _graph(self)

    @property
    def params(self) -> int:
        """Number of parameters, counted on the graph; Keras's `count_params`."""
        return self.graph().total_params

    @property
    def macs(self) -> int:
        """Multiply-adds per image, counted on the graph."""
        return self.graph().macs

    @property
    def _minimalistic(self) -> str:
        return "_minimalistic" if self.minimalistic else ""


@cache
def _graph(model: KnownModel) -> Graph:
    only_v3 = {"minimalistic": True} if model.minimalistic else {}
    return ARCHITECTURES[model.arch](model.alpha, model.resolution, include_top=model.include_top, **only_v3)


_FOLDERS = {
    "mobilenet_v1": "mobilenet",
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3_large": "mobilenet_v3",
    "mobilenet_v3_small": "mobilenet_v3",
}
_V1_ALPHA = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}  # how V1's files spell alpha

# Accuracies. Keras has measured two of its own files; the others are those published for the checkpoints of the same
# configuration.
_KERAS_IO = "Keras's own file, keras.io/api/applications"
_SLIM_V1 = "TF-Slim's checkpoint, tensorflow/models research/slim/nets/mobilenet_v1.md"
_SLIM_V2 = "TF-Slim's checkpoint, tensorflow/models research/slim/nets/mobilenet/README.md"
_KERAS_V3 = "Keras's docstring, keras/src/applications/mobilenet_v3.py"

_V1_ROWS = (
    # alpha  side  top-1  top-5
    (1.00, 224, 70.4, 89.5, _KERAS_IO),
    (1.00, 192, 70.0, 89.2, _SLIM_V1),
    (1.00, 160, 68.0, 87.7, _SLIM_V1),
    (1.00, 128, 65.2, 85.8, _SLIM_V1),
    (0.75, 224, 68.4, 88.2, _SLIM_V1),
    (0.75, 192, 67.2, 87.3, _SLIM_V1),
    (0.75, 160, 65.3, 86.0, _SLIM_V1),
    (0.75, 128, 62.1, 83.9, _SLIM_V1),
    (0.50, 224, 63.3, 84.9, _SLIM_V1),
    (0.50, 192, 61.7, 83.6, _SLIM_V1),
    (0.50, 160, 59.1, 81.9, _SLIM_V1),
    (0.50, 128, 56.3, 79.4, _SLIM_V1),
    (0.25, 224, 49.8, 74.2, _SLIM_V1),
    (0.25, 192, 47.7, 72.3, _SLIM_V1),
    (0.25, 160, 45.5, 70.3, _SLIM_V1),
    (0.25, 128, 41.5, 66.3, _SLIM_V1),
)
_V2_ROWS = (
    (1.40, 224, 75.0, 92.5, _SLIM_V2),
    (1.30, 224, 74.4, 92.1, _SLIM_V2),
    (1.00, 224, 71.3, 90.1, _KERAS_IO),
    (1.00, 192, 70.7, 90.1, _SLIM_V2),
    (1.00, 160, 68.8, 89.0, _SLIM_V2),
    (1.00, 128, 65.3, 86.9, _SLIM_V2),
    (1.00, 96, 60.3, 83.2, _SLIM_V2),
    (0.75, 224, 69.8, 89.6, _SLIM_V2),
    (0.75, 192, 68.7, 88.9, _SLIM_V2),
    (0.75, 160, 66.4, 87.3, _SLIM_V2),
    (0.75, 128, 63.2, 85.3, _SLIM_V2),
    (0.75, 96, 58.8, 81.6, _SLIM_V2),
    (0.50, 224, 65.4, 86.4, _SLIM_V2),
    (0.50, 192, 63.9, 85.4, _SLIM_V2),
    (0.50, 160, 61.0, 83.2, _SLIM_V2),
    (0.50, 128, 57.7, 80.8, _SLIM_V2),
    (0.50, 96, 51.2, 75.8, _SLIM_V2),
    (0.35, 224, 60.3, 82.9, _SLIM_V2),
    (0.35, 192, 58.2, 81.2, _SLIM_V2),
    (0.35, 160, 55.7, 79.1, _SLIM_V2),
    (0.35, 128, 50.8, 75.0, _SLIM_V2),
    (0.35, 96, 45.5, 70.4, _SLIM_V2),
)
_V3_ROWS = (
    # size  alpha  minimalistic  top-1  MD5 with top, and without, from keras/src/applications/mobilenet_v3.py
    ("large", 1.00, False, 75.6, "59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"),
    ("large", 0.75, False, 73.3, "765b44a33ad4005b3ac83185abf1d0eb", "40af19a13ebea4e2ee0c676887f69a2e"),
    ("large", 1.00, True, 72.3, "675e7b876c45c57e9e63e6d90a36599c", "ec5221f64a2f6d1ef965a614bdae7973"),
    ("small", 1.00, False, 68.1, "8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"),
    ("small", 0.75, False, 65.4, "cb65d4e5be93758266aa0a7f2c6708b7", "ebdb5cc8e0b497cd13a7c275d475c819"),
    ("small", 1.00, True, 61.9, "99cd97fb2fcdad2bf028eb838de69e37", "cde8136e733e811080d9fcd8a252f7e4"),
)

KNOWN_MODELS: tuple[KnownModel, ...] = (
    *(KnownModel("mobilenet_v1", a, side, top1=t1, top5=t5, accuracy_source=by) for a, side, t1, t5, by in _V1_ROWS),
    *(KnownModel("mobilenet_v2", a, side, top1=t1, top5=t5, accuracy_source=by) for a, side, t1, t5, by in _V2_ROWS),
    *(
        KnownModel(f"mobilenet_v3_{size}", a, 224, minimalistic, md5=md5, top1=t1, accuracy_source=_KERAS_V3)
        for size, a, minimalistic, t1, md5, _ in _V3_ROWS
    ),
)
"""The 44 configurations of Keras Applications, with their classifier."""

_MD5_NO_TOP = {(f"mobilenet_v3_{row[0]}", row[1], row[2]): row[5] for row in _V3_ROWS}


def without_top(model: KnownModel) -> KnownModel:
    """Published weights of the same network without its classifier."""
    md5 = _MD5_NO_TOP.get((model.arch, model.alpha, model.minimalistic))
    return replace(model, include_top=False, md5=md5, top1=None, top5=None, accuracy_source="")


def find_model(name: str) -> KnownModel:
    """Published model by name.

    Args:
        name: as `KnownModel.name`; or one of Keras's: the class (`MobileNetV2`), the model's own name
            (`mobilenetv2_1.00_224`) or the weight file. Alpha and resolution may be left out if they are 1.0 and 224.
            `_no_top` at the end selects the weights without the classifier.

    Raises:
        ModelNotFoundError: the name is unknown; the message suggests the nearest names.
    """
    names = _spellings()
    spelling = name.lower().replace("-", "_").removesuffix(".h5")
    if spelling in names:
        return names[spelling]
    import difflib

    near = dict.fromkeys(names[match].name for match in difflib.get_close_matches(spelling, names, n=6, cutoff=0.7))
    raise ModelNotFoundError(
        f"{name}: unknown model; "
        + (f"did you mean {' or '.join(list(near)[:3])}? " if near else "")
        + f"`npmobilenet models` lists all {len(KNOWN_MODELS)}; for a file, pass its path"
    )


@cache
def _spellings() -> dict[str, KnownModel]:
    names: dict[str, KnownModel] = {}
    for model in KNOWN_MODELS:
        stems = [model.name]
        if (model.alpha, model.resolution) == (1.0, 224):
            short = model.arch + model._minimalistic
            stems += [short, short.replace("_v", "v").replace("v3_", "v3")]
        if model.arch == "mobilenet_v1":
            stems.append(f"mobilenet_{model.alpha:.2f}_{model.resolution}")
        if model.arch == "mobilenet_v2":
            stems.append(f"mobilenetv2_{model.alpha:.2f}_{model.resolution}")
        bare = without_top(model)
        names |= dict.fromkeys(stems, model) | {f"{stem}_no_top": bare for stem in stems}
        names |= {known.file_name.removesuffix(".h5").lower(): known for known in (model, bare)}
    names["mobilenet"] = names["mobilenet_v1"]
    names["mobilenet_no_top"] = names["mobilenet_v1_no_top"]
    return names


def _is_url(address: str) -> bool:
    """Whether an address is http or https, with a host and a possible port."""
    try:
        parts = urlsplit(address)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
