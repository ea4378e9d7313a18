"""Known models: the networks that Keras Applications publishes, where they come from and where they are kept.

    find_model    a name, in any of its spellings   ->  KnownModel
    fetch_source  KnownModel                        ->  Keras's own weight file, in the user's cache folder
    locate        a name                            ->  our .safetensors, converted once, in the user's cache folder

The cache folder is `NPMOBILENET_CACHE`, or the one that the system keeps for such files (~/.cache/npmobilenet):

    keras/mobilenet_v2/....h5            as fetched, below the paths that Keras's server has
    keras/mobilenet_v2/....h5.part       cut off; the next try goes on from its end
    converted/0.1.0/mobilenet_v2_1.0_224.safetensors    made by this version of npmobilenet
    sha256.json                          {path in this folder: SHA-256 when it came or was made}
    ....lock                             held by the process that is getting the file beside it; empty
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from hashlib import file_digest
from pathlib import Path
from urllib.parse import urlsplit

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.errors import DownloadError, ModelNotFoundError, WeightsError
from npmobilenet.files import write_atomically
from npmobilenet.hub.download import ChangedFileError, download, say
from npmobilenet.models.labels import imagenet_labels
from npmobilenet.reference.graph import Graph

KERAS_WEIGHTS = "https://storage.googleapis.com/tensorflow/keras-applications"

LOCK_TIMEOUT = 1800.0  # seconds to wait for another process that fetches or converts the same file


@dataclass(frozen=True)
class KnownModel:
    """One published set of weights, trained on ImageNet.

    Attributes:
        arch: name of the network in `architectures.ARCHITECTURES`.
        alpha: width multiplier.
        resolution: side of the image, in pixels.
        minimalistic: V3 without squeeze-and-excite, hard swish and 5 x 5 kernels.
        include_top: with the classifier.
        md5: of the published file, where Keras's source has it (V3).
        top1: published accuracy on ImageNet, per cent: the first class named is right.
        top5: the right class is among the first five named.
        accuracy_source: where the accuracy was published.
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
        """`mobilenet_v3_large_minimalistic_1.0_224`, with `_no_top` behind it where the classifier is left out."""
        top = "" if self.include_top else "_no_top"
        return f"{self.arch}{self._minimalistic}_{self.alpha}_{self.resolution}{top}"

    @property
    def file_name(self) -> str:
        """Name of Keras's weight file, as keras.applications asks for it."""
        top = "" if self.include_top else "_no_top"
        if self.arch == "mobilenet_v1":
            return f"mobilenet_{_V1_ALPHA[self.alpha]}_{self.resolution}_tf{top}.h5"
        if self.arch == "mobilenet_v2":
            return f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{self.alpha}_{self.resolution}{top}.h5"
        top = "" if self.include_top else "_no_top_v2"
        return f"weights_{self.arch}{self._minimalistic}_{self.resolution}_{self.alpha}_float{top}.h5"

    @property
    def url_path(self) -> str:
        """Path of the file below `KERAS_WEIGHTS`, below a mirror, and below `keras` in the cache folder."""
        return f"{_FOLDERS[self.arch]}/{self.file_name}"

    @property
    def url(self) -> str:
        """Address of the file, at Keras's server or at the mirror that NPMOBILENET_MIRROR names.

        A mirror has the folders `mobilenet`, `mobilenet_v2` and `mobilenet_v3` directly below its address.

        Raises:
            DownloadError: NPMOBILENET_MIRROR is no address.
        """
        mirror = os.environ.get("NPMOBILENET_MIRROR") or KERAS_WEIGHTS
        if urlsplit(mirror).scheme not in {"http", "https"} or not urlsplit(mirror).netloc:
            raise DownloadError(f"NPMOBILENET_MIRROR is {mirror!r}; needed is an address, as {KERAS_WEIGHTS}")
        return f"{mirror.rstrip('/')}/{self.url_path}"

    def graph(self) -> Graph:
        """Return the network itself: its layers, shapes, parameters and costs."""
        return _graph(self)

    @property
    def params(self) -> int:
        """Parameters, counted on the graph; Keras's `count_params`."""
        return self.graph().total_params

    @property
    def macs(self) -> int:
        """Multiply-adds for one image, counted on the graph."""
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

# Accuracies. Keras has measured its own files for two of them; for the others stands what was published for the
# checkpoints of the same configuration.
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
    """Return the published weights of the same network without its classifier; these classify nothing."""
    md5 = _MD5_NO_TOP.get((model.arch, model.alpha, model.minimalistic))
    return replace(model, include_top=False, md5=md5, top1=None, top5=None, accuracy_source="")


def find_model(name: str) -> KnownModel:
    """Return the known model of this name.

    Args:
        name: as `KnownModel.name`; or as Keras has it: the class (`MobileNetV2`), the model's own name
            (`mobilenetv2_1.00_224`) or the weight file. Alpha and resolution may be left out where they are 1.0 and
            224. `_no_top` behind it means the weights without the classifier.

    Raises:
        ModelNotFoundError: there is none; the nearest names are given.
    """
    names = _spellings()
    asked = name.lower().replace("-", "_").removesuffix(".h5")
    if asked in names:
        return names[asked]
    import difflib

    near = dict.fromkeys(names[match].name for match in difflib.get_close_matches(asked, names, n=6, cutoff=0.7))
    raise ModelNotFoundError(
        f"{name}: no model of this name is known; "
        + (f"did you mean {' or '.join(list(near)[:3])}? " if near else "")
        + f"`npmobilenet models` lists all {len(KNOWN_MODELS)}, a file of your own is given by its path"
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


def cache_folder() -> Path:
    """Return the folder for what is fetched and converted: NPMOBILENET_CACHE, or the system's for this user."""
    named = os.environ.get("NPMOBILENET_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("npmobilenet"))


def source_path(model: KnownModel) -> Path:
    """Return where Keras's file of this model belongs in the cache folder, whether it is there or not."""
    return cache_folder() / "keras" / model.url_path


def converted_path(model: KnownModel) -> Path:
    """Return where the converted model belongs in the cache folder, whether it is there or not."""
    from importlib.metadata import version

    return cache_folder() / "converted" / version("npmobilenet") / f"{model.name}.safetensors"


def fetch_source(model: KnownModel, *, progress: bool = True) -> Path:
    """Return Keras's weight file of this model, fetched if it is not in the cache folder.

    V3's files are checked against the MD5 in Keras's source. For V1's and V2's no hash is published: their SHA-256 is
    shown and remembered when they first come, and another one later is refused. A download that was cut off goes on
    where it stopped; several processes may ask for the same file at once. A file that was put there by hand is taken.

    Args:
        model: what to fetch.
        progress: say on standard error what is going on, with a bar where that is a terminal.

    Raises:
        DownloadError: it could not be fetched within the time limits of `download`, is not the expected one, or the
            cache folder cannot be written.
    """
    path = source_path(model)
    with _lock(path, progress):
        remembered = _remembered(path)
        if model.md5 is not None:
            known_hash = f"md5:{model.md5}"
        elif remembered is not None:
            known_hash = f"sha256:{remembered}"
        else:
            known_hash = None
        try:
            download(model.url, path, known_hash, check=_check_hdf5, progress=progress)
            if remembered is None:
                _check_hdf5(path)  # it may have been put there by hand
        except ChangedFileError as error:
            raise DownloadError(f"{model.name}: {error}\n{_ways_on_with_another(model, path)}") from error
        except DownloadError as error:
            raise DownloadError(f"{model.name}: {error}\n{_ways_on_without(model, path)}") from error
        if remembered is None:
            digest = _remember(path)
            if progress:
                checked = "its MD5 is the one in Keras's source" if model.md5 else f"remembered in {_hashes_file()}"
                say(f"{model.file_name}: SHA-256 {digest}; {checked}")
    return path


def locate(name: str, *, progress: bool = True) -> Path:
    """Return the converted file of a known model; fetched and converted if it is not there yet, or damaged.

    Args:
        name: see `find_model`.
        progress: say on standard error what is going on.

    Raises:
        ModelNotFoundError: no model of this name is known.
        DownloadError: see `fetch_source`.
        WeightsError: the file fetched does not hold this network's weights.
    """
    model = find_model(name)
    path = converted_path(model)
    if _is_intact(path):
        return path
    with _lock(path, progress):
        if _is_intact(path):  # another process has made it while this one waited
            return path
        source = fetch_source(model, progress=progress)
        try:
            _convert(source, path, model)
        except WeightsError:
            if model.md5 is None:  # so what came was never this model's file: a second try may get another one
                _forget(source)
            raise
        _remember(path)
    return path


def _convert(source: Path, destination: Path, model: KnownModel) -> None:
    from npmobilenet_weights_convert import convert_file

    labels = imagenet_labels() if model.include_top else ()
    try:
        convert_file(source, destination, graph=model.graph(), labels=labels)
    except OSError as error:
        raise DownloadError(f"{destination}: cannot be written: {error}") from error


def _ways_on_without(model: KnownModel, path: Path) -> str:
    there = f"{path} is there, but is not the file expected" if path.exists() else f"The file belongs at {path}"
    return (
        f"{there}.\nTo go on without the network: put {model.file_name} there by hand, give a model of your own with "
        "--model FILE (.safetensors, .h5, .keras), or take the one in this package with --model digits."
    )


def _ways_on_with_another(model: KnownModel, path: Path) -> str:
    if model.md5 is not None:
        return (
            f"The MD5 expected is the one in Keras's source. Try again, or from elsewhere: {path} is where it belongs."
        )
    return (
        "This is not the file that came the first time. Find out why; if the new one is right, remove "
        f"{_key(path)} from {_hashes_file()} and try again."
    )


@contextmanager
def _lock(path: Path, progress: bool) -> Iterator[None]:
    """Hold the right to write `path`, against other processes and threads; its folder is made."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                say(f"{path.name}: waiting for another process that is getting it")
            lock.acquire(timeout=LOCK_TIMEOUT)
    except Timeout as error:
        raise DownloadError(
            f"{path}: another process has been getting it for {LOCK_TIMEOUT / 60:.0f} minutes; end it, then try again"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"{path.parent}: cannot be written ({error}); NPMOBILENET_CACHE names another cache folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _check_hdf5(path: Path) -> None:
    """Refuse what is no weight file at all, like the login page of a hotel's network. The converter checks the rest."""
    import h5py

    try:
        with h5py.File(path, "r"):
            pass
    except OSError as error:
        with path.open("rb") as file:
            start = file.read(16)
        raise DownloadError(
            f"this is no HDF5 file, or only a part of one; it begins with {start!r} ({error})"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _hashes_file() -> Path:
    return cache_folder() / "sha256.json"


def _key(path: Path) -> str:
    return path.relative_to(cache_folder()).as_posix()


def _hashes() -> dict[str, str]:
    try:
        hashes = json.loads(_hashes_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DownloadError(f"{_hashes_file()}: is damaged ({error}); delete it to start over") from error
    if not isinstance(hashes, dict):
        raise DownloadError(f"{_hashes_file()}: is damaged (no JSON object); delete it to start over")
    return hashes


def _remembered(path: Path) -> str | None:
    return _hashes().get(_key(path))


def _is_intact(path: Path) -> bool:
    return path.is_file() and _sha256(path) == _remembered(path)


def _remember(path: Path) -> str:
    digest = _sha256(path)
    _change_hashes(lambda hashes: hashes | {_key(path): digest})
    return digest


def _forget(path: Path) -> None:
    """Remove a file that turned out to be another one, and what is remembered of it."""
    path.unlink()
    _change_hashes(lambda hashes: {key: digest for key, digest in hashes.items() if key != _key(path)})


def _change_hashes(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    with _lock(_hashes_file(), progress=False):
        changed = json.dumps(change(_hashes()), indent=1, sort_keys=True)
        write_atomically(_hashes_file(), changed.encode())
