"""One case of the fuzzer: a number, and from it the file, so that every finding can be made again."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzzing.mutations import Members, mutated, mutated_members, packed, raw
from tests.fuzzing.seeds import FILE, FOLDER, Seed, corpus


@dataclass(frozen=True)
class Case:
    """A mutated file or folder.

    Attributes:
        number: of the case; kinds take turns.
        seed: what it was made from.
        members: of a folder, or the one file.
    """

    number: int
    seed: Seed
    members: Members

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(map(len, self.members.values()))

    def write(self, folder: Path) -> Path:
        """Write it into an empty folder; members that lead out of it are left out."""
        if self.seed.form != FOLDER:
            path = folder / self.seed.name
            path.write_bytes(self.members[self.seed.name])
            return path
        path = folder / self.seed.name
        for name, content in self.members.items():
            if name[0] != "/" and ".." not in name:
                place = path / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
        return path


def make_case(number: int, base: int) -> Case:
    """The case of a number in a run with seed `base`."""
    random = Random(f"{base} {number}")
    kinds = list(corpus().values())
    seed = random.choice(kinds[number % len(kinds)])
    if seed.form == FILE:
        return Case(number, seed, {seed.name: mutated(seed.name, seed.members[seed.name], random)})
    if seed.form == FOLDER:
        return Case(number, seed, mutated_members(seed.members, random))
    if random.random() < 0.7:
        return Case(number, seed, {seed.name: packed(mutated_members(seed.members, random), random)})
    return Case(number, seed, {seed.name: raw(packed(seed.members, random), random)})


def emptied(folder: Path) -> Path:
    """A folder that exists and is empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
