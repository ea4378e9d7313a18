"""Mutated files of every kind that is read: each must be read, or refused by an error of this package.

    scripts/fuzz [--cases N] [--seed S] [--folder DIR] [--seconds S] [--backend compiled]
    scripts/fuzz --case NUMBER [--seed S] [--backend compiled]

Cases are numbered, and kinds take turns; a number and a seed always make the same file. A child process reads them,
with limits of time and memory; its end is a finding, and the next one goes on. DIR (default: fuzzing/) keeps the
counts, so that a run that was stopped goes on where it was, and the files of all findings. `--case` reads one case in
this process.
"""

import argparse
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.fuzzing.cases import emptied, make_case
from tests.fuzzing.readers import READERS
from tests.fuzzing.seeds import corpus
from tests.fuzzing.worker import CRASH, HANG, READ, REFUSED

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0  # seconds without a line from the child, on a machine that does other things as well
BATCH = 5000  # cases of one child
SAVED_EVERY = 500  # cases
STATE = "state.json"
WORKER = (sys.executable, "-m", "tests.fuzzing.worker", "reference")


@dataclass
class Counts:
    """Outcomes of the cases of a run so far.

    Attributes:
        seed: of the run.
        next: number of the next case.
        outcomes: number of cases, by kind and outcome.
        slowest, largest: seconds and megabytes of a case, by kind.
        findings: outcomes other than read and refused, by kind, outcome and place; the first of each, and how many.
    """

    seed: int = 0
    next: int = 0
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    largest: dict[str, int] = field(default_factory=dict)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, found: dict[str, Any]) -> bool:
        """Count the outcome of a case; whether it is a finding of a new sort."""
        kind, outcome = found["kind"], found["outcome"]
        counts = self.outcomes.setdefault(kind, {})
        counts[outcome] = counts.get(outcome, 0) + 1
        self.slowest[kind] = max(self.slowest.get(kind, 0.0), found.get("seconds", 0.0))
        self.largest[kind] = max(self.largest.get(kind, 0), found.get("megabytes", 0))
        self.next = found["number"] + 1
        if outcome in (READ, REFUSED):
            return False
        key = f"{kind}: {outcome}, {found.get('where', '')}"
        first = self.findings.setdefault(key, {**found, "count": 0})
        first["count"] += 1
        return bool(first["count"] == 1)

    @property
    def total(self) -> Counter[str]:
        """Number of cases by outcome."""
        return sum((Counter(counts) for counts in self.outcomes.values()), Counter())

    def table(self) -> str:
        """A line per kind, then one per finding."""
        lines = [f"{'kind':22}{'cases':>9}{'read':>9}{'refused':>9}{'other':>7}{'slowest':>10}{'largest':>10}"]
        for kind, counts in self.outcomes.items():
            cases, read, refused = sum(counts.values()), counts.get(READ, 0), counts.get(REFUSED, 0)
            lines.append(
                f"{kind:22}{cases:9,}{read:9,}{refused:9,}{cases - read - refused:7,}{self.slowest[kind]:8.2f} s"
                f"{self.largest[kind]:7,} MB"
            )
        total = ", ".join(f"{number:,} {outcome}" for outcome, number in sorted(self.total.items()))
        lines.append(f"{self.total.total():,} cases: {total}")
        return "\n".join(
            lines + [f"{one['count']} x case {one['number']}: {key}" for key, one in self.findings.items()]
        )


def run(
    counts: Counts, last: int, scratch: Path, stop_at: float = float("inf"), worker: Sequence[str] = WORKER
) -> Iterator[dict[str, Any]]:
    """Read the cases up to `last`, in children, and yield each outcome after it has been counted as new or not.

    Args:
        counts: is changed; the run goes on at its `next`.
        last: number of the case to end before.
        scratch: folder for the files.
        stop_at: time of `time.monotonic` at which no further case is begun.
        worker: the child's command line up to its arguments.
    """
    while counts.next < last and time.monotonic() < stop_at:
        arguments = map(str, (counts.seed, counts.next, min(last, counts.next + BATCH), scratch))
        for found in _read_by_child([*worker, *arguments], scratch):
            yield found | {"new": counts.add(found)}
            if time.monotonic() >= stop_at:
                break


def _read_by_child(command: Sequence[str], scratch: Path) -> Iterator[dict[str, Any]]:
    """Outcomes of the cases that one child reads, up to the one that ends it."""
    with (
        (scratch.parent / f"{scratch.name}.stderr").open("w+") as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors) as child,
    ):
        begun: dict[str, Any] | None = None
        try:
            for line in _lines(child):
                if "start" in line:
                    begun = line
                else:
                    begun = None
                    yield line
        finally:
            hangs = child.poll() is None
            child.kill()
            code = child.wait()
        if begun is None and code:
            raise RuntimeError(f"the child ended with {code} between cases: {_tail(errors)}")
        if begun is not None:
            ended = HANG if hangs or code == -signal.SIGPROF else CRASH
            where = "no answer" if hangs else f"signal {-code}" if code < 0 else f"exit {code}"
            found = {"number": begun["start"], "kind": begun["kind"], "outcome": ended, "where": where}
            yield found | {"trace": _tail(errors)}


def _lines(child: "subprocess.Popen[bytes]") -> Iterator[dict[str, Any]]:
    """What a child says, until it ends or says nothing for `PATIENCE`."""
    assert child.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as ready:
        ready.register(child.stdout, selectors.EVENT_READ)
        while ready.select(PATIENCE):
            piece = os.read(child.stdout.fileno(), 1 << 16)
            if not piece:
                child.wait()
                return
            *lines, rest = (rest + piece).split(b"\n")
            yield from map(json.loads, lines)


def _tail(errors: Any) -> str:
    errors.seek(0)
    return str(errors.read()[-4000:])


def load_counts(folder: Path, seed: int) -> Counts:
    """The counts of a run so far.

    Raises:
        SystemExit: it has another seed.
    """
    path = folder / STATE
    if not path.exists():
        return Counts(seed)
    counts = Counts(**json.loads(path.read_text(encoding="utf-8")))
    if counts.seed != seed:
        raise SystemExit(f"{path}: of a run with seed {counts.seed}; name another folder for seed {seed}")
    return counts


def save_counts(folder: Path, counts: Counts) -> None:
    """Keep the counts of a run."""
    new = folder / f"{STATE}.new"
    new.write_text(json.dumps(asdict(counts), indent=1), encoding="utf-8")
    new.replace(folder / STATE)


def _keep(folder: Path, found: dict[str, Any], seed: int) -> None:
    """Keep the file of a finding, and the traceback."""
    case = make_case(found["number"], seed)
    kept = emptied(folder / "findings" / f"{found['number']}")
    case.write(kept)
    (kept / "finding.txt").write_text(f"{found.get('where')}\n{found.get('message')}\n{found.get('trace')}\n")


def _read_one(number: int, seed: int, backend: str) -> None:
    """Read one case here, for a debugger; what it raises is not caught."""
    case = make_case(number, seed)
    with TemporaryDirectory() as folder:
        path = case.write(Path(folder))
        print(f"case {number}: {case.seed.kind}, {path.name}, {case.size:,} bytes")
        READERS[case.seed.reader](path, backend)
        print("read")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=200_000, help="number of the case to end at (default: 200000)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end earlier")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=ROOT / "fuzzing", help="where a run is kept (default: fuzzing/)")
    parser.add_argument("--backend", choices=("reference", "compiled"), default="reference", help="of small models")
    parser.add_argument("--case", type=int, help="read one case in this process")
    arguments = parser.parse_args()
    if arguments.case is not None:
        _read_one(arguments.case, arguments.seed, arguments.backend)
        return 0
    arguments.folder.mkdir(parents=True, exist_ok=True)
    counts = load_counts(arguments.folder, arguments.seed)
    stop_at, worker = time.monotonic() + arguments.seconds, (*WORKER[:-1], arguments.backend)
    try:
        for found in run(counts, arguments.cases, arguments.folder / "scratch", stop_at, worker):
            if found["new"]:
                _keep(arguments.folder, found, arguments.seed)
                print(f"case {found['number']}: {found['kind']}: {found['outcome']}, {found.get('where')}", flush=True)
            if counts.next % SAVED_EVERY == 0:
                save_counts(arguments.folder, counts)
    finally:
        save_counts(arguments.folder, counts)
        print(f"seed {counts.seed}, {len(corpus())} kinds\n{counts.table()}")
    return bool(counts.findings)


if __name__ == "__main__":
    sys.exit(main())
