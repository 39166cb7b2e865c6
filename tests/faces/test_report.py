"""Transcripts of `report` and `stats`, and promises about the page: whole, closed, and safe from any name."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.faces import charts
from roundq.faces.charts import Bar
from roundq.faces.report_html import About, page
from roundq.words import report as sums
from roundq.words.job import NS, Array, Attempt, Record
from roundq.words.report import Ended
from roundq.words.states import CANCELED, COMPLETED, ENDED_STATES, FAILED, RUNNING, ZOMBIE
from tests.faces.desk import Desk
from tests.faces.homes import GIB, record
from tests.faces.test_history import fold
from tests.words.test_job import records

quick = settings(max_examples=30, deadline=None)
#: What a name may be to break a page.
EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='x",
    "</style></title></svg>",
    "&lt;b&gt;",
    "\x1b[31m\u202e",
    "]]>",
    "javascript:x",
    "é" * 300,
]


def of(name: str, ago_s: float = 3600, ran_s: float = 100, **more: Any) -> Record:
    """A job that waited a minute."""
    given = {"ago_s": ago_s + ran_s + 60, "began_s": ago_s + ran_s, "ended_s": ago_s, **more}
    return record(name, now_ns=time.time_ns(), **given)


@pytest.fixture
def busy(desk: Desk) -> Desk:
    """Jobs that ended, folded or not; one runs."""
    used = {"cpu_s": 200.0, "memory_bytes": float(GIB)}
    fold(desk, "1", COMPLETED, of("fit", exit_code=0, cores=4, usage=used, job_memory_required=2 * GIB))
    failed = of("fit", reason="exit", exit_code=3, cores=1, job_set="s")
    desk.homes.put(desk.spool, FAILED, "2", failed)
    desk.homes.put(desk.spool, FAILED, "3", of("plot", ran_s=10, reason="time limit", signal=15, cores=1))
    desk.homes.put(
        desk.spool, CANCELED, "4", record("plot", now_ns=time.time_ns(), ended_s=9, reason="canceled")
    )
    fold(desk, "5", COMPLETED, of("old", 40 * 86_400, exit_code=0, cores=1))
    running = record("fit", now_ns=time.time_ns(), began_s=50, node="n1", cores=2, job_time_limit_s=200.0)
    desk.homes.put(desk.spool, RUNNING, "6", running)
    return desk


# ---------------------------------------------------------------- report


def test_a_report_has_a_line_for_each_name_and_one_for_all(busy: Desk) -> None:
    """Of the last month; those with most core-hours first."""
    said = busy.rq("report")
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "NAME  JOBS  FAILED  CORE-H  CPU  MEM  WAIT   P95  WHY THEY FAILED\n"
        "fit      2       1     0.1  50%  50%  1:00  1:00  exit 3 (1)\n"
        "plot     2       1     0.0    -    -  1:00  1:00  time limit (1)\n"
        "all      4       2     0.1  50%  50%  1:00  1:00  exit 3 (1), time limit (1)\n"
    )


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        (("--by", "name"), {"fit": 2, "plot": 2}),
        (("--by", "set"), {"": 3, "s": 1}),
        (("--by", "user"), {"ann": 4}),
        (("--by", "node"), {"": 4}),
        (("--since", "100d"), {"fit": 2, "plot": 2, "old": 1}),
        (("--since", "100d", "--until", "30d"), {"old": 1}),
        (("fit",), {"fit": 2}),
        (("state=failed",), {"fit": 1, "plot": 1}),
    ],
)
def test_a_report_is_by_what_is_asked_for(words: tuple[str, ...], groups: dict[str, int], busy: Desk) -> None:
    said = busy.rq("report", "--json", *words)
    assert (said.code, said.err) == (0, "")
    value = json.loads(said.out)
    assert {one["name"]: one["jobs"] for one in value["groups"]} == groups
    assert value["total"]["jobs"] == sum(groups.values())
    assert value["schema"] == 1


def test_a_report_by_user_is_of_everybody_whose_queue_can_be_read(busy: Desk) -> None:
    """And of nobody else's jobs without that."""
    bob = busy.homes.user("bob")
    busy.homes.put(bob, FAILED, "1", of("bobs", reason="exit", exit_code=1, cores=1))
    found = json.loads(busy.rq("report", "--json", "--by", "user").out)["groups"]
    assert {one["name"]: one["jobs"] for one in found} == {"ann": 4, "bob": 1}
    assert "bobs" not in busy.rq("report").out
    assert "bobs" in busy.rq("report", "-u", "bob").out
    assert "bobs" in busy.rq("report", "--all-users").out


def test_a_page_is_written_to_a_file(busy: Desk) -> None:
    said = busy.rq("report", "--html", "out.html")
    assert (said.code, said.out, said.err) == (0, "wrote out.html: 4 jobs\n", "")
    assert "<h1>Jobs of ann</h1>" in Path("out.html").read_text()
    said = busy.rq("report", "--html", "no/such/out.html")
    assert (said.code, said.err.splitlines()[0]) == (
        1,
        "rq: no/such/out.html cannot be written: No such file or directory",
    )


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--by", "color"), "invalid choice: 'color'"),
        (("--html", ""), "option --html: the name is empty"),
        (("--since", "soon"), 'since "soon"'),
        (("-u", "nobody"), 'no user "nobody" has a queue here'),
    ],
)
def test_what_is_not_understood_is_said(words: tuple[str, ...], what: str, busy: Desk) -> None:
    said = busy.rq("report", *words)
    assert said.code in (1, 2)
    assert said.out == ""
    assert what in said.err


def test_of_nothing_there_is_a_report_too(desk: Desk) -> None:
    assert desk.rq("report").out.splitlines()[1].split() == ["all", "0", "0", "0.0", "-", "-", "-", "-", "-"]
    assert desk.rq("report", "--html", "out.html").code == 0
    assert "No job has ended in this time." in Path("out.html").read_text()


# ---------------------------------------------------------------- the page


class Reader(HTMLParser):
    """Reads a page as a browser does: every element is closed, and nothing comes from elsewhere."""

    VOID = frozenset({"meta", "br", "line", "rect", "polygon"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def count(self, tag: str) -> int:
        return sum(one == tag for one, _ in self.elements)


def about() -> About:
    return About("ann", 0, 10**9 * NS, 2 * 10**9 * NS, "1.0")


def read(jobs: list[Ended], by: str = "name") -> Reader:
    found = page(sums.report(jobs, by, str), about())
    reader = Reader(found)
    assert reader.count("script") == reader.count("style") == 1
    # What it shows is in it: nothing is asked of any other file or server.
    for _, attributes in reader.elements:
        assert not {"src", "href", "xlink:href", "srcset", "data", "action"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?://", found)
    assert "default-src 'none'" in found
    return reader


@pytest.mark.parametrize("by", sums.BY)
@pytest.mark.parametrize("name", EVIL)
def test_no_name_is_more_than_text(name: str, by: str) -> None:
    """Neither markup nor a script, nor anything that a screen obeys."""
    jobs = [
        Ended(
            "1", name, FAILED, of(name, reason=name, node=name, cores=2, usage={"cpu_s": 5.0}, job_set=name)
        )
    ]
    reader = read(jobs, by)
    shown = "".join(reader.text)
    assert reader.count("img") == reader.count("b") == 0
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    if by != "day" and "\x1b" not in name and len(name) < 60:
        assert name in shown


def test_jobs_may_have_the_name_of_what_is_summed_up() -> None:
    """The chart of cores loses none of them."""
    found = set()
    for name in ("big", "all others"):
        jobs = [
            Ended("1", "ann", COMPLETED, of(f"job{n}", ran_s=100, cores=1, exit_code=0)) for n in range(20)
        ]
        jobs.append(Ended("2", "ann", COMPLETED, of(name, ran_s=3000, cores=64, exit_code=0)))
        now_ns = time.time_ns()
        made = page(sums.report(jobs, "name", str), About("ann", now_ns - 9000 * NS, now_ns, now_ns, "1"))
        found.update(re.findall(r"on average ([\d.]+) cores", made))
    assert len(found) == 1


@quick
@given(
    st.lists(
        st.builds(
            Ended,
            id=st.just("1"),
            user=st.just("ann"),
            state=st.sampled_from(ENDED_STATES),
            record=records,
        ),
        max_size=12,
    ),
    st.sampled_from(sums.BY),
)
def test_any_jobs_make_a_page(jobs: list[Ended], by: str) -> None:
    """Whatever their records say."""
    reader = read(jobs, by)
    assert reader.count("table") == bool(jobs)


def test_who_does_not_see_the_charts_is_told_what_they_show() -> None:
    """Each has a label; the table has what they are made of, with headings, and can be sorted by keys."""
    jobs = [
        Ended(str(n), "ann", state, of(f"job{n}", ago_s=10**6, usage={"cpu_s": 5.0}, cores=1, exit_code=n))
        for n, state in enumerate([COMPLETED, FAILED, FAILED])
    ]
    found = page(
        sums.report(jobs, "name", str), About("ann", time.time_ns() - 10**16, time.time_ns(), 0, "1")
    )
    reader = Reader(found)
    pictures = [attributes for tag, attributes in reader.elements if tag == "svg"]
    assert len(pictures) == 4
    assert all(one["role"] == "img" and one["aria-label"] for one in pictures)
    heads = [attributes for tag, attributes in reader.elements if tag == "th"]
    assert {one["scope"] for one in heads} == {"col", "row"}
    assert reader.count("button") == 10
    assert ("html", {"lang": "en"}) in reader.elements


@given(st.floats(1e-9, 1e15), st.integers(1, 10))
def test_an_axis_has_few_round_numbers_up_to_the_largest(most: float, count: int) -> None:
    found = charts.ticks(most, count)
    assert found[0] == 0
    assert found[-1] >= most * (1 - 1e-6)
    assert 2 <= len(found) <= count + 2


def test_bars_are_as_long_as_their_values() -> None:
    text = charts.bars([Bar("a", 10, None, "10"), Bar("b", 5, 0.5, "5")], title="t", sentence="s")
    long, half, part = (float(found) for found in re.findall(r'<rect [^>]*width="([\d.]+)"', text))
    assert half == pytest.approx(long / 2, abs=0.1)
    assert part == pytest.approx(half / 2, abs=0.1)


# ---------------------------------------------------------------- stats


def test_stats_tell_what_a_job_used_of_what_it_asked_for(busy: Desk) -> None:
    """Also one of which there is only history."""
    said = busy.rq("stats", "1")
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        'job 1 "fit"\n'
        "  state       completed\n"
        "  cores       4 cores\n"
        "  CPU         50%: 3:20 of 6:40 core time\n"
        "  memory      50%: 1G of 2G\n"
        "  ran         1:40\n"
        "  waited      1:00\n"
    )


def test_stats_of_a_job_that_runs_are_those_so_far(busy: Desk) -> None:
    out = busy.rq("stats", "6").out
    assert re.search(r"  ran         0:5\d of at most 3:20 \(2\d%\)\n", out)
    assert "  CPU         not known before it ends\n" in out


def test_stats_tell_of_every_attempt(desk: Desk) -> None:
    now_ns = time.time_ns()
    before = Attempt(1, "n1", None, now_ns - 500 * NS, now_ns - 400 * NS, "lost", detail="its node crashed")
    desk.homes.put(desk.spool, COMPLETED, "1", of("fit", exit_code=0, cores=1, attempt=2, attempts=(before,)))
    out = desk.rq("stats", "1").out
    assert "  attempt     2\n  before      attempt 1 on n1, 1:40: its node crashed\n" in out


def test_what_no_node_took_ran_nowhere(desk: Desk) -> None:
    """A job that was canceled before it began, and then run again, has an attempt without node and time."""
    assert desk.rq("run", "-J", "fit", "true").code == 0
    assert desk.rq("cancel", "1").code == 0
    assert desk.rq("rerun", "1").code == 0
    out = desk.rq("stats", "1").out
    assert "  before      attempt 1: canceled before it began\n" in out
    assert re.search(r"  before     attempt 1, \d.*\d: canceled: canceled before", desk.rq("show", "1").out)
    assert re.search(r"\n  attempt 1 ended .* ago: canceled before it began\n", desk.rq("why", "1").out)


def test_nothing_more_will_be_known_of_what_is_lost(desk: Desk) -> None:
    desk.homes.put(desk.spool, ZOMBIE, "1", of("fit", cores=1, reason="lost"))
    assert "  CPU         not known\n" in desk.rq("stats", "1").out


def test_stats_of_an_array_are_spread_over_its_tasks(desk: Desk) -> None:
    """The least, the median and the most; as JSON each task."""
    for index, ran_s in enumerate((10.0, 20.0, 90.0)):
        array = Array("7", index, 0, 2, 1, 3)
        usage = {"cpu_s": 5.0, "memory_bytes": float(GIB)}
        task = of("scan", ran_s=ran_s, exit_code=0, cores=1, usage=usage, job_array=array)
        desk.homes.put(desk.spool, COMPLETED if index else FAILED, f"7_{index}", task)
    said = desk.rq("stats", "7")
    assert said.out == (
        'array 7 "scan"\n'
        "  tasks       3: 1 failed, 2 completed\n"
        "  cores       1 core each\n"
        "  CPU         least 6%, median 25%, most 50%\n"
        "  memory      least 1G, median 1G, most 1G\n"
        "  ran         least 0:10, median 0:20, most 1:30\n"
        "  waited      least 1:00, median 1:00, most 1:00\n"
        "  attempts    3\n"
    )
    found = json.loads(desk.rq("stats", "--json", "7").out)["jobs"]
    assert [round(job["cpu_efficiency"], 2) for job in found] == [0.5, 0.25, 0.06]
    assert found[0]["memory_used"] == GIB


def test_stats_of_nothing_are_an_error(desk: Desk) -> None:
    assert desk.rq("stats", "9").code == 1
    assert desk.rq("stats").code == 2
