"""What durability and the check after a claim cost: run it with `python -m tests.bench.durability [ROUNDS]`.

Nothing is asserted, since a time is a fact of one machine. Each thing is measured as it is, and with fsync,
or with the check (to publish the card and to read those of others), switched off in this process only. The
two take turns, so that a busy machine is unfair to none. Prints medians in milliseconds, and how many times
as long the real thing takes; beside them the load, the bare interpreter, and one bare fsync. BENCH_DIR says
on which file system.
"""

from __future__ import annotations

import contextlib
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from roundq.actors import submission
from roundq.actors.attempt import Terms
from roundq.actors.round import Round
from roundq.records import cards
from roundq.records import spool as spools
from roundq.words.job import Job
from roundq.words.states import COMPLETED, RUNNING
from roundq.world import procs
from roundq.world.config import Config
from roundq.world.node import Node
from tests.cluster.wait import wait_until
from tests.faces.homes import HERE, Homes, card

MANY = 1000
NEIGHBOURS = (0, 5, 20)


def main() -> None:
    """Prints one line for each figure."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    os.environ["RQ_NODE"] = HERE
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
        base = Path(directory)
        print(f"load at the beginning {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {rounds} rounds")
        print(f"{'':46}{'as it is':>10}{'without':>10}{'ratio':>8}")
        _say("one fsync of a new file of 1 KiB", *_sides(rounds, lambda: _write(base / "file"), no_fsync))
        submissions(base / "submit", rounds)
        starts(base / "start", rounds)
        print(f"load at the end {os.getloadavg()[0]:.1f}")


def _say(title: str, real_ms: float, without_ms: float) -> None:
    print(f"{title:46}{real_ms:10.2f}{without_ms:10.2f}{real_ms / without_ms:7.2f}x", flush=True)


def _sides(
    rounds: int,
    do: Callable[[], object],
    off: Callable[[], contextlib.AbstractContextManager[object]],
    before: Callable[[], object] = lambda: None,
) -> tuple[float, float]:
    """The medians, in ms, of doing it as it is and with something switched off, by turns; `before` each."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(2 * rounds):
        before()
        with off() if number % 2 else contextlib.nullcontext():
            began_s = time.perf_counter()
            do()
            taken[number % 2].append(1000 * (time.perf_counter() - began_s))
    return statistics.median(taken[0]), statistics.median(taken[1])


# ---------------------------------------------------------------- switched off


@contextlib.contextmanager
def _patched(*patches: tuple[object, str, object]) -> Iterator[None]:
    before = [(of, name, getattr(of, name)) for of, name, _ in patches]
    for of, name, instead in patches:
        setattr(of, name, instead)
    try:
        yield
    finally:
        for of, name, real in before:
            setattr(of, name, real)


def no_fsync() -> contextlib.AbstractContextManager[object]:
    """Nothing is made durable."""
    return _patched((os, "fsync", lambda _: None))


# ---------------------------------------------------------------- submissions


def _write(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, b"x" * 1024)
    os.fsync(descriptor)
    os.close(descriptor)


def submissions(base: Path, rounds: int) -> None:
    """One job and a thousand by the API, one by the command, beside the bare interpreter."""
    base.mkdir()
    homes = Homes(base)
    spool = homes.user("ann")
    # A daemon that lives, as this process does: none is started.
    cards.publish(spool, replace(card("ann", HERE), process=procs.own_identity()))
    job = Job(("true",), directory=str(base))
    environ = {"PATH": os.environ["PATH"], "HOME": str(base / "ann")}

    def submit(count: int) -> None:
        submission.submit(spool, [job] * count, environ, HERE)

    _say("a submission of one job, in a program", *_sides(rounds, lambda: submit(1), no_fsync))
    few = max(3, rounds // 10)
    real, without = _sides(few, lambda: submit(MANY), no_fsync)
    _say(f"a submission of {MANY} jobs", real, without)
    _say("    of that a job", real / MANY, without / MANY)

    rq = "from roundq.__main__ import rq; rq()"
    # Only the process of the command is to go without.
    without_fsync = f"import os; os.fsync = lambda _: None; {rq}"
    of = {**environ, **homes.environ("ann"), "PYTHONPATH": str(Path(__file__).parents[2])}
    times: dict[str, list[float]] = {"bare": [], "real": [], "without": []}
    scripts = {"bare": "pass", "real": rq, "without": without_fsync}
    for _ in range(rounds):
        for way, script in scripts.items():
            words = ["-I", "-c", script] if way == "bare" else ["-c", script, "run", "true"]
            began_s = time.perf_counter()
            subprocess.run([sys.executable, *words], env=of, stdout=subprocess.DEVNULL, check=True, cwd=base)
            times[way].append(1000 * (time.perf_counter() - began_s))
    bare, real, without = (statistics.median(times[way]) for way in ("bare", "real", "without"))
    _say("rq run true", real, without)
    print(f"{'    in bare interpreters':46}{real / bare:9.1f}x{without / bare:9.1f}x ({bare:.1f} ms each)")


# ---------------------------------------------------------------- starts


def starts(base: Path, rounds: int) -> None:
    """From the look at a waiting job to the gate of its supervisor, with so many other users' daemons."""
    base.mkdir()
    for count in NEIGHBOURS:
        homes = Homes(base / str(count))
        homes.parent.mkdir()
        for number in range(count):
            other = homes.user(f"user{number}")
            cards.publish(other, card(f"user{number}", HERE, cores=64, jobs={"1": 1, "2": 1}))
            cards.publish(other, card(f"user{number}", "elsewhere", cores=64, jobs={"3": 1}))
        start = Start(homes)
        _say(f"a start, {count} other users: fsync", *_sides(rounds, start.one, no_fsync, start.prepare))
        _say("    the check", *_sides(rounds, start.one, unchecked, start.prepare))
        start.end()


class Start:
    """A daemon in this process, whose rounds are played by hand."""

    def __init__(self, homes: Homes) -> None:
        self.spool = homes.user("ann")
        config = Config((str(homes.parent),), cores=64)
        log = logging.getLogger("bench")
        self._round = Round(self.spool, Node(os.environ), lambda: (config, None), log, time.time_ns())
        self._job = Job(("true",), directory=str(homes.parent / "ann"), output="out", max_output=0)
        # What is read and imported once is not what a start costs.
        self.prepare()
        self.one()

    def prepare(self) -> None:
        """Puts a job into the queue, when nothing is left of the last one."""
        wait_until(self._is_idle, 60)
        (self._id,) = spools.submit(self.spool, [self._job], HERE)

    def _is_idle(self) -> bool:
        self._round.run(time.monotonic())
        return not len(self._round.tenants)

    def one(self) -> None:
        """From the round that claims the job until it has begun."""
        while not self._has_begun():
            self._round.run(time.monotonic())
            until_s = time.monotonic() + 0.05
            while time.monotonic() < until_s and not self._has_begun():
                time.sleep(0.0001)

    def _has_begun(self) -> bool:
        return any(entry.id == self._id for entry in spools.scan(self.spool, (RUNNING, COMPLETED)))

    def end(self) -> None:
        """Leaves, when the last job has ended."""
        wait_until(self._is_idle, 60)
        self._round.leave()


def unchecked() -> contextlib.AbstractContextManager[object]:
    """A claim is kept at once: neither is it published before, nor are the cards of others read."""

    def settle(of: Any, now_s: float) -> bool:
        kept = [tenant for tenant in of.tenants if not tenant.settled and tenant.is_ready]
        for tenant in kept:
            tenant.settled = True
        terms = Terms(of.name, of.config.grace_s)
        return bool(kept) and not of.tenants.bear(kept, terms, None, lambda: of._publish(now_s))

    return _patched((Round, "_settle", settle))


if __name__ == "__main__":
    main()
