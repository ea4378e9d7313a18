"""The cache: complete, verified files or none, even with concurrent processes and a hostile network."""

import hashlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest

from npmobilenet.compiler.compilation import kernel_folder
from npmobilenet.errors import DownloadError, ModelNotFoundError, WeightsError
from npmobilenet.files import cache_folder
from npmobilenet.hub import cache
from npmobilenet.hub.cache import converted_path, fetch_source, locate, source_path
from npmobilenet.hub.published_models import KNOWN_MODELS, KnownModel
from tests.helpers.download_server import FETCH, V1, V3, Server, files_of, weight_file


def test_a_file_is_downloaded_once_to_the_path_on_kerass_server(server: Server, tmp_path: Path) -> None:
    server.files[V1.url_path] = weight_file()

    paths = {fetch_source(V1) for _ in range(3)}

    assert paths == {tmp_path / "cache" / "keras" / "mobilenet" / "mobilenet_2_5_128_tf.h5"}
    assert paths.pop().read_bytes() == server.files[V1.url_path]
    assert server.requests == [("/mobilenet/mobilenet_2_5_128_tf.h5", None)]
    assert files_of(V1) == {V1.file_name}


def test_the_sha256_of_a_file_without_published_hash_is_shown_and_recorded(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server.files[V1.url_path] = weight_file()
    digest = hashlib.sha256(server.files[V1.url_path]).hexdigest()

    fetch_source(V1)

    output = capsys.readouterr()
    assert output.out == ""
    assert f"{V1.file_name}: SHA-256 {digest}; recorded in" in output.err
    assert json.loads((tmp_path / "cache" / "sha256.json").read_text()) == {f"keras/{V1.url_path}": digest}


def test_nothing_is_printed_without_progress(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.files[V1.url_path] = weight_file()

    fetch_source(V1, progress=False)

    assert capsys.readouterr() == ("", "")


def test_a_published_md5_is_checked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files[V3.url_path] = weight_file()
    right = replace(V3, md5=hashlib.md5(weight_file(), usedforsecurity=False).hexdigest())

    with pytest.raises(
        DownloadError, match=rf"does not match the known hash: expected md5:{V3.md5} but got {right.md5}"
    ):
        fetch_source(V3)
    assert files_of(V3) == set()

    assert fetch_source(right).read_bytes() == weight_file()


def test_a_file_that_changed_on_the_server_is_refused(server: Server, tmp_path: Path) -> None:
    server.files[V1.url_path] = weight_file(seed=0)
    fetch_source(V1).unlink()
    server.files[V1.url_path] = weight_file(seed=1)
    old, new = (hashlib.sha256(weight_file(seed)).hexdigest() for seed in (0, 1))

    with pytest.raises(DownloadError, match=rf"expected sha256:{old} but got {new}") as refusal:
        fetch_source(V1)

    assert f"remove keras/{V1.url_path} from {tmp_path / 'cache' / 'sha256.json'}" in str(refusal.value)
    assert files_of(V1) == set()


def test_a_corrupt_file_in_the_cache_is_downloaded_again(server: Server) -> None:
    server.files[V1.url_path] = weight_file()
    path = fetch_source(V1)
    path.write_bytes(weight_file()[:-1])

    assert fetch_source(V1).read_bytes() == weight_file()
    assert len(server.requests) == 2


def test_without_a_connection_the_error_names_the_file_its_path_and_two_alternatives(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setenv("NPMOBILENET_MIRROR", f"http://127.0.0.1:{port}")

    with pytest.raises(DownloadError) as error:
        fetch_source(V1)

    text = str(error.value)
    assert text.startswith(f"{V1.name}: http://127.0.0.1:{port}/{V1.url_path}: connection failed or was interrupted")
    assert str(source_path(V1)) in text
    assert V1.file_name in text
    assert "--model FILE" in text
    assert "--model digits" in text


def test_a_file_put_there_by_the_user_is_accepted_offline(server: Server) -> None:
    source_path(V1).parent.mkdir(parents=True)
    source_path(V1).write_bytes(weight_file())

    assert fetch_source(V1).read_bytes() == weight_file()
    assert server.requests == []


def test_a_wrong_file_put_there_by_the_user_is_reported(server: Server) -> None:
    source_path(V1).parent.mkdir(parents=True)
    source_path(V1).write_bytes(b"<!DOCTYPE html>")

    with pytest.raises(DownloadError, match=r"not an HDF5 file.*<!DOCTYPE(?s:.*)exists, but is not the expected file"):
        fetch_source(V1)
    assert source_path(V1).read_bytes() == b"<!DOCTYPE html>"


@pytest.mark.parametrize("contents", [b"<html>please log in</html>", b"", weight_file()[:1000]])
def test_what_is_no_weight_file_is_neither_kept_nor_recorded(server: Server, contents: bytes, tmp_path: Path) -> None:
    server.files[V1.url_path] = contents

    with pytest.raises(DownloadError, match=r"not an HDF5 file, or truncated"):
        fetch_source(V1)

    assert files_of(V1) == set()
    assert not (tmp_path / "cache" / "sha256.json").exists()


def test_two_concurrent_processes_download_once(server: Server) -> None:
    server.files[V1.url_path] = weight_file()
    server.pause = 0.05

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH, V1.name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert [out.strip() for out, _ in outputs] == [str(source_path(V1))] * 2
    assert source_path(V1).read_bytes() == weight_file()
    assert len(server.requests) == 1
    assert files_of(V1) == {V1.file_name}


def test_hashes_of_concurrent_downloads_are_all_recorded(server: Server, tmp_path: Path) -> None:
    models = [model for model in KNOWN_MODELS if model.md5 is None][:8]
    server.files |= {model.url_path: weight_file(seed) for seed, model in enumerate(models)}

    threads = [threading.Thread(target=fetch_source, args=[model]) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert json.loads((tmp_path / "cache" / "sha256.json").read_text()) == {
        f"keras/{model.url_path}": hashlib.sha256(server.files[model.url_path]).hexdigest() for model in models
    }


def test_a_read_only_cache_folder_is_reported(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path / "file"))

    with pytest.raises(DownloadError, match=r"not writable .*set NPMOBILENET_CACHE to another"):
        fetch_source(V1)


@pytest.mark.parametrize("contents", ["{", "[1]"])
def test_a_corrupt_list_of_hashes_is_reported(server: Server, contents: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "sha256.json").write_text(contents)

    with pytest.raises(DownloadError, match=r"sha256\.json: corrupt .*delete it to start over"):
        fetch_source(V1)


def test_the_default_cache_folder_is_the_operating_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPMOBILENET_CACHE", raising=False)

    assert cache_folder() == Path(platformdirs.user_cache_dir("npmobilenet"))


@pytest.mark.parametrize("named", ["some/folder", "~/folder", "/folder"])
def test_downloads_conversions_and_kernels_share_one_absolute_cache_folder(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPMOBILENET_CACHE", named)

    folder = Path(named).expanduser().absolute()

    assert kernel_folder() == folder / "kernels"
    assert source_path(V1) == folder / "keras" / V1.url_path
    assert converted_path(V1).is_relative_to(folder / "converted")


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the converted models; the converter only reverses the bytes."""
    converted = []

    def convert(source: Path, destination: Path, model: KnownModel) -> None:
        converted.append(model.name)
        destination.write_bytes(source.read_bytes()[::-1])

    monkeypatch.setattr(cache, "_convert", convert)
    return converted


def test_a_model_is_converted_once(server: Server, conversions: list[str]) -> None:
    server.files[V1.url_path] = weight_file()

    paths = {locate(name) for name in (V1.name, V1.file_name, V1.name)}

    assert paths == {converted_path(V1)}
    assert paths.pop().read_bytes() == weight_file()[::-1]
    assert conversions == [V1.name]
    assert len(server.requests) == 1


def test_a_corrupt_conversion_is_repeated_from_the_cached_download(server: Server, conversions: list[str]) -> None:
    server.files[V1.url_path] = weight_file()
    path = locate(V1.name)
    path.write_bytes(path.read_bytes()[:-1])

    assert locate(V1.name).read_bytes() == weight_file()[::-1]
    assert conversions == [V1.name] * 2
    assert len(server.requests) == 1


def test_a_converted_model_works_offline_and_read_only(
    server: Server, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files[V1.url_path] = weight_file()
    path = locate(V1.name)
    monkeypatch.setenv("NPMOBILENET_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setattr(cache, "_lock", None)

    assert locate(V1.name) == path


def test_a_file_that_does_not_fit_its_network_is_not_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.files[V1.url_path] = weight_file(seed=0)

    def refuse(source: Path, destination: Path, model: KnownModel) -> None:
        raise WeightsError("these are other weights")

    monkeypatch.setattr(cache, "_convert", refuse)
    with pytest.raises(WeightsError, match="these are other weights"):
        locate(V1.name)
    server.files[V1.url_path] = weight_file(seed=1)

    assert json.loads((tmp_path / "cache" / "sha256.json").read_text()) == {}
    assert fetch_source(V1).read_bytes() == weight_file(seed=1)


def test_an_unknown_name_sends_no_request(server: Server) -> None:
    with pytest.raises(ModelNotFoundError):
        locate("resnet50")
    assert server.requests == []


def _folder_in_place_of_hashes(cache: Path) -> None:
    (cache / "sha256.json").mkdir(parents=True)


def _hashes_that_are_numbers(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "sha256.json").write_text('{"keras": 3}')


def _file_in_place_of_the_folder(cache: Path) -> None:
    cache.write_text("")


def _folder_in_place_of_the_source(cache: Path) -> None:
    (cache / "keras" / V1.url_path).mkdir(parents=True)


def _folder_in_place_of_the_lock(cache: Path) -> None:
    source = cache / "keras" / V1.url_path
    source.with_name(f"{source.name}.lock").mkdir(parents=True)


def _link_to_itself(cache: Path) -> None:
    cache.symlink_to(cache)


@pytest.mark.parametrize(
    "break_cache",
    [
        _folder_in_place_of_hashes, _hashes_that_are_numbers, _file_in_place_of_the_folder,
        _folder_in_place_of_the_source, _folder_in_place_of_the_lock, _link_to_itself,
    ],
)  # fmt: skip
def test_a_broken_cache_folder_is_an_error_of_ours(
    break_cache: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    break_cache(cache)
    monkeypatch.setenv("NPMOBILENET_CACHE", str(cache))
    monkeypatch.setenv("NPMOBILENET_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"cache|sha256\.json"):
        locate(V1.name, progress=False)
    with pytest.raises(DownloadError, match=r"cache|sha256\.json"):
        fetch_source(V1, progress=False)


@pytest.mark.parametrize(
    "mirror", ["http://[broken/", "http://host:port/", "http://host:99999999/", "ftp://x", "http://"]
)
def test_a_malformed_mirror_is_named(mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMOBILENET_MIRROR", mirror)
    with pytest.raises(DownloadError, match="NPMOBILENET_MIRROR: expected a URL such as"):
        V1.url  # noqa: B018


def test_a_mirrors_password_is_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path))
    for mirror in ("http://user:secret@127.0.0.1:9/weights", "http://user:secret@[broken"):
        monkeypatch.setenv("NPMOBILENET_MIRROR", mirror)
        with pytest.raises(DownloadError) as caught:
            fetch_source(V1, progress=False)
        assert "secret" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
