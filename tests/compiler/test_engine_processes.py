"""The engine in processes of its own: fresh, forked, spawned, at exit, with damaged kernels."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_kernels.runtime.codegen import compile_symbol
from npmobilenet_kernels.runtime.job import ENTRY

from npmobilenet.hub.load import load
from tests.helpers.real_files import ROOT

pytestmark = pytest.mark.usefixtures("kernels_kept")

PEAK = 200e6  # bytes, with Numba loaded in addition to kept kernels


PROGRAM = """
import json, os, sys, threading
import numpy as np
sys.path.insert(0, {root!r})
from tests.helpers.networks import random_images, random_params
from npmobilenet.architectures import mobilenet_v1
from npmobilenet.compiler.plan import compile_graph
graph = mobilenet_v1(0.25, 64)
params, x = random_params(graph, 0), random_images(graph, 0)
def answer(threads):
    return compile_graph(graph, params).run(x, threads).ravel()[:5].tolist()
{body}
"""


def child(body: str, **environment: str) -> Any:
    """Run a program in a fresh process; what it prints as JSON. It must end by itself."""
    program = PROGRAM.format(root=str(ROOT), body=body)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_fresh_process_with_kept_kernels_does_not_import_numba() -> None:
    child("print(json.dumps(answer(1)))")
    answers, numba = child("print(json.dumps([answer(2), 'numba' in sys.modules]))")
    assert not numba
    assert answers == child("print(json.dumps(answer(1)))")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory as Linux tells it")
def test_a_process_that_predicts_with_the_largest_network_of_v1_needs_less_than_the_memory_allowed() -> None:
    body = """
import numba
from pathlib import Path
from npmobilenet import Model
graph = mobilenet_v1()
pool = np.random.default_rng(0).uniform(0.01, 1, max(map(np.prod, graph.param_shapes.values()))).astype(np.float32)
params = {name: pool[:np.prod(shape)].reshape(shape).copy() for name, shape in graph.param_shapes.items()}
Model(graph, params).predict(np.zeros((224, 224, 3), np.uint8), backend="compiled")
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(1024 * int(peak.split()[1]))
"""
    child("print(json.dumps(answer(1)))")  # so that the kernels are kept
    assert child(body) <= PEAK


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_with_threads_of_its_own() -> None:
    body = """
before = answer(2)
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, json.dumps(answer(2)).encode())
    os._exit(0)
print(json.dumps([before, json.loads(os.read(read, 10000)), answer(2)]))
"""
    before, forked, after = child(body)
    assert before == forked == after


def digits_answer() -> Any:
    """What a process started by spawn can import and call."""
    return load("digits").predict(np.zeros((32, 32, 3), np.uint8), backend="compiled").tolist()


def test_a_process_started_by_spawn_gives_the_same_answer() -> None:
    body = """
import multiprocessing
from tests.compiler.test_engine_processes import digits_answer
here = digits_answer()
with multiprocessing.get_context("spawn").Pool(1) as pool:
    print(json.dumps([here, pool.apply(digits_answer)]))
"""
    here, there = child(body)
    assert here == there


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="keeps itself to one core")
def test_threads_that_would_share_one_core_are_not_started() -> None:
    body = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(json.dumps([answer(1), answer(2), answer(1024), threading.active_count()]))
"""
    one, two, many, threads = child(body)
    assert one == two == many
    assert threads == 1


def test_a_call_at_exit_ends_while_another_thread_still_computes() -> None:
    body = """
import atexit
atexit.register(lambda: print(json.dumps(answer(2))))
answer(2)
threading.Thread(target=lambda: [answer(2) for _ in range(1000)], daemon=True).start()
"""
    assert len(child(body)) == 5


def test_kernels_are_compiled_again_where_the_kept_file_is_damaged_or_no_folder_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = child("print(json.dumps(answer(1)))", NPMOBILENET_CACHE=str(folder))
    kept = {path: path.read_bytes() for path in (folder / "kernels").glob("*/*.o")}
    assert len(kept) > 5
    for path, whole in kept.items():
        path.write_bytes(whole[:-100])
    assert child("print(json.dumps(answer(1)))", NPMOBILENET_CACHE=str(folder)) == first
    assert all(path.stat().st_size == len(whole) for path, whole in kept.items())

    (tmp_path / "file").write_text("not a folder")
    assert child("print(json.dumps(answer(1)))", NPMOBILENET_CACHE=str(tmp_path / "file")) == first


def test_numba_compiles_every_function_once_and_the_code_calls_nothing_of_python() -> None:
    """When this fails, Numba has changed, and predictions may be computed by the reference."""
    assert compile_symbol(ENTRY)
    from npmobilenet_kernels.drivers.compiled import compiled_functions

    assert {function.py_func.__name__: len(function.overloads) for function in compiled_functions} == {
        function.py_func.__name__: 1 for function in compiled_functions
    }
