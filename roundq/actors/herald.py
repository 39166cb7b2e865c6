"""Who tells when what somebody asked about has ended: the part of a daemon's round.

Whether a job or array has ended is told by names of files; of a set one job that has not ended is kept in
mind, and another is looked for when it has. `actors/messenger` tells, in a process beside the daemon.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
from dataclasses import dataclass

from roundq.actors import messenger
from roundq.actors.targets import Key, Targets
from roundq.records import news as records
from roundq.records import spool as spools
from roundq.records.census import age_key
from roundq.records.spool import NEWS, Entry, Spool
from roundq.words.errors import RecordError
from roundq.words.groups import MARK
from roundq.words.news import News
from roundq.words.quantities import visible
from roundq.words.ranges import array_of
from roundq.words.states import OWNED_STATES, PENDING_STATES
from roundq.world import files, spawn

#: Nobody who has not ended is met in so many looks in a row, so long apart: a job that moves may be missed.
LOOKS, LOOK_AGAIN_S = 2, 2.0
#: How soon it is tried again to read a file of the news that could not be.
READ_AGAIN_S = 10.0
#: How long records are read in one round to find a job of a set that has not ended.
READ_MOST_S = 0.2
#: How soon it is looked again what the messenger says, and how many it is given at once.
HEAR_S, TOLD_MOST = 0.5, 50
#: How long a daemon that leaves waits for its messenger.
LEAVE_S = 3.0


@dataclass(slots=True)
class _Asked:
    """What one file asks for, and what is known of it: `live` is a job of the set that had not ended."""

    news: News
    live: str = ""
    looks: int = 0
    look_s: float = 0.0


@dataclass(slots=True)
class _Told:
    """What the messenger, a process, was given, and what it has said so far."""

    pid: int
    asking: int
    answering: int
    files: list[str]
    said: bytes = b""


class Herald:
    """What one daemon remembers of it. Times are monotonic, in seconds."""

    def __init__(self, spool: Spool, node: str, log: logging.Logger) -> None:
        self.spool, self.node, self.log = spool, node, log
        self.targets = Targets(spool)
        self.freshness = files.Freshness(spool.directory(NEWS))
        self._asked: dict[str, _Asked] = {}
        self._wrong: set[str] = set()
        #: Which could not be read, or taken: that may have happened all the same.
        self._unread: set[str] = set()
        self._untaken: set[str] = set()
        self._read_again_s = float("inf")
        #: To which set each job belongs that had not ended when it was read; of an array by its id.
        self._sets: dict[str, str] = {}
        self._ready: list[tuple[str, News, dict[str, int]]] = []
        self._told: _Told | None = None
        self._is_first = True

    def run(self, now_s: float, sendmail: str, late_s: float = 0.0) -> None:
        """One look, as a part of a round. Raises OSError if the spool cannot be listed."""
        self._hear()
        self.freshness.late_s = self.targets.late_s = late_s
        if self._is_first:
            for file in records.left(self.spool, self.node):
                self.log.warning("a daemon ended while it told of %s: not told again", visible(file))
                with contextlib.suppress(OSError):
                    records.forget(self.spool, file)
            self._is_first = False
        if now_s >= self._read_again_s:
            self.freshness.forget()
        if self.freshness.is_due(now_s):
            self._list(now_s)
        if self._asked:
            self._look(now_s)
        else:
            self._sets.clear()
        # What is ready may have waited for an earlier messenger.
        self._send(sendmail)

    def _look(self, now_s: float) -> None:
        self.targets.look(now_s)
        for file in list(self._asked):
            counts = self._ended(self._asked[file], now_s)
            if counts is not None and len(self._ready) < TOLD_MOST:
                self._take(file, counts)

    def _take(self, file: str, counts: dict[str, int]) -> None:
        try:
            told = records.take(self.spool, file, self.node)
        except OSError as error:
            if file not in self._untaken:
                self._untaken.add(file)
                self.log.warning("news/%s cannot be told of yet: %s", visible(file), error.strerror or error)
            return
        self._untaken.discard(file)
        news = self._drop(file)
        if told is not None:
            self._ready.append((told, news, counts))

    def again_s(self, now_s: float) -> float:
        """Seconds until the next look is wanted at the latest."""
        soon = [self.targets.again_s(now_s)]
        if self._told is not None or self._ready:
            soon.append(HEAR_S)
        soon += [one.look_s - now_s for one in self._asked.values() if one.news.is_of_set and not one.live]
        if self._untaken:
            soon.append(LOOK_AGAIN_S)
        if not self.freshness.is_settled:
            soon.append(files.Freshness.SETTLED_S)
        soon.append(self._read_again_s - now_s)
        return max(0.0, min(soon))

    def leave(self, patience_s: float = LEAVE_S) -> None:
        """Waits a moment for the messenger, which ends with this process."""
        until_s = time.monotonic() + patience_s
        while self._told is not None and time.monotonic() < until_s:
            select.select([self._told.answering], [], [], max(0.0, until_s - time.monotonic()))
            self._hear()

    # ------------------------------------------------------------ who asks

    def _list(self, now_s: float) -> None:
        try:
            names = records.asked(self.spool)
        except OSError:
            self.freshness.forget()
            raise
        self._read_again_s = float("inf")
        for file in set(self._asked).difference(names, self._untaken):
            self._drop(file)
        for file in names:
            if file not in self._asked and file not in self._wrong:
                try:
                    news = records.read(self.spool, file)
                except FileNotFoundError:
                    continue
                except RecordError as error:
                    self._wrong.add(file)
                    self.log.warning("news/%s asks nothing: %s", visible(file), error)
                    continue
                except OSError as error:
                    self._read_again_s = now_s + READ_AGAIN_S
                    if file not in self._unread:
                        self._unread.add(file)
                        self.log.warning("news/%s: %s", visible(file), error.strerror or error)
                    continue
                self._asked[file] = _Asked(news)
                if not news.is_of_set:
                    self.targets.want(_key(news), news.tasks)
        self._wrong.intersection_update(names)
        self._unread.intersection_update(set(names).difference(self._asked))

    def _drop(self, file: str) -> News:
        one = self._asked.pop(file)
        if not one.news.is_of_set:
            self.targets.drop(_key(one.news))
        elif one.live:
            self.targets.drop((one.live, False))
        return one.news

    # ------------------------------------------------------------ whether it has ended

    def _ended(self, one: _Asked, now_s: float) -> dict[str, int] | None:
        """How many ended in which state, if all has; of a set nothing more."""
        if one.news.is_of_set:
            return {} if self._has_ended(one, now_s) else None
        target = self.targets.target(_key(one.news))
        # Of what is nowhere any more nothing else will be known.
        if target.gone or sum(target.counts.values()) >= max(1, one.news.tasks):
            return dict(target.counts)
        return None

    def _has_ended(self, one: _Asked, now_s: float) -> bool:
        if one.live:
            target = self.targets.target((one.live, False))
            if not target.gone and not target.counts:
                return False
            self.targets.drop((one.live, False))
            one.live, one.looks, one.look_s = "", 0, now_s
        if now_s < one.look_s:
            return False
        found = self._live(one.news.of.removeprefix(MARK))
        one.look_s = now_s + max(LOOK_AGAIN_S, self.freshness.late_s)
        if found is None:
            return False
        one.looks += 1
        if found:
            one.live, one.looks = found, 0
            self.targets.want((found, False), 1)
        return not found and one.looks >= LOOKS

    def _live(self, name: str) -> str | None:
        """The newest job of a set that has not ended; "" for none, None if not all could be read yet."""
        until_s = time.monotonic() + READ_MOST_S
        entries = spools.scan(self.spool, (*PENDING_STATES, *OWNED_STATES))
        known, self._sets = self._sets, {}
        is_whole = True
        # The newest ends last, as a rule.
        for entry in sorted(entries, key=lambda entry: age_key(entry.id), reverse=True):
            key = array_of(entry.id) or entry.id
            of = known.get(key, self._sets.get(key))
            if of is None and time.monotonic() < until_s:
                of = self._set_of(entry)
            if of is None:
                is_whole = False
                continue
            self._sets[key] = of
            if of == name:
                # What was known of older ones still is.
                self._sets = {**known, **self._sets}
                return entry.id
        return "" if is_whole else None

    def _set_of(self, entry: Entry) -> str | None:
        try:
            return spools.read(self.spool, entry).job.set
        except RecordError:
            # It will hardly be a job of a set, and nobody is told because of it otherwise.
            return ""
        except OSError:
            return None

    # ------------------------------------------------------------ telling

    def _send(self, sendmail: str) -> None:
        if self._told is not None or not self._ready:
            return
        ready, self._ready = self._ready, []

        def serve(_: int, answered: int) -> None:
            messenger.serve(self.spool, ready, self.node, sendmail, answered)

        try:
            pid, asking, answering = spawn.helper(serve)
        except OSError as error:
            self.log.warning("nobody can be told what has ended: %s", error.strerror)
            # They are ours, and told as soon as there may be a process.
            self._ready = ready
            return
        self._told = _Told(pid, asking, answering, [file for file, *_ in ready])

    def _hear(self) -> None:
        """Logs what the messenger says, if there is one, and whether it has ended."""
        told = self._told
        if told is None:
            return
        poller = select.poll()
        poller.register(told.answering, select.POLLIN)
        while poller.poll(0):
            chunk = os.read(told.answering, 1 << 16)
            if not chunk:
                for descriptor in (told.asking, told.answering):
                    os.close(descriptor)
                self._told = None
                break
            told.said += chunk
        *lines, told.said = told.said.split(b"\n")
        for line in lines:
            self.log.info("%s", line.decode(errors="replace"))


def _key(news: News) -> Key:
    return news.of, news.tasks > 0
