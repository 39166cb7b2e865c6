"""Promises about titles of supervisors: what is told is understood, and what is invented does no harm."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words import titles
from roundq.words.titles import Title

numbers = st.sets(st.integers(0, 2000), max_size=40).map(lambda found: tuple(sorted(found)))
gpus = st.lists(st.from_regex("[0-9A-Za-z-]{1,40}", fullmatch=True), max_size=8).map(tuple)
ids = st.from_regex("[0-9]{1,9}(_[0-9]{1,9})?|~[0-9a-f]{10}", fullmatch=True)


@given(st.builds(Title, ids, st.integers(40, 1000), st.integers(0, 1 << 52), numbers, gpus,
                 st.booleans()))  # fmt: skip
def test_what_a_title_tells_is_understood(title: Title) -> None:
    """It fits in a line that `ps` shows, and comes back as it was."""
    said = titles.text(title)

    assert said.isascii()
    assert said.isprintable()
    assert titles.parse(said) == title


def test_a_title_reads_well() -> None:
    """As roundqd(8) shows it."""
    title = Title("17", 4, 16 << 30, (0, 1, 2, 3), ("0", "1"))

    assert titles.text(title) == "rq: job 17, 4 cores, 16G, cpus 0-3, gpus 0 1"
    assert titles.text(Title("17_3", 1)) == "rq: job 17_3, 1 core"


@given(st.text() | st.text().map(lambda more: f"rq: job 1, 2 cores{more}"))
def test_any_title_is_a_title_or_none(said: str) -> None:
    """Whoever invents one may write what he likes: nothing fails, and no number is larger than sense."""
    title = titles.parse(said)

    if title is not None:
        assert 1 <= title.cores <= titles.CORES_MAX
        assert 0 <= title.memory <= 1 << 52
        assert len(title.cpus) <= min(title.cores, titles.CPUS_MAX)
        assert sorted(set(title.cpus)) == list(title.cpus)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "rq: job 1",
        "rq: job , 1 core",
        "rq: job 1, 0 cores",
        "rq: job 1, -1 cores",
        "rq: job 1, many cores",
        "rq: job 1, 1 coresandmore",
        "rq: job 1, 9999999 cores",
        " rq: job 1, 1 core",
        "rq daemon --foreground",
        "rq: job 1 2, 1 core",
        f"rq: job {'1' * 200}, 1 core",
    ],
)
def test_what_is_no_title_is_none(said: str) -> None:
    """It occupies nothing."""
    assert titles.parse(said) is None


def test_what_a_later_version_tells_is_left_out() -> None:
    """A part that is not known hides none that is."""
    said = "rq: job 1, 2 cores, 3 stars, 1G, cpus x, racks 7, gpus 1"

    assert titles.parse(said) == Title("1", 2, 1 << 30, (), ("1",))


@pytest.mark.parametrize(
    ("cores", "ranges"),
    [
        (1, "0-99999"),
        (1, " ".join(["0-99999"] * 509)),
        (99_999, "0-99998"),
        (99_999, " ".join(["0-999999"] * 300)),
        (300, " ".join(["0"] * 300)),
        (4, "3-0"),
        (4, "2 0"),
        (4, "0-1 1-2"),
        (4, "0-4"),
    ],
)
def test_cpus_that_no_supervisor_has_are_never_counted_out(
    cores: int, ranges: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million of them are a few bytes in a title; the cores count all the same."""
    made: list[int] = []

    class Chained:
        """Sees how many numbers are made of ranges."""

        @staticmethod
        def from_iterable(of: list[range]) -> list[int]:
            made.extend(map(len, of))
            return []

    monkeypatch.setattr(titles, "itertools", SimpleNamespace(chain=Chained))
    title = titles.parse(f"rq: job 1, {cores} cores, cpus {ranges}")

    assert title == Title("1", cores)
    assert sum(made) == 0


def test_no_more_cpus_count_than_the_node_has() -> None:
    """Whoever calls a job large has no more of them."""
    said = "rq: job 1, 8 cores, cpus 0-7"

    assert titles.parse(said, 8) == Title("1", 8, cpus=tuple(range(8)))
    assert titles.parse(said, 4) == Title("1", 8)


def test_parts_without_end_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in a title, a few of its parts are looked at."""
    asked: list[str] = []

    def watched(part: str, _unit: int) -> int:
        asked.append(part)
        return 1

    monkeypatch.setattr(titles, "parse_memory", watched)
    titles.parse("rq: job 1, 2 cores" + ", 1G" * 1000)

    assert len(asked) < 20


def test_gpus_without_end_are_left_out() -> None:
    """A title has room for two thousand names."""
    title = titles.parse("rq: job 1, 2 cores, gpus" + " x" * 2000)

    assert title is not None
    assert len(title.gpus) == titles.GPUS_MAX
