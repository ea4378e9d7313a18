"""Mutated files are read, or refused by our errors; and the fuzzer would notice if they were not."""

import sys
from pathlib import Path
from random import Random

import pytest

from npmobilenet.errors import NpMobileNetError
from tests.fuzzing.cases import Case, make_case
from tests.fuzzing.fuzz import Counts, load_counts, run, save_counts
from tests.fuzzing.mutations import packed
from tests.fuzzing.readers import READERS
from tests.fuzzing.seeds import ZIP, Seed, corpus
from tests.fuzzing.worker import CRASH, ERROR, HANG, MEMORY, READ, REFUSED

SEED = 20_000_000  # a short run of its own; `scripts/fuzz` takes seed 0
CASES = 725  # 25 of each kind, some ten seconds
BROKEN = """
import ctypes, os, signal, sys
from pathlib import Path
from tests.fuzzing import worker
from tests.fuzzing.cases import Case
from tests.fuzzing.seeds import Seed
worker.SECONDS, worker.MEGABYTES = 2, 100
def broken(path, backend):
    if worker_number == 1: raise KeyError("x")
    if worker_number == 2: ctypes.string_at(0)
    if worker_number == 3:
        while True: pass
    if worker_number == 4: 200_000_000 * b"x"
    if worker_number == 5: os._exit(3)
    if worker_number == 6: bytearray(10**13)
def numbered(number, base):
    global worker_number
    worker_number = number
    return Case(number, Seed("text", "labels", "x", "file", {}), {"x": b""})
worker.corpus, worker.make_case, worker.READERS = dict, numbered, {"labels": broken}
worker.main("", *map(int, sys.argv[1:4]), Path(sys.argv[4]))
"""
WORKER = (sys.executable, "-c", BROKEN)


def unchanged(seed: Seed) -> Case:
    """A seed as it is."""
    members = seed.members if seed.form != ZIP else {seed.name: packed(seed.members, Random(1))}
    return Case(0, seed, members)


def test_every_kind_of_file_has_a_seed_that_is_read(tmp_path: Path) -> None:
    for number, (kind, seeds) in enumerate(corpus().items()):
        read = 0
        for place, seed in enumerate(seeds):
            folder = tmp_path / f"{number}-{place}"
            folder.mkdir()
            try:
                READERS[seed.reader](unchanged(seed).write(folder), "reference")
                read += 1
            except NpMobileNetError:
                pass
        assert read, kind


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    counts = Counts(SEED)
    for _ in run(counts, CASES, tmp_path / "scratch"):
        pass
    assert set(counts.total) == {READ, REFUSED}, counts.table()
    assert counts.total.total() == CASES
    assert set(counts.outcomes) == set(corpus())
    assert all(REFUSED in outcomes for outcomes in counts.outcomes.values())


def test_a_case_is_made_again_by_its_number() -> None:
    for number in range(0, 300, 7):
        assert make_case(number, SEED).members == make_case(number, SEED).members
    assert make_case(0, SEED).members != make_case(len(corpus()), SEED).members


def test_whatever_else_becomes_of_a_file_is_a_finding(tmp_path: Path) -> None:
    counts = Counts(SEED)
    found = list(run(counts, 8, tmp_path / "scratch", worker=WORKER))
    assert [one["outcome"] for one in found] == [READ, ERROR, CRASH, HANG, MEMORY, CRASH, ERROR, READ]
    assert [one["new"] for one in found] == [False, True, True, True, True, True, True, False]
    assert [one.get("where") for one in found][2:6] == ["signal 11", "signal 27", found[4]["where"], "exit 3"]
    assert "broken" in found[3]["trace"]
    assert counts.table().count(" x case ") == 6


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    numbers = []
    for last in (10, 15):
        counts = load_counts(tmp_path, SEED) if last > 10 else Counts(SEED, next=7)
        numbers += [one["number"] for one in run(counts, last, tmp_path / "scratch", worker=WORKER)]
        save_counts(tmp_path, counts)
    assert numbers == list(range(7, 15))
    assert load_counts(tmp_path, SEED).total == {READ: 8}
    with pytest.raises(SystemExit, match="another folder"):
        load_counts(tmp_path, SEED + 1)
