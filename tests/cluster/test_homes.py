"""The home is read-only, full, over quota, slow or hangs, at any moment from submission to recorded end.

Each user of a cluster is one case: the rules that make its home misbehave are for its uid alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import checkers
from tests.cluster.lab import ENV, PATIENCE_S, Lab, ledger_jobs
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.plugin import MakeCluster

#: Nobody counts the others, who only share the machine.
ALONE = {**ENV, "RQ_CORES": "4", "RQ_HOMES": "/nowhere"}
CHANGES = ["create", "mknod", "mkdir", "symlink", "link", "rename", "unlink", "rmdir", "write", "setattr"]
#: What a file server may answer, as rules of faults. A descriptor that wrote nothing is always closed well.
NO_ROOM: dict[str, dict[str, Any]] = {
    "full at create": {"op": ["create", "mkdir"], "errno": "ENOSPC"},
    "full at write": {"op": "write", "errno": "ENOSPC"},
    "full at fsync": {"op": "fsync", "errno": "ENOSPC"},
    "full at close": {"op": "flush", "match": "/tmp/|[.]out$", "errno": "ENOSPC"},
    "full at rename": {"op": ["rename", "link"], "errno": "ENOSPC"},
    "over quota at write": {"op": "write", "errno": "EDQUOT"},
    "over quota at close": {"op": "flush", "match": "/tmp/|[.]out$", "errno": "EDQUOT"},
}
BROKEN: dict[str, dict[str, Any]] = {
    "read-only": {"op": CHANGES, "errno": "EROFS"},
    "EIO": {"errno": "EIO"},
    "EIO at names": {"op": ["rename", "link", "unlink", "fsyncdir"], "errno": "EIO"},
    "done, but EIO": {"op": ["rename", "link"], "errno": "EIO", "when": "after"},
}
LATE: dict[str, dict[str, Any]] = {"slow": {"delay": 0.2}, "hangs": {"hang": True}}
#: At the how manyth request that it is for a rule begins to hold, and for how many.
MOMENTS, TIMES = (0, 2, 5, 11), 3
#: Where a rule is for every request, there are more of them.
EVERY = 8


def users_of(cases: dict[str, Any]) -> list[str]:
    """A user for each case."""
    return [f"u{i}" for i in range(len(cases))]


def test_a_submission_is_whole_or_refused(make_cluster: MakeCluster) -> None:
    """Whatever the home does: an id that was printed is a job, and where none was printed there is none."""
    cases = {**NO_ROOM, **BROKEN, **LATE}
    users = users_of(cases)
    lab = Lab(make_cluster(nodes=2, users=users, env=ALONE))
    n1, n2 = lab.cluster
    for user in users:
        lab.bulk(n2, user, ledger_jobs("before", 1, 0))

    commands = {}
    for user, (_, rule) in zip(users, cases.items(), strict=True):
        n1.fault(uid=lab.cluster.user(user).uid, **rule)
        # With an environment that was not stored before.
        home = lab.cluster.user(user).home
        argv = ["rq", "run", "--parsable", "-D", home, "ledger", "during", "0"]
        commands[user] = n1.hand(user)
        # Its own directory may hang.
        how = "cwd='/', env={**os.environ, 'NEW': '1'}, stdout=-1, stderr=-1, text=True"
        commands[user].begin(f"import subprocess as s; d = s.run({argv!r}, {how})")
    hanging = commands[users[list(cases).index("hangs")]]
    for user in users:
        if commands[user] is not hanging:
            commands[user].answer(PATIENCE_S)
    wait_until(lambda: n1.fs()["hung"], PATIENCE_S)
    assert not hanging.answers_within(0)
    n1.clear_faults()
    hanging.answer(PATIENCE_S)

    for user, case in zip(users, cases, strict=True):
        code, said, complaint = commands[user].do("d.returncode, d.stdout, d.stderr")
        commands[user].close()
        there = set(lab.states(user)) - set(lab.accepted[user])
        assert there == ({said.strip()} if code == 0 else set()), (case, code, said, complaint)
        assert code == 0 or complaint.startswith("rq: "), (case, complaint)
        assert "Traceback" not in complaint, (case, complaint)
        assert "report it" not in complaint, (case, complaint)
        if case in NO_ROOM and code:
            assert code == 73, (case, complaint)
        if case in LATE:
            assert code == 0, (case, complaint)
        lab.accepted[user] += there
    for user in users:
        lab.start_daemon(n1, user)
    lab.wait_ended()
    lab.check(cores=None)


@pytest.mark.parametrize("cases", [NO_ROOM, BROKEN, LATE], ids=["no room", "broken", "late"])
def test_jobs_of_a_home_that_misbehaves_for_a_while_end_true(
    make_cluster: MakeCluster, cases: dict[str, dict[str, Any]]
) -> None:
    """From any moment of claim, birth, run and end on: each runs at most once, and its end is recorded."""
    each = {f"{case} from {moment} on": (rule, moment) for case, rule in cases.items() for moment in MOMENTS}
    users = users_of(each)
    lab = Lab(make_cluster(nodes=2, users=users, env=ALONE))
    n1, n2 = lab.cluster
    for user in users:
        jobs = ledger_jobs("once", 1, 0.2) + ledger_jobs("fails", 1, 0.1, exit_code=3, restartable=True)
        lab.bulk(n2, user, jobs)
    for user, (rule, moment) in zip(users, each.values(), strict=True):
        skip = moment if "op" in rule else moment * EVERY
        n1.fault(uid=lab.cluster.user(user).uid, skip=skip, count=TIMES, **rule)
        lab.start_daemon(n1, user)

    def ended() -> bool:
        n1.fs(release=True)
        for user in users:
            if lab.daemons[n1.name, user].poll() is not None:
                # It could not even begin, and said so; whoever started it does so again.
                lab.start_daemon(n1, user)
        return checkers.all_ended(lab.cluster.server)

    wait_until(ended, PATIENCE_S, every=0.5, on_timeout=lab.story)

    lab.check(cores=None)
    said = {case: checkers.outcomes(lab.cluster.server, user) for user, case in zip(users, each, strict=True)}
    for case, outcomes in said.items():
        for outcome in outcomes.values():
            reasons = {None: 0, "exit": 3}
            known = outcome.reason in checkers.NEVER_RAN or outcome.exit_code == reasons[outcome.reason]
            assert known, (case, outcome)
    assert any(hits for hits in n1.fs()["hits"])
    print(*(f"{case}: {sorted(str(o.reason) for o in of.values())}" for case, of in said.items()), sep="\n")
