"""Workers of a job directory on a mount that shows changes late, many in one process, repeated by a seed.

What a worker does it sees at once. Each half of a change, that a name has gone and that one has come, others
see up to `late_s` later, at a time of their own; for `WINDOW` of that time a name that has gone can be
renamed once more, and both renames succeed: then the file is there twice. What is added to a file is seen as
late.

`play` runs workers in threads of which only one goes at a time, and time goes when all sleep; so a minute of
waiting takes milliseconds, and a seed decides what happens. No code is shared with what is tested.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

#: As in tests.cluster.loose.
WINDOW = 0.8
#: What one operation takes.
OPERATION_S = 0.002


class World:
    """A clock, and whose turn it is."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_s = 0.0
        self._asleep: dict[int, float] = {}
        self._turns: dict[int, threading.Semaphore] = {}
        self._done = threading.Semaphore(0)
        self._own = threading.local()

    def sleep(self, seconds: float) -> None:
        """Lets others go first who are to go on earlier."""
        me = self._own.number
        self._asleep[me] = self.now_s + seconds
        self._wake_next()
        self._turns[me].acquire()

    def _wake_next(self) -> None:
        if not self._asleep:
            self._done.release()
            return
        number = min(self._asleep, key=lambda one: (self._asleep[one], one))
        self.now_s = max(self.now_s, self._asleep.pop(number))
        self._turns[number].release()

    def play(self, actors: list[Callable[[], None]]) -> None:
        """Runs all to their ends; raises what the first raised that failed."""
        failures: list[BaseException] = []

        def act(number: int, actor: Callable[[], None]) -> None:
            self._own.number = number
            self._turns[number].acquire()
            try:
                actor()
            except BaseException as error:
                failures.append(error)
            self._wake_next()

        for number, actor in enumerate(actors):
            self._turns[number] = threading.Semaphore(0)
            self._asleep[number] = 0.0
            threading.Thread(target=act, args=(number, actor), daemon=True).start()
        self._wake_next()
        self._done.acquire()
        if failures:
            raise failures[0]


@dataclass
class Name:
    """One life of a name: when it came and went, by whom, and when each other sees that."""

    content: list[tuple[float, str, bytes, dict[str, float]]]
    made_by: str
    seen_s: dict[str, float]
    gone_s: float | None = None
    gone_by: str = ""
    unseen_s: dict[str, float] = field(default_factory=dict)

    def is_seen(self, who: str, now_s: float) -> bool:
        came = who == self.made_by or now_s >= self.seen_s[who]
        return came and not self.is_known_gone(who, now_s)

    def is_known_gone(self, who: str, now_s: float) -> bool:
        if self.gone_s is None:
            return False
        return who == self.gone_by or now_s >= self.unseen_s[who]

    def read(self, who: str, now_s: float) -> bytes:
        return b"".join(data for _, by, data, seen in self.content if by == who or now_s >= seen[who])


class Mount:
    """The truth."""

    def __init__(self, world: World, workers: list[str], late_s: float) -> None:
        self.world, self.workers, self.late_s = world, [*workers, ""], late_s
        self.lives: dict[str, list[Name]] = {}

    def delays(self) -> dict[str, float]:
        chance, now_s = self.world.chance, self.world.now_s
        # Mostly as late as may be.
        return {
            who: now_s + self.late_s * (1.0 if chance.random() < 0.6 else chance.random())
            for who in self.workers
        }

    def make(self, who: str, path: str, content: bytes) -> None:
        seen = self.delays()
        name = Name([(self.world.now_s, who, content, seen)], who, seen)
        self.lives.setdefault(path, []).append(name)

    def there(self, path: str) -> Name | None:
        """What has the name in truth."""
        lives = self.lives.get(path)
        return lives[-1] if lives and lives[-1].gone_s is None else None

    def names(self, directory: str) -> list[str]:
        """What is there in truth."""
        return sorted(
            os.path.basename(path)
            for path in self.lives
            if os.path.dirname(path) == directory and self.there(path)
        )


class SlowDisk:
    """The mount as one worker sees it: what `records.jobdir.Disk` asks for."""

    def __init__(self, mount: Mount, who: str) -> None:
        self._mount, self._who = mount, who
        self._serial = itertools.count()

    def _step(self) -> float:
        self._mount.world.sleep(self._mount.world.chance.random() * OPERATION_S)
        return self._mount.world.now_s

    def _seen(self, path: str, now_s: float) -> Name | None:
        for life in reversed(self._mount.lives.get(path, ())):
            if life.is_seen(self._who, now_s):
                return life
        return None

    def _found(self, path: str) -> Name:
        now_s = self._step()
        life = self._seen(path, now_s)
        if life is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return life

    def names(self, directory: str) -> list[str]:
        now_s = self._step()
        return [
            name
            for path in list(self._mount.lives)
            if os.path.dirname(path) == directory
            and not (name := os.path.basename(path)).startswith(".")
            and self._seen(path, now_s)
        ]

    def move(self, source: str, target: str) -> bool:
        """Whether the source was there, as far as this worker's mount can tell."""
        now_s = self._step()
        life = self._seen(source, now_s)
        if life is None:
            return False
        if life.gone_s is not None and now_s - life.gone_s > WINDOW * self._mount.late_s:
            return False
        content = life.read(self._who, now_s)
        if life.gone_s is None:
            life.gone_s, life.gone_by, life.unseen_s = now_s, self._who, self._mount.delays()
        else:
            # It went before; now this worker knows.
            life.unseen_s[self._who] = now_s
        replaced = self._mount.there(target)
        if replaced:
            replaced.gone_s, replaced.gone_by, replaced.unseen_s = now_s, self._who, self._mount.delays()
        self._mount.make(self._who, target, content)
        return True

    def move_new(self, source: str, target: str, may_be_ours: Callable[[], bool] = lambda: True) -> bool:
        """It only knows of a target that this worker sees, and its replies are never lost."""
        del may_be_ours
        now_s = self._step()
        if self._seen(source, now_s) and self._seen(target, now_s):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        return self.move(source, target)

    def remove(self, path: str) -> bool:
        now_s = self._step()
        life = self._seen(path, now_s)
        if life is None:
            return False
        if life.gone_s is None:
            life.gone_s, life.gone_by, life.unseen_s = now_s, self._who, self._mount.delays()
        else:
            life.unseen_s[self._who] = now_s
        return True

    def read(self, path: str, *, most: int) -> bytes:
        return self._found(path).read(self._who, self._mount.world.now_s)[:most]

    def append(self, path: str, data: bytes, *, sync: bool) -> int:
        del sync
        life = self._found(path)
        life.content.append((self._mount.world.now_s, self._who, data, self._mount.delays()))
        return 0

    def signature(self, path: str) -> tuple[int, int, int]:
        life = self._found(path)
        return 0, int(life.content[-1][0] * 1e9), 0

    def write_temporary(self, directory: str, owner: str, data: bytes, *, mode: int, sync: bool) -> str:
        self._step()
        del mode, sync
        path = f"{directory}/{owner}.{next(self._serial)}.{self._who}{self._mount.world.chance.random()}"
        self._mount.make(self._who, path, data)
        return path
