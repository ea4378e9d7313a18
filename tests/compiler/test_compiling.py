"""The life of compiled kernels: who answers until they are there, who compiles them, and where they are kept."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from npmobilenet_kernels.runtime import building, native, object_cache
from npmobilenet_kernels.runtime.job import ENTRY

from npmobilenet import KernelError, Model, NpMobileNetError, load
from npmobilenet.cli import shared
from npmobilenet.compiler import compilation
from npmobilenet.compiler.plan import compile_graph
from tests.helpers.real_files import ROOT

SEVEN = ROOT / "examples" / "digits" / "7.png"
UNIX = pytest.mark.skipif(os.name != "posix", reason="signals, modes and forks are a thing of Unix")
PROGRAM = f"""
import json, os, sys, threading, time, warnings
import numpy as np
import npmobilenet as nm
from npmobilenet.compiler.compilation import compilation
digits = nm.load("digits")
def answer(backend=None):
    return digits.predict({str(SEVEN)!r}, backend=backend).tolist()
"""


def start(body: str, folder: Path, **environment: str) -> "subprocess.Popen[str]":
    """A process with `folder` as its cache."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + body],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"NPMOBILENET_CACHE": str(folder)} | environment,
    )  # fmt: skip


def answer(process: "subprocess.Popen[str]") -> Any:
    """What a process prints, as JSON; it must end by itself, without complaints."""
    printed, complaints = process.communicate(timeout=120)
    assert (process.returncode, complaints) == (0, "")
    return json.loads(printed)


def kernels(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "kernels").glob("*/*.o")}


def needed() -> set[str]:
    """Symbols that the digits need."""
    digits = load("digits")
    return {ENTRY, *compile_graph(digits.graph, digits.params).table.symbols}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the kernels of the digits."""
    folder = tmp_path_factory.mktemp("warm")
    answer(start("digits.compile(); print(json.dumps(0))", folder))
    return folder


def test_the_first_answer_is_the_reference_s_and_the_engine_takes_over(tmp_path: Path) -> None:
    body = """
first, reference = answer(), answer("reference")
compilation().wait()
later, compiled = answer(), answer("compiled")
print(json.dumps([first == reference, later == compiled, compiled == reference, "numba" in sys.modules]))
"""
    assert answer(start(body, tmp_path)) == [True, True, False, False]
    assert "npmobilenet_run" in kernels(tmp_path)


def test_a_process_that_ends_at_once_leaves_the_compiling_to_the_next_ones_profit(tmp_path: Path) -> None:
    assert answer(start("print(json.dumps(answer() == answer('reference')))", tmp_path))
    assert not needed() <= kernels(tmp_path)  # it did not wait
    deadline = time.monotonic() + 100
    while not needed() <= kernels(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer(start("print(json.dumps(answer() == answer('compiled')))", tmp_path))


def test_compiled_waits_and_a_model_can_be_told_once_for_all(tmp_path: Path, warm: Path) -> None:
    body = "print(json.dumps([answer(), nm.load('digits', backend='reference').predict({0!r}).tolist()]))"
    body = 'digits = nm.load("digits", backend="compiled")\n' + body.format(str(SEVEN))
    compiled, reference = answer(start(body, tmp_path))
    assert compiled == answer(start("print(json.dumps(answer()))", warm))
    assert reference == load("digits").predict(str(SEVEN), backend="reference").tolist()


def test_an_unknown_backend_of_a_model_is_refused() -> None:
    with pytest.raises(NpMobileNetError, match="unknown backend 'gpu'; choose one of auto, compiled, reference"):
        load("digits", backend="gpu")
    digits = load("digits")
    with pytest.raises(NpMobileNetError, match="unknown backend 'gpu'"):
        Model(digits.graph, digits.params, backend="gpu")


FAILURES = {
    "numba is not there": ("raise ModuleNotFoundError('No module named numba')", "No module named numba"),
    "numba is another": ("raise AttributeError('opaque pointers')", "AttributeError: opaque pointers"),
    "the process dies": ("import os; os.abort()", "the process that compiled them exited with"),
    "the process says something else": (
        "import os; os._exit(0)",
        "them exited with status 0",
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_kernels_that_cannot_be_built_for_whatever_reason_are_the_reference_s_and_said_once(
    kind: str, tmp_path: Path
) -> None:
    program, reason = FAILURES[kind]
    (tmp_path / "numba.py").write_text(program)
    body = f"""
reference, told = answer("reference"), []
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    answers = [answer()]
    compilation().wait()
    answers += [answer(), nm.load("digits").predict({str(SEVEN)!r}).tolist()]
try:
    answer("compiled")
except nm.KernelError as error:
    refused = str(error)
print(json.dumps([answers == 3 * [reference], [str(warning.message) for warning in told], refused]))
"""
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    same, told, refused = answer(start(body, tmp_path / "cache", PYTHONPATH=path))
    assert same
    assert len(told) == 1
    assert "computing with the NumPy reference, which is slower: no compiled kernels: " in told[0]
    assert reason in told[0]
    assert reason in refused


def test_without_an_interpreter_to_compile_in_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for executable in ("", str(tmp_path / "nothing")):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(building.BuildError, match=r"takes a Python interpreter|cannot start a process"):
            building.Build(["npmobilenet_run"], None, is_waited_for=True)


def test_of_six_processes_one_compiles_and_the_others_take_what_it_kept(tmp_path: Path) -> None:
    body = """
import time
from pathlib import Path
from npmobilenet_kernels.runtime import building, codegen
def compile_symbol(symbol):
    with open({log!r}, "a") as log:
        log.write(symbol + "\\n")
    time.sleep(0.2)
    return symbol.encode()
codegen.compile_symbol = compile_symbol
codes, not_kept = building.build(["a", "b", "c"], Path({folder!r}))
print(json.dumps([[code.decode() for code in codes.values()], not_kept]))
""".format(log=str(tmp_path / "log"), folder=str(tmp_path / "kernels"))
    processes = [start(body, tmp_path) for _ in range(6)]
    assert [answer(process) for process in processes] == 6 * [[["a", "b", "c"], ""]]
    assert (tmp_path / "log").read_text().split() == ["a", "b", "c"]


def test_several_processes_and_threads_on_an_empty_cache_all_answer(tmp_path: Path) -> None:
    body = """
answers = []
threads = [threading.Thread(target=lambda: answers.append(answer("compiled"))) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([len(answers), all(one == answers[0] for one in answers), answers[0]]))
"""
    processes = [start(body, tmp_path) for _ in range(3)]
    found = [answer(process) for process in processes]
    assert all(one == [3, True, found[0][2]] for one in found)


@UNIX
def test_a_full_disk_leaves_no_partial_file(tmp_path: Path) -> None:
    body = """
import resource, signal
from pathlib import Path
from npmobilenet_kernels.runtime import object_cache
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
object_cache.write(Path({0!r}), "small", b"x" * 100)
try:
    object_cache.write(Path({0!r}), "large", b"x" * 5000)
except OSError as error:
    print(json.dumps([error.errno > 0, len(object_cache.read(Path({0!r}), ["small", "large"])["small"])]))
""".format(str(tmp_path))
    assert answer(start(body, tmp_path)) == [True, 100]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["small.o"]


@UNIX
def test_where_nothing_can_be_kept_the_kernels_are_compiled_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    body = """
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    answer()
    compilation().wait()
    later = answer()
print(json.dumps([later == answer("compiled"), later == answer("reference"), [str(one.message) for one in told]]))
"""
    engine, reference, told = answer(start(body, tmp_path / "file"))
    assert (engine, reference) == (True, False)
    assert [f"cannot be cached in {tmp_path / 'file' / 'kernels'}" in message for message in told] == [True]


@UNIX
def test_a_fork_while_kernels_are_compiled_or_loaded_leaves_the_child_in_order(tmp_path: Path, warm: Path) -> None:
    body = f"""
import logging, npmobilenet.compiler.engine
from npmobilenet_kernels.runtime import native, object_cache
answer("reference")  # what is imported now is not being imported by a thread when there is a fork
from pathlib import Path
code = object_cache.read(Path({str(warm)!r}) / "kernels", ["npmobilenet_run"])["npmobilenet_run"]
ended = threading.Event()
def load():
    while not ended.is_set():
        native.load(code, ["npmobilenet_run"])
thread = threading.Thread(target=load)
thread.start()
compiling = threading.Thread(target=answer, args=["compiled"])
compiling.start()
states = []
for number in range(30):
    child = os.fork()
    if child == 0:
        native.load(code, ["npmobilenet_run"])
        answer()
        os._exit(0)
    deadline = time.monotonic() + 60
    while (state := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    if state[0] == 0:
        os.kill(child, 9)
    states.append(state[1] if state[0] else "hangs")
    if states[-1] == "hangs":
        break
compiling.join()
ended.set()
thread.join()
print(json.dumps([states, answer() == answer("compiled")]))
"""
    assert answer(start(body, tmp_path, PYTHONWARNINGS="ignore")) == [30 * [0], True]


@UNIX
def test_kernels_in_folders_that_others_can_write_are_not_run(warm: Path) -> None:
    folder = warm / "kernels"
    place, symbols = folder / object_cache.key(), sorted(kernels(warm))
    assert object_cache.read(folder, symbols).keys() == set(symbols)
    for path in (place, folder, warm):
        mode = stat.S_IMODE(path.stat().st_mode)
        for added in (stat.S_IWOTH, stat.S_IWOTH | stat.S_ISVTX):
            path.chmod(mode | added)
            try:
                assert bool(object_cache.read(folder, symbols)) == bool(added & stat.S_ISVTX), path
                if not added & stat.S_ISVTX:
                    with pytest.raises(object_cache.UntrustedError, match=f"{path} can be written by others"):
                        object_cache.write(folder, "more", b"")
            finally:
                path.chmod(mode)
    victim = place / f"{symbols[0]}.o"
    victim.chmod(0o666)
    assert object_cache.read(folder, symbols).keys() == set(symbols[1:])
    victim.chmod(0o644)


@UNIX
def test_kernels_of_another_user_are_not_run(warm: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    folder = warm / "kernels"
    symbols = sorted(kernels(warm))
    for path, left in (
        (folder / object_cache.key() / f"{symbols[0]}.o", symbols[1:]),
        (folder / object_cache.key(), []),
        (folder, []),
    ):
        os.chown(path, 12345, -1)
        try:
            assert sorted(object_cache.read(folder, symbols)) == left
        finally:
            os.chown(path, 0, -1)


@UNIX
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o644), (0, 0o644), (0o077, 0o600)])
def test_what_is_kept_can_be_read_by_whom_the_umask_lets_and_written_by_nobody_else(
    umask: int, mode: int, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        object_cache.write(tmp_path / "a" / "b", "one", b"code")
    finally:
        os.umask(before)
    for path in (tmp_path / "a").rglob("*"):
        wanted = mode | 0o111 & ~umask if path.is_dir() else mode
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    assert object_cache.read(tmp_path / "a" / "b", ["one", "two"]) == {"one": b"code"}


def test_the_sources_are_hashed_once(monkeypatch: pytest.MonkeyPatch, warm: Path) -> None:
    object_cache.key()
    monkeypatch.setattr(object_cache, "sha256", lambda *_: pytest.fail("hashed again"))
    object_cache.key()
    body = f"""
import hashlib
from npmobilenet_kernels.runtime import object_cache
count, sha256 = [], object_cache.sha256
object_cache.sha256 = lambda *given: count.append(1) or sha256(*given)
answer(), nm.load("digits").features({str(SEVEN)!r}), answer()
print(json.dumps(len(count)))
"""
    assert answer(start(body, warm)) == 1 + len(kernels(warm))  # the sources, and each piece


def classify(folder: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "npmobilenet", "classify", *arguments, "--model", "digits", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"NPMOBILENET_CACHE": str(folder)} | environment,
        preexec_fn=listen_to_interrupts,
    )  # fmt: skip


def listen_to_interrupts() -> None:
    """What a shell starts in the background ignores them, and so does what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_command_says_why_nothing_is_compiled_or_kept(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ModuleNotFoundError('No module named numba')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = classify(tmp_path / "cache", str(SEVEN), PYTHONPATH=path)
    printed, complaints = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(printed)[0]["predictions"][0]["label"] == "7"
    assert complaints.splitlines()[1:] == [
        "npmobilenet: computed with the NumPy reference, which is slower: no compiled kernels: "
        "ModuleNotFoundError: No module named numba"
    ]
    (tmp_path / "file").write_text("not a folder")
    complaints = classify(tmp_path / "file", str(SEVEN)).communicate(timeout=60)[1]
    assert complaints.count(f"compiled kernels cannot be cached in {tmp_path / 'file' / 'kernels'}") == 1


@UNIX
def test_the_command_answers_then_compiles_and_an_interrupt_does_no_harm(tmp_path: Path) -> None:
    process = classify(tmp_path, str(SEVEN))
    assert process.stdout is not None
    assert process.stderr is not None
    document = "".join(iter(process.stdout.readline, "]\n"))
    assert '"label": "7"' in document
    assert "compiling the kernels for this CPU" in process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
    with FileLock(tmp_path / "kernels" / object_cache.key() / "lock", timeout=100):  # the compiling process has ended
        assert not needed() <= kernels(tmp_path)
    left = tmp_path / "kernels" / object_cache.key() / f"{object_cache.PART}left"
    left.touch()  # as if it had been ended while it wrote

    again = classify(tmp_path, str(SEVEN))
    assert "compiling" in again.communicate(timeout=120)[1]
    assert classify(tmp_path, str(SEVEN)).communicate(timeout=60)[1] == ""
    assert needed() <= kernels(tmp_path)
    assert [path.name for path in tmp_path.rglob(".*")] == []


def test_the_command_compiles_first_where_that_is_asked_for_but_not_before_it_has_a_picture(tmp_path: Path) -> None:
    missing = classify(tmp_path, "missing.jpg", "--backend", "compiled")
    assert "compiling" not in missing.communicate(timeout=60)[1]
    assert missing.returncode == 1
    missing = classify(tmp_path, "missing.jpg")
    assert "compiling" not in missing.communicate(timeout=60)[1]
    assert not (tmp_path / "kernels").exists()
    asked = classify(tmp_path, str(SEVEN), "--backend", "compiled")
    printed, complaints = asked.communicate(timeout=120)
    assert complaints == "compiling the kernels for this CPU\n"
    compiled = load("digits").predict(str(SEVEN), backend="compiled")
    assert json.loads(printed)[0]["predictions"][0]["probability"] == pytest.approx(float(compiled.max()), rel=1e-6)


def test_an_interrupt_before_the_command_waits_ends_the_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    build = building.Build(["npmobilenet_run"], None, is_waited_for=True)

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compilation, "compilation", lambda: build)
    monkeypatch.setattr(compilation, "finish_compilation", interrupted)
    shared.finish_compilation()
    assert build.is_stopped
    build.wait()


def test_an_interrupted_build_is_begun_again() -> None:
    build = building.Build(["npmobilenet_run"], None, is_waited_for=True)
    build.stop()
    with suppress(KeyboardInterrupt):
        build.wait()
    assert build.is_done
    assert build.is_stopped
    assert np.isfinite(native.native().run(0, 1, 0, 0))


def test_a_kernel_error_is_one_of_the_package_s() -> None:
    assert issubclass(KernelError, NpMobileNetError)
