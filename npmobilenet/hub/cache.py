"""The cache: published models as downloaded, and as converted, once per user.

    fetch_source  KnownModel  ->  Keras's own weight file
    locate        a name      ->  our .safetensors, downloaded and converted if it is not cached

The cache folder is NPMOBILENET_CACHE, or the operating system's for this user (~/.cache/npmobilenet):

    keras/mobilenet_v2/....h5            as downloaded, under the paths of Keras's server
    keras/mobilenet_v2/....h5.part       an interrupted download; the next attempt resumes it
    converted/0.1.0/mobilenet_v2_1.0_224.safetensors    converted by this version of npmobilenet
    sha256.json                          {path in this folder: SHA-256 when downloaded or converted}
    ....lock                             held by the process that writes the file of that name; empty
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path

from npmobilenet.errors import DownloadError, WeightsError
from npmobilenet.files import cache_folder, write_atomically
from npmobilenet.hub.download import ChangedFileError, download
from npmobilenet.hub.published_models import KnownModel, find_model
from npmobilenet.models.labels import imagenet_labels
from npmobilenet.output import print_note

LOCK_TIMEOUT = 1800.0  # seconds to wait for another process that downloads or converts the same file


def source_path(model: KnownModel) -> Path:
    """Path of Keras's file of this model in the cache folder, whether it exists or not."""
    return cache_folder() / "keras" / model.url_path


def converted_path(model: KnownModel) -> Path:
    """Path of the converted model in the cache folder, whether it exists or not."""
    from importlib.metadata import version

    return cache_folder() / "converted" / version("npmobilenet") / f"{model.name}.safetensors"


def fetch_source(model: KnownModel, *, progress: bool = True) -> Path:
    """Keras's weight file of this model, downloaded if it is not cached.

    V3's files are verified against the MD5 in Keras's source. For V1's and V2's no hash is published: their SHA-256 is
    shown and recorded at the first download, and a different one later is refused. Interrupted downloads are resumed;
    several processes may request the same file at once. A file that the user put there is accepted.

    Args:
        model: a published model.
        progress: report on standard error, with a progress bar if that is a terminal.

    Returns:
        Path of the file.

    Raises:
        DownloadError: the download failed within the time limits of `download`, the file is not the expected one, or
            the cache folder is not writable.
    """
    path = source_path(model)
    with _folder_errors(path), _lock(path, progress):
        recorded = _recorded(path)
        try:
            download(model.url, path, _known_hash(model, recorded), check=_check_hdf5, progress=progress)
            if recorded is None:
                _check_hdf5(path)  # the user may have put it there
        except ChangedFileError as error:
            raise DownloadError(f"{model.name}: {error}\n{_hash_mismatch_hint(model, path)}") from error
        except DownloadError as error:
            raise DownloadError(f"{model.name}: {error}\n{_offline_hint(model, path)}") from error
        if recorded is None:
            digest = _record(path)
            if progress:
                verified = "MD5 matches Keras's source" if model.md5 else f"recorded in {_hashes_file()}"
                print_note(f"{model.file_name}: SHA-256 {digest}; {verified}")
    return path


def locate(name: str, *, progress: bool = True) -> Path:
    """Converted file of a published model; downloaded and converted if it is not cached, or corrupt.

    Args:
        name: see `find_model`.
        progress: report on standard error.

    Returns:
        Path of the `.safetensors`, whose SHA-256 has just been verified.

    Raises:
        ModelNotFoundError: the name is unknown.
        DownloadError: see `fetch_source`.
        WeightsError: the downloaded file does not hold this network's weights.
    """
    model = find_model(name)
    path = converted_path(model)
    with _folder_errors(path):
        if _is_intact(path):
            return path
        with _lock(path, progress):
            if _is_intact(path):  # another process converted it while this one waited
                return path
            source = fetch_source(model, progress=progress)
            try:
                _convert(source, path, model)
            except WeightsError:
                if model.md5 is None:  # it was never this model's file: a second attempt may get the right one
                    _forget(source)
                raise
            _record(path)
    return path


@contextmanager
def _folder_errors(path: Path) -> Iterator[None]:
    """What the operating system says of a broken cache folder, as our error."""
    try:
        yield
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"{path}: {error}; repair or delete the cache folder, or set NPMOBILENET_CACHE to another one"
        ) from error


def _known_hash(model: KnownModel, recorded: str | None) -> str | None:
    if model.md5 is not None:
        return f"md5:{model.md5}"
    return None if recorded is None else f"sha256:{recorded}"


def _convert(source: Path, destination: Path, model: KnownModel) -> None:
    from npmobilenet_weights_convert import convert_file

    labels = imagenet_labels() if model.include_top else ()
    try:
        convert_file(source, destination, graph=model.graph(), labels=labels)
    except OSError as error:
        raise DownloadError(f"{destination}: not writable: {error}") from error


def _offline_hint(model: KnownModel, path: Path) -> str:
    there = f"{path} exists, but is not the expected file" if path.exists() else f"The file's path is {path}"
    return (
        f"{there}.\nTo work offline: put {model.file_name} there, pass a model of your own with --model FILE "
        "(.safetensors, .h5, .keras), or use the bundled one with --model digits."
    )


def _hash_mismatch_hint(model: KnownModel, path: Path) -> str:
    if model.md5 is not None:
        return f"The expected MD5 is the one in Keras's source. Try again, or put the file from elsewhere at {path}."
    return (
        "This is not the file that was downloaded the first time. Find out why; if the new one is right, remove "
        f"{_key(path)} from {_hashes_file()} and try again."
    )


@contextmanager
def _lock(path: Path, progress: bool) -> Iterator[None]:
    """Lock `path` against other processes and threads; its folder is created."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                print_note(f"{path.name}: waiting for another process that is downloading it")
            lock.acquire(timeout=LOCK_TIMEOUT)
    except Timeout as error:
        raise DownloadError(
            f"{path}: lock timeout: another process has been downloading it for {LOCK_TIMEOUT / 60:.0f} minutes; "
            "stop it and retry"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"{path.parent}: not writable ({error}); set NPMOBILENET_CACHE to another cache folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _check_hdf5(path: Path) -> None:
    """Refuse what is no weight file at all, such as the login page of a hotel Wi-Fi. The converter checks the rest."""
    import h5py

    try:
        with h5py.File(path, "r"):
            pass
    except OSError as error:
        with path.open("rb") as file:
            start = file.read(16)
        raise DownloadError(f"not an HDF5 file, or truncated; it starts with {start!r} ({error})") from error


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
    except (ValueError, RecursionError) as error:
        raise DownloadError(f"{_hashes_file()}: corrupt ({error}); delete it to start over") from error
    if not isinstance(hashes, dict) or not all(isinstance(digest, str) for digest in hashes.values()):
        raise DownloadError(f"{_hashes_file()}: corrupt (not a JSON object of texts); delete it to start over")
    return hashes


def _recorded(path: Path) -> str | None:
    return _hashes().get(_key(path))


def _is_intact(path: Path) -> bool:
    return path.is_file() and _sha256(path) == _recorded(path)


def _record(path: Path) -> str:
    digest = _sha256(path)
    _change_hashes(lambda hashes: hashes | {_key(path): digest})
    return digest


def _forget(path: Path) -> None:
    """Remove a file that is not the expected one, and its recorded hash."""
    path.unlink()
    _change_hashes(lambda hashes: {key: digest for key, digest in hashes.items() if key != _key(path)})


def _change_hashes(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    with _lock(_hashes_file(), progress=False):
        changed = json.dumps(change(_hashes()), indent=1, sort_keys=True)
        write_atomically(_hashes_file(), changed.encode())
