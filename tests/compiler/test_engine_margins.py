"""No step of any published network touches memory that is not its own: every one runs between guard pages.

    alone       every array of the step in a buffer of its own, which ends (in a second run: begins) at a guard page
                and is read-only unless the step writes it. Every distinct step, every vector width.
    in place    the step as the plan has it, in the plan's arena: of all bytes there only those of its target and its
                average may change, and nothing that a later step reads lies there. Every step of every plan.

What a step may read and what it has to write: buffers hold NaN until they are filled; channels beyond the last, where
the last vector is not full, stay NaN; the results must hold none. A step that reads where it may but should not, or
leaves out what it should write, shows there.

The steps run in a process of their own, whose death is a test that fails and says at which step.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import pytest
from npmobilenet_kernels.drivers.step_table import Field
from npmobilenet_kernels.runtime.cpu import host_target, host_targets
from npmobilenet_kernels.runtime.job import Job
from npmobilenet_kernels.runtime.packing import from_blocks
from npmobilenet_kernels.runtime.thread_pool import new_job

from npmobilenet.compiler import arena
from npmobilenet.compiler.arena import Place, Workspace
from npmobilenet.compiler.columns import Packed, Record
from npmobilenet.compiler.plan import Plan, compile_graph
from npmobilenet.compiler.step_types import KernelStep, Step
from npmobilenet.hub.published_models import KNOWN_MODELS
from npmobilenet.types import Array
from tests.helpers.guard_pages import GuardedBuffer
from tests.helpers.real_files import ROOT

WIDTHS = sorted(host_targets())
VALUES = {Field.SOURCE, Field.TARGET, Field.AVERAGE, Field.RESIDUAL, Field.GATE}  # offsets in the arena
MEMBERS = 3  # threads of the second run
POOL = np.random.default_rng(0).uniform(-1, 1, 2**23).astype(np.float32)  # numbers for all weights and values

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="forbids memory by mprotect, which Windows lacks"),
    pytest.mark.usefixtures("kernels_kept"),
]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_step_of_the_published_networks_stays_inside_its_arrays(width: int) -> None:
    counted = in_a_process_of_its_own("every_step_alone", width)
    assert counted["networks"] == len(KNOWN_MODELS) == 44
    assert counted["steps"] > counted["distinct"] > 500


def test_every_step_of_the_published_plans_changes_its_own_values_alone() -> None:
    counted = in_a_process_of_its_own("every_step_in_place", host_target().width)
    assert counted["networks"] == len(KNOWN_MODELS) == 44


def in_a_process_of_its_own(function: str, width: int) -> Any:
    """Run a function of this module; what it counted. Each line that it prints names the step that comes next."""
    program = f"from tests.compiler import test_engine_margins as m; m.{function}({width})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    *_, last = done.stdout.splitlines() or [""]
    assert done.returncode == 0, f"ended with {done.returncode} at {last}\n{done.stderr}"
    return json.loads(last)


def plans(width: int) -> Iterator[Plan]:
    """The plan of every published network, its weights and workspaces between guard pages."""
    arena.aligned_floats = guarded_floats
    for known in KNOWN_MODELS:
        graph = known.graph()
        params = {name: POOL[: prod(shape)].reshape(shape) for name, shape in graph.param_shapes.items()}
        params |= {name: np.abs(array) for name, array in params.items() if name.endswith("variance")}
        plan = compile_graph(graph, params, host_target(width))
        plan.compile_kernels()
        yield plan


def guarded_floats(size: int) -> Array:
    return GuardedBuffer(size).floats


def numbered_steps(plan: Plan) -> Iterator[tuple[int, Step]]:
    """(number, step) of every step; each is named on standard output before it comes."""
    for number, step in enumerate(plan.steps):
        print(f"{plan.graph.name}, {plan.target.width} floats a vector, step {number}: {step.target}", flush=True)
        yield number, step


def every_step_alone(width: int) -> None:
    """Every distinct step by itself, twice."""
    counted: Counter[str] = Counter()
    done: set[object] = set()
    for plan in plans(width):
        counted["networks"] += 1
        for number, step in numbered_steps(plan):
            if isinstance(step, KernelStep):
                counted["steps"] += 1
                lone = Alone(plan, number, step)
                if lone.shape not in done:
                    done.add(lone.shape)
                    for one, other in zip(lone.run(1, at_end=True), lone.run(MEMBERS, at_end=False), strict=True):
                        np.testing.assert_array_equal(one, other, err_msg="one thread and several")
    print(json.dumps(counted | {"distinct": len(done)}))


def every_step_in_place(width: int) -> None:
    """Every step in its plan's arena, with memory forbidden beyond it."""
    counted: Counter[str] = Counter()
    for plan in plans(width):
        counted["networks"] += 1
        weights = plan.table.weights.copy()
        for number, _ in numbered_steps(plan):
            run_in_place(plan, number)
        np.testing.assert_array_equal(plan.table.weights, weights, err_msg=plan.graph.name)
    print(json.dumps(counted))


def run_in_place(plan: Plan, number: int) -> None:
    """One step, all memory of the arena NaN but for what the step reads."""
    step, image = plan.steps[number], plan.ops[0].name
    workspace = plan.new_workspace()
    x = filled(GuardedBuffer(4 * prod(plan.graph.input_shape)), numbers(prod(plan.graph.input_shape)))
    for name in step.reads - {image}:
        fill_value(workspace.blocks(name), plan.memory[name])
    needed = values_needed(plan, number)
    before = workspace.activations.view(np.uint32).copy()

    plan.run_step(number, workspace, x.floats.reshape(plan.graph.input_shape))

    changed = workspace.activations.view(np.uint32) != before
    for name in step.makes:
        assert_no_nan(workspace.blocks(name), plan.memory[name])
        part(changed, plan, workspace, name)[:] = False
    assert not changed.any(), f"{changed.sum()} floats changed that are not the step's own"
    for name in step.makes:
        part(changed, plan, workspace, name)[:] = True
    for name in needed:
        assert not part(changed, plan, workspace, name).any(), f"{name} is read later, and overwritten here"


def values_needed(plan: Plan, number: int) -> set[str]:
    """Names of stored values that exist when a step begins and that it or a later one reads, or the caller."""
    made = {name for step in plan.steps[:number] for name in step.makes}
    read = {name for step in plan.steps[number:] for name in step.reads} | {plan.ops[-1].name}
    return made & {plan.memory.stored[name] for name in read}


def part(floats: Array, plan: Plan, workspace: Workspace, name: str) -> Array:
    """The part of `floats`, one per float of the arena, that stands for a value."""
    return floats[plan.memory[name].offset // 4 :][: workspace.blocks(name).size]


def numbers(count: int) -> Array:
    return POOL[:count]


def filled(buffer: GuardedBuffer, values: Array) -> GuardedBuffer:
    buffer.floats[:] = values.ravel()
    return buffer


def fill_value(blocks: Array, place: Place) -> None:
    """Numbers for the channels that exist, NaN for those that only fill up the last vector."""
    count, _, width = blocks.shape
    real = np.arange(count * width).reshape(-1, 1, width) < place.shape[-1]
    blocks[:] = np.where(real, numbers(blocks.size).reshape(blocks.shape), np.nan)


def assert_no_nan(blocks: Array, place: Place) -> None:
    values = from_blocks(blocks, place.shape)
    assert not np.isnan(values).any(), f"{np.isnan(values).sum()} of {values.size} values are NaN"


def blocks_of(buffer: GuardedBuffer, place: Place) -> Array:
    """A buffer's floats as the blocks of a value."""
    return buffer.floats.reshape(place.blocks, place.pixels, -1)


class Alone:
    """One step, every array that it touches moved out of the plan into a buffer of its own.

    Attributes:
        shape: what decides where it reads and writes; equal for steps that differ in their numbers alone.
    """

    def __init__(self, plan: Plan, number: int, step: KernelStep) -> None:
        image = plan.ops[0].name
        self._run, self._width = plan._native.run, plan.target.width
        table = plan.table
        record = table.records[number]
        assert record is not None
        self._rows, records = [table.values[number]], [record]
        if record.inner:
            inner = (self._rows[0][Field.INNER] - table.values.ctypes.data) // table.values[0].nbytes
            self._rows.append(table.values[inner])
            records.append(record.inner)
        results = [plan.memory[name] for name in step.makes]
        read = [plan.memory[name] for name in step.reads - {image}]
        places = {place.offset: place for place in (*read, *results)}
        self._weights = {
            (which, field): array for which, one in enumerate(records) for field, array in weights_of(plan, one)
        }
        self._values: dict[tuple[int, int], Place] = {}
        for which, row in enumerate(self._rows):
            for field in VALUES:
                has_target = which == 0 or field != Field.TARGET  # an inner step's rows go to the outer one's ring
                if row[field] >= 0 and has_target and (field, step.source) != (Field.SOURCE, image):
                    self._values[which, field] = places[row[field]]
        self._results = [moved for moved, place in self._values.items() if place in results]
        self._image = prod(plan.graph.input_shape) if image in step.reads else 0
        self._scratch = record.scratch
        moved = {*self._weights, *self._values, (0, Field.INNER)}
        self.shape = (
            *(int(v) for r, row in enumerate(self._rows) for f, v in enumerate(row) if (r, f) not in moved),
            self._scratch,
            *sorted((*map(int, moved), array.size) for moved, array in self._weights.items()),
            *sorted((*map(int, moved), place.shape, place.blocks) for moved, place in self._values.items()),
        )

    def run(self, members: int, at_end: bool) -> list[Array]:
        """Run it as the last and as the first of several threads, each of which finds the others late and does their
        units, too; the values that it made.
        """
        image = filled(GuardedBuffer(4 * self._image, at_end), numbers(self._image))
        rows = [GuardedBuffer(row.nbytes, at_end) for row in self._rows]
        columns = [buffer.floats.view(np.int64) for buffer in rows]
        for copy, row in zip(columns, self._rows, strict=True):
            copy[:] = row
        columns[0][Field.INNER] = rows[-1].address
        read_only, made = [*rows, image], []
        for (which, field), array in self._weights.items():
            read_only.append(filled(GuardedBuffer(array.nbytes, at_end), array))
            columns[which][field] = read_only[-1].address
        for (which, field), place in self._values.items():
            buffer = GuardedBuffer(4 * place.blocks * place.pixels * self._width, at_end)
            columns[which][field] = buffer.address  # an offset, in an arena that begins at address 0
            if (which, field) in self._results:
                made.append((blocks_of(buffer, place), place))
            else:
                fill_value(blocks_of(buffer, place), place)
                read_only.append(buffer)
        for buffer in read_only:
            buffer.forbid_writing()
        units = int(self._rows[0][Field.UNITS])
        for member in sorted({members - 1, 0}, reverse=True):
            scratch, job = GuardedBuffer(self._scratch, at_end), new_job(members)
            arrived = -members  # so that no thread waits for the others
            job[: Job.ARRIVED + 1] = (rows[0].address, 1, 0, scratch.address, 0, image.address, members, arrived)
            job[Job.CALLS] = 1  # one more than the member has seen
            for number in range(members):
                first, end = number * units // members, (number + 1) * units // members
                job[Job.SHARES + 8 * number] = (end << 32) + first
            self._run(job.ctypes.data, member, 0, 1)
        for blocks, place in made:
            assert_no_nan(blocks, place)
        return [from_blocks(blocks, place.shape) for blocks, place in made]


def weights_of(plan: Plan, record: Record) -> Iterator[tuple[int, Array]]:
    """The column and the array of all packed weights of a record."""
    for column, value in record.columns.items():
        if isinstance(value, Packed):
            yield column, plan.table.weights[value.offset // 4 :][: value.count]
