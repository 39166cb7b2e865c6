"""What is had of jobs while they run; records and files are written, and the clock is turned, by the test."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roundq.actors.newcomers import Newcomers
from roundq.actors.watching import BEGIN_S, MISSED_MOST, Watching
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words import record_format as formats
from roundq.words.job import NO_NODE, NS, Attempt, Job, Record
from roundq.words.states import CLAIMED, COMPLETED, FAILED, OWNED_STATES, RUNNING, STATES, WAITING

NODE = "n1"
BEGAN_NS = 1_790_000_000 * NS


class Queue:
    """A spool, the outputs of its jobs, and somebody who watches them."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home
        self.spool: Spool = spools.at(str(home), "ann", os.geteuid())
        spools.prepare(self.spool)
        self.now_s = 1000.0
        self.got: dict[tuple[str, bool], bytes] = {}
        self.changes: list[str] = []
        self.watching = self.watch(lambda _: False)

    def watch(self, means: Callable[[Entry], bool], **of: Any) -> Watching:
        self.watching = Watching(self.spool, NODE, means, **of)
        self.watching.begin(self.now_s)
        return self.watching

    def put(self, state: str, job_id: str, *, in_place: bool = False, **of: Any) -> None:
        """The job is in this state now, and was where it was no more; or its record is another one."""
        fields = {name.removeprefix("job_"): of.pop(name) for name in list(of) if name.startswith("job_")}
        job = Job(("fit",), directory=str(self.home), **{"output": f"{job_id}.out", **fields})
        begun = state not in (WAITING,)
        record = Record(job, **{"node": NODE if begun else NO_NODE, "started_ns": BEGAN_NS * begun, **of})
        file = spools.owned_file(job_id, NODE) if state in OWNED_STATES else f"{job_id}.job"
        target = Path(self.spool.directory(state)) / file
        if in_place:
            target.write_bytes(formats.dump(record))
            return
        temporary = Path(self.spool.directory("tmp")) / "t"
        temporary.write_bytes(formats.dump(record))
        for other in STATES:
            for path in Path(self.spool.directory(other)).glob(f"{job_id}*.job"):
                path.unlink()
        temporary.rename(target)

    def write(self, name: str, data: bytes) -> None:
        with (self.home / name).open("ab") as file:
            file.write(data)

    def step(self, seconds: float = 2.0) -> None:
        """Time goes by; what can be had then is had."""
        self.now_s += seconds
        # States, then bytes, which may ask for the states.
        for _ in range(4):
            self.watching.look(self.now_s)
            for chunk in self.watching.chunks(self.now_s, lambda _id, _is_error: True):
                key = (chunk.job_id, chunk.is_error)
                self.got[key] = self.got.get(key, b"") + chunk.data
                if chunk.change:
                    self.changes.append(chunk.change)

    def out(self, job_id: str) -> bytes:
        return self.got.get((job_id, False), b"")


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "ann")


def begins(job_id: str, attempt: int = 1, of: str = "") -> bytes:
    again = f", attempt {attempt}{of}" if attempt > 1 else ""
    return f"rq: job {job_id} begins on {NODE}, 2026-11-21T04:00:00+0100{again}: fit\n".encode()


def entry(job_id: str, state: str = WAITING) -> Entry:
    return Entry(job_id, state, None, f"{job_id}.job", 0)


def test_a_job_is_followed_from_before_it_begins_to_its_end(queue: Queue) -> None:
    """Every byte, and it is done only when all was had."""
    queue.put(WAITING, "1")
    queue.watching.follow([entry("1")], queue.now_s)
    queue.step()
    assert not queue.watching.is_done

    queue.put(RUNNING, "1")
    queue.write("1.out", b"older\n" + begins("1") + b"one\n")
    queue.step()
    assert queue.out("1") == begins("1") + b"one\n"

    queue.write("1.out", b"two")
    queue.put(COMPLETED, "1", completed_ns=BEGAN_NS + 1, exit_code=0)
    queue.step()

    assert queue.out("1") == begins("1") + b"one\ntwo"
    assert queue.watching.is_done


def test_what_others_append_is_not_of_the_job(queue: Queue) -> None:
    """The line that says how it ended is waited behind, until it is known whether that was the end."""
    queue.put(RUNNING, "1", job_output="o")
    queue.write("o", begins("1") + b"one\n")
    queue.watching.follow([entry("1", RUNNING)._replace(node=NODE, file=f"1@{NODE}.job")], queue.now_s)
    queue.step()
    liar = b"rq: job 1 completed: so it says\n" + 2 * begins("1", 9)
    queue.write("o", liar + b"but it goes on\n")
    queue.step()
    assert queue.out("1") == begins("1") + b"one\n" + liar + b"but it goes on\n"

    # Its end, and the next job, before it is seen that it has ended.
    end = b"rq: job 1 completed: exit code 0\n"
    queue.write("o", end + begins("2") + b"of another\n")
    queue.put(COMPLETED, "1", job_output="o", completed_ns=BEGAN_NS + 1, exit_code=0)
    queue.step()
    assert queue.out("1") == begins("1") + b"one\n" + liar + b"but it goes on\n" + end
    assert queue.watching.is_done


def test_all_attempts_are_followed_in_order(queue: Queue) -> None:
    """Those that begin while it is watched; also if two begin between two looks."""
    queue.put(RUNNING, "1")
    queue.write("1.out", begins("1") + b"first\n")
    queue.watching.follow([entry("1", RUNNING)._replace(node=NODE, file=f"1@{NODE}.job")], queue.now_s)
    queue.step()
    end = b"rq: job 1 requeued: stopped to be run again\n"
    queue.write("1.out", b"last\n" + end + b"a stranger's\n" + begins("1", 2) + b"second\n" + end)
    queue.write("1.out", begins("1", 3) + b"third\n")
    ended = tuple(Attempt(number, NODE, None, BEGAN_NS, BEGAN_NS, "restarted") for number in (1, 2))
    queue.put(RUNNING, "1", attempt=3, attempts=ended)
    queue.step()
    queue.step()
    queue.write("1.out", b"rq: job 1 failed: exit code 3\n")
    queue.put(FAILED, "1", attempt=3, attempts=ended, completed_ns=BEGAN_NS + 1, exit_code=3, reason="exit")
    queue.step()

    wanted = begins("1") + b"first\nlast\n" + end + begins("1", 2) + b"second\n" + end
    assert queue.out("1") == wanted + begins("1", 3) + b"third\nrq: job 1 failed: exit code 3\n"
    assert queue.watching.is_done


@pytest.mark.parametrize(
    ("is_told", "of"), [(True, ""), (False, ""), (False, " of 4"), (False, ", retry 1 of 3")]
)
def test_a_next_attempt_that_looks_like_the_same_record_is_none(queue: Queue, is_told: bool, of: str) -> None:
    """File systems give the number of a file that is gone to the next one, and both have one name.

    What is seen in the output tells: how the attempt ended, or, if its supervisor died, that another begins.
    """
    queue.put(RUNNING, "1")
    queue.write("1.out", begins("1") + b"first\n")
    queue.watching.follow([entry("1", RUNNING)._replace(node=NODE, file=f"1@{NODE}.job")], queue.now_s)
    queue.step()
    first = b"rq: job 1 requeued: r\n" if is_told else b""
    ended = (Attempt(1, NODE, None, BEGAN_NS, BEGAN_NS, "restarted"),)
    queue.put(RUNNING, "1", in_place=True, attempt=2, attempts=ended)
    queue.write("1.out", first + begins("1", 2, of) + b"second\n")
    queue.step()
    queue.step()
    queue.put(COMPLETED, "1", attempt=2, attempts=ended, completed_ns=BEGAN_NS + 1, exit_code=0)
    queue.step()

    assert queue.out("1") == begins("1") + b"first\n" + first + begins("1", 2, of) + b"second\n"
    assert queue.watching.is_done


def again(queue: Queue) -> bytes:
    """A job that was followed through its first attempt, and waits for the second; what was had of it."""
    queue.put(RUNNING, "1")
    first = begins("1") + b"first\n"
    queue.write("1.out", first)
    queue.watching.follow([entry("1", RUNNING)._replace(node=NODE, file=f"1@{NODE}.job")], queue.now_s)
    queue.step()
    end = b"rq: job 1 requeued: stopped to be run again\n"
    queue.write("1.out", end)
    queue.put(
        WAITING, "1", attempt=2, attempts=(Attempt(1, NODE, None, BEGAN_NS, BEGAN_NS + 1, "restarted"),)
    )
    queue.step()
    assert queue.out("1") == first + end
    return first + end


def second(**of: Any) -> dict[str, Any]:
    """The record of its second attempt."""
    one = Attempt(1, NODE, None, BEGAN_NS, BEGAN_NS + 1, "restarted")
    return {"attempt": 2, "attempts": (one,), "started_ns": BEGAN_NS + 2, **of}


def test_an_attempt_that_is_about_to_begin_is_waited_for(queue: Queue) -> None:
    """It has a supervisor, is still claimed, and has written nothing: nothing is told a second time."""
    before = again(queue)
    queue.put(CLAIMED, "1", **second())
    queue.step()
    assert queue.out("1") == before

    last = begins("1", 2) + b"second\n"
    queue.write("1.out", last)
    queue.put(RUNNING, "1", **second())
    queue.step()
    queue.put(COMPLETED, "1", **second(completed_ns=BEGAN_NS + 3, exit_code=0))
    queue.step()
    assert queue.out("1") == before + last
    assert queue.watching.is_done


def test_an_attempt_that_begins_and_ends_after_the_record_was_read_is_told_once(queue: Queue) -> None:
    """Its lines are in the file when it is looked where those of the attempt before it end."""
    queue.put(RUNNING, "1")
    queue.write("1.out", begins("1") + b"first\n")
    queue.watching.follow([entry("1", RUNNING)._replace(node=NODE, file=f"1@{NODE}.job")], queue.now_s)
    queue.step()
    queue.put(WAITING, "1", **second(started_ns=0, node=NO_NODE))
    queue.now_s += 2
    queue.watching.look(queue.now_s)
    rest = b"rq: job 1 requeued: stopped to be run again\n" + begins("1", 2) + b"second\n"
    rest += b"rq: job 1 completed: exit code 0\n"
    queue.write("1.out", rest)
    queue.put(COMPLETED, "1", **second(completed_ns=BEGAN_NS + 3, exit_code=0))

    for chunk in queue.watching.chunks(queue.now_s, lambda _id, _is_error: True):
        queue.got["1", False] += chunk.data
    queue.step()
    assert queue.out("1") == begins("1") + b"first\n" + rest


def test_an_attempt_that_never_began_wrote_nothing(queue: Queue) -> None:
    """A job that was canceled before it began, and then run again; its output had something in it before."""
    unbegun = (Attempt(1, NO_NODE, None, 0, BEGAN_NS, "canceled"),)
    queue.write("1.out", b"older\n")
    queue.put(WAITING, "1", attempt=2, attempts=unbegun)
    queue.watching.follow([entry("1")], queue.now_s)
    queue.step()
    text = begins("1", 2) + b"second\n"
    queue.write("1.out", text)
    queue.put(RUNNING, "1", attempt=2, attempts=unbegun)
    queue.step()
    queue.put(COMPLETED, "1", attempt=2, attempts=unbegun, completed_ns=BEGAN_NS + 3, exit_code=0)
    queue.step()
    assert queue.out("1") == text
    assert queue.watching.is_done


def test_a_job_that_waits_again_is_not_done(queue: Queue) -> None:
    queue.put(RUNNING, "1")
    queue.write("1.out", begins("1") + b"first\nrq: job 1 requeued: r\n")
    queue.watching.follow([entry("1", RUNNING)._replace(node=NODE, file=f"1@{NODE}.job")], queue.now_s)
    queue.step()
    once = (Attempt(1, NODE, None, BEGAN_NS, BEGAN_NS, "restarted"),)
    queue.put(WAITING, "1", attempt=2, attempts=once)
    queue.step()
    assert queue.out("1") == begins("1") + b"first\nrq: job 1 requeued: r\n"
    assert not queue.watching.is_done


def test_a_job_that_ended_and_is_run_again_is_followed_again(queue: Queue) -> None:
    """As long as others are watched: each attempt once, and the last tells how it ended."""
    at: dict[str, Any] = {"node": NODE, "file": f"1@{NODE}.job"}
    queue.put(RUNNING, "2")
    queue.put(RUNNING, "1")
    first = begins("1") + b"first\nrq: job 1 failed: exit code 3\n"
    queue.write("1.out", first)
    both = [entry("1", RUNNING)._replace(**at), entry("2", RUNNING)._replace(node=NODE, file=f"2@{NODE}.job")]
    queue.watching.follow(both, queue.now_s)
    queue.step()
    queue.put(FAILED, "1", completed_ns=BEGAN_NS + 1, exit_code=3, reason="exit")
    queue.step()
    assert queue.watching.jobs["1"].is_done

    queue.put(WAITING, "1", **second(started_ns=0, node=NO_NODE))
    queue.step()
    assert not queue.watching.jobs["1"].is_done
    text = begins("1", 2) + b"second\n"
    queue.write("1.out", text)
    queue.put(RUNNING, "1", **second())
    queue.step()
    assert queue.out("1") == first + text
    queue.put(COMPLETED, "1", **second(completed_ns=BEGAN_NS + 3, exit_code=0))
    queue.step()
    assert queue.watching.jobs["1"].is_done
    assert queue.watching.jobs["1"].entry.state == COMPLETED

    # All of the third falls between two looks.
    third = begins("1", 3) + b"third\n"
    queue.write("1.out", third)
    attempts = tuple(Attempt(number, NODE, None, BEGAN_NS, BEGAN_NS, "exit") for number in (1, 2))
    queue.put(
        FAILED, "1", attempt=3, attempts=attempts, completed_ns=BEGAN_NS + 5, exit_code=4, reason="exit"
    )
    queue.step()
    assert queue.out("1") == first + text + third
    row = queue.watching.jobs["1"].row
    assert row is not None
    assert (row.state, queue.watching.jobs["1"].is_done, queue.watching.is_done) == (FAILED, True, False)


def test_the_error_file_is_followed_beside_the_output(queue: Queue) -> None:
    """All of it, since it does not say where an attempt begins."""
    queue.put(RUNNING, "1", job_error="1.err")
    queue.write("1.out", begins("1") + b"out\n")
    queue.write("1.err", b"err\n")
    queue.watching.follow([entry("1", RUNNING)._replace(node=NODE, file=f"1@{NODE}.job")], queue.now_s)
    queue.step()
    queue.write("1.err", b"more")
    queue.put(COMPLETED, "1", job_error="1.err", completed_ns=BEGAN_NS + 1, exit_code=0)
    queue.step()
    assert queue.out("1") == begins("1") + b"out\n"
    assert queue.got["1", True] == b"err\nmore"


def test_the_beginning_is_waited_for_but_not_for_ever(queue: Queue) -> None:
    """Before it is seen nobody knows what of the file is the job's; and it may never have been written."""
    queue.put(RUNNING, "1")
    queue.write("1.out", b"older\n")
    queue.watching.follow([entry("1", RUNNING)._replace(node=NODE, file=f"1@{NODE}.job")], queue.now_s)
    queue.step()
    assert queue.out("1") == b""
    queue.write("1.out", b"text\n")
    queue.step(BEGIN_S)
    assert queue.out("1") == b"older\ntext\n"


def test_from_now_on_is_from_now_on(queue: Queue) -> None:
    """Of what runs; a job that begins later is had from its beginning."""
    queue.put(RUNNING, "1")
    queue.put(WAITING, "2")
    queue.write("1.out", begins("1") + b"old\n")
    queue.watch(lambda _: False, from_start=False)
    running = entry("1", RUNNING)._replace(node=NODE, file=f"1@{NODE}.job")
    queue.watching.follow([running, entry("2")], queue.now_s)
    queue.step()
    queue.write("1.out", b"new\n")
    queue.put(RUNNING, "2")
    queue.write("2.out", b"older\n" + begins("2") + b"text\n")
    queue.step()
    assert queue.out("1") == b"new\n"
    assert queue.out("2") == begins("2") + b"text\n"


def test_a_job_whose_record_was_removed_is_not_waited_for(queue: Queue) -> None:
    """Records that ended long ago are swept away; one that moves is only missed by a look."""
    queue.put(WAITING, "1")
    queue.watching.follow([entry("1")], queue.now_s)
    queue.step()
    (Path(queue.spool.directory(WAITING)) / "1.job").unlink()
    queue.step()
    assert not queue.watching.is_done
    for _ in range(MISSED_MOST):
        queue.step()
    assert queue.watching.is_done


def test_newcomers_are_followed_if_the_words_mean_them(queue: Queue) -> None:
    """By name, set, range and expression, which may speak of the state; not what was there and not meant."""
    queue.put(COMPLETED, "1", job_jobname="fit", completed_ns=BEGAN_NS + 1, exit_code=0)
    queue.put(WAITING, "20", job_jobname="wide", job_cores=4)
    words = ["fit", "%night", "5-7", "cores>=4 & state=running", "last", "9"]
    queue.watch(Newcomers(queue.spool, words, ["17"], lambda: BEGAN_NS).mean)
    queue.step()
    assert queue.watching.jobs == {}

    queue.put(WAITING, "2", job_jobname="fit")
    queue.put(WAITING, "3", job_set="night")
    queue.put(WAITING, "4", job_jobname="fits")
    queue.put(WAITING, "6", job_jobname="other")
    queue.put(WAITING, "8", job_jobname="17")
    queue.put(WAITING, "9", job_jobname="other")
    queue.put(RUNNING, "20", job_jobname="wide", job_cores=4)
    queue.put(RUNNING, "21", job_jobname="wide", job_cores=3)
    # Short jobs come and end between two looks.
    queue.put(COMPLETED, "10", job_jobname="fit", completed_ns=BEGAN_NS + 1, exit_code=0)
    queue.write("10.out", begins("10") + b"short\n")
    queue.step()

    assert set(queue.watching.jobs) == {"2", "3", "6", "8", "20", "10"}
    assert queue.out("10").endswith(b"short\n")
