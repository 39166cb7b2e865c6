"""Promises about the words of a job directory: names of claims, diaries, and which runs were double."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roundq.words import jobdir
from roundq.words.job import Identity
from roundq.words.jobdir import Author, Claim, Run

AUTHOR = Author("node3", "machine", "pid:[1]", Identity("boot", 7, 99))
WIDS = st.from_regex("[a-zA-Z0-9]{1,8}", fullmatch=True)
NAMES = st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=20)


@given(WIDS, NAMES)
def test_a_claim_is_told_by_the_name_of_its_file(wid: str, name: str) -> None:
    """Whatever a job is called: the first dot ends the id."""
    assert jobdir.to_claim(Claim(wid, name).file()) == Claim(wid, name)


def test_what_is_no_claim_is_none() -> None:
    for file in ("", "w1", "w1.", ".w1.job", "w_1.job", "w1\n.job", "ü.job"):
        assert jobdir.to_claim(file) is None


def test_the_first_id_in_the_order_of_characters_has_the_job() -> None:
    assert jobdir.first(["w2", "w10", "x"]) == "w10"


@given(st.lists(st.tuples(st.sampled_from(["claims", "lost", "runs", "ended"]), NAMES)))
def test_a_diary_tells_what_was_noted(notes: list[tuple[str, str]]) -> None:
    """What is open is what was claimed last and is not over."""
    content = jobdir.heading(AUTHOR)
    opened = None
    runs: list[Run] = []
    for verb, name in notes:
        content += jobdir.runs(name, ["x"]) if verb == "runs" else getattr(jobdir, verb)(name)
        if verb in ("claims", "runs"):
            opened = name
        elif name == opened:
            opened = None
        if verb == "runs":
            runs.append(Run(f"w1.0.a:{len(runs)}", "w1", name, frozenset("x")))
    diary = jobdir.parse("w1.0.a", content)
    assert diary is not None
    assert (diary.id, diary.file, diary.author) == ("w1.0.a", "w1.0.a", AUTHOR)
    assert (diary.open, list(diary.runs), diary.has_left) == (opened, runs, False)
    running = diary.running()
    assert running is None or (running == runs[-1] and running.name == opened)


@given(st.binary())
def test_no_bytes_are_too_wild_for_a_diary(content: bytes) -> None:
    """Another user may have written them, or a crash cut them."""
    diary = jobdir.parse("w1.0.a", content)
    assert diary is not None
    assert diary.author is None


def test_a_line_that_is_cut_is_not_read() -> None:
    content = jobdir.heading(AUTHOR) + jobdir.claims("1.txt") + jobdir.runs("1.txt", ())[:-1]
    diary = jobdir.parse("w1.0.a", content)
    assert diary is not None
    assert (diary.open, diary.is_running) == ("1.txt", False)


def test_an_inherited_diary_is_the_same_diary() -> None:
    """Its runs keep their ids, which others have noted."""
    content = jobdir.heading(AUTHOR) + jobdir.runs("1.txt", ())
    before, after = (jobdir.parse(f"w1.0.a{end}", content) for end in ("", "~w1.0.b"))
    assert before is not None
    assert after is not None
    assert (after.id, after.runs, after.is_inherited) == (before.id, before.runs, True)
    assert after.file == "w1.0.a~w1.0.b"


def test_a_file_that_is_called_otherwise_is_no_diary() -> None:
    for file in ("w1", ".new", "w 1.x", "w1."):
        assert jobdir.parse(file, b"") is None


def test_two_runs_are_double_if_neither_knew_the_other_to_be_over() -> None:
    def found(*knew: tuple[str, ...]) -> list[tuple[str, str]]:
        diaries = [
            jobdir.parse(f"w{number}.0.a", b"{}\n" + jobdir.runs("1.txt", ids) + jobdir.runs("2.txt", ()))
            for number, ids in enumerate(knew)
        ]
        pairs = jobdir.double([diary for diary in diaries if diary])
        return [(one.wid, other.wid) for one, other in pairs if one.name == "1.txt"]

    assert found(()) == []
    assert found((), ()) == [("w0", "w1")]
    assert found((), ("w0.0.a:0",)) == found(("w1.0.a:0",), ()) == []
    assert found((), ("w0.0.a:1",)) == [("w0", "w1")]
    assert found((), (), ("w0.0.a:0",)) == [("w0", "w1"), ("w1", "w2")]


def test_what_one_worker_runs_again_is_not_double() -> None:
    """Its runs follow one another."""
    diary = jobdir.parse("w1.0.a", b"{}\n" + 2 * jobdir.runs("1.txt", ()))
    assert diary is not None
    assert jobdir.double([diary]) == []
