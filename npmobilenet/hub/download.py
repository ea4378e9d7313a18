"""One file over HTTP, with pooch: whole, checked, and resumed where an earlier try was cut off.

Pooch decides whether the file is needed, compares its hash and puts it in its place in one step. It cannot resume; for
that it is given the downloader here. The bytes that have come lie beside the file in `.part`, and `.part.from` has the
address and the server's mark for this version of the file (ETag, else Last-Modified). The next try asks for the rest
with `Range` and `If-Range`: where the file has changed meanwhile, or the server cannot resume, all of it comes again,
and never are halves of two files joined.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from npmobilenet.errors import DownloadError

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT = 10.0  # seconds to reach the server
READ_TIMEOUT = 30.0  # seconds without a byte after which the connection counts as dead
RETRY_WAITS = (0.5, 1.0, 2.0)  # seconds before each new try; they start over whenever a try got further than all before
MAX_BYTES = 2**28  # of one file; the largest one that Keras publishes for these networks has a tenth of it
CHUNK = 2**13  # bytes read at a time; what has come of the last one is lost when the line is cut


class ChangedFileError(DownloadError):
    """The file that came is whole, but not the one that the hash is of."""


Advance = Callable[[int, int | None], None]  # bytes here, bytes in all if known


def download(
    url: str, path: Path, known_hash: str | None, *, check: Callable[[Path], None], progress: bool = True
) -> None:
    """Bring the file at `url` to `path`, unless it is there already and has the known hash.

    The caller holds a lock on `path`. Limits: `CONNECT_TIMEOUT`, `READ_TIMEOUT`, `RETRY_WAITS`, `MAX_BYTES`.

    Args:
        url: address, http or https.
        path: where the file goes; its folder is there.
        known_hash: "md5:..." or "sha256:..."; None takes what is there, or what comes.
        check: called with the complete file before it is put in its place; raises DownloadError if it is not of the
            kind that is expected.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        ChangedFileError: the file is another one than the hash says.
        DownloadError: the file could not be fetched or cannot be written.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # it would announce every download
    part = path.with_name(f"{path.name}.part")

    def resuming(url: str, output_file: str, _: object) -> None:
        with _bar(path.name, progress) as advance:
            _complete(url, part, advance)
        try:
            check(part)
        except DownloadError as error:
            _discard(part)
            raise DownloadError(f"{url}: {error}") from error
        part.replace(output_file)
        _mark_of(part).unlink(missing_ok=True)

    try:
        pooch.retrieve(url, known_hash, fname=path.name, path=path.parent, downloader=resuming)
    except DownloadError:
        raise
    except ValueError as error:  # pooch's word for a hash that differs; its message has both
        raise ChangedFileError(f"{url}: {error}") from error
    except requests.RequestException as error:
        kept = f"; {_size(part):,} bytes of it are here, the next try goes on from there" if _size(part) else ""
        raise DownloadError(f"{url}: {_reason(error)}{kept}") from error
    except OSError as error:
        raise DownloadError(f"{path}: cannot be written: {error}") from error


def say(text: str) -> None:
    """Tell the person in front of the terminal; standard output is for results."""
    print(text, file=sys.stderr)


def _complete(url: str, part: Path, advance: Advance) -> None:
    """Transfer until `part` is the whole file; try again where that can help."""
    import requests

    furthest, waits = _size(part), iter(RETRY_WAITS)
    while True:
        try:
            return _transfer(url, part, advance)
        except requests.RequestException as error:
            if _size(part) > furthest:
                furthest, waits = _size(part), iter(RETRY_WAITS)
            wait = next(waits, None)
            if wait is None or not _is_passing(error):
                raise
            time.sleep(wait)


def _transfer(url: str, part: Path, advance: Advance) -> None:
    """Ask once, for what is missing in `part` if the server still has the same file, else for all of it."""
    import requests

    start, mark = _size(part), _read_mark(part, url)
    headers = {"Accept-Encoding": "identity"}
    if start and mark:
        headers |= {"Range": f"bytes={start}-", "If-Range": mark}
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as response:
        if response.status_code == 416:  # it has no bytes from `start` on, so `part` is no beginning of it
            _discard(part)
        response.raise_for_status()
        resumed = response.status_code == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            _discard(part)
            raise requests.ConnectionError(f"asked for the bytes from {start}, got {response.headers}")
        here = start if resumed else 0
        if not resumed:
            _write_mark(part, url, response)
        total = _total(response, here)
        with part.open("ab" if resumed else "wb") as file:
            advance(here, total)
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                here += len(chunk)
                advance(here, total)
                if here > MAX_BYTES:
                    break
    if here > MAX_BYTES:
        _discard(part)
        raise DownloadError(f"{url}: sends more than {MAX_BYTES:,} bytes; that is no weight file of these networks")
    if total is not None and here != total:  # urllib3 before 2.0 takes a cut for the end
        raise requests.ConnectionError(f"{here} of {total} bytes came")


def _total(response: "requests.Response", start: int) -> int | None:
    length = response.headers.get("Content-Length")
    if length is None or "Content-Encoding" in response.headers:  # the length of something packed is not the file's
        return None
    return start + int(length)


def _is_passing(error: "requests.RequestException") -> bool:
    """Whether the same request may well succeed in a moment."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in {408, 416, 429} or error.response.status_code >= 500
    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError):  # kinds of ConnectionError
        return False
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def _reason(error: "requests.RequestException") -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout) or "Read timed out" in str(error):  # within the body it is a ConnectionError
        return f"the server is silent (waited {CONNECT_TIMEOUT:g} s to connect, {READ_TIMEOUT:g} s for each byte)"
    if isinstance(error, requests.exceptions.SSLError):
        return f"no connection that can be trusted ({error})"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy in HTTP_PROXY or HTTPS_PROXY does not answer ({error})"
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return "there is no connection, or it was cut off"
    return str(error)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _mark_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.from")


def _read_mark(part: Path, url: str) -> str | None:
    """Return the server's mark for the version that `part` is the beginning of, if it came from this address."""
    try:
        origin, mark = _mark_of(part).read_text(encoding="utf-8").split("\n")
    except (FileNotFoundError, ValueError):
        return None
    return mark if origin == url and mark else None


def _write_mark(part: Path, url: str, response: "requests.Response") -> None:
    """State what `part` is going to be the beginning of; until then it is empty."""
    part.unlink(missing_ok=True)
    mark = response.headers.get("ETag", "")
    if not mark or mark.startswith("W/"):  # a weak tag does not promise the same bytes
        mark = response.headers.get("Last-Modified", "")
    _mark_of(part).write_text(f"{url}\n{mark}", encoding="utf-8")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _mark_of(part).unlink(missing_ok=True)


@contextmanager
def _bar(label: str, progress: bool) -> Iterator[Advance]:
    """Yield what moves the bar; where nobody looks it moves nothing."""
    if not (progress and sys.stderr.isatty()):
        yield lambda here, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(label), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=None)
        yield lambda here, total: bars.update(task, completed=here, total=total)
