"""The process beside a daemon that tells what has ended: by commands and mail, each with a deadline.

It is forked by `actors/herald`, so that neither a command that hangs nor a home that does not answer holds up
a round. What it says is for the log.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from roundq.actors import environ, outcome, sets
from roundq.actors.listing import Row, row_of
from roundq.actors.selection import past_row
from roundq.records import environments
from roundq.records import news as records
from roundq.records.lookup import Look
from roundq.records.spool import Spool
from roundq.words import news as words
from roundq.words.errors import RecordError
from roundq.words.job import NS, Record
from roundq.words.news import News, Outcome
from roundq.words.quantities import format_duration, visible
from roundq.words.states import COMPLETED, ENDED_STATES
from roundq.world import killing, procs, spawn

#: A command, or a mail program, that takes longer is killed.
PATIENCE_S = 300.0
#: How soon it is looked again whether it has ended, and how long it is killed at most.
_LOOK_AGAIN_S, _KILL_S = 0.05, 10.0
#: Of what it writes the end is logged.
_SAID_BYTES_MAX = 500


class Ran(NamedTuple):
    """How a command ended: its exit code, or None; and that in words, with the end of what it wrote."""

    exit_code: int | None
    says: str


def tell(spool: Spool, news: News, counts: Mapping[str, int], node: str, sendmail: str) -> list[str]:
    """Tells of what has ended, by its command and by mail; what to log of that. `counts` are by state."""
    became = outcome_of(spool, news, counts)
    said = [words.sentence(news, became)]
    base: dict[str, str] = {}
    if news.environment is not None:
        # It may be gone; what can be told without is told.
        with contextlib.suppress(RecordError):
            base = environments.load(spool, news.environment)
    home = os.path.dirname(spool.path)
    given = {"HOME": home, "USER": spool.user, "LOGNAME": spool.user, "PATH": os.defpath}
    given |= environ.submitted(base) | words.variables(news, became)
    given |= {"RQ_NODE": node, "PWD": news.directory or home}
    if news.on_end:
        ran = run(news.on_end, given, news.directory or home)
        said.append(f"--on-end {visible(' '.join(news.on_end))[:100]}: {ran.says}")
    for address in news.mail:
        ran = run((sendmail, "-i", "--", address), given, home, words.message(news, became, address))
        said.append(f"mail to {address}: {ran.says}")
    return said


# ---------------------------------------------------------------- what became of it


def outcome_of(spool: Spool, news: News, counts: Mapping[str, int]) -> Outcome:
    """What became of it, as its records, names and sets tell now; `counts` are what was seen of an array."""
    if news.is_of_set:
        return _of_set(spool, news)
    if news.tasks:
        return Outcome(counts.get(COMPLETED, 0) == news.tasks, counts)
    row = _row(spool, news.of)
    if row is None or row.record is None:
        # It may have been run again since: then what was seen is all that is known.
        state = next(iter(counts), "unknown") if row is None else row.state
        why = "no more is known of it" if row is None else "its record cannot be read"
        return Outcome(state == COMPLETED, {state: 1}, state, sentence=f"{state}; {why}")
    record = row.record
    return Outcome(
        outcome.is_well(row),
        {row.state: 1},
        row.state,
        record.exit_code,
        record.signal,
        record.reason,
        outcome.sentence(row),
        _facts(record),
    )


def _row(spool: Spool, job_id: str) -> Row | None:
    with contextlib.suppress(OSError):
        for entry in Look(spool).of([job_id]):
            if entry.state in ENDED_STATES:
                return row_of(spool, entry, True)
    with contextlib.suppress(OSError):
        return past_row(spool, job_id)
    return None


def _of_set(spool: Spool, news: News) -> Outcome:
    whole = sets.look(spool, [news.of]).get(news.of)
    if whole is None:
        return Outcome(False)
    counts = {state: whole.counts.get(state, 0) for state in ENDED_STATES}
    return Outcome(bool(whole.is_well), counts)


def _facts(record: Record) -> list[tuple[str, str]]:
    ran_s = (record.completed_ns - record.started_ns) / NS if record.started_ns else None
    usage = record.usage or {}
    return [
        ("command", " ".join(record.job.command)),
        ("directory", record.job.directory),
        ("output", record.job.output),
        ("node", record.node if record.started_ns else ""),
        ("started", _moment(record.started_ns)),
        ("ended", _moment(record.completed_ns)),
        ("ran", "" if ran_s is None else format_duration(ran_s)),
        ("used", f"{usage['cpu_s']:.1f} s of processor time" if "cpu_s" in usage else ""),
        ("attempt", str(record.attempt) if record.attempt > 1 else ""),
    ]


def _moment(ns: int) -> str:
    if not ns:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(ns // NS))
    except (OverflowError, ValueError, OSError):
        return ""


# ---------------------------------------------------------------- a command


def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    directory: str,
    content: bytes = b"",
    *,
    patience_s: float = 0.0,
) -> Ran:
    """Runs a command to its end, or kills it and all its children when it has had its time. Never raises.

    `content` is its standard input. The caller has no other children, and none of its own is left when it was
    killed.
    """
    # Some bytes, which a pipe need not have room for.
    given = os.memfd_create("news", os.MFD_CLOEXEC)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(given, content)
        os.lseek(given, 0, os.SEEK_SET)
        try:
            pid = spawn.spawn(
                argv, cwd=directory, env=env, stdin=given, stdout=writing, stderr=writing, nice=None
            )
        except spawn.SpawnError as error:
            return Ran(None, f"could not be run: {visible(str(error))}")
        finally:
            os.close(writing)
        return _ended(pid, reading, patience_s or PATIENCE_S)
    except OSError as error:
        return Ran(None, f"could not be run: {error.strerror}")
    finally:
        os.close(given)
        os.close(reading)


def _ended(pid: int, reading: int, patience_s: float) -> Ran:
    until_s = time.monotonic() + patience_s
    said = b""
    is_open = True
    poller = select.poll()
    poller.register(reading, select.POLLIN)
    while True:
        if is_open and poller.poll(_LOOK_AGAIN_S * 1000):
            chunk = os.read(reading, 4096)
            is_open = bool(chunk)
            said = (said + chunk)[-_SAID_BYTES_MAX:]
        elif not is_open:
            time.sleep(_LOOK_AGAIN_S)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() >= until_s:
            _kill()
            return Ran(None, f"killed after {patience_s:g} s{_last(said)}")
    while is_open and poller.poll(0) and (chunk := os.read(reading, 4096)):
        said = (said + chunk)[-_SAID_BYTES_MAX:]
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return Ran(None, f"killed by signal {-code}{_last(said)}")
    return Ran(code, ("done" if not code else f"exit code {code}") + _last(said))


def _kill() -> None:
    me = procs.own_identity()

    def pause(seconds: float) -> None:
        time.sleep(seconds)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    killing.kill_tree(
        lambda: procs.descendants(me), grace_s=0.0, patience_s=_KILL_S, clock=time.monotonic, pause=pause
    )


def _last(said: bytes) -> str:
    line = said.decode(errors="replace").strip().rpartition("\n")[2]
    return f": {visible(line)[:200]}" if line else ""


def serve(
    spool: Spool,
    waiting: Sequence[tuple[str, News, Mapping[str, int]]],
    node: str,
    sendmail: str,
    answered: int,
) -> None:
    """Tells one after the other, in a process of its own, and writes what to log into a pipe."""
    spawn.set_name(b"rq:news")
    spawn.set_title(b"rq teller of what has ended")
    # What a command leaves behind, and who kills it finds, are our children.
    spawn.become_subreaper()
    for file, news, counts in waiting:
        try:
            said = tell(spool, news, counts, node, sendmail)
        except OSError as error:
            said = [f"{words.title(news)}: nobody was told: {error.strerror or error}"]
        os.write(answered, "".join(f"{line}\n" for line in said).encode(errors="replace"))
        with contextlib.suppress(OSError):
            records.forget(spool, file)
