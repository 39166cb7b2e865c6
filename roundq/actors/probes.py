"""Probes of a file system: does it do what roundqueue(7), ASSUMPTIONS, takes for granted?

Called by `rq doctor` in a process of its own, which may be killed at any time: a probe may hang with the
file server. Probe files lie in tmp/ under this process's temporary names, so that a daemon's sweep knows
them too. Here system calls are made as they are: `world/files` would mend what is to be found out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.world import files

#: How many processes race, how often, and for how long at most; a slow server has fewer rounds.
RACERS, ROUNDS, RACE_S = 4, 300, 1.0
#: Of these bytes is a file whose replacement is watched.
WHOLE_BYTES = 16_384
#: What the loser of a race is told.
_LOST = {
    "rename": {errno.ENOENT, errno.ESTALE},
    "link": {errno.EEXIST},
    "create": {errno.EEXIST},
}

_ORDER, _RESULT = struct.Struct("<I"), struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Bench:
    """Where probes may write, and under whose name."""

    spool: Spool
    node: str

    @property
    def directory(self) -> str:
        """The directory of all probe files."""
        return self.spool.directory("tmp")

    def file(self, data: bytes = b"probe\n", *, sync: bool = False) -> str:
        """The path of a new file with this content."""
        return spools.temporary_of(self.spool, self.node, data, sync=sync)

    def name(self, serial: int) -> str:
        """A path that nobody has: temporary names are NODE.PID.SERIAL.RANDOM."""
        return f"{self.directory}/{self.node}.{os.getpid()}.{serial}.{os.urandom(4).hex()}"


def tidy(spool: Spool, node: str, pids: set[int]) -> None:
    """Removes the temporary files of these processes of this node, which must be dead or the caller."""
    for name, _ in files.listing(spool.directory("tmp")):
        owner, *parts = name.rsplit(".", 3)
        if owner == node and len(parts) == 3 and parts[0].isdecimal() and int(parts[0]) in pids:
            with contextlib.suppress(OSError):
                files.remove(f"{spool.directory('tmp')}/{name}")


# ---------------------------------------------------------------- races


@dataclass(slots=True)
class Race:
    """What came of processes that all did the same at once, again and again.

    In `rounds` rounds there were, by what was said and what was found: `doubled` with more than one winner,
    `unsaid` whose winner was told an error, `lost` without any winner, `counts` in which the link count of
    the winner's file was wrong. `errors` are unexpected answers by errno.
    """

    rounds: int = 0
    doubled: int = 0
    unsaid: int = 0
    lost: int = 0
    counts: int = 0
    errors: dict[int, int] = field(default_factory=dict)


def rename_race(bench: Bench, rounds: int = ROUNDS, most_s: float = RACE_S) -> Race:
    """Several processes rename one file, each to a name of its own: one may have it then."""

    def act(source: str, mine: str, _: str) -> None:
        os.rename(source, mine)

    def winners(source: str, mine: list[str], _: str) -> int:
        there = _listed(bench.directory)
        found = sum(os.path.basename(path) in there for path in mine)
        # One that was copied is at two places.
        return found + (found > 0 and os.path.basename(source) in there)

    return _race(bench, act, winners, "rename", rounds, most_s)


def link_race(bench: Bench, rounds: int = ROUNDS, most_s: float = RACE_S) -> Race:
    """Several processes give files of their own one name: one may get it, and its file has two links."""

    def act(_: str, mine: str, target: str) -> None:
        os.link(mine, target)

    def winners(_: str, mine: list[str], target: str) -> int:
        del target
        return sum(_links(path) == 2 for path in mine)

    return _race(bench, act, winners, "link", rounds, most_s, own_files=True)


def create_race(bench: Bench, rounds: int = ROUNDS, most_s: float = RACE_S) -> Race:
    """Several processes create one file with O_EXCL: one may."""

    def act(_: str, __: str, target: str) -> None:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))

    def winners(_: str, __: list[str], target: str) -> int:
        return int(os.path.basename(target) in _listed(bench.directory))

    return _race(bench, act, winners, "create", rounds, most_s)


def _race(
    bench: Bench,
    act: Callable[[str, str, str], None],
    winners: Callable[[str, list[str], str], int],
    kind: str,
    rounds: int,
    most_s: float,
    *,
    own_files: bool = False,
) -> Race:
    """`act` gets the common source, the racer's own name and the common target; `winners` sees the disk."""
    race = Race()
    end_s = time.monotonic() + most_s
    # Names first: a racer and the judge must mean the same.
    sources = [bench.name(place) for place in range(rounds)]
    targets = [bench.name(place) for place in range(rounds)]
    names = [[bench.name(place) for _ in range(RACERS)] for place in range(rounds)]

    def run(racer: int, place: int) -> int:
        try:
            act(sources[place], names[place][racer], targets[place])
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    with _racers(run) as start:
        for place in range(rounds):
            if time.monotonic() > end_s and race.rounds:
                break
            made = names[place] if own_files else [sources[place]] if kind == "rename" else []
            for path in made:
                os.rename(bench.file(), path)
            said = start(place)
            unexpected = [number for number in said if number and number not in _LOST[kind]]
            for number in unexpected:
                race.errors[number] = race.errors.get(number, 0) + 1
            there = winners(sources[place], names[place], targets[place])
            told = said.count(0)
            race.rounds += 1
            race.doubled += told > 1 or there > 1
            race.unsaid += told == 0 and there == 1
            is_count = kind == "link" and told == 1
            race.lost += there == 0 and not is_count
            race.counts += there == 0 and is_count
            listed = _listed(bench.directory)
            for path in (sources[place], targets[place], *names[place]):
                if os.path.basename(path) in listed:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
    return race


@contextlib.contextmanager
def _racers(run: Callable[[int, int], int]) -> Iterator[Callable[[int], list[int]]]:
    """Processes that wait for a word to run at once; what to call with the number of the round.

    They end with this process at the latest: then nobody holds the other end of their pipes.
    """
    orders: list[int] = []
    results, told = os.pipe()
    pids = []
    try:
        for racer in range(RACERS):
            heard, order = os.pipe()
            pid = os.fork()
            if pid == 0:
                # Nothing of the caller's may run here, least of all what it does at its end.
                try:
                    for descriptor in (*orders, order, results):
                        os.close(descriptor)
                    while word := os.read(heard, _ORDER.size):
                        (place,) = _ORDER.unpack(word)
                        os.write(told, _RESULT.pack(racer, run(racer, place)))
                finally:
                    os._exit(0)
            os.close(heard)
            orders.append(order)
            pids.append(pid)
        os.close(told)

        def start(place: int) -> list[int]:
            for order in orders:
                os.write(order, _ORDER.pack(place))
            return [_RESULT.unpack(_exactly(results, _RESULT.size))[1] for _ in orders]

        yield start
    finally:
        for descriptor in (*orders, results):
            os.close(descriptor)
        for pid in pids:
            os.waitpid(pid, 0)


def _exactly(descriptor: int, count: int) -> bytes:
    # Records this small are written to a pipe, and so read, in one piece.
    data = os.read(descriptor, count)
    if len(data) != count:
        raise OSError(errno.EPIPE, "a helper process of the probe has died")
    return data


def _listed(directory: str) -> set[str]:
    return {entry.name for entry in files.listing(directory)}


def _links(path: str) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.fstat(descriptor).st_nlink
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- replacing


@dataclass(slots=True)
class Replaced:
    """What a reader saw of a file that was replaced all the while: `missing` or `torn` in how many reads."""

    reads: int = 0
    missing: int = 0
    torn: int = 0


def replace_watched(bench: Bench, rounds: int = ROUNDS, most_s: float = RACE_S) -> Replaced:
    """One process replaces a file by renames, another reads it: it must be there, and whole, each time."""
    seen = Replaced()
    target = bench.file(b"0" * WHOLE_BYTES)
    end_s = time.monotonic() + most_s
    serial = bench.name(0)
    done, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(done)
            for place in range(rounds):
                if time.monotonic() > end_s:
                    break
                # Under the name of the process that is looked after, not under one's own.
                path = f"{serial}{place:x}"
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                os.write(descriptor, b"%d" % (place % 10) * WHOLE_BYTES)
                os.close(descriptor)
                os.rename(path, target)
            os.write(told, b"0")
        except OSError as error:
            os.write(told, b"%d" % (error.errno or errno.EIO))
        finally:
            os._exit(0)
    os.close(told)
    try:
        os.set_blocking(done, False)
        while True:
            try:
                word = os.read(done, 16)
            except BlockingIOError:
                word = None
            _look(target, seen)
            if word == b"0":
                return seen
            if word is not None:
                # It was refused, or killed.
                number = int(word or errno.EIO)
                raise OSError(number, os.strerror(number), target)
    finally:
        os.close(done)
        os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            os.unlink(target)


def _look(path: str, seen: Replaced) -> None:
    seen.reads += 1
    try:
        # Which of two it is, is not said; that it is one of them, and all of it, is.
        data = files.read(path, most=2 * WHOLE_BYTES)
    except FileNotFoundError:
        seen.missing += 1
        return
    seen.torn += len(data) != WHOLE_BYTES or len(set(data)) != 1


# ---------------------------------------------------------------- durability and time


@dataclass(frozen=True, slots=True)
class Synced:
    """Seconds that it took to make a file, and the name of a file, durable; None: directories cannot be."""

    file_s: float
    directory_s: float | None


def sync(bench: Bench) -> Synced:
    """Writes a file, syncs it and its directory, and removes it. Raises OSError if that is refused."""
    began_s = time.monotonic()
    path = bench.file(b"x" * 4096, sync=True)
    written_s = time.monotonic()
    try:
        descriptor = os.open(bench.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            synced_s: float | None = time.monotonic() - written_s
        except OSError as error:
            if error.errno not in files.NO_DIRECTORY_SYNC:
                raise
            synced_s = None
        finally:
            os.close(descriptor)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
    return Synced(written_s - began_s, synced_s)


@dataclass(frozen=True, slots=True)
class Clocks:
    """How far this node's clock is ahead of the file server's, in seconds, give or take `unsure_s`."""

    ahead_s: float
    unsure_s: float
    server_ns: int


def clocks(bench: Bench) -> Clocks:
    """Compares the clocks: a file is stamped by the server between two looks at ours."""
    before_ns = time.time_ns()
    path = bench.file(sync=True)
    after_ns = time.time_ns()
    try:
        # Opened anew: the client may have guessed a time while it held what was written.
        server_ns = files.signature(path)[1]
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
    middle_ns = (before_ns + after_ns) // 2
    return Clocks((middle_ns - server_ns) / 1e9, (after_ns - before_ns) / 2e9, server_ns)
