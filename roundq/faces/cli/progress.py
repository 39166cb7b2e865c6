"""While a command waits: how far the jobs are, nodes that have fallen silent, and an ear for signals."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from roundq.actors import submission
from roundq.faces.cli import abandon, say
from roundq.faces.cli.person import Person
from roundq.faces.cli.stopping import look_for_signals
from roundq.records import neighbours
from roundq.records.spool import Entry
from roundq.words.quantities import format_age, visible
from roundq.words.states import CLAIMED, ENDED_STATES, HELD, OWNED_STATES, PENDING_STATES, RUNNING, WAITING

OnLook = Callable[[dict[str, Entry]], None]
#: How often it is looked whether nodes are heard of, in seconds: cards are renewed once a minute.
LISTEN_S = 30.0


@contextlib.contextmanager
def progress(asker: Person) -> Iterator[OnLook]:
    """What to call after each look. Raises Stopped when a signal has come.

    On a terminal a line says how far the jobs are; anywhere a line says of a node that runs one of
    them, once, that it is not heard of any more.
    """
    listener = Listener(asker)
    if sys.stderr is None or not sys.stderr.isatty():

        def on_look(met: dict[str, Entry]) -> None:
            look_for_signals()
            for said in listener(met, time.monotonic()):
                say(said)

        yield on_look
        return
    with _status("looking") as (show, print_above):

        def on_look_on_terminal(met: dict[str, Entry]) -> None:
            look_for_signals()
            for said in listener(met, time.monotonic()):
                print_above(f"rq: {said}")
            show(sentence(met))

        yield on_look_on_terminal


@contextlib.contextmanager
def _status(text: str) -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """How to change the text of a line at the bottom of the terminal, and how to print a line above it.

    A terminal that was closed stops nothing.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    status = console.status(Text(text), spinner="line")

    def done(do: Callable[[], object]) -> None:
        try:
            do()
        except OSError:
            abandon(sys.stderr)

    done(status.start)
    try:
        yield (
            lambda text: done(lambda: status.update(Text(text))),
            lambda text: done(lambda: console.print(Text(text))),
        )
    finally:
        done(status.stop)


@contextlib.contextmanager
def share(doing: str) -> Iterator[Callable[[float], None]]:
    """What to tell which share of something is done. Raises Stopped when a signal has come."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: look_for_signals()
        return
    with _status(doing) as (show, _):

        def on_step(done: float) -> None:
            look_for_signals()
            show(f"{doing}: {done:.0%}")

        yield on_step


class Listener:
    """Listens for the nodes that run what one waits for.

    Over time, by the beats of all daemons there and one's own clock, as a daemon does it.
    """

    def __init__(self, asker: Person) -> None:
        self._asker = asker
        self._neighbourhood = neighbours.Neighbourhood(asker.node)
        self._told: set[str] = set()
        self._due_s = 0.0

    def __call__(self, met: dict[str, Entry], now_s: float) -> list[str]:
        """What is to be said of nodes that have fallen silent since; `now_s` is a monotonic time."""
        nodes = {entry.node for entry in met.values() if entry.state in OWNED_STATES and entry.node}
        nodes.discard(self._asker.node)
        if not nodes or now_s < self._due_s:
            return []
        self._due_s = now_s + LISTEN_S
        me = self._asker.spool
        try:
            of = submission.everybody(me, self._asker.config.homes, self._asker.config.commons)
            seen = self._neighbourhood.look(of, now_s, neighbours.stamped_ns(me))
        except OSError:
            return []
        silent = neighbours.silence(seen, self._asker.node)
        # One that comes back and goes again is told again.
        fresh = sorted((nodes & silent.keys()) - self._told)
        self._told = nodes & silent.keys()
        return [
            f"{visible(node)} has not been seen for {format_age(silent[node])}; what runs there may go on"
            for node in fresh
        ]


def sentence(met: dict[str, Entry]) -> str:
    """Where jobs are: "job 17 runs on n1", or "3 waiting, 2 running, 5 ended"."""
    if len(met) == 1:
        (entry,) = met.values()
        return f"job {visible(entry.id)} {_DOES[entry.state]}{_on(entry)}"
    counts = {
        "held": _count(met, HELD),
        "waiting": _count(met, WAITING),
        "starting": _count(met, CLAIMED),
        "running": _count(met, RUNNING),
        "ended": _count(met, *ENDED_STATES),
    }
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)


def _count(met: dict[str, Entry], *states: str) -> int:
    return sum(entry.state in states for entry in met.values())


def _on(entry: Entry) -> str:
    return f" on {visible(entry.node)}" if entry.state in OWNED_STATES and entry.node else ""


_DOES = (
    {state: f"is {state}" for state in PENDING_STATES}
    | {CLAIMED: "starts", RUNNING: "runs"}
    | dict.fromkeys(ENDED_STATES, "has ended")
)
