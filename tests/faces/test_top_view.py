"""What is on the screen of `rq top`, and what keys do, without any terminal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.actors.listing import Bundle, Row
from roundq.faces import tables, top_view
from roundq.faces.queue_view import Facts
from roundq.faces.tables import Cell, Column
from roundq.faces.top_view import Model, Snapshot, frame, press, take
from roundq.records import spool as spools
from roundq.records.spool import Entry
from roundq.words.states import COMPLETED, HELD, RUNNING, WAITING
from tests.faces.homes import NOW_NS, record

ANN = spools.at("/homes/ann", "ann", 1)
BOB = spools.at("/homes/bob", "bob", 2)


def row(job_id: str, state: str = WAITING, name: str = "fit", *, is_mine: bool = True, file: str = "") -> Row:
    began = {"began_s": 60, "node": "n1"} if state in (RUNNING, COMPLETED) else {}
    ended = {"ended_s": 5, "exit_code": 0} if state == COMPLETED else {}
    entry = Entry(job_id, state, "n1" if state == RUNNING else None, file or f"{job_id}.job", 0)
    return Row(ANN if is_mine else BOB, entry, record(name, **began, **ended), None, is_mine)  # type: ignore[arg-type]


NODES = (
    (Column("NODE"), Column("CORES")),
    [[Cell(f"n{number}"), Cell("1/8")] for number in range(30)] + [[Cell("TOTAL"), Cell("1/240")]],
)
USERS = ((Column("USER"), Column("CORES")), [[Cell("ann"), Cell("1")], [Cell("TOTAL"), Cell("1")]])


def snapshot(*rows: Row | Bundle, **of: object) -> Snapshot:
    given = {"footer": "1 running (1 core)", "nodes": NODES, "users": USERS, **of}
    return Snapshot("10:00:00", "n1", tuple(rows), Facts(NOW_NS), **given)  # type: ignore[arg-type]


def model(of: Snapshot, **how: object) -> Model:
    made = Model(**how)  # type: ignore[arg-type]
    take(made, of)
    return made


def texts(made: Model, of: Snapshot | None, columns: int = 80, lines: int = 24) -> list[str]:
    return ["".join(cell.text for cell in line).rstrip() for line in frame(made, of, columns, lines)]


MANY = snapshot(row("1", RUNNING, "run"), *(row(str(number), name=f"job{number}") for number in range(2, 60)))


def test_a_screen_has_nodes_users_and_jobs() -> None:
    """The totals of what is cut are kept, and the keys are told."""
    shown = texts(model(MANY), MANY)
    assert len(shown) == 24
    assert shown[0].startswith("rq top  n1  10:00:00  1 running (1 core)")
    assert shown[1].split() == ["NODE", "CORES"]
    assert any(line.startswith("… ") and line.endswith(" more") for line in shown)
    assert "TOTAL  1/240" in shown
    assert "ann    1" in shown
    head = next(number for number, line in enumerate(shown) if line.startswith("STATE"))
    assert shown[head + 1].split()[:2] == ["running", "1"]
    assert shown[-1] == top_view.KEYS


def test_what_is_below_a_total_does_not_take_its_place() -> None:
    """Notes on nodes are left out before it is; where there is room they are shown."""
    titles, rows = NODES
    note = tables.Line("n3 is overbooked: 9 of 8 cores are promised", "red")
    of = snapshot(row("1"), nodes=(titles, [*rows, note, note]))
    shown = texts(model(of), of)
    assert "… 28 more" in shown
    assert "TOTAL  1/240" in shown
    assert note.text not in shown
    of = snapshot(row("1"), nodes=(titles, [*rows[-2:], note, note]))
    shown = texts(model(of), of)
    assert shown[2:5] == ["n29    1/8", "TOTAL  1/240", note.text]


def test_a_terminal_may_be_higher_than_anybody_scrolls() -> None:
    """Every line of it has a job, wherever one is in the list."""
    of = snapshot(*(row(str(number)) for number in range(1, 701)))
    made = model(of)
    texts(made, of, 80, 350)
    for _ in range(2):
        press(made, "page down", of)
    press(made, "up", of)
    assert sum(line.startswith("waiting") for line in texts(made, of, 80, 350)) == made.lines


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 200),
    st.integers(0, 80),
    st.lists(st.sampled_from(["j", "G", "page down", "?", "q", "/", "x", "enter", "c", "s", "home", "end"])),
)
def test_no_size_and_no_key_breaks_the_screen(columns: int, lines: int, keys: list[str]) -> None:
    """It is never wider or higher than it may be, whatever is on it."""
    made = model(MANY)
    for key in [*keys, ""]:
        if key:
            press(made, key, MANY)
        drawn = frame(made, MANY, columns, lines)
        assert len(drawn) <= max(lines, 0)
        for line in drawn:
            assert sum(tables.width(cell.text) for cell in line) <= columns
    assert frame(Model(), None, columns, lines) is not None


def test_the_chosen_job_is_marked_and_stays_on_the_screen() -> None:
    """However far one goes, and when jobs before it come and go it stays the same job."""
    made = model(MANY)
    for key in ("j", "down", "k", "page down", "page down", "G", "up", "g", "end"):
        press(made, key, MANY)
        drawn = frame(made, MANY, 80, 24)
        marked = ["".join(cell.text for cell in line) for line in drawn[1:] if "reverse" in line[-1].style]
        assert len(marked) == 1
        assert made.chosen is not None
        assert marked[0].split()[1] == made.chosen[1]
    assert made.chosen == (ANN.path, "59")

    fewer = snapshot(*MANY.items[20:])
    take(made, fewer)
    assert made.chosen == (ANN.path, "59")
    # It is gone: the next one, in its place, is chosen.
    take(made, snapshot(*MANY.items[:10]))
    assert made.chosen == (ANN.path, "10")
    take(made, snapshot())
    assert top_view.chosen(made) is None
    assert press(made, "c", snapshot()) is None
    assert made.message == "there is no job here"


def test_cancel_asks_first() -> None:
    """Only y does it."""
    made = model(MANY)
    assert press(made, "c", MANY) is None
    assert texts(made, MANY)[-2] == 'cancel 1 "run"? y/n'
    assert press(made, "x", MANY) is None
    assert made.message == "nothing was done"
    press(made, "c", MANY)
    assert press(made, "y", MANY) == "cancel"


def test_what_was_asked_about_one_job_is_never_done_to_another() -> None:
    """Not if the job leaves the list while the question is there; else it may go up and down in it."""
    two = snapshot(row("17", RUNNING), row("18", RUNNING))
    made = model(two)
    press(made, "c", two)
    take(made, snapshot(row("16", RUNNING), row("17", RUNNING), row("18", RUNNING)))
    assert made.question == 'cancel 17 "fit"? y/n'
    assert made.chosen == (ANN.path, "17")

    take(made, snapshot(row("18", RUNNING), row("17", RUNNING, is_mine=False)))
    assert (made.question, made.message) == ("", "17 has moved on: nothing was done")
    assert press(made, "y", two) is None
    assert made.chosen == (BOB.path, "17")


@pytest.mark.parametrize(
    ("of", "key", "todo", "message"),
    [
        (row("1"), "h", "hold", ""),
        (row("1", HELD), "h", "hold", ""),
        (row("1", HELD, file="1@user.job"), "h", "release", ""),
        (row("1", RUNNING), "h", None, "1 has begun"),
        (row("1", RUNNING), "p", "pause", ""),
        (row("1"), "p", None, "1 does not run"),
        (row("1", COMPLETED), "c", None, "1 has ended"),
        (row("1", RUNNING, is_mine=False), "c", None, "1 is a job of bob"),
        (row("1", RUNNING, is_mine=False), "w", "why", ""),
        (row("1", COMPLETED), "o", "output", ""),
        (row("1", COMPLETED), "z", None, ""),
    ],
)
def test_keys_do_what_can_be_done(of: Row, key: str, todo: str | None, message: str) -> None:
    """And say why not, of what cannot."""
    seen = snapshot(of)
    made = model(seen)
    assert press(made, key, seen) == todo
    assert made.message == message


def test_a_paused_job_goes_on() -> None:
    seen = snapshot(row("1", RUNNING))
    paused = Snapshot(
        seen.at, seen.node, seen.items, Facts(NOW_NS, paused=frozenset([(ANN.path, "1")])), seen.footer
    )
    assert press(model(paused), "p", paused) == "cont"


def test_an_array_is_one_job_of_which_some_tasks_run() -> None:
    """What can be done to any of its tasks can be done to it."""
    seen = snapshot(Bundle("7", {RUNNING: 2, WAITING: 5}, row("7_1", RUNNING)))
    made = model(seen)
    assert press(made, "p", seen) == "pause"
    assert press(made, "h", seen) == "hold"
    press(made, "c", seen)
    assert made.question == 'cancel 7 "fit", 7 tasks? y/n'


def test_what_is_typed_behind_a_slash_is_the_filter() -> None:
    """Escape forgets it; an empty one shows all."""
    made = model(MANY)
    for key in ["/", *"na", "backspace", *"ame", "backspace", "enter"]:
        todo = press(made, key, MANY)
    assert (todo, made.filter, made.prompt) == ("filter", "nam", None)
    press(made, "/", MANY)
    assert texts(made, MANY)[-2] == "/nam_"
    press(made, "escape", MANY)
    assert (made.filter, made.prompt) == ("nam", None)
    assert press(made, "escape", MANY) == "filter"
    assert made.filter == ""


def test_a_filter_shows_what_it_means_and_no_more() -> None:
    made = model(MANY)
    made.filter = "job5"
    take(made, MANY, lambda item: "job5" in (item.record.job.name if item.record else ""))
    assert [item.id for item in made.items] == [
        "5",
        "50",
        "51",
        "52",
        "53",
        "54",
        "55",
        "56",
        "57",
        "58",
        "59",
    ]
    assert texts(made, MANY)[0].endswith("only job5")
    take(made, MANY, lambda _: False)
    assert "no job matches job5" in texts(made, MANY)


def test_jobs_are_sorted_as_is_asked() -> None:
    """By state, mine first; by name, cores, time, user."""
    seen = snapshot(
        row("3", COMPLETED, "c"), row("2", WAITING, "b"), row("1", RUNNING, "d"),
        row("9", RUNNING, "a", is_mine=False),
    )  # fmt: skip
    made = model(seen)
    found = {}
    for _ in top_view.SORTS:
        found[made.sort] = [item.id for item in made.items]
        assert press(made, "s", seen) == "sort"
        take(made, seen)
    assert found["state"] == ["1", "2", "3", "9"]
    assert found["name"] == ["9", "2", "3", "1"]
    assert found["user"] == ["1", "2", "3", "9"]
    assert found["time"][-1] == "2"


def test_a_text_is_read_and_left() -> None:
    """Help, and an output, whose end is shown while it grows, until one goes up."""
    made = model(MANY)
    press(made, "?", MANY)
    assert texts(made, MANY)[1] == "Keys of rq top"
    press(made, "q", MANY)
    assert made.page is None
    assert not made.has_quit

    top_view.open_text(made, "output", [f"line {number}" for number in range(100)], (ANN.path, "1"))
    assert "line 99" in texts(made, MANY)
    top_view.renew_text(made, [f"line {number}" for number in range(120)])
    assert "line 119" in texts(made, MANY)
    press(made, "page up", MANY)
    top_view.renew_text(made, [f"line {number}" for number in range(140)])
    assert "line 139" not in texts(made, MANY)
    press(made, "end", MANY)
    assert "line 139" in texts(made, MANY)
    press(made, "home", MANY)
    assert texts(made, MANY)[1] == "line 0"
    press(made, "escape", MANY)
    assert press(made, "q", MANY) is None
    assert made.has_quit


def test_a_tab_is_as_wide_as_on_any_terminal() -> None:
    """In what a job writes, and goes on to write."""
    made = model(MANY)
    top_view.open_text(made, "output", ["a\tb"], (ANN.path, "1"))
    assert "a       b" in texts(made, MANY)
    top_view.renew_text(made, ["a\tb", "\tc"])
    assert "        c" in texts(made, MANY)


def test_what_a_stranger_wrote_paints_nothing() -> None:
    """Names and outputs are made visible."""
    seen = snapshot(row("1", RUNNING, "a\x1b[2Jb"))
    made = model(seen)
    top_view.open_text(made, "output", ["\x1b[31mred\x07"], None)
    for drawn in (frame(model(seen), seen, 80, 24), frame(made, seen, 80, 24)):
        assert all(cell.text.isprintable() for line in drawn for cell in line)
