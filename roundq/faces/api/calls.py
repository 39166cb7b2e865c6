"""Exchange files: how calls of functions travel to their jobs, and how what became of them comes back.

A program makes a directory of its own, an *exchange*, which all nodes see and only its user may enter. One
file in it holds a *parcel*: a function, pickled once, and the arguments of each of its calls; another one,
for each job of the parcel, what that job returns. Both are sealed: written beside, synced, and renamed.
Large values are streamed to and from the file, so they are in memory once.

To read a pickle is to execute it. So only files of one's own user are read, which nobody else may write to.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import json
import os
import pickle
import shlex
import stat
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from roundq.words.errors import ExchangeError, RoundqError, SpoolUnsafe
from roundq.world import files, owners

#: Where exchanges are, below the home, unless a program names another place.
DIRECTORY = ".roundqueue-calls"
#: Version 5 writes large buffers without a copy; every Python that roundq runs on reads it.
PROTOCOL = 5
#: What the job of a parcel with this number left: its returns, its output, and its state when it
#: asked to be run again.
RESULT, OUTPUT, STATE = "result", "out", "state"
#: Of a dead program of this node, an exchange is left alone for so long, and of another node for so long,
#: since its jobs may still run.
KEEP_S, KEEP_ELSEWHERE_S = 86_400.0, 7 * 86_400.0
#: Errors of a server, of a program that has much open, or of a ticket that expired, which may be over soon.
PASSING = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES}
)
_MAGIC = b"roundq calls 1\n\0"
_NUMBER = struct.Struct("<Q")
#: What is pickled alike with and without cloudpickle, which takes longer to import than all the rest.
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_serial = itertools.count(1)

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class RemoteTraceback(Exception):
    """The traceback of an exception as its job saw it: the cause of that exception here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


# ---------------------------------------------------------------- exchanges


def make(base: str, node: str) -> str:
    """A new exchange of this process below `base`, which is made if need be; its path.

    Raises SpoolUnsafe if others could put something there, and SpoolError if it cannot be made.
    """
    # Here and below: what a job imports is paid for by each call.
    from roundq.world import procs

    me = procs.own_identity()
    with files.explained(f"make a directory for calls in {base}"):
        with contextlib.suppress(FileExistsError):
            os.mkdir(base, 0o700)
        try:
            os.close(owners.opened(base, os.geteuid()))
        except PermissionError as error:
            raise SpoolUnsafe(
                f"{base} cannot hold calls: {error.strerror}",
                "whoever can write there could run code as you: give another place with exchange=",
            ) from None
        path = f"{base}/{me.pid}-{me.start}-{next(_serial)}-{me.boot}@{node}"
        os.mkdir(path, 0o700)
        # A umask may have taken rights away that are needed.
        os.chmod(path, 0o700)
        files.sync_directory(base)
    return path


def remove(path: str) -> bool:
    """Removes an exchange and all files in it; whether nothing is left. What cannot be removed is swept."""
    try:
        for name in os.listdir(path):
            files.remove(f"{path}/{name}")
        os.rmdir(path)
    except OSError:
        return not os.path.isdir(path)
    return True


def sweep(
    base: str, own: str, node: str, before: Callable[[list[str]], None] = lambda _names: None
) -> list[str]:
    """Removes what programs left below `base` that are dead, and whose jobs had their time; its paths.

    `own` is an exchange that was just made there: its time is the server's now. `before` is given the names
    of the files in each before they are removed.
    """
    from roundq.words.job import Identity
    from roundq.world import procs

    swept = []
    try:
        now = os.stat(own).st_mtime
        names = files.names(base)
    except OSError:
        return []
    for name in names:
        path = f"{base}/{name}"
        owner, _, home = name.partition("@")
        try:
            pid, start, _, boot = owner.split("-", 3)
            process = Identity(boot, int(pid), int(start))
            age_s = now - os.stat(path, follow_symlinks=False).st_mtime
            os.close(owners.opened(path, os.geteuid()))
        except (ValueError, OSError):
            continue
        if home == node and procs.liveness(process) is not procs.Liveness.DEAD:
            continue
        if age_s <= (KEEP_S if home == node else KEEP_ELSEWHERE_S):
            continue
        with contextlib.suppress(OSError, RoundqError):
            before(files.names(path))
            if remove(path):
                swept.append(path)
    return swept


# ---------------------------------------------------------------- files


@contextlib.contextmanager
def _sealing(path: str) -> Iterator[IO[bytes]]:
    """A file to be written; it has its name, and is durable, when all of it was."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with files.explained(f"write {path}"):
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            files.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                files.remove(temporary)
            raise


def _opened(path: str) -> IO[bytes]:
    """A file of this user that nobody else can have written. Raises FileNotFoundError, or ExchangeError."""
    file = os.fdopen(files.open_fresh(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or files.others_write(status):
        file.close()
        raise ExchangeError(
            f"{path} is not read: others could have written it", "remove it, and look who did"
        )
    return file


def cloudpickle() -> Any:
    """The library by which functions travel. Raises ExchangeError if it is missing."""
    try:
        # An extra, and without types.
        import cloudpickle as library  # type: ignore[import-untyped]
    except ImportError:
        raise ExchangeError(
            "functions travel by cloudpickle, which is not installed here",
            f"{shlex.quote(sys.executable)} -m pip install cloudpickle",
        ) from None
    return library


def _dump(value: Any, file: IO[bytes] | _Nowhere) -> None:
    if type(value) in _PLAIN:
        pickle.dump(value, file, PROTOCOL)
    else:
        cloudpickle().Pickler(file, PROTOCOL).dump(value)


class _Nowhere:
    """A file that forgets what is written to it."""

    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


def _why_not(value: Any) -> str | None:
    """Why a value cannot be pickled, None if it can."""
    try:
        _dump(value, _Nowhere())
    except RoundqError:
        raise
    except Exception as error:
        return _said(error)
    return None


def _said(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def called(fn: Any) -> str:
    """What a function is called where people read it."""
    name = getattr(fn, "__qualname__", None) or getattr(getattr(fn, "func", None), "__qualname__", None)
    return str(name or type(fn).__qualname__)


# ---------------------------------------------------------------- parcels


@dataclass(frozen=True, slots=True)
class Setup:
    """What a job must know before it can read its calls: where modules are, and how to be run again; and for
    which Python these modules and the pickled functions are, empty if that is not known."""

    path: tuple[str, ...]
    spool: str
    restartable: bool = False
    version: str = ""

    @staticmethod
    def here(spool: str, *, restartable: bool) -> Setup:
        """That of this interpreter."""
        try:
            here = os.getcwd()
        except OSError:
            # It was removed: nothing is found there.
            here = "/"
        places = tuple(os.path.join(here, place) for place in sys.path if isinstance(place, str))
        return Setup(places, spool, restartable, python_version())


def python_version() -> str:
    """Which Python this is, as far as modules and functions depend on it."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def write_parcel(path: str, fn: Callable[..., Any], calls: Sequence[Arguments], setup: Setup) -> None:
    """Writes the calls of a function. Raises ExchangeError, which says what of them cannot be pickled."""
    known = {"path": setup.path, "spool": setup.spool, "restartable": setup.restartable}
    known |= {"version": setup.version}
    with _sealing(path) as file:
        places = [0] * (len(calls) + 2)
        file.write(_MAGIC + _NUMBER.pack(len(calls)))
        file.seek(len(places) * _NUMBER.size, os.SEEK_CUR)
        file.write(json.dumps(known).encode())
        places[0] = file.tell()
        _dump_or_say(fn, file, lambda: f"the function {called(fn)} cannot be sent to a job: {_why_not(fn)}")
        places[1] = file.tell()
        for number, call in enumerate(calls):
            _dump_or_say(call, file, functools.partial(_blamed, fn, call))
            places[number + 2] = file.tell()
        file.seek(len(_MAGIC) + _NUMBER.size)
        file.write(b"".join(map(_NUMBER.pack, places)))


def _dump_or_say(value: Any, file: IO[bytes], blame: Callable[[], str]) -> None:
    try:
        _dump(value, file)
    except (RoundqError, OSError):
        raise
    except Exception as error:
        raise ExchangeError(blame(), "give it what can be pickled, such as a path to open there") from error


def _blamed(fn: Any, call: Arguments) -> str:
    """Which argument cannot be pickled."""
    named = [(f"argument {place}", value) for place, value in enumerate(call[0], 1)]
    named += [(f"argument {name}", value) for name, value in call[1].items()]
    for name, value in named:
        if why := _why_not(value):
            return f"{name} of {called(fn)} cannot be sent to a job: {why}"
    return f"the arguments of {called(fn)} cannot be sent to a job"


@dataclass(slots=True)
class Parcel:
    """A parcel as its job reads it. `fn` and the arguments are read by the methods, which execute them."""

    file: IO[bytes]
    setup: Setup
    places: tuple[int, ...]

    def function(self) -> Callable[..., Any]:
        """The function."""
        self.file.seek(self.places[0])
        fn: Callable[..., Any] = pickle.load(self.file)
        return fn

    def arguments(self, numbers: range) -> Iterator[Arguments]:
        """The arguments of these calls, one after the other."""
        for number in numbers:
            self.file.seek(self.places[number + 1])
            arguments: Arguments = pickle.load(self.file)
            yield arguments

    def __len__(self) -> int:
        return len(self.places) - 2


def read_parcel(path: str) -> Parcel:
    """The parcel in a file. Raises FileNotFoundError if it is gone, ExchangeError if it is none."""
    file = _opened(path)
    head = file.read(len(_MAGIC) + _NUMBER.size)
    if len(head) != len(_MAGIC) + _NUMBER.size or not head.startswith(_MAGIC):
        raise ExchangeError(f"{path} holds no calls that this version of roundq reads")
    (count,) = _NUMBER.unpack(head[len(_MAGIC) :])
    places = struct.unpack(f"<{count + 2}Q", file.read((count + 2) * _NUMBER.size))
    known = json.loads(file.read(places[0] - file.tell()))
    # A call that was submitted by an older version of roundq may still wait.
    version = known.get("version", "")
    return Parcel(file, Setup(tuple(known["path"]), known["spool"], known["restartable"], version), places)


# ---------------------------------------------------------------- returns


@dataclass(slots=True)
class Returns:
    """What became of the calls of one job: the values of those before one that raised, and what it raised."""

    values: list[Any] = field(default_factory=list)
    error: BaseException | None = None


class _Failure(NamedTuple):
    """An exception on its way: pickled, None if it cannot be; its traceback, and what it says."""

    pickled: bytes | None
    text: str
    said: str


def write_returns(path: str, values: list[Any], error: BaseException | None, text: str, where: str) -> bool:
    """Writes what became of the calls of a job, `error` with the `text` of its traceback; whether all well.

    What cannot be pickled becomes an error that says so. `where` is the node.
    """
    try:
        with _sealing(path) as file:
            pickle.dump(None if error is None else tuple(_failed(error, text)), file, PROTOCOL)
            pickle.dump(len(values), file, PROTOCOL)
            for value in values:
                _dump(value, file)
        return error is None
    except (OSError, RoundqError):
        raise
    except Exception as problem:
        which = next((value for value in values if _why_not(value)), None)
        lost = ExchangeError(
            f"a result of type {type(which).__qualname__} cannot be sent back from {where}: {_said(problem)}",
            "return what can be pickled, such as a path to a file on the shared home",
        )
        with _sealing(path) as file:
            pickle.dump(tuple(_failed(lost, text)), file, PROTOCOL)
            pickle.dump(0, file, PROTOCOL)
        return False


def _failed(error: BaseException, text: str) -> _Failure:
    said = f"{type(error).__qualname__}: {_said(error)}"
    # The hint of one of ours would not travel with it.
    sent: Any = (type(error), str(error), error.hint) if isinstance(error, RoundqError) else error
    # One of ours also travels where that library is not found.
    library = pickle if type(error).__module__.startswith("roundq.") else cloudpickle()
    try:
        return _Failure(library.dumps(sent, PROTOCOL), text, said)
    except Exception:
        return _Failure(None, text, said)


def read_returns(path: str) -> Returns:
    """What became of the calls of a job. Raises FileNotFoundError if it left nothing, ExchangeError for what
    cannot be read here."""
    with _opened(path) as file:
        try:
            given = pickle.load(file)
            error = None if given is None else _error(_Failure(*given))
            values = [pickle.load(file) for _ in range(pickle.load(file))]
        except RoundqError:
            raise
        except BaseException as problem:
            # A read names no file.
            if isinstance(problem, OSError) and problem.errno in PASSING and problem.filename is None:
                problem.filename = path
                raise
            # Also an OSError, or SystemExit: it may be the value itself that misses a file here, or leaves.
            raise ExchangeError(f"a result cannot be read here: {path}: {_said(problem)}") from problem
    return Returns(values, error)


def _error(failure: _Failure) -> BaseException:
    error: BaseException
    try:
        error = pickle.loads(failure.pickled or b"")
        if isinstance(error, tuple):
            of, said, hint = error
            error = of(said, hint)
        if not isinstance(error, BaseException):
            raise TypeError
    except BaseException:
        error = ExchangeError(f"the function raised what cannot be pickled: {failure.said}")
    if failure.text:
        error.__cause__ = RemoteTraceback(failure.text)
    return error


# ---------------------------------------------------------------- states


def write_state(path: str, fn: Callable[..., Any], call: Arguments) -> None:
    """Writes what the next attempt of a job is to call."""
    with _sealing(path) as file:
        _dump((fn, call), file)


def read_state(path: str) -> tuple[Callable[..., Any], Arguments]:
    """What an earlier attempt left to be called. Raises FileNotFoundError if it left nothing."""
    with _opened(path) as file:
        found: tuple[Callable[..., Any], Arguments] = pickle.load(file)
        return found
