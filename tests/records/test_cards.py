"""Promises about cards: what is published is read, and what a stranger publishes is bounded and harmless."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.cards import CARD_BYTES_MAX, HEADS_MAX, Card, Occupant
from roundq.records.spool import Spool
from roundq.words.errors import RecordError
from roundq.words.job import NS, Identity
from roundq.words.policy import Shape, Verdict, Want
from tests.records.crowd import crowd, leftovers, new_spool, submitted

NOBODY = 65534
quick = settings(max_examples=60, deadline=None)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")

#: What 0.2.9 writes, and nothing else.
OLD = {
    "hostname": "n1",
    "pid": 4711,
    "physical_cores": 4,
    "logical_cpus": 8,
    "restart_time": {"secs": 1790000000, "nanos": 5},
}
OURS = {"version": "1.0", "beat": 3, "cores": 4}


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path / "ann")


# ---------------------------------------------------------------- any card

labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
moments_ns = st.integers(0, (1 << 40) * NS)
identities = st.none() | st.builds(Identity, labels, st.integers(0, 1 << 30), st.integers(0, 1 << 62))
cores = st.integers(0, cards.CORES_MAX)
sizes = st.integers(0, cards.MEMORY_MAX)
priorities = st.integers(-(1 << 31), 1 << 31)
finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.dictionaries(labels, st.integers(1, 1 << 30), max_size=2).map(
    lambda of: tuple(sorted(of.items()))
)
words = st.lists(labels, max_size=2).map(tuple)
limits = st.none() | st.integers(1, 1 << 30).map(float)
further = {
    "licenses": counts,
    "limit_s": limits,
    "scavenge": st.booleans(),
}
shaped = {"gpus": st.integers(0, 8), "nodes": words, "exclude": words, "features": words, **further}
occupants = st.builds(
    Occupant,
    id=labels,
    state=labels,
    cores=cores,
    memory=sizes,
    exclusive=st.booleans(),
    stamp_ns=st.integers(0, 1 << 62),
    settled=st.booleans(),
    since_ns=moments_ns,
    name=labels,
    process=identities,
    settling=st.booleans(),
    cpus=st.lists(st.integers(0, 1 << 20), max_size=3).map(tuple),
    gpus=words,
    restartable=st.booleans(),
    threads=st.booleans(),
    groups=words,
    **further,
)
waits = st.floats(0, cards.WAITED_MAX_S)
kept = labels.filter(lambda name: len(name) <= 256)
heads = st.builds(
    Want,
    labels,
    cores,
    sizes,
    moments_ns,
    priorities,
    waits,
    st.none() | st.lists(kept, max_size=4).map(tuple),
    **shaped,
)
shapes = st.builds(Shape, cores, sizes, priorities, groups=words, **shaped)
any_card = st.builds(
    Card,
    user=st.just("ann"),
    node=labels,
    pid=st.integers(0, 1 << 30),
    physical_cores=cores,
    logical_cpus=cores,
    restart_ns=moments_ns,
    version=labels,
    process=identities,
    beat=sizes,
    state=st.sampled_from([cards.UP, cards.DRAINING, cards.LEAVING]),
    reason=labels,
    cores=cores,
    memory=sizes,
    memory_available=sizes,
    load=finite,
    jobs=st.lists(occupants, max_size=3).map(tuple),
    waiting=st.integers(0, 1 << 40),
    heads=st.lists(heads, max_size=3).map(tuple),
    said=st.lists(st.builds(Verdict, shapes, labels, limits), max_size=3).map(tuple),
    trouble=st.lists(labels, max_size=3).map(tuple),
    threads=cores,
    gpus=st.lists(st.builds(cards.Gpu, labels, labels, st.booleans()), max_size=2).map(tuple),
    features=words,
    licenses=counts,
    usage=st.floats(0, 1e12),
    cores_left=st.none() | cores,
    jobs_left=st.none() | cores,
    emptied=counts,
)


def card(**fields: Any) -> Card:
    known = {"version": "1.0", "cores": 4, "beat": 1, **fields}
    return Card("ann", "n1", os.getpid(), 4, 8, 5, **known)


def refusal(data: bytes) -> str:
    with pytest.raises(RecordError) as caught:
        cards.parse(data, "eve")
    text = str(caught.value)
    assert text.isprintable()
    assert 0 < len(text) < 500
    return text


def with_ours(**fields: object) -> bytes:
    return json.dumps({**OLD, "roundq": {**OURS, **fields}}).encode()


# ---------------------------------------------------------------- round trips


@quick
@given(any_card)
def test_what_is_written_is_read_back(card: Card) -> None:
    assert cards.parse(cards.dump(card), "ann") == card


def test_a_published_card_is_read_and_leaves_nothing(spool: Spool) -> None:
    for beat in (1, 2):
        cards.publish(spool, card(beat=beat))
        assert cards.read(spool, "n1") == card(beat=beat)
    assert leftovers(spool) == []
    assert os.stat(f"{spool.path}/n1").st_mode & 0o777 == 0o644


def test_a_reader_never_sees_half_a_card(spool: Spool) -> None:
    """It is replaced in one step."""
    many = tuple(Occupant(str(n), "running", 1, 0, False, 0, True, name="x" * 100) for n in range(200))
    cards.publish(spool, card())

    def act(number: int) -> int:
        if number == 0:
            for beat in range(100):
                cards.publish(spool, card(beat=beat, jobs=many if beat % 2 else ()))
            return 0
        return len({len(cards.read(spool, "n1").jobs) for _ in range(100)} - {0, 200})

    assert crowd(3, act) == [0, 0, 0]


@pytest.mark.parametrize("text", [os.fsdecode(b"caf\xe9"), "\ud800", "\x1b[2J", "a\nb", "\u202e"])
def test_any_words_of_a_job_can_stand_on_a_card(text: str) -> None:
    """A job whose command is not UTF-8 must not make its user's card unreadable: its cores would be free."""
    job = Occupant(text, "running", 1, 0, False, 0, True, name=text, groups=(f"%{text}",))
    written = cards.dump(
        card(jobs=(job,), reason=text, trouble=(text,), said=(Verdict(Shape(1, 0, 0), text),))
    )
    (read,) = cards.parse(written, "ann").jobs
    assert (read.cores, read.settled) == (1, True)
    read.name.encode()


def test_a_card_is_never_larger_than_what_is_read() -> None:
    """However long the names and the troubles are."""
    long = "x" * 200_000
    jobs = tuple(Occupant(f"{n}", "running", 1, 0, False, 0, True, name=long) for n in range(256))
    wanted = tuple(Want(str(n), 1, 0, 0) for n in range(200))
    written = cards.dump(
        card(
            jobs=jobs,
            heads=wanted,
            said=(Verdict(Shape(1, 0, 0), long),) * 99,
            trouble=(long,) * 200,
            reason=long,
        )
    )
    assert len(written) <= CARD_BYTES_MAX
    read = cards.parse(written, "ann")
    assert len(read.jobs) == 256
    assert read.heads == wanted[:HEADS_MAX]


# ---------------------------------------------------------------- 0.2.9


def test_a_card_of_0_2_9_is_read() -> None:
    read = cards.parse(json.dumps(OLD).encode(), "bob")
    assert read == Card("bob", "n1", 4711, 4, 8, 1790000000 * NS + 5)
    assert read.is_legacy
    assert read.capacity == 4


def test_ours_offers_what_it_says_and_not_what_the_machine_has() -> None:
    read = cards.parse(with_ours(cores=3), "bob")
    assert not read.is_legacy
    assert (read.capacity, read.physical_cores) == (3, 4)


@quick
@given(any_card)
def test_0_2_9_reads_ours(card: Card) -> None:
    value = json.loads(cards.dump(card).decode())
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    assert type(value["hostname"]) is str
    assert all(type(value[name]) is int for name in ("pid", "physical_cores", "logical_cpus"))
    assert set(value["restart_time"]) == {"secs", "nanos"}


def test_a_head_that_names_one_node_is_read_as_a_list_of_one() -> None:
    """Earlier daemons named one node that may be kept for the job."""
    head = {"id": "1", "cores": 4, "memory": 0, "submitted": {"secs": 1}}
    for written, kept_on in ((["n2", "n1"], ("n2", "n1")), ("n2", ("n2",)), ([], ()), (None, None)):
        read = cards.parse(with_ours(heads=[{**head, "kept_on": written}]), "bob")
        assert read.heads[0].kept_on == kept_on
    for bad in ([3], ["n"] * 1001, {"n": 1}, 3):
        with pytest.raises(RecordError):
            cards.parse(with_ours(heads=[{**head, "kept_on": bad}]), "bob")


def test_fields_of_a_later_version_are_passed_over() -> None:
    data = json.loads(with_ours(leases={"a": 1}))
    data["gpus"] = 3
    assert cards.parse(json.dumps(data).encode(), "bob").beat == 3


# ---------------------------------------------------------------- hostile cards

OCCUPANT = {"id": "1", "state": "running", "cores": 1, "memory": 0, "stamp": 0, "settled": True}
BAD = {
    "empty": b"",
    "not JSON": b"hello",
    "a list": b"[]",
    "no hostname": json.dumps({**OLD, "hostname": None}).encode(),
    "no pid": json.dumps({name: OLD[name] for name in OLD if name != "pid"}).encode(),
    "pid is text": json.dumps({**OLD, "pid": "1"}).encode(),
    "cores without end": json.dumps({**OLD, "physical_cores": 1 << 40}).encode(),
    "negative cores": json.dumps({**OLD, "physical_cores": -1}).encode(),
    "ours is a list": json.dumps({**OLD, "roundq": []}).encode(),
    "no version": json.dumps({**OLD, "roundq": {"beat": 1, "cores": 1}}).encode(),
    "beat is a fraction": with_ours(beat=1.5),
    "beat is negative": with_ours(beat=-1),
    "load is NaN": with_ours(load=float("nan")),
    "load is text": with_ours(load="1"),
    "negative memory": with_ours(memory=-1),
    "jobs is an object": with_ours(jobs={}),
    "a job with negative cores": with_ours(jobs=[{**OCCUPANT, "cores": -64}]),
    "a job that is settled by a number": with_ours(jobs=[{**OCCUPANT, "settled": 1}]),
    "a job without memory": with_ours(jobs=[{**OCCUPANT, "memory": None}]),
    "jobs without end": with_ours(jobs=[OCCUPANT] * 10_001),
    "heads without end": with_ours(heads=[{}] * 1001),
    "trouble is text": with_ours(trouble="everywhere"),
    "waiting without end": with_ours(waiting=1 << 50),
    "an escape sequence as a key": with_ours(process={"\x1b[2J": 1}),
    "infinity elsewhere": b'{"x": 1e999, ' + json.dumps(OLD).encode()[1:],
    "a surrogate": json.dumps({**OLD, "hostname": "\ud800"}).encode(),
    "a surrogate elsewhere": json.dumps({**OLD, "x": "\ud800"}).encode(),
    "not UTF-8": b'{"hostname": "\xff"}',
    "deep": b'{"a":' * 50_000,
    "deep elsewhere": with_ours(x=json.loads("[" * 200 + "]" * 200)),
    "5000 digits": b'{"pid": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_card_is_refused_with_one_line(data: bytes) -> None:
    refusal(data)


@quick
@given(st.binary(max_size=100))
def test_no_bytes_do_anything_but_be_refused(data: bytes) -> None:
    refusal(data)


def test_a_card_that_is_cut_anywhere_is_refused() -> None:
    data = cards.dump(card(jobs=(Occupant("1", "running", 1, 0, False, 0, True),)))
    for length in range(len(data) - 1):
        refusal(data[:length])


def fifo(path: str) -> None:
    os.mkfifo(path)


def link_to_a_card(path: str) -> None:
    os.symlink("n1", path)


def link_to_zeros(path: str) -> None:
    os.symlink("/dev/zero", path)


def huge(path: str) -> None:
    Path(path).touch()
    os.truncate(path, 1 << 40)


def large(path: str) -> None:
    Path(path).write_bytes(cards.dump(card()) + b" " * CARD_BYTES_MAX)


def directory(path: str) -> None:
    os.mkdir(path)


def other_name(path: str) -> None:
    Path(path).write_bytes(cards.dump(card()))


@pytest.mark.parametrize("make", [fifo, link_to_a_card, link_to_zeros, huge, large, directory, other_name])
def test_what_a_stranger_puts_in_place_of_a_card_is_passed_over(
    make: Callable[[str], None], spool: Spool
) -> None:
    """And neither blocks nor leads elsewhere. His other cards count."""
    cards.publish(spool, card())
    make(f"{spool.path}/evil")
    with pytest.raises(RecordError):
        cards.read(spool, "evil")
    assert cards.read_all(spool) == [card()]


@as_root
def test_a_card_that_its_user_did_not_write_is_not_believed(spool: Spool) -> None:
    cards.publish(spool, card())
    os.chown(f"{spool.path}/n1", NOBODY, NOBODY)
    with pytest.raises(RecordError, match="it belongs to uid 65534"):
        cards.read(spool, "n1")


def test_a_card_that_is_gone_is_said_to_be_so(spool: Spool) -> None:
    with pytest.raises(FileNotFoundError):
        cards.read(spool, "n1")


# ---------------------------------------------------------------- names


def test_cards_are_told_from_what_else_is_in_a_spool(spool: Spool) -> None:
    submitted(spool)
    for name in (
        "n1",
        "n2.example.org",
        "node-3",
        "n1.log",
        "n1.log.1",
        ".hidden",
        "NONE",
        "a\x1b[2Jb",
        "a\nb",
    ):
        Path(spool.path, name).touch()
    assert sorted(name for name, _ in cards.names(spool)) == ["n1", "n2.example.org", "node-3"]


def test_no_directory_of_a_spool_is_taken_for_a_node(spool: Spool) -> None:
    assert cards.names(spool) == []
    assert set(os.listdir(spool.path)) <= spools.RESERVED_NAMES


def test_a_stranger_with_very_many_names_is_looked_at_to_a_bound(spool: Spool) -> None:
    for number in range(cards.NODES_MAX + 50):
        Path(spool.path, f"n{number}").touch()
    assert len(cards.names(spool)) == cards.NODES_MAX
    assert cards.read_all(spool) == []


def test_a_spool_that_cannot_be_listed_has_no_cards(tmp_path: Path) -> None:
    (tmp_path / ".roundqueue").write_bytes(b"")
    spool = spools.at(str(tmp_path), "eve", os.geteuid())
    assert cards.read_all(spool) == []
    assert cards.read_all(spools.at(str(tmp_path / "none"), "eve", 0)) == []
