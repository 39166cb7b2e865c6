"""What is asked of daemons at the desk, as it is typed and read: `rq drain`, `rq resume`, `rq limit`."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.faces import as_json
from roundq.faces.cli.person import any_person
from roundq.records import control
from roundq.words.drains import REASON_MAX, Drain
from roundq.words.limits import Limit, Limits
from roundq.world import drains
from tests.faces.desk import Desk, Said
from tests.faces.homes import HERE, Homes, record
from tests.faces.screen import on_terminal, unpainted
from tests.rights import need_root

STARTS_NOTHING = "is drained: nothing more of yours starts there, what runs goes on\n"
STARTS_AGAIN = "is resumed: your daemon starts jobs there again\n"
_LIMIT = 'hint: give a whole number from 0 to 1000000000, or "none"\n'
_ONE_LINE = "hint: give one line of at most 200 characters\n"


def drained(desk: Desk) -> dict[str, str]:
    """The nodes that she has drained, each with the reason."""
    return {node: why.reason for node, why in control.drains(desk.spool).items()}


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (
            ["drain", "node3"],
            1,
            'rq: no node "node3" is known here\nhint: did you mean node1? known: here1, node1\n',
        ),
        (
            ["drain", "\x1b[2J"],
            1,
            'rq: no node "\\x1b[2J" is known here\nhint: known: here1, node1\n',
        ),
        (["resume", "far"], 1, 'rq: no node "far" is known here\nhint: known: here1, node1\n'),
        (["drain", "--reason", "a\nb"], 2, "rq: reason: it contains \\n\n" + _ONE_LINE),
        (["drain", "--reason", "x" * 201], 2, "rq: reason: it has 201 characters\n" + _ONE_LINE),
        (
            ["resume", "--reason", "x"],
            2,
            'rq: unknown option "--reason"\nhint: did you mean --version? see: rq resume -h\n',
        ),
        (
            ["drain", "--admin", "node1"],
            2,
            "rq: option --admin: it is about the node where it is typed, which is here1\n"
            "hint: on node1: rq drain --admin\n",
        ),
        *[
            (
                ["limit", option, text],
                2,
                f'rq: limit of {of} "{text}": it is no number that a limit can be\n{_LIMIT}',
            )
            for option, of in (("-c", "cores"), ("-j", "jobs"))
            for text in ("", "-3", "1.5", "many", "1000000001", "9" * 30, "٣")
        ],
        (
            ["limit", "--none", "-c", "3"],
            2,
            "rq: option --none: it means no limit at all\nhint: take one away with -c none or -j none\n",
        ),
        (["limit", "16"], 1, 'rq: no such array: "16"\nhint: to have so many cores: rq limit -c 16\n'),
    ],
    ids=lambda of: " ".join(of)[:40] if isinstance(of, list) else "",
)
def test_what_is_wrong_is_said_and_changes_nothing(desk: Desk, words: list[str], code: int, err: str) -> None:
    desk.homes.card(desk.homes.user("bob"), "node1")
    assert desk.rq(*words) == Said(code, "", err)
    assert (drained(desk), control.limit(desk.spool)) == ({}, Limit())


def test_of_several_nodes_none_is_drained_if_one_is_not_known(desk: Desk) -> None:
    """The name that is wrong may have been meant for any of them."""
    assert desk.rq("drain", HERE, "nowhere").code == 1
    assert drained(desk) == {}


def test_many_nodes_are_not_all_named(desk: Desk) -> None:
    for number in range(12):
        desk.homes.card(desk.spool, f"n{number}")
    said = desk.rq("drain", "zzz")
    assert said.err.endswith("hint: known: here1, n0, n1, n2, n3, n4, n5, n6, n7, n8 and 3 more\n")


# ---------------------------------------------------------------- one's own drains


def test_this_node_is_drained_and_resumed(desk: Desk) -> None:
    """Nothing but the verb has to be typed; doing it twice does no harm."""
    assert desk.rq("drain") == Said(0, f"here1 {STARTS_NOTHING}", "")
    assert drained(desk) == {"here1": ""}
    assert desk.rq("drain") == Said(0, "here1 was drained already\n", "")
    assert desk.rq("resume") == Said(0, f"here1 {STARTS_AGAIN}", "")
    assert drained(desk) == {}
    assert desk.rq("resume") == Said(0, "here1 was not drained by you\n", "")


def test_other_nodes_are_named(desk: Desk) -> None:
    """Also those where only others have a daemon: one of mine would start nothing."""
    desk.homes.card(desk.spool, "node1")
    desk.homes.card(desk.homes.user("bob"), "node2")
    assert desk.rq("drain", "node1", "node2", "node1", "--reason", "new disk") == Said(
        0, f"node1 {STARTS_NOTHING}node2 {STARTS_NOTHING}", ""
    )
    assert drained(desk) == {"node1": "new disk", "node2": "new disk"}
    assert desk.rq("resume", "node2", "node1") == Said(0, f"node2 {STARTS_AGAIN}node1 {STARTS_AGAIN}", "")
    assert drained(desk) == {}


def test_a_reason_may_be_given_later_and_is_not_lost(desk: Desk) -> None:
    desk.rq("drain")
    assert desk.rq("drain", "--reason", "r" * REASON_MAX).out == f"here1 {STARTS_NOTHING}"
    assert desk.rq("drain").out == f"here1 was drained already: {'r' * REASON_MAX}\n"
    assert drained(desk) == {"here1": "r" * REASON_MAX}


def test_a_node_whose_card_is_gone_can_be_resumed(desk: Desk) -> None:
    """What is drained is known."""
    control.drain(desk.spool, "gone", Drain("ann"), HERE)
    assert desk.rq("resume", "gone") == Said(0, f"gone {STARTS_AGAIN}", "")


def test_whoever_has_no_queue_yet_can_drain(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made; that nothing was drained makes none."""
    home = desk.homes.parent / "zoe"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert desk.rq("resume").out == "here1 was not drained by you\n"
    assert desk.rq("limit").code == 0
    assert list(home.iterdir()) == []
    assert desk.rq("drain").out == f"here1 {STARTS_NOTHING}"
    assert (home / ".roundqueue" / "control" / "here1.drain").exists()


# ---------------------------------------------------------------- the administrator's


def admin_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An /etc/roundq.d/drain and a /run/roundq/drain of the test's own."""
    kept, passing = tmp_path / "etc" / "drain", tmp_path / "run" / "drain"
    kept.parent.mkdir()
    monkeypatch.setattr(drains, "KEPT", str(kept))
    monkeypatch.setattr(drains, "PASSING", str(passing))
    monkeypatch.setattr(drains, "PLACES", (str(kept), str(passing)))
    return kept, passing


@pytest.mark.parametrize("verb", ["drain", "resume"])
def test_who_is_not_root_is_told_how(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    _, passing = admin_places(tmp_path, monkeypatch)
    uid = os.geteuid() or 1000
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert desk.rq(verb, "--admin") == Said(
        1,
        "",
        f"rq: only root may {verb} here1 for everybody\n"
        f"hint: as root on here1: rq {verb} --admin; for yourself alone: rq {verb}\n",
    )
    assert not passing.exists()


def test_root_drains_for_everybody_and_resumes(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file says why; one's own drains are others, and stay as they are."""
    need_root()
    _, passing = admin_places(tmp_path, monkeypatch)
    assert desk.rq("drain", "--admin", "here1", "--reason", "new disk") == Said(
        0, "here1 is drained for everybody: nothing more starts there, what runs goes on\n", ""
    )
    assert passing.read_text() == "new disk\n"
    assert drained(desk) == {}
    assert desk.rq("resume", "--admin") == Said(0, "here1 is resumed for everybody\n", "")
    assert not passing.exists()
    assert desk.rq("resume", "--admin") == Said(0, "here1 was not drained by admin\n", "")


def test_resume_says_that_the_administrator_drained_this_node(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's own drain goes away, the other stays, and so the node is not resumed."""
    need_root()
    admin_places(tmp_path, monkeypatch)
    desk.rq("drain", "--admin", "--reason", "new disk")
    desk.rq("drain")
    hint = "hint: as root on here1: rq resume --admin\n"
    said = "rq: here1 stays drained by admin: new disk"
    assert desk.rq("resume") == Said(1, "", f"{said}, and your own drain of it is taken away\n{hint}")
    assert desk.rq("resume") == Said(1, "", f"{said}\n{hint}")
    assert drained(desk) == {}


def test_a_drain_that_outlasts_boots_is_not_taken_away(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody wrote that file by hand, and is told its name."""
    need_root()
    kept, _ = admin_places(tmp_path, monkeypatch)
    kept.write_text("retired\n")
    assert desk.rq("resume", "--admin") == Said(
        1, "", f"rq: here1 stays drained by admin: retired\nhint: that one is kept over boots: rm {kept}\n"
    )
    assert kept.exists()


def test_of_another_node_my_card_there_tells_who_drained_it(desk: Desk) -> None:
    """A stranger's card proves nothing, nor does one of a daemon that left."""
    desk.homes.card(desk.spool, "node1", state="draining", reason="drained by admin: new\x1b[2J disk")
    desk.homes.card(desk.homes.user("bob"), "node2", state="draining", reason="drained by admin")
    desk.homes.card(desk.spool, "node3", state="draining", reason="drained by ann: lunch")
    assert desk.rq("drain", "node1", "node2", "node3").code == 0
    said = desk.rq("resume", "node1", "node2", "node3")
    assert said == Said(
        1,
        f"node2 {STARTS_AGAIN}node3 {STARTS_AGAIN}",
        "rq: node1 stays drained by admin: new\\x1b[2J disk, and your own drain of it is taken away\n"
        "hint: as root on node1: rq resume --admin\n",
    )


# ---------------------------------------------------------------- limits


def allowed(monkeypatch: pytest.MonkeyPatch, **limit: int) -> None:
    """The administrator has set limits for everybody."""
    asker = any_person()
    config = replace(asker.config, limits=Limits(Limit(**limit)))
    monkeypatch.setattr("roundq.faces.cli.limit.any_person", lambda: asker._replace(config=config))


def busy(homes: Homes) -> None:
    """Ann has two jobs of 6 and 2 cores, one of them on a node that nobody hears of, and one that waits."""
    ann = homes.user("ann")
    homes.put(ann, "running", "1", record(node="node1", job_cores=6))
    homes.put(ann, "claimed", "2", record(node="node2", job_cores=2))
    homes.put(ann, "waiting", "3", record())
    homes.card(ann, "node1", jobs={"1": 6})
    homes.card(ann, "node2", jobs={"2": 2}, silent_s=5000)
    os.utime(ann.directory("tmp"))


def test_limits_are_shown_beside_what_there_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the whole cluster, on silent nodes, too, as the daemons count."""
    busy(desk.homes)
    assert desk.rq("limit") == Said(
        0,
        """\
         NOW  YOURS  ADMIN
cores      8      -      -
jobs       2      -      -
waiting    1      -      -
No limit holds for you. Set one of your own: rq limit -c 16
""",
        "",
    )
    allowed(monkeypatch, cores=64, waiting=1000)
    desk.rq("limit", "-c", "16", "-j", "20")
    assert desk.rq("limit").out == (
        """\
         NOW  YOURS  ADMIN
cores      8     16     64
jobs       2     20      -
waiting    1      -  1,000
"""
    )


def test_a_limit_is_set_and_shown_one_by_one(desk: Desk) -> None:
    """What is not named stays; none takes one away, --none all of them."""
    seen = []
    for words in (["-c", "16"], ["-j", "20"], ["--cpus", "none"], ["--jobs", "0", "-c", "8"], ["--none"]):
        assert desk.rq("limit", *words).code == 0
        seen.append(control.limit(desk.spool))
    assert seen == [Limit(16), Limit(16, 20), Limit(None, 20), Limit(8, 0), Limit()]
    assert not Path(desk.spool.directory("control"), "limits.json").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-c", "9"], []),
        (["-c", "8"], ["You have all the cores that you may have: more start when jobs of yours end."]),
        (["-c", "4"], ["You have more cores than that: what runs goes on, and nothing more starts."]),
        (["-j", "2"], ["You have all the jobs that you may have: more start when jobs of yours end."]),
        (["-j", "0"], ["With a limit of 0 jobs nothing starts."]),
    ],
)
def test_what_follows_from_a_limit_that_is_reached(desk: Desk, words: list[str], says: list[str]) -> None:
    busy(desk.homes)
    said = desk.rq("limit", *words)
    assert (said.code, said.out.splitlines()[4:], said.err) == (0, says, "")


def test_the_smaller_limit_holds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own cannot be more than the administrator's."""
    busy(desk.homes)
    allowed(monkeypatch, cores=8, waiting=1)
    assert desk.rq("limit", "-c", "100").out.splitlines()[1:] == [
        "cores      8    100      8",
        "jobs       2      -      -",
        "waiting    1      -      1",
        "You have all the cores that you may have: more start when jobs of yours end.",
        "No more can be submitted until some have started.",
    ]
    value = json.loads(desk.rq("limit", "--json").out)
    assert value["used"] == {"cores": 8, "jobs": 2, "waiting": 1}
    assert value["own"] == {"cores": 100, "jobs": None, "waiting": None}
    assert value["admin"] == {"cores": 8, "jobs": None, "waiting": 1}
    assert value["holds"] == {"cores": 8, "jobs": None, "waiting": 1}
    assert {"schema", "now", *value} == set(value)
    promise = (as_json.as_json.__doc__ or "").partition("`rq limit --json`:")[2].partition("`rq ")[0]
    assert all(f"\n        {name} " in promise for name in set(value) - {"schema", "now"})


def test_limits_that_cannot_be_read_are_set_anew(desk: Desk) -> None:
    """The remedy that is named works; a part alone would drop the other unseen."""
    path = Path(desk.spool.directory("control"), "limits.json")
    for remedy in (["-c", "3", "-j", "4"], ["--none"]):
        path.write_text('{"cores": -1}')
        for words in ([], ["-c", "3"]):
            said = desk.rq("limit", *words)
            assert (said.code, said.out) == (1, "")
            assert said.err.startswith(f"rq: {path}: ")
            assert said.err.endswith("\nhint: set them anew: rq limit -c N -j N, or rq limit --none\n")
        assert desk.rq("limit", *remedy).code == 0
        assert desk.rq("limit").code == 0


def test_on_a_terminal(desk: Desk) -> None:
    """The same table, and every line fits."""
    busy(desk.homes)
    said = on_terminal(["limit", "-c", "8"], desk.homes.environ("ann"), 50)
    lines = unpainted(said).splitlines()
    assert lines[1] == "cores      8      8      -"
    assert "\x1b[33m8" in said.replace("  ", "")
    assert " ".join(lines[4:]) == (
        "You have all the cores that you may have: more start when jobs of yours end."
    )
    assert all(len(line) <= 50 for line in lines)
    assert unpainted(on_terminal(["drain"], desk.homes.environ("ann"), 80)) == f"here1 {STARTS_NOTHING}"
