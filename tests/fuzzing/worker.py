"""The child process of the fuzzer: reads cases one after another within limits, and says what became of each.

    python -m tests.fuzzing.worker BACKEND BASE FIRST LAST FOLDER

One JSON object per line: {"start": number} before a case, and after it its outcome. A case that takes more than
`SECONDS` of this process's time ends the process, with a traceback on standard error; so does whatever a library
crashes by. The next process goes on after it.
"""

import faulthandler
import json
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from npmobilenet.errors import NpMobileNetError
from tests.fuzzing.cases import Case, emptied, make_case
from tests.fuzzing.readers import READERS
from tests.fuzzing.seeds import corpus

SECONDS = 10  # of processor time for one case
MEGABYTES = 1000  # that one case may add
MOST_MEGABYTES = 6000  # that this process may address beyond what it has, to keep the machine alive
READ, REFUSED, ERROR, MEMORY, HANG, CRASH = "read", "refused", "other exception", "memory", "hang", "crash"
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main(backend: str, base: int, first: int, last: int, folder: Path) -> None:
    """Read the cases from `first` to before `last`."""
    corpus()
    faulthandler.register(signal.SIGPROF, chain=True)
    limit = _megabytes("VmSize:") + MOST_MEGABYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit << 20, limit << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, last):
        case = make_case(number, base)
        _say({"start": number, "kind": case.seed.kind})
        _say(outcome(case, emptied(folder), backend))


def outcome(case: Case, folder: Path, backend: str) -> dict[str, Any]:
    """What becomes of a case, in time and memory."""
    path = case.write(folder)
    before = _reset_peak()
    start = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    found: dict[str, Any] = {"number": case.number, "kind": case.seed.kind}
    try:
        READERS[case.seed.reader](path, backend)
        found["outcome"] = READ
    except NpMobileNetError as error:
        found |= {"outcome": REFUSED, "message": str(error)[:200]}
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        found |= {"outcome": ERROR, "where": f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"}
        found |= {"message": str(error)[:200], "trace": "".join(traceback.format_exception(error))[-4000:]}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    found |= {"seconds": round(time.process_time() - start, 3), "megabytes": _megabytes("VmHWM:") - before}
    if found["megabytes"] > MEGABYTES and found["outcome"] != ERROR:
        found |= {"outcome": MEMORY, "where": f"{found['megabytes']:,} MB, then {found['outcome']}"}
    return found


def _reset_peak() -> int:
    """Megabytes in use; the peak is counted from now on."""
    RESET.write_text("5")
    return _megabytes("VmRSS:")


def _megabytes(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) >> 10


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, BACKEND, BASE, FIRST, LAST, FOLDER = sys.argv
    main(BACKEND, int(BASE), int(FIRST), int(LAST), Path(FOLDER))
