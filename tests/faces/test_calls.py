"""Promises about exchange files: what travels, what cannot, and who may read it."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roundq.faces.api import call, calls
from roundq.words.errors import ExchangeError, RoundqError, SpoolUnsafe
from roundq.words.job import Identity
from roundq.world import procs

SETUP = calls.Setup(tuple(sys.path), "/nowhere/.roundqueue")


@pytest.fixture
def exchange(tmp_path: Path) -> Path:
    return Path(calls.make(str(tmp_path / "calls"), "n1"))


def sent(exchange: Path, fn: Callable[..., Any], *given: calls.Arguments, setup: calls.Setup = SETUP) -> Path:
    """A parcel of these calls."""
    path = exchange / "1"
    calls.write_parcel(str(path), fn, given, setup)
    return path


def ran(parcel: Path, count: int, **environ: str) -> subprocess.CompletedProcess[str]:
    """A process that runs the first `count` calls of a parcel, as a job would."""
    words = call.command(sys.executable, str(parcel), range(count), 0)
    given = {"PATH": os.environ["PATH"], "RQ_NODE": "n7", **environ}
    return subprocess.run(words, cwd="/", env=given, capture_output=True, text=True, timeout=60, check=False)


def returns(parcel: Path) -> calls.Returns:
    return calls.read_returns(f"{parcel}.0.result")


# ---------------------------------------------------------------- there and back


def test_values_come_back(exchange: Path) -> None:
    """Of all calls of a job, in order."""
    parcel = sent(exchange, lambda a, b=0: (a, b, {"c": a + b}), ((1,), {"b": 2}), ((3,), {}))
    assert ran(parcel, 2).returncode == 0
    assert returns(parcel) == calls.Returns([(1, 2, {"c": 3}), (3, 0, {"c": 3})])


def test_a_call_is_not_begun_in_another_version_of_python(exchange: Path) -> None:
    """Both are named. A parcel of before this was known is read as it is."""
    parcel = sent(exchange, abs, ((-3,), {}), setup=replace(SETUP, path=(), version="3.99"))
    assert ran(parcel, 1).returncode == 1
    error = returns(parcel).error
    assert isinstance(error, ExchangeError)
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"submitted by Python 3.99, and on n7 {sys.executable} is Python {here}" in str(error)
    assert calls.Setup.here("/", restartable=False).version == here
    older = sent(exchange, abs, ((-3,), {}))
    assert ran(older, 1).returncode == 0


def test_a_call_has_the_options_of_the_interpreter() -> None:
    """Those that a program was started with."""
    given = ["-O", "-B", "-W", "error::UserWarning", "-X", "utf8", "-X", "int_max_str_digits=5000"]
    code = "import sys; from roundq.faces.api import call; print(call.flags(), sys.flags, sys.warnoptions)"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}

    def said(options: list[str]) -> str:
        words = [sys.executable, *options, "-c", code]
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    once = said(given)
    again = ast.literal_eval(once[: once.index("]") + 1])
    assert again == ["-O", "-B", "-Werror::UserWarning", "-X", "utf8", "-X", "int_max_str_digits=5000"]
    assert said(again) == once


def test_an_object_of_a_class_of_the_main_program_comes_back_as_one_of_that_class(exchange: Path) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    parcel = sent(exchange, lambda point: point, ((Point(3),), {}))
    assert ran(parcel, 1).returncode == 0
    (point,) = returns(parcel).values
    assert type(point) is Point
    assert point.x == 3


def test_an_exception_comes_back_with_its_traceback_as_the_cause(exchange: Path) -> None:
    """And with the values of the calls before it; what is behind it is not called."""

    class Special(Exception):
        pass

    def fn(x: int) -> int:
        if x == 2:
            raise Special("no", x)
        return x

    parcel = sent(exchange, fn, *(((x,), {}) for x in range(4)))
    process = ran(parcel, 4)
    assert process.returncode == 1
    assert "Special: ('no', 2)" in process.stderr
    got = returns(parcel)
    assert got.values == [0, 1]
    assert type(got.error) is Special
    assert got.error.args == ("no", 2)
    assert isinstance(got.error.__cause__, calls.RemoteTraceback)
    said = str(got.error.__cause__)
    assert 'raise Special("no", x)' in said
    assert "call.py" not in said


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_would_end_a_program_ends_the_call_alone(exchange: Path, error: BaseException) -> None:
    def fn() -> None:
        raise error

    parcel = sent(exchange, fn, ((), {}))
    assert ran(parcel, 1).returncode == 1
    assert type(returns(parcel).error) is type(error)


def test_modules_are_found_where_the_program_found_them(exchange: Path, tmp_path: Path) -> None:
    """Also what is in the directory of a script, wherever the job runs."""
    (tmp_path / "only_here.py").write_text("def fn():\n    return 17\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import only_here  # type: ignore[import-not-found]

        parcel = sent(exchange, only_here.fn, ((), {}), setup=calls.Setup.here("", restartable=False))
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["only_here"]
    assert ran(parcel, 1).returncode == 0
    assert returns(parcel).values == [17]


def test_a_file_of_the_working_directory_does_not_take_the_place_of_a_module(
    exchange: Path, tmp_path: Path
) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit('wrong')")
    parcel = sent(exchange, abs, ((-3,), {}))
    words = call.command(sys.executable, str(parcel), range(1), 0)
    assert subprocess.run(words, cwd=tmp_path, timeout=60, check=False).returncode == 0
    assert returns(parcel).values == [3]


def test_a_function_is_written_once_for_all_of_its_calls(exchange: Path) -> None:
    data = bytes(100_000)
    parcel = sent(exchange, functools.partial(len, data), *(((), {}) for _ in range(50)))
    assert parcel.stat().st_size < 200_000


def test_large_values_are_not_in_memory_twice(exchange: Path) -> None:
    """Neither where they are made nor where they are read: no process may have more."""
    size = 200 << 20

    def fn() -> bytes:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (size + (80 << 20),) * 2)
        return bytes(size)

    parcel = sent(exchange, fn, ((), {}))
    assert ran(parcel, 1).returncode == 0, "it needed more"
    code = (
        "import resource, sys; from roundq.faces.api import calls;"
        f" resource.setrlimit(resource.RLIMIT_DATA, ({size + (80 << 20)},) * 2);"
        " print(len(calls.read_returns(sys.argv[1]).values[0]))"
    )
    words = [sys.executable, "-c", code, f"{parcel}.0.result"]
    said = subprocess.run(
        words, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2], check=False
    )
    assert said.stdout.strip() == str(size), said.stderr


# ---------------------------------------------------------------- what cannot travel


def test_what_cannot_be_pickled_is_named(exchange: Path) -> None:
    """And nothing is left of it."""
    lock = threading.Lock()

    def named() -> Any:
        return lock

    with pytest.raises(ExchangeError, match=r"the function .*named cannot be sent to a job: .*lock"):
        sent(exchange, named, ((), {}))
    with pytest.raises(ExchangeError, match=r"argument 2 of pow cannot be sent to a job: .*lock"):
        sent(exchange, pow, ((1, lock), {}))
    with pytest.raises(ExchangeError, match=r"argument key of max cannot be sent to a job: .*lock"):
        sent(exchange, max, ((1, 2), {"key": lock}))
    assert os.listdir(exchange) == []


def test_a_result_that_cannot_be_pickled_is_an_error_that_says_so(exchange: Path) -> None:
    def fn() -> Any:
        return 5, threading.Lock()

    parcel = sent(exchange, fn, ((), {}))
    assert ran(parcel, 1).returncode == 1
    got = returns(parcel)
    assert got.values == []
    assert isinstance(got.error, ExchangeError)
    assert "a result of type tuple cannot be sent back from n7" in str(got.error)
    assert got.error.hint


def _not_here(*_: object) -> None:
    raise FileNotFoundError(2, "No such file", "/tmp/of-that-node")


class OfThatNode:
    """What opens a file when it is made again."""

    def __reduce__(self) -> Any:
        return _not_here, ()


def test_a_value_that_misses_a_file_here_is_not_a_missing_result(exchange: Path) -> None:
    assert calls.write_returns(str(exchange / "1.0.result"), [OfThatNode()], None, "", "n7")
    with pytest.raises(ExchangeError, match=r"cannot be read here: .*/tmp/of-that-node"):
        returns(exchange / "1")


class Leaving:
    """What ends a program that makes it again."""

    def __reduce__(self) -> Any:
        return sys.exit, ("no licence",)


class LeavingError(Leaving, Exception): ...


def test_what_would_end_a_program_that_reads_it_is_an_error(exchange: Path) -> None:
    """As a value of a module that exits where it cannot work: the watcher has other results to read."""
    path = str(exchange / "1.0.result")
    assert calls.write_returns(path, [Leaving()], None, "", "n7")
    with pytest.raises(ExchangeError, match=r"cannot be read here: .*: no licence"):
        returns(exchange / "1")
    assert not calls.write_returns(path, [], LeavingError(), "", "n7")
    assert isinstance(returns(exchange / "1").error, ExchangeError)


def test_an_exception_comes_back_from_where_nothing_can_be_printed(exchange: Path) -> None:
    def fn() -> None:
        sys.stderr.close()
        raise KeyError("of the function")

    parcel = sent(exchange, fn, ((), {}))
    assert ran(parcel, 1).returncode == 1
    assert isinstance(returns(parcel).error, KeyError)


class MuteError(Exception):
    """One that cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError


def test_an_exception_that_says_nothing_comes_back_all_the_same(exchange: Path) -> None:
    assert not calls.write_returns(str(exchange / "1.0.result"), [1], MuteError(), "its traceback", "n7")
    found = returns(exchange / "1")
    assert (type(found.error), found.values) == (MuteError, [1])
    assert "its traceback" in str(found.error and found.error.__cause__)


def test_an_exception_that_cannot_be_pickled_is_told_in_words(exchange: Path) -> None:
    def fn() -> None:
        raise ValueError(threading.Lock())

    parcel = sent(exchange, fn, ((), {}))
    assert ran(parcel, 1).returncode == 1
    got = returns(parcel)
    assert "raised what cannot be pickled: ValueError: <unlocked" in str(got.error)
    assert "raise ValueError(threading.Lock())" in str(got.error.__cause__)  # type: ignore[union-attr]


def test_an_exception_that_cannot_be_made_again_is_told_in_words(exchange: Path) -> None:
    """Such as one whose class wants more than it keeps in args."""

    class Greedy(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(one)
            self.two = two

    def fn() -> None:
        raise Greedy(1, 2)

    parcel = sent(exchange, fn, ((), {}))
    assert ran(parcel, 1).returncode == 1
    assert "Greedy: 1" in str(returns(parcel).error)


def test_an_error_of_roundq_keeps_its_hint(exchange: Path) -> None:
    """Also one whose class is of the program itself."""

    class Mine(RoundqError):
        pass

    def fn() -> None:
        raise Mine("what", "do this")

    parcel = sent(exchange, fn, ((), {}))
    assert ran(parcel, 1).returncode == 1
    error = returns(parcel).error
    assert type(error) is Mine
    assert (str(error), error.hint) == ("what", "do this")


def test_a_module_that_is_not_on_the_node_is_named(exchange: Path, tmp_path: Path) -> None:
    (tmp_path / "only_there.py").write_text("def fn():\n    return 17\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import only_there  # type: ignore[import-not-found]

        parcel = sent(exchange, only_there.fn, ((), {}))
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["only_there"]
    assert ran(parcel, 1).returncode == 1
    error = returns(parcel).error
    assert isinstance(error, ExchangeError)
    assert str(error) == "the call cannot be read on n7: No module named 'only_there'"
    assert "sys.path" in (error.hint or "")


def test_what_an_earlier_attempt_gave_is_forgotten(exchange: Path) -> None:
    """When the next one dies, its result must not be taken for that one's."""
    parcel = sent(exchange, lambda: 1 / 0, ((), {}))
    assert ran(parcel, 1).returncode == 1
    calls.write_parcel(str(parcel), os._exit, [((9,), {})], SETUP)
    assert ran(parcel, 1, RQ_RESTART_COUNT="1").returncode == 9
    with pytest.raises(FileNotFoundError):
        returns(parcel)


def test_a_call_whose_program_has_ended_says_so(exchange: Path) -> None:
    process = ran(exchange / "9", 1)
    assert process.returncode == 1
    assert "is gone: the program that made this call has ended" in process.stderr


# ---------------------------------------------------------------- whose files


def test_only_files_that_nobody_else_can_have_written_are_read(exchange: Path) -> None:
    """To read a pickle is to execute it."""
    parcel = sent(exchange, abs, ((-3,), {}))
    parcel.chmod(0o622)
    with pytest.raises(ExchangeError, match="others could have written it"):
        calls.read_parcel(str(parcel))
    (exchange / "2").symlink_to(parcel)
    with pytest.raises(OSError, match="symbolic"):
        calls.read_parcel(str(exchange / "2"))


def test_an_exchange_is_its_users_alone(tmp_path: Path) -> None:
    base = tmp_path / "calls"
    before = os.umask(0)
    try:
        path = calls.make(str(base), "n1")
    finally:
        os.umask(before)
    assert base.stat().st_mode & 0o777 == 0o700
    assert os.stat(path).st_mode & 0o777 == 0o700
    base.chmod(0o777)
    with pytest.raises(SpoolUnsafe, match="cannot hold calls: others may write to it"):
        calls.make(str(base), "n1")


def test_what_is_no_batch_is_refused(exchange: Path) -> None:
    (exchange / "1").write_bytes(b"roundq calls 2\n\0" + bytes(100))
    with pytest.raises(ExchangeError, match="holds no calls"):
        calls.read_parcel(str(exchange / "1"))


# ---------------------------------------------------------------- what is left


def left(base: Path, process: Identity, node: str, age_s: float, now: float) -> Path:
    """What a program left, so long ago."""
    path = base / f"{process.pid}-{process.start}-1-{process.boot}@{node}"
    path.mkdir(0o700)
    (path / "1").write_bytes(b"")
    os.utime(path, (now - age_s,) * 2)
    return path


def test_what_dead_programs_left_is_swept_when_their_jobs_had_their_time(tmp_path: Path) -> None:
    """That of living ones never, and of other nodes only when it is very old, since nobody knows."""
    base = tmp_path / "calls"
    own = calls.make(str(base), "n1")
    now = os.stat(own).st_mtime
    me = procs.own_identity()
    dead = replace(me, start=me.start + 1)
    kept = [
        left(base, me, "n1", 1e9, now),
        left(base, dead, "n1", calls.KEEP_S - 60, now),
        left(base, dead, "n2", calls.KEEP_ELSEWHERE_S - 60, now),
    ]
    gone = [
        left(base, replace(dead, pid=me.pid + 1), "n1", calls.KEEP_S + 60, now),
        left(base, me, "n3", calls.KEEP_ELSEWHERE_S + 60, now),
    ]
    (base / "somebody's notes").write_text("")
    assert sorted(calls.sweep(str(base), own, "n1")) == sorted(map(str, gone))
    assert {Path(base, name) for name in os.listdir(base)} == {*kept, Path(own), base / "somebody's notes"}
