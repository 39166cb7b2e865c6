"""Promises about the layers: who may know what, by what the code imports and calls.

That imports point down is in test_architecture; here is what else makes a layer.
Exceptions are listed by name, each with its reason, and none that is not needed any more.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "roundq"
MODULES = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))
LAYERS = ("words", "world", "records", "actors", "faces")
#: What a layer may import from elsewhere than the standard library and roundq.
FOREIGN = {
    "words": {"pydantic_core"},
    "world": {"inotify_simple", "psutil", "pydantic_core", "setproctitle", "systemd", "tomli"},
    # Names of types only.
    "records": {"pydantic_core"},
    "actors": set(),
    # Of typing_extensions names of types only; functions that travel, and tables, are extras.
    "faces": {"cloudpickle", "pandas", "pyarrow", "rich", "typing_extensions"},
}
#: It knows dates and zones, and asks no clock.
CALENDAR = "words/begins.py"
#: Pure: neither files nor clock nor processes.
PURE = set(
    "__future__ abc base64 bisect collections csv dataclasses decimal difflib enum fnmatch fractions"
    " functools hashlib io itertools json math operator re shlex typing unicodedata".split()
)


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((SOURCE / module).read_text())


def layer(module: str) -> str:
    return module.partition("/")[0]


def imports(module: str, *, top_only: bool = False) -> Iterator[str]:
    """The full names of the modules that a module imports, and of what it takes from them."""
    nodes = tree(module).body if top_only else ast.walk(tree(module))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(module: str) -> Iterator[tuple[str, str]]:
    """The function in which it stands, and `module.name`, of every such attribute."""

    def within(node: ast.AST, function: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            inner = child.name if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else function
            if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name):
                yield function, f"{child.value.id}.{child.attr}"
            yield from within(child, inner)

    return within(tree(module), "")


def users(names: set[str], but: set[str]) -> set[tuple[str, str, str]]:
    """Who else uses one of these names: module, function and name."""
    return {
        (module, function, name)
        for module in MODULES
        if module not in but
        for function, name in calls(module)
        if name in names
    }


# ---------------------------------------------------------------- imports


@pytest.mark.parametrize("module", [module for module in MODULES if layer(module) in LAYERS])
def test_a_layer_imports_only_what_it_may(module: str) -> None:
    for name in imports(module):
        first = name.partition(".")[0]
        known = first == "roundq" or first in sys.stdlib_module_names or first in FOREIGN[layer(module)]
        assert known, f"{module} imports {name}"


@pytest.mark.parametrize("module", [module for module in MODULES if layer(module) == "words"])
def test_words_know_neither_files_nor_clock_nor_processes(module: str) -> None:
    found = {name.partition(".")[0] for name in imports(module)} - PURE - {"roundq", "pydantic_core"}
    # The encoding of arguments and paths, and how paths are put together: pure, and nowhere but in os.
    allowed = {"os"} if module in ("words/job.py", "words/record_format.py") else set()
    assert found <= allowed | ({"datetime"} if module == CALENDAR else set())
    used = {name for _, name in calls(module) if name.startswith("os.")}
    assert used <= {"os.fsdecode", "os.fsencode", "os.path"}


def test_time_is_told_to_what_is_below_the_actors() -> None:
    """Else no test could choose it."""
    for module in MODULES:
        if layer(module) in ("words", "world", "records") and module != CALENDAR:
            assert not {"time", "datetime"} & {name.partition(".")[0] for name in imports(module)}, module
    assert not {name for _, name in calls(CALENDAR) if name.rpartition(".")[2] in ("now", "today", "utcnow")}


def test_the_network_is_never_used() -> None:
    """No socket of any kind is made; systemd-python speaks to the service manager."""
    forbidden = {"socket", "socketserver", "ssl", "http", "urllib", "asyncio", "ftplib", "smtplib", "xmlrpc"}
    forbidden |= {"multiprocessing", "requests"}
    for module in MODULES:
        found = forbidden & {name.partition(".")[0] for name in imports(module)}
        # A program's own loop, in which it waits for jobs: imported when that is done.
        assert found == ({"asyncio"} if module == "faces/api/queue.py" else set()), module
        assert "AF_INET" not in (SOURCE / module).read_text(), module


def test_no_shell_and_no_helper_starts_a_job() -> None:
    """Processes are made by fork and exec, with nothing in between that could read a word as code."""
    for module in MODULES:
        found = {name.partition(".")[0] for name in imports(module)}
        if module == "faces/api/calls.py":
            # Functions of the user's own program, in files that nobody else can have written.
            found -= {"pickle"}
        assert not {"subprocess", "pty", "commands", "shutil", "tempfile", "pickle", "marshal"} & found, (
            module
        )
    assert users({"os.system", "os.popen", "os.spawnv", "os.spawnl", "os.posix_spawn"}, set()) == set()


def test_no_two_modules_need_each_other_to_be_imported() -> None:
    needs = {
        module: {
            other
            for name in imports(module, top_only=True)
            for other in MODULES
            if other.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            in (name.removeprefix("roundq."), name.removeprefix("roundq.").rpartition(".")[0])
            and name.startswith("roundq.")
        }
        for module in MODULES
    }
    while leaves := [module for module, others in needs.items() if not others - {module}]:
        for leaf in leaves:
            del needs[leaf]
        for others in needs.values():
            others.difference_update(leaves)
    assert needs == {}


# ---------------------------------------------------------------- who may do what

RENAMES = {
    f"os.{name}"
    for name in (
        "rename renames replace link symlink unlink remove rmdir removedirs fsync fdatasync sync"
        " truncate".split()
    )
}


def test_only_files_renames_links_unlinks_and_syncs() -> None:
    """What NFS does to each of them is dealt with in one place."""
    assert users(RENAMES, {"world/files.py"}) == {
        # One rename of a token whose new name tells who made it: it looks for that name itself,
        # and is told apart from a record, which somebody else may have moved on.
        ("records/ids.py", "take", "os.rename"),
        # A directory that replaces an empty one: `files` moves files only. What lost is taken away.
        ("records/ids.py", "found", "os.rename"),
        ("records/ids.py", "_remove", "os.rmdir"),
        # A control group is no file; nobody else knows this one.
        ("world/cgroup.py", "remove", "os.rmdir"),
        # Temporary files on the node's own disk, below a directory that only this user can enter.
        ("world/scratch.py", "put_away", "os.rename"),
        ("world/scratch.py", "remove_from", "os.rmdir"),
        ("world/scratch.py", "_remove", "os.rmdir"),
        ("world/scratch.py", "_removed", "os.unlink"),
        ("world/scratch.py", "_moved_up", "os.rename"),
        # A probe makes the call as it is: what `files` would mend is to be found out.
        ("actors/probes.py", "act", "os.rename"),
        ("actors/probes.py", "act", "os.link"),
        ("actors/probes.py", "_race", "os.rename"),
        ("actors/probes.py", "_race", "os.unlink"),
        ("actors/probes.py", "replace_watched", "os.rename"),
        ("actors/probes.py", "replace_watched", "os.unlink"),
        ("actors/probes.py", "sync", "os.fsync"),
        ("actors/probes.py", "sync", "os.unlink"),
        ("actors/probes.py", "clocks", "os.unlink"),
        # What may be larger than memory is streamed to its file; and a directory of one program's own.
        ("faces/api/calls.py", "_sealing", "os.fsync"),
        ("faces/api/calls.py", "remove", "os.rmdir"),
        # An empty directory of a submission that was refused.
        ("faces/api/sweep_plans.py", "remove", "os.rmdir"),
        # The job's own output, whose end must be as safe as the record that tells of it.
        ("actors/streams.py", "close", "os.fsync"),
    }


SIGNALS = {"os.kill", "os.killpg", "signal.pidfd_send_signal", "signal.raise_signal", "signal.pthread_kill"}


def test_only_procs_killing_and_spawn_send_signals() -> None:
    """A pid alone is nobody's name: whoever sends has made sure who it is."""
    assert users(SIGNALS, {"world/procs.py", "world/killing.py", "world/spawn.py"}) == {
        # A thread wakes the main thread of its own process.
        ("actors/homewatch.py", "_wake", "os.kill"),
        # To its own child, which nobody else reaps; and to itself.
        ("actors/chunk.py", "_pass_on", "os.kill"),
        ("actors/chunk.py", "run", "os.kill"),
        # To itself, when the terminal that it has taken over was given back.
        ("faces/terminal.py", "_stopped", "signal.raise_signal"),
    }


def test_only_procs_and_spawn_read_the_process_table() -> None:
    """And `node`, `features` its machine; `cgroup` the groups we are in, `memory` what processes use."""
    readers = set()
    for module in MODULES:
        documented = {
            id(node.body[0].value)
            for node in ast.walk(tree(module))
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
                if "/proc" in node.value:
                    readers.add(module)
    # How things are mounted, who keeps a process, and a limit: none of them looks who runs. Nor is what the
    # driver of a GPU shows the process table, though it calls its directory so.
    others = {"world/gpus.py", "world/mounts.py", "world/sessions.py", "world/watch.py"}
    assert readers - others == {
        "world/procs.py",
        "world/spawn.py",
        "world/node.py",
        "world/features.py",
        "world/cgroup.py",
        "world/memory.py",
    }


def test_only_the_actors_and_spawn_fork() -> None:
    assert {module for module, _, _ in users({"os.fork", "os.forkpty"}, {"world/spawn.py"})} <= {
        # The daemon into the background, one by a submission, and a supervisor for each job.
        "actors/daemon.py",
        # What may hang with the home, and processes that race each other there.
        "actors/doctor.py",
        "actors/probes.py",
        "actors/submission.py",
        "actors/tenants.py",
    }


# ---------------------------------------------------------------- importing does nothing

#: Imports every module, and tells of everything that is done meanwhile beyond reading.
WATCH = """
import os, signal, sys, threading
done = []
def watch(event, args):
    if event == "open":
        path, mode, flags = args
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            done.append((event, str(path)))
    elif event.split(".")[0] in ("subprocess", "socket", "shutil", "ctypes.dlopen") or event in (
        "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown",
        "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system", "os.kill", "os.utime", "os.putenv",
        "os.truncate", "os.chdir", "signal.pthread_kill",
    ):
        done.append((event, str(args)))
def handlers():
    return {number: signal.getsignal(number) for number in signal.valid_signals()}
def settings():
    umask = os.umask(0o22)
    os.umask(umask)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook
    return handlers(), blocked, dict(os.environ), os.getcwd(), umask, hooks
# What pydantic and rich load is not ours to judge.
import pydantic_core, rich.console, rich.text, inotify_simple, ctypes, logging.handlers
before = settings()
sys.addaudithook(watch)
for name in sys.argv[1:]:
    __import__(name)
after = settings()
assert before == after, (before, after)
assert threading.active_count() == 1, threading.enumerate()
assert os.listdir("/proc/self/task") == [str(os.getpid())]
assert not done, done
"""


def dotted(module: str) -> str:
    return "roundq." + module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def python(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A new interpreter that runs this, with no other environment than this."""
    return subprocess.run(
        [sys.executable, "-B", *words],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_to_import_any_module_does_nothing(tmp_path: Path) -> None:
    """No file is opened for writing, no process or thread begun, no signal handler changed."""
    names = [dotted(module) for module in MODULES if module != "__init__.py"]
    said = python("-c", WATCH, *names, HOME=str(tmp_path))
    assert said.stderr == ""
    assert said.stdout == ""
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__init__.py"])
def test_every_module_says_what_it_is(module: str) -> None:
    """A docstring, but for the folders themselves, which the architecture tells of."""
    assert ast.get_docstring(tree(module))


# ---------------------------------------------------------------- what a submission must not pay for

#: A submission from within a job, which never starts a daemon; then what was imported for it.
SUBMIT = """
import sys
from roundq.faces.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(code, *(name for name in "pydantic pydantic_core rich psutil logging".split() if name in sys.modules))
"""


def test_a_submission_imports_none_of_what_is_slow(tmp_path: Path) -> None:
    """Its id is printed while a table library would still be loading."""
    (tmp_path / "home").mkdir()
    environ = {"HOME": str(tmp_path / "home"), "RQ_JOB_ID": "1", "RQ_NODE": "n1"}
    said = python("-c", SUBMIT, "run", "--chdir", str(tmp_path), "true", **environ)
    assert said.stderr == ""
    assert said.stdout.splitlines()[1:] == ["0"]
    assert os.listdir(tmp_path / "home" / ".roundqueue" / "waiting") == ["1.job"]
