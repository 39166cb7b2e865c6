"""Promises about homes that change while they are looked at: no look fails, and nobody is led elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roundq.actors import listing, occupancy
from roundq.faces import cluster
from roundq.records import cards, neighbours
from roundq.records.spool import Spool
from roundq.words.errors import RecordError
from roundq.words.states import RUNNING, WAITING
from roundq.world import files
from roundq.world.helpers import Helpers
from tests.hostile.zoo import card, record
from tests.records.crowd import new_spool

#: Of racing, per test; each round of looks is a few milliseconds.
RACE_S = 2.0
SECRET = b'{"secret": "of somebody else"}'


class Changer:
    """Eve's home, in which a process of hers changes everything as fast as it can."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self.home = parent / "eve"
        self.spool: Spool = new_spool(self.home, "eve")
        self.outside = parent / "outside"
        self.outside.mkdir()
        for name in ("n1", "1.job", "1@n1.job"):
            (self.outside / name).write_bytes(SECRET)
        self.pid = 0

    def begin(self) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            chance = random.Random(7)
            changes = [
                self._replace,
                self._truncate,
                self._grow,
                self._links,
                self._closes,
                self._away,
                self._kind,
            ]
            while True:
                with contextlib.suppress(OSError, shutil.Error):
                    chance.choice(changes)(chance)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def _file(self, chance: random.Random) -> str:
        names = ("n1", "running/1@n1.job", "running/17.5.job", "waiting/1.job")
        return f"{self.spool.path}/{chance.choice(names)}"

    def _replace(self, chance: random.Random) -> None:
        path = self._file(chance)
        value = card("n1") if path.endswith("n1") else record(node="n1")
        Path(f"{path}.new").write_text(json.dumps(value))
        os.rename(f"{path}.new", path)

    def _truncate(self, chance: random.Random) -> None:
        os.truncate(self._file(chance), chance.choice((0, 1, 100)))

    def _grow(self, chance: random.Random) -> None:
        os.truncate(self._file(chance), chance.choice((1 << 18, 1 << 20, 1 << 40)))

    def _links(self, chance: random.Random) -> None:
        """A file, or a whole directory, becomes a link to what is not hers."""
        path = self._file(chance)
        name = os.path.basename(path)
        os.symlink(f"{self.outside}/{name}", f"{path}.link")
        os.rename(f"{path}.link", path)

    def _closes(self, chance: random.Random) -> None:
        path = chance.choice((self._file(chance), f"{self.spool.path}/running", self.spool.path))
        os.chmod(path, 0)
        os.chmod(path, 0o755)

    def _away(self, chance: random.Random) -> None:
        """A directory is replaced by a link, and comes back."""
        path = chance.choice((f"{self.spool.path}/running", f"{self.spool.path}/waiting", self.spool.path))
        os.rename(path, f"{self.parent}/away")
        try:
            os.symlink(self.outside, path)
            os.unlink(path)
        finally:
            os.rename(f"{self.parent}/away", path)

    def _kind(self, chance: random.Random) -> None:
        path = self._file(chance)
        os.unlink(path)
        chance.choice((os.mkfifo, os.mkdir))(path)
        os.rmdir(path) if os.path.isdir(path) else os.unlink(path)


@pytest.fixture
def eve(tmp_path: Path) -> Iterator[Changer]:
    made = Changer(tmp_path)
    made.begin()
    yield made
    made.end()


def looks(eve: Changer, spool: Spool) -> list[Callable[[], object]]:
    """All that is looked at in the home of another, once."""
    me = Spool(f"{eve.parent}/ann/.roundqueue", "ann", os.geteuid())
    neighbourhood = neighbours.Neighbourhood("n1")
    now_ns = time.time_ns()
    return [
        lambda: neighbours.homes([str(eve.parent)]),
        lambda: neighbours.hidden([str(eve.parent)]),
        lambda: neighbourhood.look([spool], time.monotonic()),
        lambda: occupancy.others_here([spool], "ann", "n1"),
        lambda: cards.read_all(spool),
        lambda: neighbours.legacy_occupants(spool),
        lambda: neighbours.legacy_head(spool, 8, 1 << 60),
        lambda: cluster.look([spool], me, "n1", time.monotonic()),
        lambda: listing.listing([spool], me, now_ns=now_ns, ended_of_all=True),
    ]


@pytest.mark.parametrize("by", ["ourselves", "a helper"])
def test_a_home_that_changes_while_it_is_looked_at_ends_no_look(eve: Changer, by: str) -> None:
    """No look raises anything, whenever a file is cut, grows, or is replaced by a link or a FIFO."""
    helpers = Helpers(time.monotonic)
    spool = (
        eve.spool if by == "ourselves" else Spool(eve.spool.path, "eve", eve.spool.uid, helpers.way("eve"))
    )
    until_s = time.monotonic() + RACE_S
    count = 0
    for look in looks(eve, spool):
        look()
    while time.monotonic() < until_s:
        for look in looks(eve, spool):
            look()
            count += 1
    helpers.close()
    assert count > 9


def test_what_a_link_leads_to_is_never_read(eve: Changer) -> None:
    """However fast a file, or the directory above it, becomes one: the owner of what is opened is asked."""
    stranger = eve.spool.uid + 1
    for outside in (eve.outside, *eve.outside.iterdir()):
        if os.geteuid() == 0:
            os.chown(outside, stranger, stranger)
    until_s = time.monotonic() + RACE_S
    met = {"read": 0, "refused": 0}
    while time.monotonic() < until_s:
        for name in ("n1", f"{RUNNING}/1@n1.job", f"{WAITING}/1.job"):
            path = f"{eve.spool.path}/{name}"
            try:
                data = files.read(path, most=1 << 18, owner=eve.spool.uid)
            except (OSError, RecordError):
                met["refused"] += 1
                continue
            met["read"] += 1
            assert os.geteuid() != 0 or data != SECRET
            assert len(data) <= 1 << 18
    # Both happened, or nothing was shown.
    assert all(met.values()), met
