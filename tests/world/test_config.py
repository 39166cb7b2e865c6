"""Promises about the configuration: who wins, and that every mistake is named where it stands."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from dataclasses import FrozenInstanceError, fields
from typing import TYPE_CHECKING, Any

import pytest
import tomli
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic_core import ValidationError

from roundq.words.errors import ConfigError
from roundq.words.limits import Limit, Limits, Shares
from roundq.world import config
from roundq.world.config import Config, Live

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY_S = 86_400
any_text = st.text(st.characters(exclude_categories=()))


class Place:
    """A home and an /etc of their own."""

    def __init__(self, path: Path) -> None:
        self.home = path / "home" / "ann"
        self.etc = path / "etc.toml"
        self.user = self.home / ".config" / "roundq.toml"
        self.user.parent.mkdir(parents=True)

    def load(self, environ: dict[str, str] | None = None, node: str | None = None) -> Config:
        return config.load(environ or {}, str(self.home), etc=str(self.etc), node=node)

    def live(self) -> Live:
        return Live({}, str(self.home), etc=str(self.etc), node="n1")

    def refusal(self, environ: dict[str, str] | None = None, node: str | None = None) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            self.load(environ, node)
        assert caught.value.exit_code == 78
        return caught.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# ---------------------------------------------------------------- who wins


def test_without_any_file_everything_is_as_documented(place: Place) -> None:
    """The defaults; other people's homes lie where one's own does."""
    found = place.load()

    assert found == Config(
        homes=(str(place.home.parent),),
        cores="physical",
        poll_min_s=1,
        poll_max_s=15,
        keep_for_s=14 * DAY_S,
        history_s=0,
        auto_start=True,
        max_output=1 << 20,
        grace_s=30,
        patience_s=600,
    )
    assert config.load({}, "/home/ann/", etc="/nowhere").homes == ("/home",)


def test_later_sources_win_key_by_key(place: Place) -> None:
    """The administrator's file, then the user's, then the variable; what is not said stays."""
    place.etc.write_text("cores = 2\ngrace = 5\npoll_max = 60\n")
    place.user.write_text("cores = 3\ngrace = 6\n")

    found = place.load({"RQ_CORES": "4"})

    assert (found.cores, found.grace_s, found.poll_max_s) == (4, 6, 60)
    assert place.load({"RQ_CORES": ""}).cores == 3


def test_the_user_file_is_where_the_desktop_says(place: Place, tmp_path: Path) -> None:
    """$XDG_CONFIG_HOME, unless it is relative; the other file is not read then."""
    place.user.write_text("cores = 3\n")
    (tmp_path / "roundq.toml").write_text("cores = 5\n")

    assert place.load({"XDG_CONFIG_HOME": str(tmp_path)}).cores == 5
    assert place.load({"XDG_CONFIG_HOME": "relative"}).cores == 3
    assert place.load({"XDG_CONFIG_HOME": ""}).cores == 3


def test_one_node_may_offer_other_cores(place: Place) -> None:
    """A node's table wins over the line above it, but not over a later source."""
    place.etc.write_text('cores = 2\n[nodes.n1]\ncores = 5\n[nodes."n2.example.org"]\ncores = "logical"\n')

    assert place.load(node="n1").cores == 5
    assert place.load(node="n2.example.org").cores == "logical"
    assert place.load(node="n3").cores == 2
    assert place.load().cores == 2
    assert place.load({"RQ_CORES": "7"}, node="n1").cores == 7
    place.user.write_text("cores = 3\n")
    assert place.load(node="n1").cores == 3


def test_variables_of_jobs_are_no_configuration(place: Place) -> None:
    """A job's environment is full of RQ_*; a command inside a job must not stumble over it."""
    names = ("RQ_JOB_ID", "RQ_NODE", "RQ_MARK", "RQ_SUBMIT_TIME", "RQ_CPUS", "RQ_NODES")
    environ = dict.fromkeys(names, "?")

    assert place.load(environ) == place.load()


def test_a_configuration_does_not_change(place: Place) -> None:
    """It may be kept and handed around."""
    with pytest.raises(FrozenInstanceError):
        place.load().grace_s = 3  # type: ignore[misc]


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("cores = 1", "cores", 1),
        ('cores = "logical"', "cores", "logical"),
        ("poll_min = 0.25", "poll_min_s", 0.25),
        ('poll_max = "2m"', "poll_max_s", 120),
        ('keep_for = "12h"', "keep_for_s", DAY_S / 2),
        ('history = "2d"', "history_s", 2 * DAY_S),
        ("history = 0", "history_s", 0),
        ('sendmail = "/opt/bin/sendmail"', "sendmail", "/opt/bin/sendmail"),
        ("auto_start = false", "auto_start", False),
        ("card_names = true", "card_names", True),
        ("max_output = 0", "max_output", 0),
        ('max_output = "0"', "max_output", 0),
        ('max_output = "1.5G"', "max_output", 3 << 29),
        ("grace = 0", "grace_s", 0),
        ('grace = "90s"', "grace_s", 90),
        ('patience = "1h"', "patience_s", 3600),
        ('homes = ["/home/", "/data/*/home"]', "homes", ("/home", "/data/*/home")),
    ],
)
def test_what_a_file_may_say(place: Place, line: str, field: str, value: object) -> None:
    """Text with a unit, or numbers where only one unit is thinkable."""
    place.user.write_text(line)

    assert getattr(place.load(), field) == value


@pytest.mark.parametrize(
    ("variable", "field", "value"),
    [
        ("RQ_CORES=12", "cores", 12),
        ("RQ_CORES=physical", "cores", "physical"),
        ("RQ_POLL_MIN=0.05", "poll_min_s", 0.05),
        ("RQ_POLL_MAX=2m", "poll_max_s", 120),
        ("RQ_KEEP_FOR=3d", "keep_for_s", 3 * DAY_S),
        ("RQ_HISTORY=3d", "history_s", 3 * DAY_S),
        ("RQ_SENDMAIL=/opt/bin/sendmail", "sendmail", "/opt/bin/sendmail"),
        ("RQ_AUTO_START=no", "auto_start", False),
        ("RQ_CARD_NAMES=yes", "card_names", True),
        ("RQ_AUTO_START=1", "auto_start", True),
        ("RQ_MAX_OUTPUT=0", "max_output", 0),
        ("RQ_MAX_OUTPUT=4k", "max_output", 4096),
        ("RQ_GRACE=2", "grace_s", 2),
        ("RQ_PATIENCE=90s", "patience_s", 90),
        ("RQ_SETTLE=5m", "settle_s", 300),
        ("RQ_SETTLE=0", "settle_s", 0),
        ("RQ_HOMES=/home:/data/*/home", "homes", ("/home", "/data/*/home")),
    ],
)
def test_what_a_variable_may_say(place: Place, variable: str, field: str, value: object) -> None:
    """The same as a file; a list is separated by colons."""
    name, _, text = variable.partition("=")

    assert getattr(place.load({name: text}), field) == value


def test_every_key_has_a_variable_and_a_field() -> None:
    """The three lists cannot drift apart; what only the administrator may set has no variable."""
    known = {key.field for key in config._SETTING_KEYS.values()}
    assert known == {field.name for field in fields(Config)}
    assert {f"RQ_{name.upper()}" for name, key in config._KEYS.items() if not key.system_only} == set(
        config._VARIABLES
    )


def test_what_holds_for_all_users_only_the_administrator_sets(place: Place) -> None:
    """A user's file that does is refused, whatever the value, with its line; no variable has that name."""
    place.etc.write_text('commons = "/data/roundq/"\n')
    assert place.load({"RQ_COMMONS": "/tmp"}).commons == "/data/roundq"
    for value in ('"/tmp"', '""', "3"):
        place.user.write_text(f"grace = 3\ncommons = {value}\n")
        error = place.refusal()
        assert f"{place.user}, line 2: commons holds for all users: only /etc/roundq.toml may set" in str(
            error
        )
        assert "take that line out" in (error.hint or "")
    place.user.unlink()
    for value in ('"data"', '"/data/*"', '"/data/../x"', "true"):
        place.etc.write_text(f"commons = {value}\n")
        assert "it must be an absolute directory" in str(place.refusal())


def test_what_only_the_administrator_sets_for_a_node_no_user_does(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in a table of one node, which is then named."""
    monkeypatch.setitem(config._KEYS, "cores", config._KEYS["cores"]._replace(system_only=True))
    place.user.write_text('[nodes."n.1"]\n\ncores = 3\n')

    assert f"{place.user}, line 3: cores holds for all users" in str(place.refusal())


# ---------------------------------------------------------------- limits, shares and licenses


def test_limits_hold_for_everybody_and_the_own_entry_of_a_user_wins(place: Place) -> None:
    """Each number for itself; what is not said of a user is that of everybody, and "none" is no limit."""
    place.etc.write_text(
        "[limits]\ncores = 64\njobs = 200\n"
        '[limits.users.ann]\ncores = 128\n[limits.users."bob.x"]\njobs = "none"\nwaiting = 10\n'
        "[limits.users.eve]\ncores = 0\n"
    )

    found = place.load().limits

    assert found.limit_of("carl") == Limit(64, 200, None)
    assert found.limit_of("ann") == Limit(128, 200, None)
    assert found.limit_of("bob.x") == Limit(64, None, 10)
    assert found.limit_of("eve") == Limit(0, 200, None)
    place.etc.unlink()
    assert place.load().limits.limit_of("ann") == Limit()


def test_shares_are_weights_of_users_and_of_groups(place: Place) -> None:
    """The user's own entry wins, then the largest of the groups'; without one the weight is 1."""
    place.etc.write_text(
        'half_life = "2d"\n[shares.users]\nann = 2.5\n[shares.groups]\nstaff = 3\n"guests x" = 0.5\nbig = 4\n'
    )

    found = place.load()

    assert found.half_life_s == 2 * DAY_S
    assert found.shares.weight_of("ann", ["big"]) == 2.5
    assert found.shares.weight_of("bob", ["users", "staff", "big"]) == 4
    assert found.shares.weight_of("bob", ["guests x"]) == 0.5
    assert found.shares.weight_of("bob", ["users"]) == found.shares.weight_of("bob") == 1


def test_licenses_are_of_the_cluster_or_of_one_node(place: Place) -> None:
    """Two lists of names; no other node has those of a node."""
    place.etc.write_text('licenses = {matlab = 2, ansys = 0}\n[nodes.n1]\nlicenses = {"fpga-2.x" = 1}\n')

    found = place.load(node="n1")

    assert (found.licenses, found.node_licenses) == ({"matlab": 2, "ansys": 0}, {"fpga-2.x": 1})
    found = place.load(node="n2")
    assert (found.licenses, found.node_licenses) == ({"matlab": 2, "ansys": 0}, {})


def test_a_node_has_features_gpus_and_a_place_of_its_own(place: Place) -> None:
    """GPUs by their ids or by how many there are; a user may set them, too."""
    place.etc.write_text(
        'tmp = "/var/tmp"\n'
        '[nodes.n1]\nfeatures = ["ssd", "rack-2", "ssd"]\ngpus = [0, "2"]\ntmp = "/scratch/"\n'
        "[nodes.n2]\ngpus = 2\n[nodes.n3]\ngpus = 0\n"
    )

    found = place.load(node="n1")
    assert (found.features, found.gpus, found.tmp) == (("rack-2", "ssd"), ("0", "2"), "/scratch")
    assert (place.load(node="n2").gpus, place.load(node="n2").tmp) == (("0", "1"), "/var/tmp")
    assert place.load(node="n3").gpus == ()
    assert (place.load(node="n4").features, place.load(node="n4").gpus) == ((), None)
    place.user.write_text("[nodes.n1]\ngpus = []\n")
    assert place.load(node="n1").gpus == ()
    assert place.load({"RQ_TMP": "/dev/shm"}, node="n1").tmp == "/dev/shm"


@pytest.mark.parametrize(
    "text",
    [
        'features = "ssd"',
        'features = ["a b"]',
        'features = [""]',
        'features = ["-x"]',
        "features = [1]",
        "gpus = -1",
        "gpus = true",
        "gpus = 1.0",
        'gpus = "0"',
        "gpus = [0, 0]",
        'gpus = ["0,1"]',
        "gpus = [true]",
        'tmp = "relative"',
    ],
)
def test_what_a_node_cannot_have_is_refused(place: Place, text: str) -> None:
    """With what is allowed."""
    place.etc.write_text(f"[nodes.n1]\n{text}\n")

    told = str(place.refusal(node="n2"))

    assert told.startswith(f"{place.etc}, line 2: nodes.n1.{text.partition(' ')[0]} is ")
    assert "it must be a" in told


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("\nlimits = 3", 2, "limits is 3; it must be a table of at most 10000 entries"),
        (
            "[limits]\n\ncores = -1",
            3,
            'limits.cores is -1; it must be a whole number from 0 to 1000000000, or "',
        ),
        ("[limits]\njobs = true", 2, "limits.jobs is true; it must be a whole number"),
        ("[limits]\ncore = 3", 2, "limits.core is not a key of roundq"),
        (
            '[limits.users.ann]\ncores = "many"',
            2,
            'limits.users.ann.cores is "many"; it must be a whole number',
        ),
        ("[limits.users]\nann = 3", 2, "limits.users.ann is 3; it must be a table"),
        ("[limits.users.ann]\nusers = {}", 2, "limits.users.ann.users is not a key of roundq"),
        ("[shares]\nann = 1", 2, "shares.ann is not a key of roundq"),
        ("[shares.users]\nann = 0", 2, "shares.users.ann is 0; it must be a number from 1e-06 to 1e+06"),
        ("[shares.groups]\nstaff = inf", 2, "shares.groups.staff is Infinity; it must be a number"),
        ("[shares.groups]\nstaff = nan", 2, "shares.groups.staff is NaN; it must be a number"),
        ('[shares.users]\n"" = 1', 2, "shares.users. is 1; it must be called by a name"),
        (
            "half_life = 7",
            1,
            "half_life is 7 (it has no unit); it must be a duration with its unit of at least 60",
        ),
        ('half_life = "30s"', 1, 'half_life is "30s" (it is too short)'),
        (
            "licenses = {matlab = 1.5}",
            1,
            "licenses.matlab is 1.5; it must be a whole number from 0 to 1000000",
        ),
        ('licenses = {"a b" = 1}', 1, "licenses.a b is 1; it must be called by a name of letters"),
        ("[nodes.n2]\nlicenses = 1", 2, "nodes.n2.licenses is 1; it must be a table"),
        (
            "licenses = {a = 1}\n[nodes.n2]\nlicenses = {a = 1}",
            3,
            "a is a license of the whole cluster already",
        ),
    ],
)
def test_a_mistake_in_a_table_is_named(place: Place, text: str, line: int, told: str) -> None:
    """With its line, its whole name and what is allowed."""
    place.etc.write_text(text)

    assert f"{place.etc}, line {line}: {told}" in str(place.refusal(node="n1"))


def test_a_slip_in_a_table_gets_a_suggestion(place: Place) -> None:
    """Of the keys that may stand there."""
    place.etc.write_text("[limits]\ncore = 3")
    assert place.refusal().hint == "did you mean cores?"
    place.etc.write_text("[shares]\nxyz = 3")
    assert place.refusal().hint == "the keys are users, groups"


@pytest.mark.parametrize(
    "text",
    ["[limits]", "[shares]", 'half_life = "1d"', "licenses = {a = 1}", "[nodes.x]\nlicenses = {a = 1}"],
)
def test_no_user_changes_limits_shares_or_licenses(place: Place, text: str) -> None:
    """Neither in a file of their own nor by a variable."""
    place.user.write_text(text)

    assert "holds for all users: only /etc/roundq.toml may set it" in str(place.refusal())
    place.user.unlink()
    names = ("RQ_LIMITS", "RQ_SHARES", "RQ_HALF_LIFE", "RQ_LICENSES")
    assert place.load(dict.fromkeys(names, "1d")) == place.load()


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (
            "# a comment\n\ncores = 0\n",
            3,
            'cores is 0; it must be a whole number from 1 to 100000, "physical" or',
        ),
        ("cores = true", 1, "cores is true; it must be"),
        ("cores = 2.0", 1, "cores is 2.0; it must be"),
        ('cores = "4"', 1, 'cores is "4"; it must be'),
        ('cores = "fysical"', 1, 'cores is "fysical"; it must be'),
        (
            "keep_for = 14",
            1,
            'keep_for is 14 (it has no unit); it must be a duration with its unit, such as "14d"',
        ),
        ('keep_for = "14"', 1, 'keep_for is "14" (it has no unit)'),
        ("history = 14", 1, "history is 14 (it has no unit)"),
        ('sendmail = "sendmail"', 1, 'sendmail is "sendmail" ("sendmail" is not an absolute path)'),
        ('keep_for = "soon"', 1, 'keep_for is "soon" (duration "soon": it is not a duration)'),
        ("keep_for = 1979-05-27", 1, 'keep_for is "1979-05-27" (it is no text)'),
        ("max_output = 1", 1, "max_output is 1 (it has no unit)"),
        ("max_output = true", 1, "max_output is true (it is no text)"),
        ("max_output = false", 1, "max_output is false"),
        ('max_output = "-1M"', 1, 'max_output is "-1M" (size "-1M": it is negative)'),
        ("grace = -1", 1, "grace is -1; it must be seconds from 0 to 86400"),
        ("grace = true", 1, "grace is true; it must be seconds"),
        ("grace = nan", 1, "grace is NaN; it must be seconds"),
        ("poll_min = 0", 1, "poll_min is 0; it must be seconds from 0.01 to 3600"),
        ("poll_max = inf", 1, "poll_max is Infinity; it must be"),
        ('auto_start = "yes"', 1, 'auto_start is "yes"; it must be true or false'),
        ('homes = "/home"', 1, 'homes is "/home"; it must be a list of absolute directories'),
        ('homes = ["home"]', 1, 'homes is ["home"] ("home" is not an absolute path)'),
        ('homes = ["~/../x"]', 1, "is not an absolute path"),
        ('homes = ["/home/**"]', 1, 'homes is ["/home/**"] ("/home/**" holds ** or ..)'),
        ('homes = ["/home\\u001b[2J"]', 1, "holds a control character"),
        ("homes = []", 1, "homes is []; it must be"),
        ("nodes = 3", 1, "nodes is 3; it must be a table of tables"),
        ("grace = 1\nx = 1\n", 2, "x is not a key of roundq"),
        (
            '[nodes.n1]\ncores = 1\n[nodes."n.2"]\n\ncores = 0',
            5,
            "nodes.n.2.cores is 0; it must be a whole number",
        ),
        ("[nodes.n1]\n\ngrace = 1", 3, "nodes.n1.grace is not a key of roundq"),
        ("poll_max = 2\npoll_min = 3", 2, "poll_min is 3 seconds, more than poll_max, 2 seconds"),
        ("\npoll_min = 20", 2, "poll_min is 20 seconds, more than poll_max, 15 seconds (the default)"),
        ("cores = 1\ncores = 2\n", 2, "it is not TOML: Cannot overwrite a value"),
        ("grace = \n", 1, "it is not TOML: Invalid value"),
        ("a = '''\n", 1, "it is not TOML"),
        ("x = " + "[" * 3000, 1, "it is"),
    ],
)
def test_a_mistake_in_a_file_is_named(place: Place, text: str, line: int, told: str) -> None:
    """File, line, key, what was found, and what is allowed."""
    place.user.write_text(text)

    error = str(place.refusal())

    assert told in error
    if "nested" not in error:
        assert f"{place.user}, line {line}" in error


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("RQ_CORES=0", "RQ_CORES: cores is 0; it must be a whole number"),
        ("RQ_CORES=" + "9" * 5000, "RQ_CORES: cores is"),
        ("RQ_GRACE=soon", 'RQ_GRACE: grace is "soon" (duration "soon": it is not a duration)'),
        ("RQ_AUTO_START=perhaps", 'RQ_AUTO_START: auto_start is "perhaps"; it must be true or false'),
        ("RQ_KEEP_FOR=14", 'RQ_KEEP_FOR: keep_for is "14" (it has no unit)'),
        ("RQ_MAX_OUTPUT=5", 'RQ_MAX_OUTPUT: max_output is "5" (it has no unit)'),
        ("RQ_HOMES=/home:", 'RQ_HOMES: homes is ["/home", ""] ("" is not an absolute path)'),
        ("RQ_HOMES=/home/\udcff", "holds a control character"),
        (
            "RQ_POLL_MIN=100",
            "RQ_POLL_MIN: poll_min is 100 seconds, more than poll_max, 15 seconds (the default)",
        ),
    ],
)
def test_a_mistake_in_a_variable_is_named(place: Place, variable: str, told: str) -> None:
    """By the variable, not by a file."""
    name, _, text = variable.partition("=")

    error = str(place.refusal({name: text}))

    assert told in error
    assert len(error) < 400


def test_a_slip_of_a_key_gets_a_suggestion(place: Place) -> None:
    """An unknown key is an error, since it would change nothing silently."""
    for slip, hint in (
        ("coers = 3", "did you mean cores?"),
        ("max-output = 3", "did you mean max_output?"),
        ("[node.n1]", "did you mean nodes?"),
        ("[nodes.n1]\nkores = 3", "did you mean cores?"),
        ("colour = 3", "the keys are homes, cores, poll_min"),
    ):
        place.etc.write_text(slip)
        assert hint in (place.refusal().hint or "")


def test_a_mistake_for_another_node_is_a_mistake_here_too(place: Place) -> None:
    """One file serves all nodes: it is checked as a whole, wherever it is read."""
    place.etc.write_text("[nodes.n2]\ncores = 0\n")

    assert "nodes.n2.cores is 0" in str(place.refusal(node="n1"))


def test_a_mistake_never_reaches_the_terminal_as_it_is(place: Place) -> None:
    """Control characters of a file are shown, not sent."""
    place.etc.write_text('cores = "\\u001b[2J"\n')
    assert r"\x1b" in str(place.refusal()) or r"\u001b" in str(place.refusal())
    place.etc.write_text('"\\u001b[2J" = 3\n')
    assert str(place.refusal()).isprintable()
    place.etc.write_text("\x1b[2J = 3\n")
    assert str(place.refusal()).isprintable()


# ---------------------------------------------------------------- files that are none


def test_a_file_must_be_one(place: Place) -> None:
    """Directories, pipes without a writer and devices are refused, and nobody waits for them."""
    os.mkfifo(place.etc)
    assert str(place.refusal()) == f"{place.etc}: it is not a regular file"
    place.etc.unlink()
    place.etc.mkdir()
    assert str(place.refusal()) == f"{place.etc}: it is not a regular file"
    place.etc.rmdir()
    place.etc.symlink_to("/dev/zero")
    assert str(place.refusal()) == f"{place.etc}: it is not a regular file"


def test_a_file_may_be_a_link(place: Place, tmp_path: Path) -> None:
    """People keep their configuration elsewhere and link to it; a link to nothing is no file."""
    (tmp_path / "kept").write_text("cores = 6")
    place.user.symlink_to(tmp_path / "kept")
    assert place.load().cores == 6
    (tmp_path / "kept").unlink()
    assert place.load().cores == "physical"


def test_a_file_that_others_may_write_is_refused(place: Place) -> None:
    """Whoever can write it decides what my daemon does."""
    place.user.write_text("cores = 6")
    place.user.chmod(0o666)
    assert str(place.refusal()) == f"{place.user}: everybody may write to it"
    # User-private groups make files writable for a group of one.
    place.user.chmod(0o664)
    assert place.load().cores == 6


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_user_file_of_somebody_else_is_refused(place: Place) -> None:
    """It must be mine or root's; the administrator's file may belong to whoever owns /etc."""
    for path in (place.etc, place.user):
        path.write_text("cores = 6")
        os.chown(path, 12345, 12345)

    assert (
        str(place.refusal()) == f"{place.user}: it belongs to user number 12345, neither to you nor to root"
    )
    place.user.unlink()
    assert place.load().cores == 6


def test_a_file_that_cannot_be_read_is_not_passed_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The administrator said something; not knowing what is an error. ESTALE is tried again."""
    place.etc.write_text("cores = 6")
    opened = os.open
    number, times = errno.EACCES, 99

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        nonlocal times
        if path == str(place.etc) and times > 0:
            times -= 1
            raise OSError(number, os.strerror(number))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)

    assert str(place.refusal()) == f"{place.etc}: it cannot be read: Permission denied"
    number, times = errno.ESTALE, 99
    assert "Stale file handle" in str(place.refusal())
    number, times = errno.ESTALE, 2
    assert place.load().cores == 6


def test_a_file_of_any_size_is_bounded(place: Place) -> None:
    """Megabytes are no configuration."""
    place.user.write_bytes(b"#" * (1 << 20))
    assert "larger than" in str(place.refusal())


def test_a_file_in_another_encoding_is_named_with_its_line(place: Place) -> None:
    """TOML is UTF-8."""
    place.user.write_bytes(b"cores = 1\n# caf\xe9\n")
    assert str(place.refusal()) == f"{place.user}, line 2: it is not UTF-8"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from([*config._KEYS, "nodes"]) | st.text(max_size=8)


def complaint(call: Callable[[], object]) -> str | None:
    """What is wrong, or None; no other error than ConfigError, and nothing a terminal would obey."""
    try:
        call()
    except ConfigError as error:
        text = str(error)
    else:
        return None
    assert text.isprintable()
    assert len(text) < 2000
    return text


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(keys, values, max_size=3))
@example({"nodes": {"a": {"cores": [[]]}}})
@example({"limits": {"users": {"ann": {"cores": True}}}, "shares": {"groups": {"": 1}}})
@example({"licenses": {"a": {}}, "nodes": {"n": {"licenses": {"\x1b": 1}}}})
@example({"nodes": {"": {"": ""}}})
def test_any_values_are_accepted_or_refused_in_words(found: dict[str, Any]) -> None:
    """What is accepted has the types that are promised."""
    checked: dict[str, Any] = {}

    complaint(lambda: checked.update(config._checked(found, lambda _: "somewhere")))

    expected: dict[str, tuple[type, ...]] = {
        "homes": (tuple,),
        "cores": (int, str),
        "auto_start": (bool,),
        "card_names": (bool,),
        "commons": (str,),
        "tmp": (str,),
        "max_output": (int,),
        "nodes": (dict,),
        "limits": (Limits,),
        "shares": (Shares,),
        "licenses": (dict,),
    }
    for key, value in checked.items():
        assert isinstance(value, expected.get(key, (float,)))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text("[]\"=\n.#'nodescr 1", max_size=60).map(str.encode))
def test_any_file_is_accepted_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """A daemon meets whatever an editor leaves behind."""
    place = Place(tmp_path_factory.mktemp("garbage"))
    place.user.write_bytes(data)

    wrong = complaint(lambda: place.load(node="n1"))

    assert wrong is None or wrong.startswith(str(place.user))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(config._VARIABLES)), any_text)
def test_any_variable_is_accepted_or_refused_in_words(name: str, text: str) -> None:
    """Environments are bytes, and anybody may set anything."""
    wrong = complaint(lambda: config.load({name: text}, "/home/ann", etc="/nowhere"))

    assert wrong is None or wrong.startswith(name)


part = st.text("ab.\" ='#", min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.lists(part, min_size=1, max_size=3), st.integers(0, 5), st.booleans())
def test_the_line_of_a_key_is_found_however_it_is_written(parts: list[str], above: int, header: bool) -> None:
    """Below a header or dotted, with quotes and odd characters; a line that is no key is passed over."""
    quoted = [f'"{text}"' for text in (text.replace('"', "") for text in parts) if "=" not in text]
    names = [text[1:-1] for text in quoted]
    if not quoted:
        return
    if header and len(quoted) > 1:
        lines = ["", f"[{'.'.join(quoted[:-1])}] # ]", f"{quoted[-1]} = 1"]
    else:
        lines = [f"{'.'.join(quoted)} = 1"]
    text = "\n".join(["# no = key"] * above + lines)
    tomli.loads(text)
    # Only `#` and brackets inside a header can hide it: then the line is not told, but never a wrong one.
    assert config._line_of(text, tuple(names)) in (above + len(lines), None)


# ---------------------------------------------------------------- a process that goes on


def test_a_change_is_seen_and_a_mistake_stops_nobody(place: Place) -> None:
    """The last good configuration stays until the file is right again; what is wrong is told each time."""
    live = place.live()
    assert live.refresh() == (live.config, None)
    assert live.config.cores == "physical"

    place.user.write_text("cores = 3")
    assert live.refresh()[0].cores == 3

    place.user.write_text("cores = 0 ")
    for _ in range(2):
        found, error = live.refresh()
        assert found.cores == 3
        assert error is not None
        assert error.startswith(f"{place.user}, line 1: cores is 0")

    place.user.write_text("cores = 44")
    found, error = live.refresh()
    assert (found.cores, error) == (44, None)

    place.user.unlink()
    assert live.refresh()[0].cores == "physical"


def test_a_mistake_at_the_beginning_is_an_error(place: Place) -> None:
    """Nobody starts a daemon that does not do what was asked."""
    place.user.write_text("cores = 0")
    with pytest.raises(ConfigError):
        place.live()


def test_files_are_read_only_when_they_changed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh costs two stat(2) each round."""
    place.user.write_text("cores = 3")
    live = place.live()
    monkeypatch.setattr(config, "_read", lambda *_: pytest.fail("it was read"))

    assert live.refresh()[0].cores == 3


def test_a_replaced_file_is_seen_though_time_and_size_are_equal(place: Place) -> None:
    """An editor writes a new file and renames it: the inode tells."""
    place.user.write_text("cores = 3")
    live = place.live()
    before = place.user.stat()
    other = place.user.with_name("other")
    other.write_text("cores = 4")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(place.user)

    assert live.refresh()[0].cores == 4


def test_a_file_system_that_does_not_answer_rightly_stops_nobody(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO: the last good configuration stays."""
    place.user.write_text("cores = 3")
    live = place.live()

    def broken(path: str, *_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", broken)
        patch.setattr(os, "open", broken)
        found, error = live.refresh()
        assert found.cores == 3
        assert "Input/output error" in (error or "")

    assert live.refresh() == (live.config, None)


# ---------------------------------------------------------------- cost


def test_without_files_and_variables_nothing_is_imported() -> None:
    """`rq run` pays for a configuration only if there is one."""
    code = (
        "import sys; from roundq.world import config;"
        "config.load({'RQ_JOB_ID': '3'}, '/home/ann', etc='/nowhere');"
        "print(*sys.modules)"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"pydantic_core", "pydantic", "tomli", "difflib", "fractions"} & set(loaded)
    assert not {"roundq.words.quantities"} & set(loaded)


def test_what_is_right_waits_for_no_validator(place: Place) -> None:
    """`rq run` and the idle daemon would pay for it; only what is wrong does."""
    place.etc.write_text('grace = 20\nmax_output = "5M"\n[nodes.n1]\ncores = 3\n')
    place.user.write_text("cores = 0")
    code = (
        "import sys; from roundq.world import config\n"
        f"config.load({{}}, '/nowhere', etc={str(place.etc)!r}, node='n1')\n"
        "print(*(name for name in ('tomli', 'pydantic_core') if name in sys.modules))\n"
        f"try: config.load({{}}, {str(place.home)!r}, etc={str(place.etc)!r})\n"
        "except config.ConfigError: print('pydantic_core' in sys.modules, 'pydantic' in sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.split() == ["tomli", "True", "False"]
    assert threading.active_count() == 1


@settings(max_examples=300)
@given(st.dictionaries(keys, values, max_size=3))
@example({"nodes": {"a": {"cores": 3}}, "poll_min": 2})
@example({"nodes": {"a": {"grace": 3}}})
@example({"limits": {"cores": 3, "users": {"ann": {"jobs": "none"}}}, "shares": {"users": {"ann": 2}}})
@example({"nodes": {"a": {"licenses": {"fpga": 1}}}, "licenses": {"matlab": -1}})
@example({"nodes": {"a": {"gpus": [0, "x"], "features": ["b", "a"], "tmp": "/t"}}, "tmp": ""})
@example({"nodes": {"a": {"gpus": [[]]}}})
@example({"nodes": []})
@example({"nodes": {"a": 1}})
def test_the_short_way_accepts_what_the_validator_accepts(found: dict[str, Any]) -> None:
    """They are one table, read in two ways."""
    try:
        plain: object = config._plain(found)
    except (ValueError, KeyError, AttributeError):
        plain = None
    try:
        judged: object = config._validator().validate_python(found)
    except ValidationError:
        judged = None

    assert plain == judged


def test_a_number_of_thousands_of_digits_is_a_mistake_in_the_file(place: Place) -> None:
    """Found by fuzzing: the interpreter refuses to read one, with an error of its own."""
    place.user.write_text(f"cores = {'9' * 5000}\n")

    assert f"{place.user}: a number or a date in it is none" in str(place.refusal())
