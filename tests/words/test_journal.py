"""Promises about the lines of the journal: what is folded is told again, nothing else is taken for a line."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.records.spool import ID_BYTES_MAX
from roundq.words import journal
from roundq.words.errors import RecordError
from roundq.words.job import Identity, Job, Record
from roundq.words.journal import Begin, Header
from roundq.words.states import ENDED_STATES
from tests.words.test_job import records

quick = settings(max_examples=150, deadline=None)
states = st.sampled_from(ENDED_STATES)
#: Of all kinds: numbers, tasks, those of one node, what programs dropped.
ids = st.one_of(
    st.integers(0, 10**6).map(str),
    st.tuples(st.integers(0, 999), st.integers(0, 999)).map(lambda pair: f"{pair[0]}_{pair[1]}"),
    st.integers(0, 999).map(lambda number: f"{number}.node-b"),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=9),
)


@quick
@given(ids, states, records)
def test_a_record_comes_back(job_id: str, state: str, record: Record) -> None:
    """All but its processes, CPUs, lease and environment; in one line of ASCII."""
    text = journal.line(job_id, state, record)

    told, found, problem = journal.parse(text)

    assert (told.id, told.state, problem) == (job_id, state, None)
    assert found == journal.folded(record)
    assert text.count(b"\n") == 1
    assert text.endswith(b"}\n")
    assert text.isascii()
    assert journal.begin_of(text) == told


def test_a_line_is_short() -> None:
    """What is as it is by default is not told: a year of jobs must be searched soon."""
    job = Job(("./fit", "-n", "3"), directory="/home/ann/fit", home_dir="/home/ann", submitted_ns=1)
    process = Identity("b" * 36, 4711, 1 << 40)
    record = Record(
        job, started_ns=2, node="n1", pid=4711, completed_ns=3, exit_code=0, cores=1, process=process
    )

    text = journal.line("17", "completed", record)

    assert text.startswith(b'{"id":"17","state":"completed","ended":3,"record":{"job":{')
    assert len(text) < 300
    assert b"4711" not in text


def test_what_was_no_record_has_its_problem() -> None:
    """It is gone, but that it was there is known."""
    text = journal.problem_line("7", "failed", 5, 'it is "empty"')
    assert journal.parse(text) == (Begin("7", "failed", 5), None, 'it is "empty"')


@quick
@given(st.lists(st.tuples(ids, st.integers(1, 3)), max_size=30), st.binary(max_size=60))
def test_a_closed_volume_has_each_job_once_in_order(jobs: list[tuple[str, int]], torn: bytes) -> None:
    """Of two lines of a job that of the later attempt; what a crash cut is left out."""
    lines = [
        journal.line(job_id, "failed", Record(Job(("x",)), completed_ns=place + 1, attempt=attempt))
        for place, (job_id, attempt) in enumerate(jobs)
    ]
    open_volume = journal.header_line(Header(False, 5.5)) + b"".join(lines)
    torn = torn.replace(b"\n", b"")

    head, *rest = journal.in_order(open_volume + torn + b"\n").splitlines(keepends=True)

    found = [journal.parse(text) for text in rest]
    keys = [journal.key(told.id) for told, _, _ in found]
    assert keys == sorted(set(keys))
    assert {told.id: record.attempt for told, record, _ in found if record} == {
        job_id: max(attempt for other, attempt in jobs if other == job_id) for job_id, _ in jobs
    }
    header = journal.header_of(head)
    assert header is not None
    assert (header.is_sorted, header.begun_s, header.lines) == (True, 5.5, len(rest))
    if found:
        ends = [told.ended_ns for told, _, _ in found]
        assert (header.first, header.last) == (found[0][0].id, found[-1][0].id)
        assert (header.since_ns, header.until_ns) == (min(ends), max(ends))


def test_the_tasks_of_an_array_stand_together_and_numbers_in_their_order() -> None:
    """So they are found together, and so are the jobs of a day."""
    given_ids = ["10", "9", "17_10", "17_9", "17", "100", "18", "x"]
    assert sorted(given_ids, key=journal.key) == ["9", "x", "10", "17", "17_9", "17_10", "18", "100"]


@quick
@given(ids, ids)
def test_a_pattern_meets_the_lines_of_its_job_only(job_id: str, other: str) -> None:
    """Also where one id is the begin of the other."""
    text = journal.line(other, "failed", Record(Job(("x",))))
    assert text.startswith(journal.pattern(job_id)) is (job_id == other)
    assert text.startswith(journal.pattern(job_id, of_tasks=True)) is other.startswith(f"{job_id}_")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"{}",
        b"[]",
        b'{"id":"1","state":"completed","ended":3,"record":{"job"',
        b'{"id":"1","state":"running","ended":3,"record":{"job":{"command":["x"]}}}',
        b'{"id":"1","state":"completed","ended":3,"record":{}}',
        b'{"id":"1","state":"completed","ended":3,"record":null}',
        b'{"id":"\\ud800","state":"completed","ended":3,"record":{"job":{"command":["x"]}}}',
        b'{"state":"completed","id":"1","ended":3,"record":{"job":{"command":["x"]}}}',
        b'{"id":"1","state":"completed","ended":3,"record":' + b"[" * 5000,
    ],
)
def test_anything_else_is_no_line(text: bytes) -> None:
    """A journal was cut, or somebody wrote to it."""
    with pytest.raises(RecordError):
        journal.parse(text)


@quick
@given(
    st.binary(max_size=200)
    | st.from_regex(rb'\{"id":"\d","state":"failed","ended":\d,.{0,60}', fullmatch=True)
)
def test_any_bytes_are_a_line_or_an_error(text: bytes) -> None:
    """And never an error of ours."""
    for value in (text, b'{"journal":1,"begun":' + text, b'{"journal":1,"begun":0,"sorted":true,' + text):
        journal.header_of(value)
        try:
            journal.parse(value)
        except RecordError:
            continue
        assert journal.begin_of(value) is not None


def test_the_highest_number_is_that_of_any_kind_of_id() -> None:
    """Tasks and numbers of one node count, names do not."""
    lines = [
        journal.line(job_id, "failed", Record(Job(("x", '{"id":"99",'))))
        for job_id in ("7", "12_3", "15.node", "16x", "9" * 30)
    ]
    assert journal.highest_number(b"".join(lines)) == 15
    assert journal.highest_number(b"") == 0


def test_a_header_of_another_version_is_none() -> None:
    """Who cannot read it does not guess."""
    assert journal.header_of(json.dumps({"journal": 2, "begun": 1}).encode()) is None
    closed = {"journal": 1, "begun": 0, "sorted": True, "first": "", "last": "", "since": 0, "until": 0}
    for name in ("begun", "since", "until", "number", "lines"):
        for wrong in ("Infinity", "NaN", "1e400", "9" * 400 + ("" if name == "begun" else ".0")):
            said = json.dumps({**closed, "number": 0, "lines": 0, name: "?"}).replace('"?"', wrong)
            header = journal.header_of(said.encode())
            assert header is None or name == "begun", said
    assert journal.header_of(journal.header_line(Header(False, 1.5))) == Header(False, 1.5)


@pytest.mark.parametrize("size", [journal.LINE_BYTES_MAX // 2, 4 * journal.LINE_BYTES_MAX])
def test_an_id_of_any_size_needs_no_memory(size: int) -> None:
    """A stranger's line may be one long id: it is none, and looking at it costs no multiple of its length."""
    text = b'{"id":"' + b"x" * size + b'","state":"completed","ended":1,"problem":""}\n'
    tracemalloc.start()
    try:
        assert journal.begin_of(text) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_longest_id_that_there_can_be_is_read() -> None:
    """Whatever its characters are: each may be written as six."""
    for sign in ("\x01", "é", "x", '"'):
        job_id = sign * (ID_BYTES_MAX // len(sign.encode()))
        text = journal.problem_line(job_id, "failed", 1, "")
        assert journal.begin_of(text) == journal.Begin(job_id, "failed", 1)
