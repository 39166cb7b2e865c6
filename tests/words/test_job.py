"""Promises about the record of a job: what is written is read back, and only a record is read."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roundq.words import job
from roundq.words import record_format as formats
from roundq.words.errors import RecordError
from roundq.words.job import NS, Array, Attempt, Dependency, Identity, Job, Record, Task
from roundq.words.record_format import RECORD_BYTES_MAX

quick = settings(max_examples=150, deadline=None)

#: Exactly what a 0.2.9 submitter writes.
OLD = {
    "job": {
        "home_dir": "/home/ann",
        "directory": "/home/ann/fit",
        "command": ["./fit", "-n", "3"],
        "jobname": "fit",
        "output": "fit.out",
        "submitted": {"secs": 1790000000, "nanos": 123456789},
        "cores": 1,
        "memory_required": 0,
        "max_output": 1048576,
        "restartable": False,
    },
    "started": {"secs": 0, "nanos": 0},
    "node": "NONE",
    "pid": 0,
    "completed": {"secs": 0, "nanos": 0},
    "exit_code": None,
}

# ---------------------------------------------------------------- any record

#: What the kernel hands over as arguments and paths: any bytes but NUL.
words = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    st.binary(max_size=12).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),
)
labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
moments_ns = st.integers(0, (1 << 40) * NS + NS - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | finite | labels,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(labels, inner, max_size=3),
    max_leaves=6,
)
identities = st.builds(Identity, boot=labels, pid=st.integers(0, 1 << 30), start=st.integers(0, 1 << 62))


def unknown(known: frozenset[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(labels.filter(lambda name: name not in known), anything, max_size=3)


naturals = st.integers(0, 1 << 62)
arrays = st.builds(
    Array,
    id=labels,
    index=naturals,
    first=naturals,
    last=naturals,
    step=st.integers(1, 1 << 62),
    count=st.integers(1, 1_000_000),
    jobs=st.integers(0, 10**6),
    throttle=st.integers(0, 1_000_000),
    max_fails=st.none() | st.integers(0, 1_000_000),
)
tasks = st.builds(Task, index=naturals, command=st.lists(words, min_size=1, max_size=3).map(tuple))
dependencies = st.builds(
    Dependency, how=st.sampled_from(["ok", "any", "fail"]), job=labels, tasks=st.integers(0, 1_000_000)
)
described = st.builds(
    Job,
    command=st.lists(words, min_size=1, max_size=4).map(tuple),
    directory=words,
    home_dir=words,
    jobname=words,
    output=words,
    submitted_ns=moments_ns,
    cores=st.integers(0, 1 << 20),
    memory_required=st.integers(0, 1 << 60),
    memory_limit=st.none() | st.integers(1, 1 << 60),
    max_output=st.integers(0, 1 << 60),
    restartable=st.booleans(),
    error=st.none() | words,
    environment=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    umask=st.none() | st.integers(0, 0o777),
    time_limit_s=st.none() | st.integers(0, 10**15).map(lambda ns: ns / NS),
    priority=st.integers(-(1 << 31), 1 << 31),
    set=labels,
    array=st.none() | arrays,
    chunk=st.lists(tasks, max_size=2).map(tuple),
    after=st.lists(dependencies, max_size=2).map(tuple),
    keep_held=st.booleans(),
    begin_ns=moments_ns,
    retries=st.integers(0, 1_000_000),
    retry_on=st.lists(labels, max_size=2).map(tuple),
    backoff_s=st.integers(0, 10**15).map(lambda ns: ns / NS),
    extra=unknown(formats._JOB_FIELDS),
)
exit_codes = st.none() | st.integers(0, 255)
signals = st.none() | st.integers(0, 128)
attempts = st.builds(
    Attempt,
    number=st.integers(0, 1 << 30),
    node=labels,
    process=st.none() | identities,
    started_ns=moments_ns,
    completed_ns=moments_ns,
    reason=st.none() | labels,
    exit_code=exit_codes,
    signal=signals,
)
records = st.builds(
    Record,
    job=described,
    started_ns=moments_ns,
    node=labels,
    pid=st.integers(0, 1 << 30),
    completed_ns=moments_ns,
    exit_code=exit_codes,
    signal=signals,
    reason=st.none() | labels,
    detail=st.none() | labels,
    attempt=st.integers(1, 1 << 30),
    attempts=st.lists(attempts, max_size=2).map(tuple),
    cores=st.integers(0, 1 << 20),
    process=st.none() | identities,
    usage=st.none() | st.dictionaries(labels, finite, max_size=3),
    retired=st.booleans(),
    results=st.lists(st.tuples(naturals, st.integers(-128, 255)), max_size=2).map(tuple),
    not_before_ns=moments_ns,
    extra=unknown(formats._RECORD_FIELDS),
)


def refusal(data: bytes) -> str:
    """What a person reads of bytes that are no record: one line that any terminal can show."""
    with pytest.raises(RecordError) as caught:
        formats.parse(data)
    text = str(caught.value)
    assert text.isprintable()
    assert 0 < len(text) < 500
    return text


def as_bytes(value: object) -> bytes:
    return json.dumps(value).encode()


def changed(**fields: object) -> bytes:
    """The bytes of the old record with other fields, `job__NAME` for those of its job."""
    of_job = {name[5:]: value for name, value in fields.items() if name.startswith("job__")}
    own = {name: value for name, value in fields.items() if not name.startswith("job__")}
    return as_bytes({**OLD, **own, "job": {**OLD["job"], **of_job}})  # type: ignore[dict-item]


# ---------------------------------------------------------------- round trips


@quick
@given(records)
def test_what_is_written_is_read_back(record: Record) -> None:
    """Every field, every byte of every argument, earlier attempts, and fields that we do not know."""
    assert formats.parse(formats.dump(record)) == record


@pytest.mark.parametrize("byte", range(1, 256))
def test_any_byte_of_an_argument_or_path_comes_back(byte: int) -> None:
    word = os.fsdecode(b"a" + bytes([byte]) + b"z")
    job = Job(("run", word), directory=word, output=word, error=word, jobname=word, home_dir=word)
    assert formats.parse(formats.dump(Record(job))).job == job


@pytest.mark.parametrize("byte", [b"x", b"\xff", "€".encode(), b'"', b"\x01"])
def test_the_longest_word_that_the_kernel_takes_is_read_back(byte: bytes) -> None:
    """MAX_ARG_STRLEN is 128 KiB; the text and the exact bytes of such a word are longer than that."""
    word = os.fsdecode((byte * (1 << 17))[: (1 << 17) - 1 - (((1 << 17) - 1) % len(byte))])
    job = Job(("run", word))
    assert formats.parse(formats.dump(Record(job))).job == job


def test_what_is_not_utf8_is_readable_where_others_look() -> None:
    value = json.loads(
        formats.dump(Record(Job(("cat", os.fsdecode(b"caf\xe9")), output=os.fsdecode(b"\xff"))))
    )
    assert value["job"]["command"] == ["cat", "caf\\xe9"]
    assert value["job"]["output"] == "\\xff"
    assert base64.b64decode(value["job"]["raw"]["output"]) == b"\xff"


def test_unknown_fields_are_kept_in_every_place_of_a_record() -> None:
    """Another version's fields survive that ours rewrites the record."""
    data = changed(job__future={"a": [1, None, "x"]}, hint="later", job__gpus=2)
    again = json.loads(formats.dump(replace(formats.parse(data), node="n1")))
    assert (again["job"]["future"], again["hint"], again["job"]["gpus"]) == (
        {"a": [1, None, "x"]},
        "later",
        2,
    )


def test_an_unknown_field_never_wins_over_ours() -> None:
    job = Job(("true",), extra={"command": ["rm"], "raw": {"command": [base64.b64encode(b"rm").decode()]}})
    parsed = formats.parse(formats.dump(Record(job, extra={"pid": 7, "job": {}})))
    assert (parsed.job.command, parsed.pid) == (("true",), 0)


# ---------------------------------------------------------------- 0.2.9


def test_a_file_of_0_2_9_is_read() -> None:
    """Without any of our fields; what it does not say is as 0.2.9 does it."""
    record = formats.parse(as_bytes(OLD))
    assert record == Record(
        Job(
            command=("./fit", "-n", "3"),
            directory="/home/ann/fit",
            home_dir="/home/ann",
            jobname="fit",
            output="fit.out",
            submitted_ns=1790000000 * NS + 123456789,
        )
    )


def test_a_dropped_file_needs_only_a_command() -> None:
    record = formats.parse(b'{"job": {"command": ["true"]}}')
    assert record == Record(Job(("true",)))
    assert (record.job.cores, record.job.max_output, record.attempt) == (1, 1 << 20, 1)


def natural(value: object, bits: int) -> bool:
    return type(value) is int and 0 <= value < 1 << bits


def read_as_0_2_9(data: bytes) -> None:
    """Checks what serde would: each field is there, of the right type; others are passed over."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    value = json.loads(data.decode(), parse_constant=refuse)
    # Escapes of lone surrogates are not text for a strict reader.
    json.dumps(value, ensure_ascii=False).encode()
    job = value["job"]
    moments = [value["started"], value["completed"], job["submitted"]]
    assert all(natural(one["secs"], 64) and natural(one["nanos"], 32) for one in moments)
    assert all(one["nanos"] < NS for one in moments)
    assert all(type(job[name]) is str for name in ("home_dir", "directory", "jobname", "output"))
    assert type(job["command"]) is list
    assert all(type(word) is str for word in job["command"])
    assert all(natural(job[name], 64) for name in ("cores", "memory_required", "max_output"))
    assert type(job["restartable"]) is bool
    assert type(value["node"]) is str
    assert natural(value["pid"], 32)
    code = value["exit_code"]
    assert code is None or (type(code) is int and -(1 << 31) <= code < 1 << 31)


@quick
@given(records)
def test_0_2_9_reads_every_record_of_ours(record: Record) -> None:
    """So daemons of 0.2.9 count our jobs."""
    read_as_0_2_9(formats.dump(record))


# ---------------------------------------------------------------- what is no record


def test_a_record_that_is_cut_anywhere_is_refused() -> None:
    """As a reader on another node may find it while its writer still writes."""
    data = formats.dump(Record(Job(("echo", "é"), extra={"x": 1.5}), attempts=(Attempt(1, "n", None, 0, 0),)))
    for length in range(len(data) - 1):
        refusal(data[:length])


BAD = {
    "empty": b"",
    "blank": b" \n",
    "NUL bytes": b"\0" * 400,
    "not JSON": b"#!/bin/sh\ntrue\n",
    "no object": b"[]",
    "a number": b"3",
    "a text": b'"job"',
    "null": b"null",
    "no job": b"{}",
    "job is a list": b'{"job": []}',
    "not UTF-8": b'{"job": {"command": ["\xff"]}}',
    "UTF-16": '{"job": {"command": ["true"]}}'.encode("utf-16"),
    "surrogate bytes": b'{"job": {"command": ["\xed\xa0\x80"]}}',
    "surrogate escape": b'{"job": {"command": ["\\ud800"]}}',
    "surrogate elsewhere": b'{"job": {"command": ["true"]}, "x": ["\\uDC80"]}',
    "surrogate key": b'{"job": {"command": ["true"]}, "\\ud800": 1}',
    "surrogate usage": b'{"job": {"command": ["true"]}, "usage": {"\\ud800": 1}}',
    "two objects": as_bytes(OLD) * 2,
    "other version": as_bytes({"version": 7, "jobs": [OLD]}),
    "no command": changed(job__command=[]),
    "command is text": changed(job__command="true"),
    "command holds null": changed(job__command=["a", None]),
    "command holds a list": changed(job__command=["a", ["b"]]),
    "NUL in a word": changed(job__command=["a\0b"]),
    "NUL in a path": changed(job__directory="/a\0b"),
    "NUL in raw": changed(job__raw={"command": ["AAAA"]}),
    "too many words": changed(job__command=["a"] * ((1 << 16) + 1)),
    "path is a number": changed(job__directory=7),
    "cores are text": changed(job__cores="1"),
    "cores are a truth": changed(job__cores=True),
    "cores are a fraction": changed(job__cores=1.5),
    "cores are negative": changed(job__cores=-1),
    "cores are null": changed(job__cores=None),
    "memory without end": changed(job__memory_required=1 << 70),
    "no memory at all": changed(job__memory_limit=0),
    "limit is a truth": changed(job__memory_limit=True),
    "restartable is a number": changed(job__restartable=1),
    "umask is too wide": changed(job__umask=0o1000),
    "digest is a path": changed(job__environment="../../../etc/passwd"),
    "digest with a line": changed(job__environment="a" * 64 + "\n"),
    "time is a number": changed(started=17),
    "time is negative": changed(started={"secs": -1, "nanos": 0}),
    "nanos overflow": changed(completed={"secs": 1, "nanos": NS}),
    "pid is text": changed(pid="1"),
    "pid is negative": changed(pid=-1),
    "exit code is a fraction": changed(exit_code=0.5),
    "signal out of range": changed(signal=1000),
    "attempt zero": changed(attempt=0),
    "attempts are an object": changed(attempts={"number": 1}),
    "process without pid": changed(process={"boot": "b", "start": 1}),
    "usage is text": changed(usage={"cpu": "12"}),
    "usage is a list": changed(usage=[1]),
    "usage is huge": changed(usage={"cpu": 10**400}),
    "NaN": b'{"job": {"command": ["true"]}, "usage": {"cpu": NaN}}',
    "infinity elsewhere": b'{"job": {"command": ["true"], "x": [Infinity]}}',
    "infinity by size": b'{"job": {"command": ["true"]}, "x": 1e999}',
    "raw is no base64": changed(job__raw={"output": "%%%"}),
    "raw is cut base64": changed(job__raw={"output": "abc"}),
    "raw is not ASCII": changed(job__raw={"output": "é"}),
    "raw output is a list": changed(job__raw={"output": ["YQ=="]}),
    "raw command is text": changed(job__raw={"command": "YQ=="}),
    "raw command is empty": changed(job__raw={"command": []}),
    "a key with an escape sequence": changed(usage={"\x1b[2J\n": None}),
    "a long key": changed(usage={"k" * 100_000: None}),
    "a number of 5000 digits": b'{"job": {"command": ["true"], "cores": 1' + b"0" * 5000 + b"}}",
    "such a number elsewhere": b'{"job": {"command": ["true"]}, "x": 1' + b"0" * 5000 + b"}",
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep elsewhere": b'{"job": {"command": ["true"]}, "x": ' + b"[" * 300 + b"]" * 300 + b"}",
    "too large": b" " * RECORD_BYTES_MAX + as_bytes(OLD),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_record_is_refused_with_one_line(data: bytes) -> None:
    """And with nothing but a RecordError, so that one bad file never stops a daemon."""
    refusal(data)


def test_a_refusal_names_the_field() -> None:
    assert refusal(changed(job__cores="1")).startswith("job.cores: ")
    assert refusal(b"") == "it is empty"


@quick
@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf{}")
@example(b"-")
def test_no_bytes_do_anything_but_be_refused(data: bytes) -> None:
    refusal(data)


#: Where a value may be replaced: each path leads through objects and lists.
PLACES = [("job",), ("job", "command"), ("job", "command", 0), ("usage",), ("process",), ("attempts",)]
PLACES += [(name,) for name in sorted(formats._RECORD_FIELDS)]
PLACES += [("job", name) for name in sorted(formats._JOB_FIELDS)]
PLACES += [("job", "raw", name) for name in ("command", "output", "error", "else")]
PLACES += [("attempts", 0, name) for name in ("number", "process", "started", "else")]
wild = anything | st.sampled_from([10**4000, -1, 1 << 31, 1 << 64, True, "x" * 300, 1e308, [[]], {"": {}}])


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), wild)
def test_whatever_stands_in_a_field_it_is_refused_or_can_be_kept(
    place: tuple[str | int, ...], value: object
) -> None:
    """What is read can be written, and is then the same: no file makes a daemon fail later."""
    attempt = {"number": 1}
    whole: Any = {"attempts": [attempt], **OLD, "job": {**OLD["job"], "raw": {}}}  # type: ignore[dict-item]
    inner = whole
    for step in place[:-1]:
        inner = inner.setdefault(step, {}) if isinstance(inner, dict) else inner[step]
    inner[place[-1]] = value
    try:
        record = formats.parse(as_bytes(whole))
    except RecordError:
        refusal(as_bytes(whole))
        return
    assert formats.parse(formats.dump(record)) == record
    read_as_0_2_9(formats.dump(record))


# ---------------------------------------------------------------- attempts


def test_the_next_attempt_keeps_the_last_as_history_and_nothing_of_it_else() -> None:
    process = Identity("boot", 5, 6)
    record = Record(
        Job(("a",)),
        10,
        "n1",
        5,
        0,
        3,
        9,
        "exit",
        "why",
        2,
        (Attempt(1, "n0", None, 1, 2),),
        4,
        process,
        {"cpu": 1.0},
    )
    after = replace(record, extra={"x": 1}).next_attempt(20, "restarted")
    ended = Attempt(2, "n1", process, 10, 20, "restarted", 3, 9, "why")
    assert after == Record(
        record.job, attempt=3, attempts=(Attempt(1, "n0", None, 1, 2), ended), extra={"x": 1}
    )


def test_however_often_a_job_is_run_its_record_can_be_read() -> None:
    """What is said of a hundred attempts has room beside the longest command that is accepted."""
    record = Record(Job(("echo",)))
    least = len(formats.dump(record))
    for number in range(job.ATTEMPTS_MAX + 1):
        process = Identity("b" * 36, 1 << 22, 1 << 40)
        ended = replace(record, node="n" * 128, process=process, detail="\N{SNOWMAN}" * 5000)
        record = ended.next_attempt(1_790_000_000 * NS + number, "output limit")

    data = formats.dump(record)
    assert len(data) - least < job.FACTS_BYTES_MAX
    assert formats.parse(data) == record


@quick
@given(records)
def test_a_waiting_record_holds_nothing_of_an_attempt(record: Record) -> None:
    """Whatever was left in it; an end that it holds becomes history, and the attempt a new one.

    But for how tasks of a chunk ended: the next attempt goes on where this one came to.
    """
    waits = record.unbegun()
    assert waits == replace(
        Record(record.job),
        attempt=waits.attempt,
        attempts=waits.attempts,
        results=record.results,
        extra=record.extra,
    )
    assert waits.attempt == record.attempt + bool(record.completed_ns)
    assert len(waits.attempts) == len(record.attempts) + bool(record.completed_ns)
    assert waits.unbegun() == waits


def test_a_job_that_begins_ten_thousand_times_can_still_be_read() -> None:
    """A restartable job that gives way to others each few minutes does so within a month."""
    record = Record(Job(("a",)))
    for number in range(10_000):
        record = replace(record, node="a-node-with-a-long-name", process=Identity("b" * 36, 1 << 22, 1 << 40))
        record = record.next_attempt(number * NS, "lost")
    assert formats.parse(formats.dump(record)) == record
    assert record.attempt == 10_001
    assert record.attempts[-1].number == 10_000


def test_the_name_of_a_job_is_the_given_one_or_its_command_line() -> None:
    assert Job(("a", "b c")).name == "a b c"
    assert Job(("a", "b c"), jobname="fit").name == "fit"


@pytest.mark.parametrize(
    ("directory", "home_dir", "runs_in"),
    [
        ("", "", "/home/ann"),
        ("fit", "", "/home/ann/fit"),
        ("fit", "/data/ann", "/data/ann/fit"),
        ("", "/data/ann", "/data/ann"),
        ("/scratch", "", "/scratch"),
        ("/scratch", "/data/ann", "/scratch"),
    ],
)
def test_a_job_runs_where_its_record_says_and_never_where_the_daemon_stands(
    directory: str, home_dir: str, runs_in: str
) -> None:
    """A program that drops files may name a directory within the home."""
    record = Record(Job(("true",), directory=directory, home_dir=home_dir)).at_home("/home/ann")

    assert record.job.directory == runs_in
    assert record.job.home_dir == (home_dir or "/home/ann")
