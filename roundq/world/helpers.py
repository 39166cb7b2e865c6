"""Helper processes that read the homes of others, and hang there in our place.

Whoever opens a file on a file system that does not answer sleeps until it does, and no signal short of
SIGKILL helps. So a helper opens it, asked over a pipe. One that does not answer in time is left where it
hangs, and its home is not asked again before it has come back from there. Pipes carry JSON and the bytes
of files: what is read becomes text or bytes, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roundq.words.errors import RecordError
from roundq.words.job import Identity
from roundq.world import procs, reading, spawn
from roundq.world.files import Name, Status
from roundq.world.owners import Owned
from roundq.world.reading import Call, Way

#: How long homes are waited for that do not answer, all together, in seconds.
PATIENCE_S = 2.0
#: A helper that says nothing for this long hangs, it seems: another one goes on with the other homes.
SOON_S = 0.25
#: Helpers that are at work at the same time, and those that hang, which are kept as long as they do.
AT_WORK_MOST, HANGING_MOST = 8, 16
#: A home whose helper could not be kept is asked again after this long, then after twice as long, and so on.
RETRY_MIN_S, RETRY_MAX_S = 60.0, 3600.0
_HEAD = struct.Struct("!II")
_CHUNK = 1 << 16
#: How answers come back from JSON, if they are not what it can say.
_RESTORED: dict[str, Callable[[Any], Any]] = {
    "listing": lambda value: [Name(*one) for one in value],
    "owned": lambda value: [Owned(*one) for one in value],
    "signature": tuple,
    "status": lambda value: Status(*value),
}


@dataclass(eq=False)
class _Helper:
    """A process that reads for us: what it was asked and has not answered yet."""

    process: Identity | None
    asking: int
    answering: int
    asked: deque[int] = field(default_factory=deque)
    data: bytearray = field(default_factory=bytearray)
    since_s: float = 0.0
    #: The rest of what it was asked was given to another: it is not used again.
    is_cut: bool = False

    def ask(self, calls: Iterable[Call]) -> None:
        """Hands it more to do."""
        asked = [[call.operation, call.path, call.options] for call in calls]
        _write(self.asking, json.dumps(asked).encode(), b"")

    def answers(self) -> tuple[list[tuple[list[Any], bytes]], bool]:
        """What it has said by now, and whether it lives."""
        lives = True
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.answering, _CHUNK):
                self.data += chunk
            lives = False
        found = []
        while len(self.data) >= _HEAD.size:
            size, more = _HEAD.unpack_from(self.data)
            end = _HEAD.size + size + more
            if len(self.data) < end:
                break
            said = json.loads(self.data[_HEAD.size : _HEAD.size + size])
            found.append((said, bytes(self.data[_HEAD.size + size : end])))
            del self.data[:end]
        return found, lives

    def close(self) -> None:
        """Ends it; one that hangs ends when it comes back."""
        os.close(self.asking)
        os.close(self.answering)
        if self.process is not None:
            with contextlib.suppress(OSError):
                procs.send(self.process, signal.SIGKILL)


@dataclass
class _Late:
    """A home that did not answer: since when, who hangs there, and when to ask again if nobody does."""

    since_s: float
    helper: _Helper | None
    pause_s: float = RETRY_MIN_S
    retry_s: float = 0.0


class Helpers:
    """The helper processes of one process: one, as long as everybody answers. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._process = os.getpid()
        self._idle: _Helper | None = None
        self._late: dict[str, _Late] = {}
        self._pids: set[int] = set()
        #: Further operations, on what a helper inherits, and the descriptors that they need.
        self._further: dict[str, Callable[..., Any]] = {}
        self._kept: tuple[int, ...] = ()

    def way(self, home: str, within: int | None = None) -> Way:
        """The way to read what is in this home, or `within` a user's directory of a common place."""
        return Way(home, self, within)

    def offer(self, operation: str, does: Callable[..., Any], *keep: int) -> None:
        """Lets helpers, from the next that is started, do this too; with these descriptors."""
        self._further[operation] = does
        self._kept += keep

    def late(self) -> dict[str, float]:
        """The homes that do not answer, with for how many seconds."""
        now_s = self._clock()
        return {home: now_s - late.since_s for home, late in self._late.items()}

    def close(self) -> None:
        """Ends all helpers. They are started again when they are needed."""
        if self._process != os.getpid():
            self._forget()
        for helper in [self._idle, *(late.helper for late in self._late.values())]:
            if helper is not None:
                helper.close()
        self._idle = None
        for late in self._late.values():
            late.helper = None
        self._reap()

    def _forget(self) -> None:
        """After a fork: they are the helpers of the parent, which listens to them."""
        self._process, self._idle, self._late, self._pids = os.getpid(), None, {}, set()

    # ------------------------------------------------------------ asking

    def ask(self, calls: Sequence[Call]) -> list[Any]:
        """The answers to these calls; NotAnswering where there is none after `PATIENCE_S`."""
        if self._process != os.getpid():
            self._forget()
        self._reap()
        answers: list[Any] = [reading.NotAnswering(call.way.home) for call in calls]
        late = {home for home in {call.way.home for call in calls} if self._is_late(home)}
        rest = deque(place for place, call in enumerate(calls) if call.way.home not in late)
        if not rest:
            return answers
        end_s = self._clock() + PATIENCE_S
        at_work = [self._start(rest, calls)]
        while any(helper.asked for helper in at_work) and (now_s := self._clock()) < end_s:
            self._listen(at_work, calls, answers, min(SOON_S, end_s - now_s))
            for helper in list(at_work):
                if not helper.asked or helper.is_cut or self._clock() - helper.since_s < SOON_S:
                    continue
                rest = self._rest(helper, calls)
                if rest and len(at_work) < AT_WORK_MOST:
                    helper.is_cut = True
                    # What else is in that home waits for it, too.
                    helper.asked = deque([helper.asked[0]])
                    at_work.append(self._start(rest, calls))
        for helper in at_work:
            self._put_away(helper, calls)
        return answers

    def _listen(
        self, at_work: list[_Helper], calls: Sequence[Call], answers: list[Any], timeout_s: float
    ) -> None:
        poller = select.poll()
        by_descriptor = {helper.answering: helper for helper in at_work if helper.asked}
        for descriptor in by_descriptor:
            poller.register(descriptor, select.POLLIN)
        for descriptor, _ in poller.poll(max(1, round(timeout_s * 1000))):
            helper = by_descriptor[descriptor]
            found, lives = helper.answers()
            for said, data in found:
                if helper.asked:
                    place = helper.asked.popleft()
                    answers[place] = _understood(calls[place], said, data)
                    self._late.pop(calls[place].way.home, None)
            if found:
                helper.since_s = self._clock()
            if not lives:
                # Killed, or out of memory. What it was asked stays unanswered for now.
                helper.asked.clear()
                helper.is_cut = True

    def _rest(self, helper: _Helper, calls: Sequence[Call]) -> deque[int]:
        home = calls[helper.asked[0]].way.home
        return deque(place for place in helper.asked if calls[place].way.home != home)

    def _start(self, places: deque[int], calls: Sequence[Call]) -> _Helper:
        helper, self._idle = self._idle or self._new(), None
        helper.asked, helper.since_s = deque(places), self._clock()
        # One that died since then is replaced; a pipe that is full is read while it is written to.
        with contextlib.suppress(BrokenPipeError):
            helper.ask(calls[place] for place in places)
        return helper

    def _new(self) -> _Helper:
        further = self._further

        def serve(asked: int, answered: int) -> None:
            _serve(further, asked, answered)

        pid, asking, answering = spawn.helper(serve, self._kept)
        os.set_blocking(answering, False)
        self._pids.add(pid)
        return _Helper(procs.identity(pid), asking, answering)

    def _put_away(self, helper: _Helper, calls: Sequence[Call]) -> None:
        if not helper.asked and not helper.is_cut and self._idle is None:
            self._idle = helper
            return
        if not helper.asked:
            helper.close()
            return
        late = self._late.setdefault(calls[helper.asked[0]].way.home, _Late(self._clock(), None))
        if late.helper is None and sum(one.helper is not None for one in self._late.values()) < HANGING_MOST:
            late.helper = helper
            return
        helper.close()
        late.retry_s = self._clock() + late.pause_s
        late.pause_s = min(RETRY_MAX_S, 2 * late.pause_s)

    def _is_late(self, home: str) -> bool:
        late = self._late.get(home)
        if late is None:
            return False
        if late.helper is None:
            return self._clock() < late.retry_s
        said, lives = late.helper.answers()
        if lives and not said:
            return True
        # It has come back from there: so would we.
        late.helper.close()
        del self._late[home]
        return False

    def _reap(self) -> None:
        for pid in list(self._pids):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    continue
            self._pids.discard(pid)


# ---------------------------------------------------------------- what a helper does


def _serve(further: Mapping[str, Callable[..., Any]], asked: int, answered: int) -> None:
    """Does what it is asked until nobody asks any more."""
    while (frame := _frame(asked)) is not None:
        for operation, path, options in json.loads(frame):
            answer = reading.done(further, operation, path, options)
            data = answer if isinstance(answer, bytes) else b""
            _write(answered, json.dumps(_said(answer)).encode(), data)


def _said(answer: Any) -> list[Any]:
    if isinstance(answer, OSError):
        return ["refused", answer.errno, answer.strerror, answer.filename]
    if isinstance(answer, RecordError):
        return ["wrong", str(answer)]
    return ["bytes"] if isinstance(answer, bytes) else ["is", answer]


def _understood(call: Call, said: list[Any], data: bytes) -> Any:
    kind, *words = said
    if kind == "refused":
        # OSError makes FileNotFoundError and its like of the number.
        return OSError(*words)
    if kind == "wrong":
        return RecordError(*words)
    if kind == "bytes":
        return data
    (value,) = words
    return _RESTORED[call.operation](value) if call.operation in _RESTORED else value


def _write(to: int, said: bytes, data: bytes) -> None:
    rest = memoryview(_HEAD.pack(len(said), len(data)) + said + data)
    while rest:
        rest = rest[os.write(to, rest) :]


def _frame(asked: int) -> bytes | None:
    """What is asked next, None if nobody asks any more."""
    head = _exactly(asked, _HEAD.size)
    return None if head is None else _exactly(asked, _HEAD.unpack(head)[0])


def _exactly(descriptor: int, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        chunk = os.read(descriptor, min(_CHUNK, size - len(data)))
        if not chunk:
            return None
        data += chunk
    return bytes(data)
