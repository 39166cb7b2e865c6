"""Mistakes that our code could make, each with the operation that shows it. The tests must find every one."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Any

from roundq.records import batch, changes, ids
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words import record_format as formats
from roundq.words.job import Record
from roundq.words.states import RUNNING
from roundq.world import files


def _os(module: Any) -> Any:
    """What a module takes for the operating system."""
    return module.os


def make(name: str | None) -> None:
    """Makes the mistake in this process, before anything is spoiled."""
    if name is not None:
        MISTAKES[name][0]()


def _contents_are_not_synced() -> None:
    write = files.write_temporary

    def unsynced(directory: str, owner: str, data: bytes, *, mode: int = 0o644, sync: bool = True) -> str:
        return write(directory, owner, data, mode=mode, sync=sync and False)

    files.write_temporary = unsynced


def _names_are_not_synced() -> None:

    def unsynced(path: str) -> None:
        """Nothing."""

    files.sync_directory = unsynced


def _moves_before_facts() -> None:
    def settle(spool: Spool, entry: Entry, record: Record, node: str) -> str | None:
        state = spools.conclude(spool, entry, record)
        if state is not None:
            data = formats.dump(record)
            files.replace(spools.temporary_of(spool, node, data), f"{spool.directory(state)}/{entry.id}.job")
        return state

    spools.settle = settle


def _errors_are_believed() -> None:
    def move(source: str, target: str) -> bool:
        try:
            _os(files).rename(source, target)
        except FileNotFoundError:
            return False
        return True

    files.move = move


def _links_are_counted() -> None:
    """As they were: two names prove success, and a name that is taken is somebody else's."""

    def place(temporary: str, target: str) -> bool:
        try:
            _os(files).link(temporary, target)
        except OSError as error:
            if os.stat(temporary).st_nlink != 2:
                files.remove(temporary)
                if error.errno == errno.EEXIST:
                    return False
                raise
        files.remove(temporary)
        return True

    files.place = place


def _records_are_written_in_place() -> None:
    def rewrite(spool: Spool, entry: Entry, record: Record, node: str) -> Entry | None:  # noqa: ARG001
        sealed = entry.sealed
        if not files.move(spools.path_of(spool, entry), spools.path_of(spool, sealed)):
            return None
        descriptor = _os(files).open(spools.path_of(spool, sealed), os.O_WRONLY | os.O_TRUNC)
        _os(files).write(descriptor, formats.dump(record))
        _os(files).fsync(descriptor)
        _os(files).close(descriptor)
        return sealed

    spools.rewrite = rewrite


def _commands_run_before_they_begin() -> None:
    def begin(spool: Spool, entry: Entry, node: str) -> Entry | None:  # noqa: ARG001
        return entry.sealed

    spools.begin = begin


def _what_is_lost_runs_again() -> None:
    settle = spools.settle

    def again(spool: Spool, entry: Entry, record: Record, node: str) -> str | None:
        if record.reason == "lost":
            record = record.next_attempt(record.completed_ns, "lost")
        return settle(spool, entry, record, node)

    spools.settle = again


def _what_had_ended_is_lost() -> None:
    """Recovery that does not look for the facts of an end."""
    destination = spools.destination
    spools.destination = lambda record: None if record.reason == "exit" else destination(record)


def _requests_are_answered_before_they_are_met() -> None:
    cancel = spools.cancel

    def hasty(spool: Spool, entry: Entry, now_ns: int, node: str) -> bool:
        spools.answer(spool, entry.id)
        return cancel(spool, entry, now_ns, node)

    spools.cancel = hasty


def _numbers_are_taken_unasked() -> None:
    """A rename of the token that failed is taken for one that happened."""

    def take(spool_path: str, count: int, claimant: str, used: object, below: str = "ids") -> int:  # noqa: ARG001
        directory = f"{spool_path}/{below}"
        (token,) = os.listdir(directory)
        first = int(token.partition(".")[0])
        with contextlib.suppress(OSError):
            _os(ids).rename(f"{directory}/{token}", f"{directory}/{first + count}.{claimant}-0123456789ab")
        return first

    vars(ids)["take"] = take


def _nothing_is_taken_back() -> None:
    batch.Batch.take_back = lambda *_: ([], [])  # type: ignore[method-assign]


def _nothing_is_swept() -> None:
    spools.sweep_temporaries = lambda *_: None


def _what_is_seized_keeps_its_name() -> None:
    """A copy for the new owner, as where a rename is no move."""

    def seize(spool: Spool, entry: Entry, node: str) -> Entry | None:
        file = spools.owned_file(entry.id, node)
        _os(files).link(spools.path_of(spool, entry), f"{spool.directory(RUNNING)}/{file}")
        files.remove(spools.path_of(spool, entry))
        return entry._replace(file=file, node=node)

    spools.seize = seize


def _what_was_on_hold_is_let_go() -> None:
    """Whoever mends does not look where the record was."""
    belongs = changes._belongs

    def free(origin: str, record: Record | None) -> tuple[str, bool]:
        return ("waiting", False) if origin == "user" else belongs(origin, record)

    changes._belongs = free


def _changes_are_written_after_the_move() -> None:
    def put(spool: Spool, sealed: Entry, record: Record, state: str, node: str, **_: Any) -> bool:
        target = f"{spool.directory(state)}/{sealed.id}.job"
        files.move(spools.path_of(spool, sealed), target)
        files.replace(spools.temporary_of(spool, node, formats.dump(record)), target)
        return True

    changes.put = put


#: By name: how it is made, and the operation whose test finds it.
MISTAKES: dict[str, tuple[Callable[[], None], str]] = {
    "contents are not synced": (_contents_are_not_synced, "submit"),
    "names are not synced": (_names_are_not_synced, "request"),
    "the move before the facts": (_moves_before_facts, "end: failed"),
    "errors are believed": (_errors_are_believed, "end: failed"),
    "links are counted": (_links_are_counted, "submit"),
    "records are written in place": (_records_are_written_in_place, "rewrite a claimed record"),
    "commands run before they begin": (_commands_run_before_they_begin, "life of a job: completed"),
    "what is lost runs again": (_what_is_lost_runs_again, "life of a job: completed"),
    "what had ended is lost": (_what_had_ended_is_lost, "recover: facts, but no move"),
    "requests are answered before they are met": (
        _requests_are_answered_before_they_are_met,
        "cancel what is claimed, by its daemon",
    ),
    "numbers are taken unasked": (_numbers_are_taken_unasked, "take ids"),
    "nothing is taken back": (_nothing_is_taken_back, "submit in bulk"),
    "nothing is swept": (_nothing_is_swept, "submit"),
    "what was on hold is let go": (_what_was_on_hold_is_let_go, "mend what was on hold"),
    "changes are written after the move": (_changes_are_written_after_the_move, "rerun: failed"),
    "what is seized keeps its name": (_what_is_seized_keeps_its_name, "seize"),
}
