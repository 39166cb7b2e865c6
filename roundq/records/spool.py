"""The spool of one user: `~/.roundqueue`, one directory per state, one file per job.

Every function is one transition of roundqueue(7), or a look that changes nothing.
Facts are written first, then the record moves; whoever may make a move is said
there. It does not know what should run.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from roundq.records import ids
from roundq.words import job as jobs
from roundq.words import record_format as formats
from roundq.words import seals
from roundq.words.errors import RecordError, SpoolError, SpoolUnsafe
from roundq.words.job import Job, Record, Task
from roundq.words.names import is_conflict_copy, is_foreign
from roundq.words.seals import ON_HOLD, SEAL
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    COMPLETED,
    FAILED,
    HELD,
    OF_AN_ATTEMPT,
    OWNED_STATES,
    PENDING_STATES,
    REQUESTS,
    RUNNING,
    STATES,
    WAITING,
    ZOMBIE,
)
from roundq.world import files, reading
from roundq.world.reading import DIRECT, Way

DIRECTORY = ".roundqueue"
SUFFIX = ".job"
#: What became of the jobs whose records were folded, see `history`.
HISTORY = "history"
#: Who is to be told when what has ended.
NEWS = "news"
#: Other directories of a spool, with their modes.
_OTHERS = {
    "requests": 0o755,
    "control": 0o755,
    HISTORY: 0o755,
    NEWS: 0o755,
    "tmp": 0o755,
    ids.DIRECTORY: 0o755,
    "env": 0o700,
}
#: Not names for a node: they are taken by directories of the spool, or would hide.
RESERVED_NAMES = frozenset(STATES) | frozenset(_OTHERS) | {"cancel", jobs.NO_NODE}
#: A file name has at most 255 bytes, and holds an id, a node of up to 128, and "@.job".
ID_BYTES_MAX = 120
#: A request says at most which attempt it means.
REQUEST_BYTES_MAX = 4096
_SIGNAL = re.compile(r"(.+)~[0-9a-f]{16}\.signal")


#: Where a job goes that ended for one of these reasons; for any other it has failed.
_OUTCOMES = {
    **dict.fromkeys(("canceled", "dependency", "max fails"), CANCELED),
    **dict.fromkeys(("lost", "rebooted"), ZOMBIE),
}


@dataclass(frozen=True, slots=True)
class Spool:
    """Where one user's jobs are, and whose files to believe there.

    With `is_commons` it is the user's directory in the commons, which has cards and no jobs.
    """

    path: str
    user: str
    uid: int
    #: How its files are reached: those of strangers may lead to where nobody answers.
    way: Way = field(default=DIRECT, compare=False, repr=False)
    is_commons: bool = False

    def directory(self, name: str) -> str:
        """The path of the directory of a state, or of `requests`, `control`, `ids`, `tmp`, `env`."""
        return f"{self.path}/{name}"


class Entry(NamedTuple):
    """A record as its directory lists it: which job, in which state, owned by which node.

    `node` is None in the states that no node owns, but for a held record that is being changed there,
    and for running records of 0.2.9, whose names do not say. `inode` changes when the record is rewritten.
    """

    id: str
    state: str
    node: str | None
    file: str
    inode: int

    @property
    def is_sealed(self) -> bool:
        """Whether its owner is about to rewrite it, so that nobody else may move it."""
        return self.node is not None and self.file.endswith(f"{SEAL}{SUFFIX}")

    @property
    def is_on_hold(self) -> bool:
        """Whether its user holds it: it starts only when it is released."""
        return self.state == HELD and self.file == f"{self.id}{ON_HOLD}{SUFFIX}"

    @property
    def sealed(self) -> Entry:
        """The same record, of an owner, under its sealed name; others are sealed by `changes.change`."""
        return self if self.is_sealed else self._replace(file=f"{self.file[: -len(SUFFIX)]}{SEAL}{SUFFIX}")


# ---------------------------------------------------------------- opening


def at(home: str, user: str, uid: int, way: Way = DIRECT) -> Spool:
    """The spool in somebody's home directory, which may not exist."""
    return Spool(f"{home}/{DIRECTORY}", user, uid, way)


def exists(spool: Spool) -> bool:
    """Whether there is a spool at all; only for homes that no other node is just creating."""
    return os.path.isdir(spool.path)


def prepare(spool: Spool) -> None:
    """Makes one's own spool ready for use: creates what is missing, refuses what is unsafe, see `check`.

    Makes none in a home of somebody else, where its owner would find it closed to him.
    """
    with files.explained(f"create {spool.path}"):
        if not os.path.lexists(spool.path):
            _check_home(os.path.dirname(spool.path), spool.uid)
        is_new = _make(spool.path, 0o755)
        whole = _checked_whole(spool)
        is_completed = False
        for name in (*STATES, *_OTHERS):
            path = spool.directory(name)
            if name != ids.DIRECTORY:
                is_completed |= _make(path, _OTHERS.get(name, 0o755))
            elif not os.path.isdir(path):
                ids.found(spool.path, lambda: _highest_number(spool))
            _check_part(spool, name, whole)
        # A job is only as durable as the directories above it.
        if is_completed:
            files.sync_directory(spool.path)
        if is_new:
            files.sync_directory(os.path.dirname(spool.path))


def _make(path: str, mode: int) -> bool:
    """Makes a directory unless there is something; whether it did."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return False
    # The umask of a careful user must not hide the queue from the neighbours' daemons.
    os.chmod(path, mode)
    return True


def check(spool: Spool) -> None:
    """Looks whether one's own spool is safe to use; creates nothing.

    Raises SpoolUnsafe if it, or a directory in it, belongs to somebody else or can
    be written by others; SpoolError if its parts are not directories of one file
    system, between which alone a rename is one step.
    """
    whole = _checked_whole(spool)
    for name in (*STATES, *_OTHERS):
        _check_part(spool, name, whole)


def _checked_whole(spool: Spool) -> os.stat_result:
    # The whole may be a link to where there is room.
    whole = os.stat(spool.path)
    _check_directory(spool.path, whole, spool.uid)
    return whole


def _check_part(spool: Spool, name: str, whole: os.stat_result) -> None:
    path = spool.directory(name)
    part = os.lstat(path)
    if stat.S_ISLNK(part.st_mode):
        raise SpoolError(
            f"{path} is a symbolic link: the parts of a queue must be directories",
            f"only the whole may be one: put a directory where {path} is",
        )
    _check_directory(path, part, spool.uid)
    if part.st_dev != whole.st_dev:
        raise SpoolError(
            f"{path} is on another file system than {spool.path}: no job can move there in one step",
            f"make {path} an ordinary directory",
        )


def _check_home(path: str, uid: int) -> None:
    owner = os.stat(path).st_uid
    if owner not in (uid, 0):
        raise SpoolUnsafe(
            f"{path} belongs to uid {owner}, not to you: no queue of yours is made there",
            "set HOME to your own home directory; with sudo: sudo -H",
        )


def _check_directory(path: str, status: os.stat_result, uid: int) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise SpoolError(f"{path} is not a directory", f"move it out of the way: mv {path} {path}.old")
    if status.st_uid != uid:
        raise SpoolUnsafe(
            f"{path} belongs to uid {status.st_uid}, not to you: its owner could run commands as you",
            f"move it away and let rq make a new one: mv {path} {path}.old",
        )
    if status.st_mode & 0o022:
        raise SpoolUnsafe(
            f"{path} can be written by others: they could run commands as you",
            f"take that right away and check what is in it: chmod go-w {path}",
        )


def check_node_name(name: str) -> None:
    """Raises SpoolError if no node can have this name here, since the spool needs it for something else."""
    if not is_node_name(name):
        raise SpoolError(
            f"this node is called {name}, a name that the queue itself needs in {DIRECTORY}",
            "give the node another name: RQ_NODE=...",
        )


def is_node_name(name: str) -> bool:
    """Whether a name in the spool may be that of a node, and so of its card."""
    # Logs and rotated logs are NODE.log and NODE.log.1.
    return name not in RESERVED_NAMES and not name.rstrip("0123456789.").endswith(".log")


def _highest_number(spool: Spool, ending: str = "") -> int:
    # Numbers of the history count, too: an id is never given twice. It builds on what is here.
    from roundq.records import history
    from roundq.words.ranges import array_of

    found = {entry.id for entry in scan(spool)}
    # The tasks of an array are ID_INDEX; and a node may be called so.
    found |= {array_of(job_id) for job_id in found if "_" in job_id}
    stems = (job_id.removesuffix(ending) for job_id in found if job_id.endswith(ending))
    highest = max((int(stem) for stem in stems if stem.isdecimal() and len(stem) < 19), default=0)
    return max(highest, history.highest_number(spool))


def _take_ids(spool: Spool, count: int, claimant: str, *, of_node: bool) -> list[str]:
    if not of_node:
        first = ids.take(spool.path, count, claimant, lambda: _highest_number(spool))
        return [str(first + place) for place in range(count)]
    ending = f".{claimant}"
    if len(os.fsencode(ending)) > ID_BYTES_MAX - 20:
        raise SpoolError(
            f"the name of this node is too long to be part of an id: {claimant}",
            "give the node another name: RQ_NODE=...",
        )
    first = ids.take(
        spool.path, count, claimant, lambda: _highest_number(spool, ending), ids.of_node(claimant)
    )
    return [f"{first + place}{ending}" for place in range(count)]


def temporary_of(spool: Spool, node: str, data: bytes, *, mode: int = 0o644, sync: bool = True) -> str:
    """A temporary file of this node in the spool; see `files.write_temporary`."""
    return files.write_temporary(spool.directory("tmp"), f"{node}.{os.getpid()}", data, mode=mode, sync=sync)


# ---------------------------------------------------------------- looking


def entry_of(state: str, listed: files.Name) -> Entry | None:
    """What a listed name in the directory of a state means; None if it is not that of a record."""
    name = listed.name
    if not name.endswith(SUFFIX) or not name.isprintable():
        return None
    stem, node = name[: -len(SUFFIX)], None
    if "@" in stem:
        if state in OWNED_STATES:
            stem, _, node = stem.removesuffix(SEAL).rpartition("@")
        elif state == HELD:
            stem, node = seals.parse(stem)
    if not stem or node == "" or len(os.fsencode(stem)) > ID_BYTES_MAX:
        return None
    # A second version of one record would be run beside it.
    if is_conflict_copy(name[: -len(SUFFIX)]):
        return None
    return Entry(stem, state, node, name, listed.inode)


def scan(spool: Spool, states: Iterable[str] = STATES, *, most: int = files.NAMES_MAX) -> list[Entry]:
    """The records in some states, listed afresh in the order in which jobs move on. Changes nothing.

    At most `most` names of each directory are looked at. Raises OSError for one that cannot be listed.
    """
    states = tuple(states)
    found: list[Entry] = []
    listings = reading.each(
        [spool.way.call("listing", spool.directory(state), most=most) for state in states]
    )
    for state, names in zip(states, listings, strict=True):
        if isinstance(names, OSError):
            raise names
        found += [entry for listed in names if (entry := entry_of(state, listed)) is not None]
    return found


def path_of(spool: Spool, entry: Entry) -> str:
    """The path of the file of a record."""
    return f"{spool.path}/{entry.state}/{entry.file}"


def read(spool: Spool, entry: Entry) -> Record:
    """The record behind a listed entry.

    Raises FileNotFoundError if it has moved on meanwhile, RecordError, with the
    reason, if what is there is not a record or not the spool owner's.
    """
    return formats.parse(content(spool, entry))


def content(spool: Spool, entry: Entry) -> bytes:
    """The bytes of the file of a record, for a reader who counts them; see `read`."""
    (found,) = contents(spool, [entry])
    if isinstance(found, Exception):
        raise found
    return found


def contents(spool: Spool, entries: Sequence[Entry]) -> list[bytes | Exception]:
    """The bytes of the files of these records, or why there are none, read together."""
    # What I am to run, nobody else may have written; what has begun is told by us.
    is_mine = spool.uid == os.geteuid()
    return reading.each(
        [
            spool.way.call(
                "read",
                path_of(spool, entry),
                most=formats.RECORD_BYTES_MAX,
                owner=spool.uid,
                only_owner_writes=is_mine and entry.state in PENDING_STATES,
            )
            for entry in entries
        ]
    )


def requests(spool: Spool) -> dict[str, set[str]]:
    """What the user asks of the owners of records: id -> verbs. What others left there asks nothing."""
    asked: dict[str, set[str]] = {}
    for name, _ in files.listing(spool.directory("requests")):
        job_id, _, verb = name.rpartition(".")
        if verb == "signal":
            job_id = signaled(name)
        if job_id and verb in REQUESTS and not is_conflict_copy(job_id) and _is_asked_by_owner(spool, name):
            asked.setdefault(job_id, set()).add(verb)
    return asked


def signaled(name: str) -> str:
    """The job that is to be sent a signal by the request of this name, ID~TOKEN.signal; empty if it is none.

    There may be several of one job, and each is acted on once.
    """
    found = _SIGNAL.fullmatch(name)
    return found[1] if found else ""


def _is_asked_by_owner(spool: Spool, name: str) -> bool:
    # The directory may have been open to others for a while; root may do what he likes.
    try:
        return os.lstat(f"{spool.directory('requests')}/{name}").st_uid in (spool.uid, 0)
    except FileNotFoundError:
        return False


# ---------------------------------------------------------------- submit


def submit(
    spool: Spool,
    described: Sequence[Job],
    node: str,
    *,
    counts_alone: bool = False,
    on_step: Callable[[float], None] = lambda _: None,
    on_hold: bool = False,
) -> list[str]:
    """Puts jobs into the queue, all or none of them; their ids, in order.

    Each goes to waiting/; to held/ if it has conditions, or if its user wants it `on_hold`.
    With `counts_alone` each node gives numbers of its own, for mounts where a rename may have two winners.
    `on_step` is told which share of the work is done, and may raise to end it. A job is accepted at the
    instant of its rename; that is durable when this returns.

    Raises SpoolFull or SpoolError, with nothing submitted; PartlySubmitted if nodes had taken some of the
    jobs before they could be taken back, or that cannot be told; and SubmissionInterrupted, which names
    those, for KeyboardInterrupt.
    """
    # It builds on what is here.
    from roundq.records import batch

    def take_ids(count: int) -> list[str]:
        return _take_ids(spool, count, node, of_node=counts_alone)

    return batch.submit(spool, described, node, take_ids, on_step, on_hold=on_hold)


def submit_array(
    spool: Spool,
    job: Job,
    parts: Sequence[Sequence[Task]],
    node: str,
    *,
    counts_alone: bool = False,
    on_step: Callable[[float], None] = lambda _: None,
    on_hold: bool = False,
) -> str:
    """Puts an array into the queue, whole or not at all, as `submit`; its id.

    `job` is what its tasks have in common, with `array` but for its id and index. Each of `parts` becomes a
    job: a task, or several that one job runs one after the other.
    """
    from roundq.records import batch

    def take_ids(count: int) -> list[str]:
        return _take_ids(spool, count, node, of_node=counts_alone)

    return batch.submit_array(spool, job, parts, node, take_ids, on_step, on_hold=on_hold)


# ---------------------------------------------------------------- transitions


def owned_file(job_id: str, node: str) -> str:
    """The file name of a record that a node owns."""
    return f"{job_id}@{node}{SUFFIX}"


def claim(spool: Spool, entry: Entry, node: str) -> Entry | None:
    """claim, by NODE's daemon: the record is this node's from that instant. None: another got it."""
    file = owned_file(entry.id, node)
    if not files.move(path_of(spool, entry), f"{spool.directory(CLAIMED)}/{file}"):
        return None
    return entry._replace(state=CLAIMED, file=file, node=node)


def withdraw(spool: Spool, entry: Entry) -> bool:
    """withdraw, by NODE's daemon: the job was not begun; any node may have it."""
    return files.move(path_of(spool, entry), f"{spool.directory(WAITING)}/{entry.id}{SUFFIX}")


def rewrite(spool: Spool, entry: Entry, record: Record, node: str) -> Entry | None:
    """Replaces the content of a claimed or running record, by its owner; the sealed entry, None if not his.

    The content is durable first, or a crash of the node could leave the name of a job and nothing in it.
    A replacement succeeds whether or not there is something to replace; that the record was still there
    to be sealed is what makes it the owner's.
    """
    temporary = temporary_of(spool, node, formats.dump(record))
    try:
        # Written before, so that the record is sealed for no longer than a rename takes.
        sealed = entry.sealed
        is_ours = files.move(path_of(spool, entry), path_of(spool, sealed))
    except OSError:
        _discard(temporary)
        raise
    if not is_ours:
        _discard(temporary)
        return None
    files.replace(temporary, path_of(spool, sealed))
    return sealed


def _discard(temporary: str) -> None:
    with contextlib.suppress(OSError):
        files.remove(temporary)


def begin(spool: Spool, entry: Entry, node: str) -> Entry | None:
    """begin, by the supervisor: from that instant this attempt has begun. None: it is not ours any more.

    The claimed record names the supervisor, and so is sealed. Durable when it returns: a node that
    crashes now must not find the job unbegun.
    """
    file = owned_file(entry.id, node)
    if not files.move(path_of(spool, entry.sealed), f"{spool.directory(RUNNING)}/{file}"):
        return None
    files.sync_directory(spool.directory(RUNNING))
    return entry._replace(state=RUNNING, file=file, node=node)


def settle(spool: Spool, entry: Entry, record: Record, node: str) -> str | None:
    """finish, requeue, lose and recover: the facts into one's own running record, then its move.

    The state it went to, which the facts tell (`destination`); None if the record was not ours
    any more. Durable when it returns. A job never has two names: after a crash between the two
    steps its node's daemon finds the facts and makes the move.
    """
    sealed = rewrite(spool, entry, record, node)
    return None if sealed is None else conclude(spool, sealed, record)


def conclude(spool: Spool, entry: Entry, record: Record) -> str | None:
    """Moves a running record whose facts are written to where they say it belongs; the state, or None."""
    state = destination(record)
    if state is None or not files.move(path_of(spool, entry), f"{spool.directory(state)}/{entry.id}{SUFFIX}"):
        return None
    files.sync_directory(spool.directory(state))
    # A cancel is asked of the job, not of the attempt: it is still to be done if the job waits again.
    answer(spool, entry.id, OF_AN_ATTEMPT if state in PENDING_STATES else REQUESTS)
    return state


def destination(record: Record) -> str | None:
    """Where the facts in a running record say that it belongs; None while they say that it runs."""
    if record.process is None:
        # The next attempt is open (Record.next_attempt): nothing of it has begun.
        return HELD if record.not_before_ns else WAITING
    if not record.completed_ns:
        return None
    if record.reason is None:
        return COMPLETED
    return _OUTCOMES.get(record.reason, FAILED)


def seize(spool: Spool, entry: Entry, node: str) -> Entry | None:
    """seize, by another daemon of the user: a lost node's running record becomes this node's, or None.

    It goes on as one whose supervisor is dead.
    """
    file = owned_file(entry.id, node)
    if not files.move(path_of(spool, entry), f"{spool.directory(RUNNING)}/{file}"):
        return None
    return entry._replace(file=file, node=node)


def cancel(spool: Spool, entry: Entry, now_ns: int, node: str) -> bool:
    """cancel of a job that is not begun: held or waiting by any command, claimed by NODE's daemon.

    False: it moved on meanwhile, or is being changed. The facts are written first; if they cannot be, the
    job is canceled all the same. Raises SpoolError if it is, but not durably.
    """
    # It builds on what is here.
    from roundq.records import changes

    moves = _cancel_claimed if entry.state == CLAIMED else changes.cancel
    if not moves(spool, entry, now_ns, node):
        return False
    unsynced: OSError | None = None
    try:
        files.sync_directory(spool.directory(CANCELED))
    except OSError as error:
        unsynced = error
    answer(spool, entry.id)
    if unsynced is not None:
        raise SpoolError(
            f"job {entry.id} is canceled, but a crash of the server could undo that: {unsynced.strerror}",
            "free some space, if that is what is missing, and look again later: rq q --mine",
        ) from unsynced
    return True


def canceled(record: Record, now_ns: int) -> Record:
    """The record of a job that was canceled before it began."""
    return replace(record, completed_ns=now_ns, reason="canceled", detail="canceled before it began")


def _cancel_claimed(spool: Spool, entry: Entry, now_ns: int, node: str) -> bool:
    with contextlib.suppress(OSError, RecordError):
        rewrite(spool, entry, canceled(read(spool, entry), now_ns), node)
    target = f"{spool.directory(CANCELED)}/{entry.id}{SUFFIX}"
    # It is sealed, unless that was what could not be done.
    return files.move(path_of(spool, entry.sealed), target) or files.move(path_of(spool, entry), target)


def request(spool: Spool, job_id: str, verb: str, node: str, content: str = "") -> None:
    """Asks the owner of a claimed or running record to act; durable when it returns.

    `content` says which attempt is meant, roundqueue(7); an empty one means whatever there is.
    Raises SpoolError if it is not asked, or if it is, but not durably.
    """
    directory = spool.directory("requests")
    with files.explained(f"ask for {verb} of job {job_id}"):
        path = f"{directory}/{job_id}.{verb}"
        files.replace(temporary_of(spool, node, f"{content}\n".encode()), path)
    try:
        files.sync_directory(directory)
    except OSError as error:
        # Not taken back: another command may have asked the same, and was told that it is.
        raise SpoolError(
            f"{verb} of job {job_id} is asked for, but a crash of the server could undo it: {error.strerror}",
            f"see later whether it was done: rq show {job_id}",
        ) from error


def asked_of(spool: Spool, job_id: str, verb: str) -> str | None:
    """The content of a request, without the end of its last line; None if there is none, or none of ours."""
    path = f"{spool.directory('requests')}/{job_id}.{verb}"
    try:
        return files.read(path, most=REQUEST_BYTES_MAX, owner=spool.uid).decode().strip()
    except (FileNotFoundError, RecordError, UnicodeDecodeError):
        return None


def answer(spool: Spool, job_id: str, verbs: Collection[str] = REQUESTS) -> None:
    """Takes requests away once they are acted on, or moot."""
    directory = spool.directory("requests")
    names = [f"{job_id}.{verb}" for verb in verbs if verb != "signal"]
    if "signal" in verbs:
        with contextlib.suppress(OSError):
            names += [name for name, _ in files.listing(directory) if signaled(name) == job_id]
    for name in names:
        with contextlib.suppress(OSError):
            files.remove(f"{directory}/{name}")


# ---------------------------------------------------------------- sweeping


def sweep_temporaries(spool: Spool, node: str, alive: Callable[[], Iterable[int]]) -> None:
    """Removes what dead processes of this node left in tmp/; `alive` tells the pids that may still write."""
    names = files.listing(spool.directory("tmp"))
    # Asked after the listing: the file of a process that began in between would be that of a dead one.
    living = set(alive())
    for name, _ in names:
        # NODE.PID.SERIAL.RANDOM, and a node's name may hold dots.
        owner, *parts = name.rsplit(".", 3)
        if owner != node or len(parts) != 3 or is_foreign(name):
            continue
        if parts[0].isdecimal() and int(parts[0]) not in living:
            with contextlib.suppress(OSError):
                files.remove(f"{spool.directory('tmp')}/{name}")
