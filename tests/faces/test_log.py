"""`rq log` of attempts, of several jobs, and of the last lines: what is typed, and what is seen."""

from __future__ import annotations

import pytest

from roundq.words.job import NO_NODE, Attempt
from roundq.words.states import CANCELED, CLAIMED, COMPLETED, FAILED, RUNNING, WAITING
from tests.faces.desk import Desk, process
from tests.faces.homes import NOW_NS, record


def put(desk: Desk, state: str, job_id: str, name: str, **of: object) -> None:
    given = {"job_directory": str(desk.directory), "job_output": f"{job_id}.out", **of}
    desk.homes.put(desk.spool, state, job_id, record(name, **given))  # type: ignore[arg-type]


def printed(desk: Desk, *words: str) -> bytes:
    done = process("log", *words, environ=desk.homes.environ("ann"))
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def begins(job_id: str, node: str = "n1", attempt: int = 1) -> bytes:
    again = f", attempt {attempt}" if attempt > 1 else ""
    return f"rq: job {job_id} 'fit' begins on {node}, 2026-11-21T04:00:00+0100{again}: ./fit\n".encode()


def attempts(*nodes: str) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(number, node, None, NOW_NS, NOW_NS, "restarted") for number, node in enumerate(nodes, 1)
    )


def test_each_attempt_is_printed_alone(desk: Desk) -> None:
    """From its first line to its last, or to where the next one begins if nobody wrote how it ended."""
    requeued = b"rq: job 1 requeued: stopped to be run again\n"
    parts = [
        begins("1", "n1") + b"one\n" + requeued,
        begins("1", "n2", 2) + b"two, lost\n",
        begins("1", "n1", 3) + b"three\nrq: job 1 failed: exit code 3\n",
    ]
    (desk.directory / "1.out").write_bytes(
        b"older\n" + parts[0] + b"others\n" + parts[1] + parts[2] + b"later\n"
    )
    put(desk, FAILED, "1", "fit", node="n1", attempt=3, attempts=attempts("n1", "n2"), began_s=5, ended_s=1)

    for number, text in enumerate(parts, 1):
        assert printed(desk, "--attempt", str(number), "1") == text
    assert printed(desk, "1") == parts[2]
    assert desk.rq("log", "--attempt", "4", "1") == (
        1, "", 'rq: job 1 "fit" has had no attempt 4: 3 so far\nhint: rq show 1\n'
    )  # fmt: skip


def test_the_last_attempt_of_a_job_that_waits_again_is_whole(desk: Desk) -> None:
    text = begins("1") + b"one\nrq: job 1 requeued: stopped to be run again\n"
    (desk.directory / "1.out").write_bytes(text + b"others\n")
    put(desk, WAITING, "1", "fit", attempt=2, attempts=attempts("n1"))
    assert printed(desk, "1") == text
    assert desk.rq("log", "--attempt", "2", "1").err == (
        'rq: job 1 "fit" has had no attempt 2: 1 so far\nhint: rq show 1\n'
    )


def test_an_attempt_that_never_began_has_no_part(desk: Desk) -> None:
    """Canceled before that, it has none; the one before it ends where the next one that did begin begins."""
    unbegun = Attempt(2, NO_NODE, None, 0, NOW_NS, "canceled")
    text = begins("1") + b"one\n"
    (desk.directory / "1.out").write_bytes(text + begins("1", "n1", 3) + b"three\n")
    put(desk, RUNNING, "1", "fit", node="n1", attempt=3, attempts=(*attempts("n1"), unbegun), began_s=5)
    assert printed(desk, "--attempt", "1", "1") == text
    assert desk.rq("log", "--attempt", "2", "1") == (
        1,
        "",
        'rq: job 1 "fit": its attempt 2 ended before it began\nhint: rq show 1\n',
    )


def test_an_attempt_that_cannot_be_told_from_the_rest_is_not_made_up(desk: Desk) -> None:
    put(desk, COMPLETED, "1", "fit", node="n1", job_error="1.err", began_s=5, ended_s=1)
    (desk.directory / "1.out").write_bytes(b"no line of ours\n")
    (desk.directory / "1.err").write_bytes(b"err\n")
    assert desk.rq("log", "--attempt", "1", "1") == (
        1,
        "",
        'rq: job 1 "fit": what its attempt 1 wrote is not to be told from the rest of its output\n'
        f"hint: all of it is in {desk.directory}/1.out\n",
    )
    assert desk.rq("log", "-e", "--attempt", "1", "1") == (
        2,
        "",
        "rq: option --attempt: an error file does not tell which attempt wrote what\nhint: rq log -e 1\n",
    )


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [(0, b""), (1, b"c"), (2, b"b\nc"), (3, b"a\nb\nc"), (4, b"rq"), (999_999_999, b"rq")],
)
def test_the_last_lines_of_a_part(desk: Desk, lines: int, wanted: bytes) -> None:
    """A last line without a newline is one; what others wrote behind does not count."""
    begin = begins("1")
    wanted = begin + b"a\nb\nc" if wanted == b"rq" else wanted
    (desk.directory / "1.out").write_bytes(b"older\n" * 9 + begin + b"a\nb\nc")
    put(desk, COMPLETED, "1", "fit", node="n1", began_s=5, ended_s=1)
    assert printed(desk, "-n", str(lines), "1") == wanted


def test_the_last_lines_are_found_from_the_end(desk: Desk) -> None:
    """Also of a file of many chunks, and of long lines."""
    line = b"x" * 1_000_000 + b"\n"
    (desk.directory / "1.out").write_bytes(b"a\n" + 3 * line + b"end\n")
    put(desk, COMPLETED, "1", "fit", node="n1", began_s=5, ended_s=1)
    assert printed(desk, "-n", "3", "1") == 2 * line + b"end\n"


def test_several_outputs_stand_below_their_names(desk: Desk) -> None:
    """What there is none of is told, and the others are printed."""
    for job, state in (("1", COMPLETED), ("2", RUNNING)):
        put(desk, state, job, "fit", node="n1", began_s=5, ended_s=1)
        (desk.directory / f"{job}.out").write_text(f"of {job}\n")
    put(desk, WAITING, "3", "fit")
    put(desk, CANCELED, "4", "fit", ended_s=1, reason="canceled")
    put(desk, CLAIMED, "5", "fit", node="n1")

    printed = '==> 1 "fit", completed <==\nof 1\n\n==> 2 "fit", running <==\nof 2\n'
    done = process("log", "1-5", environ=desk.homes.environ("ann"))
    assert done.stdout.decode() == printed
    assert done.stderr.decode() == "rq: 3 jobs have not begun, and no output: 3-5\n"
    assert done.returncode == 0

    # Those that were named one by one are told of one by one.
    done = process("log", "1", "2", "3", "4", "5", environ=desk.homes.environ("ann"))
    assert done.stdout.decode() == (
        f'{printed}\n==> 3 "fit", waiting <==\n\n==> 4 "fit", canceled <==\n\n==> 5 "fit", claimed <==\n'
    )
    assert done.stderr.decode() == (
        'rq: job 3 "fit" has not begun: it has no output yet\nhint: rq why 3\n'
        'rq: job 4 "fit" was canceled before it began: it has no output\n'
        'rq: job 5 "fit" is just starting: it has no output yet\nhint: try again\n'
    )
    assert done.returncode == 1
    assert desk.rq("log", "3-5").code == 1


def test_one_job_is_followed(desk: Desk) -> None:
    """Several are watched; what is over writes no more."""
    for job in "12":
        put(desk, COMPLETED, job, "fit", node="n1", began_s=5, ended_s=1)
    assert desk.rq("log", "-f", "1-2") == (
        2, "", "rq: option --follow: it follows one job\nhint: rq watch 1-2\n"
    )  # fmt: skip
    assert desk.rq("log", "-f", "--attempt", "1", "2") == (
        2,
        "",
        "rq: option --attempt: an attempt that is over writes no more\n"
        "hint: without it the present one is followed\n",
    )
