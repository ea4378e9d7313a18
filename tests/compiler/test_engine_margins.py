"""No step of any published network touches memory that is not its own: every one runs between forbidden pages.

    alone       every array of the step in a room of its own, which ends (in a second run: begins) where memory may not
                be touched, and which is read-only unless the step writes it. Every distinct step, every vector width.
    in place    the step as the plan has it, in the plan's arena: of all bytes there only those of its target and its
                average may change, and nothing that a later step reads lies there. Every step of every plan.

What a step may read and what it has to write: rooms hold NaN until they are filled; channels beyond the last, where
the last vector is not full, stay NaN; the results must hold none. A step that reads where it may but should not, or
leaves out what it should write, shows there.

The steps run in a process of their own, whose death is a test that fails and says at which step.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from math import prod

import numpy as np
import pytest
from npmobilenet_kernels.drivers.step_table import Field
from npmobilenet_kernels.runtime.cpu import host_target, host_targets
from npmobilenet_kernels.runtime.job import Job
from npmobilenet_kernels.runtime.packing import from_blocks
from npmobilenet_kernels.runtime.thread_pool import new_job

from npmobilenet.compiler import encoding, engine
from npmobilenet.compiler.engine import Plan
from npmobilenet.hub.published_models import KNOWN_MODELS
from tests.helpers.forbidden import Room
from tests.helpers.real_files import ROOT
from tests.oracles.stepwise import made_by, run_step

WIDTHS = sorted(host_targets())
VALUES = {Field.SOURCE, Field.TARGET, Field.AVERAGE, Field.RESIDUAL, Field.GATE}  # offsets in the arena
MEMBERS = 3  # threads of the second run
POOL = np.random.default_rng(0).uniform(-1, 1, 2**23).astype(np.float32)  # numbers for all weights and values

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="forbids memory by mprotect, which Windows lacks"),
    pytest.mark.usefixtures("kernels_kept"),
]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_step_of_the_published_networks_stays_inside_its_arrays(width):
    counted = in_a_process_of_its_own("every_step_alone", width)
    assert counted["networks"] == len(KNOWN_MODELS) == 44
    assert counted["steps"] > counted["distinct"] > 500


def test_every_step_of_the_published_plans_changes_its_own_values_alone():
    counted = in_a_process_of_its_own("every_step_in_place", host_target().width)
    assert counted["networks"] == len(KNOWN_MODELS) == 44


def in_a_process_of_its_own(function, width):
    """Run a function of this module; what it counted. Each line that it prints names the step that comes next."""
    program = f"from tests.compiler import test_engine_margins as m; m.{function}({width})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    *_, last = done.stdout.splitlines() or [""]
    assert done.returncode == 0, f"ended with {done.returncode} at {last}\n{done.stderr}"
    return json.loads(last)


def plans(width):
    """The plan of every published network; its weights and arenas lie in rooms, and say how large."""
    encoding.Weights = MeasuredWeights
    encoding.aligned_floats = engine.aligned_floats = lambda size: Room(size).floats
    for known in KNOWN_MODELS:
        graph = known.graph()
        params = {name: POOL[: prod(shape)].reshape(shape) for name, shape in graph.param_shapes.items()}
        params |= {name: np.abs(array) for name, array in params.items() if name.endswith("variance")}
        yield Plan(graph, params, width=width)


class MeasuredWeights(encoding.Weights):
    """Remembers the bytes of every array by its offset."""

    def __init__(self, room):
        super().__init__(room)
        self.sizes = {}

    def add(self, values):
        offset = super().add(values)
        self.sizes[offset] = 4 * np.size(values)
        return offset


def numbered_steps(plan):
    """(number, step) of every step; each is named on standard output before it comes."""
    for number, step in enumerate(plan.steps):
        print(f"{plan.graph.name}, {plan.lanes.width} floats a vector, step {number}: {step.target}", flush=True)
        yield number, step


def every_step_alone(width):
    """Every distinct step by itself, twice."""
    counted, done = Counter(), set()
    for plan in plans(width):
        counted["networks"] += 1
        for number, step in numbered_steps(plan):
            if step.kind is not None:
                counted["steps"] += 1
                lone = Alone(plan, number)
                if lone.shape not in done:
                    done.add(lone.shape)
                    for one, other in zip(lone.run(1, at_end=True), lone.run(MEMBERS, at_end=False), strict=True):
                        np.testing.assert_array_equal(one, other, err_msg="one thread and several")
    print(json.dumps(counted | {"distinct": len(done)}))


def every_step_in_place(width):
    """Every step in its plan's arena, with memory forbidden beyond it."""
    counted = Counter()
    for plan in plans(width):
        counted["networks"] += 1
        weights = plan._table.weights.copy()
        for number, _ in numbered_steps(plan):
            run_in_place(plan, number)
        np.testing.assert_array_equal(plan._table.weights, weights, err_msg=plan.graph.name)
    print(json.dumps(counted))


def run_in_place(plan, number):
    """One step, all memory of the arena NaN but for what the step reads."""
    step, image = plan.steps[number], plan.ops[0].name
    arena = engine._Arena(plan.arena_bytes, plan.scratch_bytes)
    arena.make_room(1)
    x = filled(Room(4 * prod(plan.graph.input_shape)), numbers(prod(plan.graph.input_shape)))
    for name in step.reads - {image}:
        fill_value(part(arena, plan, name), plan._place(name), plan.lanes.width)
    results = made_by(step)
    needed = values_needed(plan, number)
    everything = arena.floats(0, plan.arena_bytes // 4).view(np.uint32)
    before = everything.copy()

    run_step(plan, number, arena, x.floats.reshape(plan.graph.input_shape))

    changed = everything != before
    for name in results:
        assert_no_nan(part(arena, plan, name), plan._place(name), plan.lanes.width)
        part(arena, plan, name, changed)[:] = False
    assert not changed.any(), f"{changed.sum()} floats changed that are not the step's own"
    for name in results:
        part(arena, plan, name, changed)[:] = True
    for name in needed:
        assert not part(arena, plan, name, changed).any(), f"{name} is read later, and overwritten here"


def values_needed(plan, number):
    """Names of values that lie in the arena when a step begins and that it or a later one reads, or the caller."""
    made = {name for step in plan.steps[:number] for name in made_by(step)}
    read = {name for step in plan.steps[number:] for name in step.reads} | {plan.ops[-1].name}
    return made & {plan._root(name) for name in read}


def part(arena, plan, name, values=None):
    """The floats of one value in the arena, or the part of `values` that stands for them."""
    place = plan._place(name)
    count = place.blocks * place.pixels * plan.lanes.width
    if values is None:
        return arena.floats(place.offset, count)
    return values[place.offset // 4 :][:count]


def numbers(count):
    return POOL[:count]


def filled(room, values):
    room.floats[:] = values.ravel()
    return room


def fill_value(floats, place, lanes):
    """Numbers for the channels that there are, NaN for those that only fill up the last vector."""
    real = np.arange(place.blocks * lanes).reshape(-1, 1, lanes) < place.shape[-1]
    shape = place.blocks, place.pixels, lanes
    floats.reshape(shape)[:] = np.where(real, numbers(floats.size).reshape(shape), np.nan)


def assert_no_nan(floats, place, lanes):
    values = from_blocks(floats.reshape(place.blocks, place.pixels, lanes), place.shape)
    assert not np.isnan(values).any(), f"{np.isnan(values).sum()} of {values.size} values are NaN"


class Alone:
    """One step, every array that it touches moved out of the plan into a room of its own.

    Attributes:
        shape: what decides where it reads and writes; equal for steps that differ in their numbers alone.
    """

    def __init__(self, plan, number):
        step, image = plan.steps[number], plan.ops[0].name
        self._run, self._lanes = plan._native.run, plan.lanes.width
        table_rows = plan._table.values
        self._rows = [table_rows[number]]
        if self._rows[0][Field.INNER]:
            self._rows.append(table_rows[(self._rows[0][Field.INNER] - table_rows.ctypes.data) // table_rows[0].nbytes])
        packed, sizes = plan._table.weights, plan._table._packing.sizes
        results = [plan._place(name) for name in made_by(step)]
        places = {place.offset: place for place in (*map(plan._place, step.reads - {image}), *results)}
        self._weights, self._values = {}, {}
        for which, row in enumerate(self._rows):
            for field in encoding.WEIGHT_FIELDS:
                if row[field]:
                    begin = row[field] - packed.ctypes.data
                    self._weights[which, field] = packed[begin // 4 :][: sizes[begin] // 4]
            for field in VALUES:
                has_target = which == 0 or field != Field.TARGET  # an inner step's rows go to the outer one's ring
                if row[field] >= 0 and has_target and (field, step.source) != (Field.SOURCE, image):
                    self._values[which, field] = places[row[field]]
        self._results = [moved for moved, place in self._values.items() if place in results]
        self._image = prod(plan.graph.input_shape) if image in step.reads else 0
        self._scratch = int(self._rows[0][Field.SCRATCH])
        moved = {*self._weights, *self._values, (0, Field.INNER)}
        self.shape = (
            *(int(v) for r, row in enumerate(self._rows) for f, v in enumerate(row) if (r, f) not in moved),
            *sorted((*map(int, moved), array.size) for moved, array in self._weights.items()),
            *sorted((*map(int, moved), place.shape, place.blocks) for moved, place in self._values.items()),
        )

    def run(self, members, at_end):
        """Run it as the last and as the first of so many threads would, who finds the others late and does their units,
        too; the values that it made.
        """
        image = filled(Room(4 * self._image, at_end), numbers(self._image))
        rows = [Room(row.nbytes, at_end) for row in self._rows]
        columns = [room.floats.view(np.int64) for room in rows]
        for copy, row in zip(columns, self._rows, strict=True):
            copy[:] = row
        columns[0][Field.INNER] = rows[-1].address
        read_only, made = [*rows, image], []
        for (which, field), array in self._weights.items():
            read_only.append(filled(Room(array.nbytes, at_end), array))
            columns[which][field] = read_only[-1].address
        for (which, field), place in self._values.items():
            room = Room(4 * place.blocks * place.pixels * self._lanes, at_end)
            columns[which][field] = room.address  # an offset, in an arena that begins at address 0
            if (which, field) in self._results:
                made.append((room.floats, place))
            else:
                fill_value(room.floats, place, self._lanes)
                read_only.append(room)
        for room in read_only:
            room.forbid_writing()
        units = int(self._rows[0][Field.UNITS])
        for member in sorted({members - 1, 0}, reverse=True):
            scratch, job = Room(self._scratch, at_end), new_job(members)
            arrived = -members  # so that nobody waits for the others
            job[: Job.ARRIVED + 1] = (rows[0].address, 1, 0, scratch.address, 0, image.address, members, arrived)
            job[Job.CALLS] = 1  # one more than the member has seen
            for number in range(members):
                first, end = number * units // members, (number + 1) * units // members
                job[Job.SHARES + 8 * number] = (end << 32) + first
            self._run(job.ctypes.data, member, 0, 1)
        for floats, place in made:
            assert_no_nan(floats, place, self._lanes)
        return [
            from_blocks(floats.reshape(place.blocks, place.pixels, self._lanes), place.shape) for floats, place in made
        ]
