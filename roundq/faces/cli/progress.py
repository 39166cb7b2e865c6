"""While a command waits: on a terminal a line that says how far the jobs are, and an ear for signals."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from roundq.faces.cli import look_for_signals
from roundq.records.spool import Entry
from roundq.words.quantities import visible
from roundq.words.states import CLAIMED, ENDED_STATES, HELD, OWNED_STATES, PENDING_STATES, RUNNING, WAITING

OnLook = Callable[[dict[str, Entry]], None]


@contextlib.contextmanager
def progress() -> Iterator[OnLook]:
    """What to call after each look. Raises Stopped when a signal has come."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: look_for_signals()
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with console.status("looking", spinner="line") as status:

        def on_look(met: dict[str, Entry]) -> None:
            look_for_signals()
            status.update(Text(sentence(met)))

        yield on_look


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
