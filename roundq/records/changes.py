"""Holding and releasing what has not begun, and changing what has not, or has ended.

roundqueue(7), Holding and changing. Each is one rename of one name, which one process wins. A record is
rewritten only under a sealed name that says which process does it, so that what a dead one left is found,
and put where it belongs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from roundq.records import spool as spools
from roundq.records.spool import SUFFIX, Entry, Spool
from roundq.words import record_format as formats
from roundq.words import seals
from roundq.words.errors import RecordError, SpoolError
from roundq.words.job import Identity, Record
from roundq.words.seals import ON_HOLD, USER, Seal
from roundq.words.states import CANCELED, ENDED_STATES, HELD, OWNED_STATES, PENDING_STATES, WAITING
from roundq.world import files, procs

#: A file name has at most so many bytes.
_NAME_BYTES_MAX = 255
#: Reasons of what was canceled before it began.
_UNBEGUN = ("canceled", "dependency", "max fails")


def state_of(record: Record, now_ns: int = 0) -> str:
    """Where a job belongs that is to be run: in waiting/, or in held/ while something keeps it from starting.

    What it comes after is not looked at here: a daemon does, and releases it. Without `now_ns` a time that
    may have come is left to a daemon, too.
    """
    job = record.job
    if job.after or max(job.begin_ns, record.not_before_ns) > now_ns:
        return HELD
    return WAITING


def sync(spool: Spool, states: Iterable[str]) -> None:
    """Makes moves into these states durable, however many there were."""
    for state in set(states):
        files.sync_directory(spool.directory(state))


# ---------------------------------------------------------------- hold, release


def hold(spool: Spool, entry: Entry) -> bool:
    """hold, by any process of the user: a job that has not begun starts only when it is released.

    False: it moved on, or is being changed. Durable after `sync` of held.
    """
    if entry.state not in PENDING_STATES or entry.is_sealed:
        return False
    target = _path(spool, entry.id, HELD, on_hold=True)
    return entry.is_on_hold or files.move(spools.path_of(spool, entry), target)


def release(spool: Spool, entry: Entry, state: str) -> bool:
    """release, by any process of the user: into waiting, or into held if it has to wait for more.

    `state_of` tells which. False: it moved on, or is being changed. Durable after `sync` of that state.
    """
    if entry.state != HELD or entry.is_sealed:
        return False
    target = _path(spool, entry.id, state)
    return spools.path_of(spool, entry) == target or files.move(spools.path_of(spool, entry), target)


# ---------------------------------------------------------------- change


def change(spool: Spool, entry: Entry, node: str) -> Entry | None:
    """seal, by any process of the user: only this process, of `node`, moves the record until it is put.

    The sealed entry; None if it moved on, is being changed, or has begun. It must be put, or put back, at
    once: nobody can cancel it meanwhile.
    """
    if entry.state in OWNED_STATES or entry.is_sealed:
        return None
    origin = USER if entry.is_on_hold else entry.state
    file = f"{seals.sealed_stem(entry.id, procs.own_identity(), origin, node)}{SUFFIX}"
    _check(entry.id, file)
    if not files.move(spools.path_of(spool, entry), f"{spool.directory(HELD)}/{file}"):
        return None
    return entry._replace(state=HELD, file=file, node=node)


def put(
    spool: Spool,
    sealed: Entry,
    record: Record,
    state: str,
    node: str,
    *,
    on_hold: bool = False,
    is_synced: bool = True,
    draft: str | None = None,
) -> bool:
    """put, by the process that sealed it: the new content, and then the move into `state`.

    With `on_hold` it stays in held/ until its user releases it. False: it is gone, since its user said that
    `node` is lost. Durable when it returns, or else after `sync` of that state. If it raises OSError or
    SpoolError, the record was put back if it could be; a daemon of the node tries again. `draft` is a
    temporary file that holds the new content durably already; it is used up.
    """
    if state in OWNED_STATES:
        raise ValueError(f"nothing is put into {state}")
    target = _path(spool, sealed.id, state, on_hold=on_hold)
    is_written = False
    try:
        temporary = draft or spools.temporary_of(spool, node, formats.dump(record))
        try:
            _ask_late(spool, sealed, temporary)
        except FileNotFoundError:
            return False
        # From here on it may be there.
        is_written = True
        files.replace(temporary, spools.path_of(spool, sealed))
        # Whoever moved it on, since the reply was late: it was put with this content.
        files.move(spools.path_of(spool, sealed), target)
    except OSError:
        with contextlib.suppress(OSError):
            put_back(spool, sealed) if is_written else unseal(spool, sealed)
        raise
    if is_synced:
        files.sync_directory(spool.directory(state))
    return True


def _ask_late(spool: Spool, sealed: Entry, temporary: str) -> None:
    """Raises OSError if it cannot be told that the sealed record is there still, and drops its new content.

    What was taken away while this process stood still must not be raised from the dead.
    """
    try:
        files.signature(spools.path_of(spool, sealed))
    except OSError:
        with contextlib.suppress(OSError):
            files.remove(temporary)
        raise


def unseal(spool: Spool, sealed: Entry) -> bool:
    """put, by the process that sealed it and has written nothing: the record goes back to where it was.

    Whether it did. Durable when it returns.
    """
    seal = seal_of(sealed)
    if seal is None:
        return False
    state = HELD if seal.origin == USER else seal.origin
    target = _path(spool, sealed.id, state, on_hold=seal.origin == USER)
    if not files.move(spools.path_of(spool, sealed), target):
        return False
    files.sync_directory(spool.directory(state))
    return True


def put_back(spool: Spool, sealed: Entry) -> str | None:
    """mend: a sealed record whose change goes no further goes where it belongs; the state, or None.

    None: it is gone. By the process that sealed it, a daemon of its node when that is dead, or who is told
    that the node is lost. What was written counts: a job that is to be run again is.
    """
    try:
        record: Record | None = spools.read(spool, sealed)
    except FileNotFoundError:
        return None
    except RecordError:
        record = None
    seal = seal_of(sealed)
    if seal is None:
        return None
    state, on_hold = _belongs(seal.origin, record)
    if not files.move(spools.path_of(spool, sealed), _path(spool, sealed.id, state, on_hold=on_hold)):
        return None
    files.sync_directory(spool.directory(state))
    return state


def _belongs(origin: str, record: Record | None) -> tuple[str, bool]:
    """Where a record belongs that came from `origin` and holds what was there, or what was to be put."""
    if origin == USER:
        return HELD, True
    if record is None:
        return origin, False
    if origin in ENDED_STATES:
        return (state_of(record) if _is_to_run(origin, record) else origin), False
    if record.completed_ns and record.reason in _UNBEGUN:
        return CANCELED, False
    return (HELD if origin == HELD else state_of(record)), False


def _is_to_run(origin: str, record: Record) -> bool:
    """Whether a record that had ended holds its next attempt.

    One that was canceled before it began may say nothing of that, but the attempt that follows does.
    """
    if record.completed_ns:
        return False
    return origin != CANCELED or (bool(record.attempts) and record.attempts[-1].reason in _UNBEGUN)


def seal_of(entry: Entry) -> Seal | None:
    """Which process changes a held record, and where it was; None if nobody does."""
    if entry.state != HELD or not entry.is_sealed:
        return None
    return seals.seal_of(entry.file.removesuffix(SUFFIX))


def may_live(seal: Seal, *, but_me: bool = False) -> bool:
    """Whether the process that sealed a record on this very node may be alive, and so go on with it.

    With `but_me` this process counts as one that does not.
    """
    if seal.boot != seals.boot_digits(procs.boot_id()):
        return False
    if but_me and seal.is_of(procs.own_identity()):
        return False
    return procs.liveness(Identity(procs.boot_id(), seal.pid, seal.start)) is not procs.Liveness.DEAD


def is_left_here(entry: Entry) -> bool:
    """Whether a process of this boot, and so of this machine, was changing a record and is dead."""
    seal = seal_of(entry)
    return seal is not None and seal.boot == seals.boot_digits(procs.boot_id()) and not may_live(seal)


# ---------------------------------------------------------------- cancel


def cancel(spool: Spool, entry: Entry, now_ns: int, node: str) -> bool:
    """cancel, by any command of the user: the facts, if they can be written, and the move: `spool.cancel`.

    Sealed all the while: what is canceled may be run again at once, and must not be written to any more.
    False: it moved on, also since its user said that `node` is lost.
    """
    target = f"{spool.directory(CANCELED)}/{entry.id}{SUFFIX}"
    try:
        sealed = change(spool, entry, node)
    except SpoolError:
        # Its id makes no name for that.
        return files.move(spools.path_of(spool, entry), target)
    if sealed is None:
        return False
    is_written = False
    try:
        with contextlib.suppress(OSError, RecordError):
            data = formats.dump(spools.canceled(spools.read(spool, sealed), now_ns))
            temporary = spools.temporary_of(spool, node, data)
            _ask_late(spool, sealed, temporary)
            # From here on it may be there, and whoever moved it on since the reply was late has it canceled.
            is_written = True
            files.replace(temporary, spools.path_of(spool, sealed))
        return files.move(spools.path_of(spool, sealed), target) or is_written
    except OSError:
        with contextlib.suppress(OSError):
            # What was written counts: then it is canceled, whatever was refused.
            if put_back(spool, sealed) == CANCELED:
                return True
        raise


# ---------------------------------------------------------------- names


def _path(spool: Spool, job_id: str, state: str, *, on_hold: bool = False) -> str:
    file = f"{job_id}{ON_HOLD if on_hold else ''}{SUFFIX}"
    if state == HELD:
        _check(job_id, file)
    return f"{spool.directory(state)}/{file}"


def _check(job_id: str, file: str) -> None:
    """Raises SpoolError if a name in held/ would be too long, or that of another job.

    An id that a program made up may look like one of the names there.
    """
    found = spools.entry_of(HELD, files.Name(file, 0))
    if len(file.encode("utf-8", "surrogateescape")) > _NAME_BYTES_MAX or found is None or found.id != job_id:
        raise SpoolError(
            f"job {job_id} cannot be held or changed: its id makes no name in held/",
            f"cancel it, or submit it under another id: rq cancel {job_id}",
        )
