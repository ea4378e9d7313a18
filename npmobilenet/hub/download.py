"""Download of one file over HTTP, with pooch: complete, verified, and resumed after an interruption.

Pooch decides whether the file has to be downloaded, compares its hash and moves it into place atomically. It cannot
resume; the downloader here can. The bytes received so far are in `.part`, next to the file, and `.part.from` holds the
URL and the server's validator for this version of the file (ETag, else Last-Modified). The next attempt requests the
rest with `Range` and `If-Range`: if the file has changed, or the server cannot resume, the whole file is sent again, so
that parts of two versions are never joined.
"""

import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from npmobilenet.errors import DownloadError
from npmobilenet.output import byte_progress

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT = 10.0  # seconds to connect
READ_TIMEOUT = 30.0  # seconds without a byte
RETRY_WAITS = (0.5, 1.0, 2.0)  # seconds before each retry; they start over whenever an attempt got further
MAX_BYTES = 2**28  # per file; ten times the largest that Keras publishes for these networks
CHUNK = 2**13  # bytes per read; an incomplete one is lost when the connection breaks


class ChangedFileError(DownloadError):
    """A complete file with another hash than the known one."""


Advance = Callable[[int, int | None], None]  # bytes so far, total bytes if known


def download(
    url: str, path: Path, known_hash: str | None, *, check: Callable[[Path], None], progress: bool = True
) -> None:
    """Download `url` to `path`, unless that file already exists with the known hash.

    The caller holds a lock on `path`. Limits: `CONNECT_TIMEOUT`, `READ_TIMEOUT`, `RETRY_WAITS`, `MAX_BYTES`.

    Args:
        url: http or https.
        path: destination, in an existing folder.
        known_hash: "md5:..." or "sha256:..."; None accepts an existing file, or any download.
        check: called with the complete file before it is moved into place; raises DownloadError if it is not of the
            expected kind.
        progress: show a progress bar on standard error, if that is a terminal.

    Raises:
        ChangedFileError: the file has another hash.
        DownloadError: the download failed, or `path` is not writable.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # it would log every download
    shown = without_password(url)
    part = path.with_name(f"{path.name}.part")

    def resuming(url: str, output_file: str, _: object) -> None:
        with byte_progress(path.name) if progress else nullcontext(lambda done, total: None) as advance:
            _complete(url, part, advance)
        try:
            check(part)
        except DownloadError as error:
            _discard(part)
            raise DownloadError(f"{shown}: {error}") from error
        part.replace(output_file)
        _validator_of(part).unlink(missing_ok=True)

    try:
        pooch.retrieve(url, known_hash, fname=path.name, path=path.parent, downloader=resuming)
    except DownloadError:
        raise
    except ValueError as error:  # how pooch reports another hash; its message has both
        raise ChangedFileError(f"{shown}: {without_password(str(error))}") from error
    except requests.RequestException as error:
        kept = f"; {_size(part):,} bytes downloaded, the next attempt resumes" if _size(part) else ""
        raise DownloadError(f"{shown}: {without_password(_reason(error))}{kept}") from error
    except OSError as error:
        raise DownloadError(f"{path}: not writable: {error}") from error


def without_password(text: str) -> str:
    """A text with URLs in it, without their user names and passwords."""
    return re.sub(r"(?<=://)[^/\s@]*@", "***@", text)


def _complete(url: str, part: Path, advance: Advance) -> None:
    """Transfer until `part` is the complete file; retry if that may help."""
    import requests

    furthest, waits = _size(part), iter(RETRY_WAITS)
    while True:
        try:
            return _transfer(url, part, advance)
        except requests.RequestException as error:
            if _size(part) > furthest:
                furthest, waits = _size(part), iter(RETRY_WAITS)
            wait = next(waits, None)
            if wait is None or not _is_transient(error):
                raise
            time.sleep(wait)


def _transfer(url: str, part: Path, advance: Advance) -> None:
    """Send one request: for what is missing in `part` if the server still has the same file, else for all of it."""
    import requests

    start, validator = _size(part), _read_validator(part, url)
    headers = {"Accept-Encoding": "identity"}
    if start and validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as response:
        if response.status_code == 416:  # no bytes from `start` on, so `part` is not a prefix of the file
            _discard(part)
        response.raise_for_status()
        resumed = response.status_code == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            _discard(part)
            raise requests.ConnectionError(f"requested the bytes from {start}, got {response.headers}")
        done = start if resumed else 0
        if not resumed:
            _write_validator(part, url, response)
        total = _total(response, done)
        with part.open("ab" if resumed else "wb") as file:
            advance(done, total)
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                done += len(chunk)
                advance(done, total)
                if done > MAX_BYTES:
                    break
    if done > MAX_BYTES:
        _discard(part)
        shown = without_password(url)
        raise DownloadError(f"{shown}: sends more than {MAX_BYTES:,} bytes, which is no weight file of these networks")
    if total is not None and done != total:  # urllib3 before 2.0 takes a broken connection for the end
        raise requests.ConnectionError(f"received {done} of {total} bytes")


def _total(response: "requests.Response", start: int) -> int | None:
    length = response.headers.get("Content-Length")
    if length is None or "Content-Encoding" in response.headers:  # a compressed length is not the file's
        return None
    return start + int(length)


def _is_transient(error: "requests.RequestException") -> bool:
    """Whether the same request may succeed in a moment."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in {408, 416, 429} or error.response.status_code >= 500
    if isinstance(
        error, requests.exceptions.SSLError | requests.exceptions.ProxyError
    ):  # subclasses of ConnectionError
        return False
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def _reason(error: "requests.RequestException") -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout) or "Read timed out" in str(error):  # within the body it is a ConnectionError
        return f"timed out (limits: {CONNECT_TIMEOUT:g} s to connect, {READ_TIMEOUT:g} s per read)"
    if isinstance(error, requests.exceptions.SSLError):
        return f"the server's certificate is not trusted ({error})"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy in HTTP_PROXY or HTTPS_PROXY is not reachable ({error})"
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return "connection failed or was interrupted"
    return str(error)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _validator_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.from")


def _read_validator(part: Path, url: str) -> str | None:
    """The server's validator for the version that `part` is a prefix of, if it came from this URL."""
    try:
        origin, validator = _validator_of(part).read_text(encoding="utf-8").split("\n")
    except (FileNotFoundError, ValueError):
        return None
    return validator if origin == without_password(url) and validator else None


def _write_validator(part: Path, url: str, response: "requests.Response") -> None:
    """Record which version `part` is going to be a prefix of; until then it is empty."""
    part.unlink(missing_ok=True)
    validator = response.headers.get("ETag", "")
    if not validator or validator.startswith("W/"):  # a weak tag does not guarantee the same bytes
        validator = response.headers.get("Last-Modified", "")
    _validator_of(part).write_text(f"{without_password(url)}\n{validator}", encoding="utf-8")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_of(part).unlink(missing_ok=True)
