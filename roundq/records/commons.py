"""The commons: where users who cannot read each other's homes find each other's cards.

A directory to which everybody may write (roundqueue(7), COMMONS). Each user has a directory there, whose name
begins with the number of the user, and in it one card for each node. It has the form of a spool without jobs,
so what reads cards in homes reads them here. What is private is left out. The file system may hang, and so
it is written by helpers, too.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.cards import Card
from roundq.records.spool import Spool
from roundq.words.errors import RecordError
from roundq.words.job import NS
from roundq.world import files, owners, procs, reading
from roundq.world.reading import DIRECT, Way

if TYPE_CHECKING:
    from roundq.world.helpers import Helpers

#: Names in the commons that are looked at; some users have one, a hostile one may make a million.
NAMES_MAX = 200_000
#: Directories of other names that one user may have to look through for his own.
OWN_NAMES_MAX = 1_000_000
#: A card of a node that has gone stays at least this long.
KEEP_MIN_S = 7 * 86_400.0
#: Ids that tell nothing but when a job was submitted.
_NUMBER = re.compile(r"[0-9]{1,18}(_[0-9]{1,18})?")


# ---------------------------------------------------------------- what is told


def public(card: Card, *, shows_names: bool) -> Card:
    """The card as strangers may read it: of the jobs only what they occupy and ask for.

    Names of jobs only if their user wants that, and of sets never. What the policy said, troubles, the
    reason of a drain, what a worker takes, and the answers to the user's own doctor are for the user.
    """
    occupants = [
        replace(job, id=masked(job.id), name=job.name if shows_names else "", groups=()) for job in card.jobs
    ]
    heads = [replace(head, id=masked(head.id)) for head in card.heads]
    return replace(
        card, jobs=tuple(occupants), heads=tuple(heads), said=(), trouble=(), pong=(), reason="", worker=""
    )


def masked(job_id: str) -> str:
    """The id as strangers may read it: a number, or what stays the same as long as this daemon lives."""
    if _NUMBER.fullmatch(job_id):
        return job_id
    # With a key: else whoever guesses the name could prove it.
    return f"~{hashlib.blake2b(os.fsencode(job_id), digest_size=5, key=_key()).hexdigest()}"


@functools.cache
def _key() -> bytes:
    return os.urandom(16)


# ---------------------------------------------------------------- the place


def wrong(directory: str, mode: int) -> str | None:
    """Why no cards are published or believed in this commons; None if it is as it must be."""
    if not stat.S_ISDIR(mode):
        return f"the commons {directory} is no directory"
    if mode & 0o022 and not mode & stat.S_ISVTX:
        return (
            f"the commons {directory} has mode {stat.S_IMODE(mode):04o}, so that everybody may remove what is"
            f" others': no card is published or read there; chmod 1777 {directory} would help"
        )
    return None


def way_of(directory: str, helpers: Helpers | None, within: int | None = None) -> Way:
    """The way to read what is in the commons, or `within` a user's directory there."""
    return replace(DIRECT, within=within) if helpers is None else helpers.way(directory, within)


def is_at(home: str, directory: str) -> bool:
    """Whether the home to which a way leads is this commons, or the names there."""
    return bool(directory) and home.rstrip("/") == directory.rstrip("/")


def at(directory: str, owned: owners.Owned, helpers: Helpers | None = None) -> Spool:
    """Where a user's cards are in the commons."""
    way = way_of(directory, helpers, owned.uid)
    return Spool(f"{directory}/{owned.name}", owned.user, owned.uid, way, is_commons=True)


def everybody(
    directory: str, known: Iterable[Spool] = (), helpers: Helpers | None = None
) -> tuple[list[Spool], str | None]:
    """Who has a directory in the commons, and what is wrong with it, if anything.

    Those who were `known` before stay while an error of the server hides them.
    """
    mine = [spool for spool in known if os.path.dirname(spool.path) == directory and spool.is_commons]
    names = [os.path.basename(spool.path) for spool in mine]
    # By a way of its own: what is known is read and written while somebody makes this hang.
    way, of_names = way_of(directory, helpers), way_of(f"{directory}/", helpers)
    status, found = reading.each(
        [
            way.call("status", directory),
            of_names.call("owned", directory, most=NAMES_MAX, first=names),
        ]
    )
    if isinstance(status, files.Status) and (why := wrong(directory, status.mode)):
        return [], why
    for answer in (status, found):
        if isinstance(answer, (FileNotFoundError, NotADirectoryError, PermissionError)):
            return [], f"the commons {directory} cannot be read: {answer.strerror}"
        if isinstance(answer, OSError):
            return mine, f"the commons {directory} cannot be read: {answer.strerror}"
    return [at(directory, owned, helpers) for owned in found], None


def beside(homes: Sequence[Spool], commons: Iterable[Spool], me: int) -> list[Spool]:
    """Those in the commons whose spools are not in homes that can be read; neither mine."""
    met = {spool.uid for spool in homes} | {me}
    return [spool for spool in commons if spool.uid not in met]


def newest_own(of: Iterable[Spool], uid: int) -> dict[str, int]:
    """By commons the newest time (ns) that its server gave to a card of mine there; absent if it has none.

    The times of others' cards are what they like, and another file server has another clock.
    """
    ways = {os.path.dirname(spool.path): spool.way for spool in of if spool.is_commons}
    found = {}
    for directory, of_other in ways.items():
        way = replace(of_other, within=uid)
        own = f"{directory}/{uid}"
        with contextlib.suppress(OSError):
            names = cards.among(way.listing(own, most=cards.NAMES_MAX))
            signatures = reading.each([way.call("signature", f"{own}/{name}") for name, _ in names])
            times = [one[1] for one in signatures if not isinstance(one, Exception)]
            if times:
                found[directory] = max(times)
    return found


# ---------------------------------------------------------------- publishing


def publish_card(directory: str, *, node: str, text: str, own: str = "") -> str:
    """Puts my card of a node into the commons, in one step; the path of my directory there, which was `own`.

    Raises RecordError if the commons is not as it must be, OSError or RecordError if it cannot be written.
    """
    if why := wrong(directory, os.stat(directory).st_mode):
        raise RecordError(why)
    spool = Spool(_own_directory(directory, own), "", os.geteuid(), is_commons=True)
    temporary = spools.temporary_of(spool, node, text.encode(), sync=False)
    files.replace(temporary, f"{spool.path}/{node}")
    return spool.path


def _own_directory(directory: str, before: str = "") -> str:
    """My directory in the commons, made if need be: UID, or UID.RANDOM if somebody else took that name.

    The one that it was `before` need not be looked for.
    """
    uid = os.geteuid()
    plain = f"{directory}/{uid}"
    own = _usable(plain, uid)
    if own is None and before and os.path.dirname(before) == directory:
        own = _usable(before, uid)
    if own is None:
        # One of mine that was made before goes on, also when the name is free again.
        others = [
            f"{directory}/{name}"
            for name, _ in sorted(files.listing(directory, most=OWN_NAMES_MAX))
            if name.startswith(f"{uid}.")
        ]
        own = next((path for path in others if _usable(path, uid)), None)
    if own is None:
        own = plain if _made(plain) else f"{plain}.{os.urandom(8).hex()}"
        if own != plain and not _made(own):
            raise RecordError(f"{own} is there already, which nobody could know")
    _made(f"{own}/tmp")
    return own


def _usable(path: str, uid: int) -> str | None:
    """The path, if it is a directory of mine; one to which others could write is closed to them."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid:
        return None
    if status.st_mode & 0o022:
        os.chmod(path, 0o755)
    return path


def _made(path: str) -> bool:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return False
    # Whatever the umask is: others are to read it.
    os.chmod(path, 0o755)
    return True


def sweep_cards(own: str, *, node: str, keep_s: float) -> int:
    """Removes from my directory in the commons the cards that were not renewed for `keep_s` seconds before
    that of this node, and what dead processes of this node left; how many cards."""
    spool = Spool(own, "", os.geteuid(), is_commons=True)
    spools.sweep_temporaries(spool, node, procs.table)
    before_ns = files.signature(f"{own}/{node}", within=spool.uid)[1] - int(keep_s * NS)
    swept = 0
    for name, _ in cards.among(files.listing(own, most=cards.NAMES_MAX, within=spool.uid)):
        with contextlib.suppress(OSError):
            if os.lstat(f"{own}/{name}").st_mtime_ns < before_ns:
                swept += files.remove(f"{own}/{name}")
    return swept


#: What helpers can do here beside reading.
_WRITES: dict[str, Callable[..., Any]] = {"publish_card": publish_card, "sweep_cards": sweep_cards}


class Publisher:
    """What one daemon knows of its card in the commons. `trouble` is why it is not there, None if it is."""

    def __init__(self, node: str, helpers: Helpers | None = None) -> None:
        self.node, self._helpers = node, helpers
        self.trouble: str | None = None
        self._own: str | None = None
        self._how: tuple[str, bool] | None = None
        #: The commons and the card that is to be published there.
        self._left: tuple[str, Card, bool] | None = None
        if helpers is not None:
            for operation, does in _WRITES.items():
                helpers.offer(operation, does)

    def publish(self, directory: str, card: Card, *, shows_names: bool) -> None:
        """Publishes a card in this commons, or in none if that is empty. What fails `keep` tries again."""
        self._how = (directory, shows_names)
        self._left, self.trouble = (directory, card, shows_names) if directory else None, None
        self._try()

    def keep(self, directory: str, card: Card | None, *, shows_names: bool) -> None:
        """Publishes the last card again, if that failed or was to be done otherwise."""
        if card is not None and self._how != (directory, shows_names):
            self.publish(directory, card, shows_names=shows_names)
        else:
            self._try()

    def _try(self) -> None:
        if self._left is None:
            return
        directory, card, shows_names = self._left
        text = cards.dump(public(card, shows_names=shows_names)).decode()
        before = self._own or ""
        answer = self._do("publish_card", directory, directory, node=self.node, text=text, own=before)
        if isinstance(answer, OSError):
            self.trouble = f"the commons {directory} cannot be written: {answer.strerror}"
        elif isinstance(answer, RecordError):
            self.trouble = str(answer)
        else:
            self._left, self.trouble, self._own = None, None, answer

    def sweep(self, keep_s: float) -> None:
        """Sweeps my directory in the commons, see `sweep_cards`; what fails is done another time."""
        if self._own is not None:
            above, keep_s = os.path.dirname(self._own), max(keep_s, KEEP_MIN_S)
            self._do("sweep_cards", above, self._own, node=self.node, keep_s=keep_s)

    def _do(self, operation: str, directory: str, path: str, **options: Any) -> Any:
        call = way_of(directory, self._helpers).call(operation, path, **options)
        if self._helpers is None:
            return reading.done(_WRITES, operation, path, options)
        return reading.each([call])[0]
