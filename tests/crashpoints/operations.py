"""The operations on a spool: what lies there before, what is done, and what its caller may then believe."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from roundq.actors import daemon as daemons
from roundq.actors import environ, lost, queue, submission, supervisor
from roundq.actors.daemon import Daemon
from roundq.actors.folding import Folding
from roundq.actors.sweeping import Sweeping
from roundq.records import cancellation, cards, environments, history, ids, news
from roundq.records import spool as spools
from roundq.records.history import Journal
from roundq.records.spool import Spool
from roundq.words.job import Array, Task
from roundq.words.news import News
from roundq.words.policy import Want
from roundq.words.states import PENDING_STATES, WAITING
from roundq.world import files, procs
from tests.cluster import checkers
from tests.crashpoints import changing, letting, steps
from tests.crashpoints.stage import ALIVE, DEAD, HOLDS, MOVES, RUNS, USERS, Operation, Stage
from tests.crashpoints.survivors import NODE, PATIENCE_S, environ_of, locks_of, open_daemon

# ---------------------------------------------------------------- submission


def _nothing(stage: Stage) -> None:
    """An empty spool."""


def _accepted(stage: Stage, result: list[str]) -> list[str]:
    wrong = [f"id {job_id} is told twice" for job_id in result if result.count(job_id) > 1]
    stage.ends.update({job_id: {"completed"} for job_id in result})
    there = {found.id for found in checkers.find(stage.homes, "ann")}
    return wrong + [
        f"job {job_id} is there, and nobody was told" for job_id in sorted(there - set(stage.ends))
    ]


def _submit(count: int) -> Callable[[Stage], list[str]]:
    return lambda stage: spools.submit(stage.spool, [stage.job() for _ in range(count)], NODE)


def _submit_array(stage: Stage) -> list[str]:
    job = replace(stage.job(), array=Array("", 0, 0, 2, 1, 3))
    array = spools.submit_array(stage.spool, job, [[Task(index, job.command)] for index in range(3)], NODE)
    return [f"{array}_{index}" for index in range(3)]


def _first_submission(stage: Stage) -> list[str]:
    return submission.submit(stage.spool, [stage.job()], {"PATH": "/usr/bin:/bin"}, NODE)


def _lose_token(stage: Stage) -> None:
    stage.submit()
    for name in os.listdir(f"{stage.spool.path}/ids"):
        os.unlink(f"{stage.spool.path}/ids/{name}")


def _take(stage: Stage) -> int:
    return ids.take(stage.spool.path, 3, NODE, lambda: spools._highest_number(stage.spool))


def _taken(stage: Stage, first: int) -> list[str]:
    used = [int(job_id) for job_id in stage.ends]
    later = [int(job_id) for _ in range(2) for job_id in spools.submit(stage.spool, [stage.job()], NODE)]
    return [f"{number} was given twice" for number in range(first, first + 3) if number in used + later]


def _keep_environment(stage: Stage) -> str:
    return environments.store(stage.spool, {"PATH": "/usr/bin:/bin", "KEPT": "yes"}, NODE)


def _is_kept(stage: Stage, digest: str) -> list[str]:
    kept = environments.load(stage.spool, digest) == {"PATH": "/usr/bin:/bin", "KEPT": "yes"}
    return [] if kept else [f"environment {digest} is another one"]


# ---------------------------------------------------------------- claims and births


def _claim(stage: Stage) -> bool:
    return spools.claim(stage.spool, stage.entry_of("1"), NODE) is not None


def _claimed(stage: Stage, result: bool) -> list[str]:
    names = os.listdir(f"{stage.spool.path}/claimed")
    return [f"claim says {result}, and there are {names}"] if result and names != [f"1@{NODE}.job"] else []


def _withdraw(stage: Stage) -> bool:
    assert stage.entry is not None
    return spools.withdraw(stage.spool, stage.entry)


def _round(stage: Stage) -> int:
    return open_daemon(stage.homes).once()


def _neighbour(stage: Stage) -> None:
    """Bob, who lives, and whose card is on its way."""
    stage.submit()
    me = procs.own_identity()
    job = cards.Occupant("7", "running", 2, 0, True, 1, True, 1, "work", me)
    bob = Spool(f"{stage.homes}/bob/.roundqueue", "bob", os.geteuid())
    os.makedirs(bob.path, 0o755)
    spools.prepare(bob)
    cards.publish(
        bob, cards.Card("bob", NODE, me.pid, 2, 2, 1, version="1", process=me, cores=2, jobs=(job,))
    )
    os.rename(f"{bob.path}/{NODE}", f"{stage.homes}/bob/card")


def _round_that_loses(stage: Stage) -> int:
    publish = cards.publish

    def both(spool: Spool, card: cards.Card) -> None:
        publish(spool, card)
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{stage.homes}/bob/card", f"{stage.homes}/bob/.roundqueue/{NODE}")

    cards.publish = both
    return _round(stage)


def _bob_leaves(stage: Stage) -> None:
    for path in ("card", f".roundqueue/{NODE}"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{stage.homes}/bob/{path}")


def _leave(stage: Stage) -> None:
    one = open_daemon(stage.homes)
    (entry,) = spools.scan(stage.spool, (WAITING,))
    one.round.tenants.claim(entry, Want("1", 1, 0, 0), 2, 1, 1.0)
    one.round.leave()


def _serve(stage: Stage) -> None:
    """An older daemon, with a job that runs on, serves until it is told to leave."""
    stage.submit(HOLDS)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            open_daemon(stage.homes).serve()
        os._exit(0)
    until_s = time.monotonic() + PATIENCE_S
    while not os.path.exists(f"{stage.home}/ledger"):
        assert time.monotonic() < until_s, "the older daemon starts nothing"
        time.sleep(0.005)
    # Claimed and unborn, as at any instant it may be told to leave in.
    stage.submit()


def _take_over(stage: Stage) -> None:
    vars(daemons)["NodeLock"] = locks_of(stage.homes)
    Daemon.serve = Daemon.once  # type: ignore[method-assign, assignment]
    daemons.run_foreground(stage.spool, environ_of(stage.homes))


# ---------------------------------------------------------------- one job's life


def _ready(
    script: str = RUNS, verb: str | None = None, ends: tuple[str, ...] = (), **fields: Any
) -> Callable[[Stage], None]:
    def set_up(stage: Stage) -> None:
        job_id = stage.submit(script, ("zombie", *ends), **fields)
        stage.claim(job_id)
        if verb is not None:
            spools.request(stage.spool, job_id, verb, NODE)

    return set_up


def _live(stage: Stage) -> int:
    os.environ.clear()
    os.environ.update(environ_of(stage.homes))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    return supervisor.main([stage.spool.path, "1"])


def _lived(state: str) -> Callable[[Stage, Any], list[str]]:
    def told(stage: Stage, result: int) -> list[str]:
        stage.ends["1"] = {state}
        return [] if result == 0 else [f"the supervisor says {result}"]

    return told


def _begun(*ends: str, restartable: bool = False, **facts: Any) -> Callable[[Stage], None]:
    """A running record whose supervisor is dead; with facts, it had written how it ended."""

    def set_up(stage: Stage) -> None:
        stage.begin(stage.submit(ends=ends, restartable=restartable))
        assert stage.entry is not None
        assert stage.record is not None
        if facts:
            stage.record = replace(stage.record, completed_ns=time.time_ns(), **facts)
            spools.rewrite(stage.spool, stage.entry, stage.record, NODE)
            stage.entry = stage.entry_of(stage.entry.id)

    return set_up


def _settle(**facts: Any) -> Callable[[Stage], str | None]:
    def act(stage: Stage) -> str | None:
        assert stage.entry is not None
        assert stage.record is not None
        now_ns = time.time_ns()
        ended = replace(stage.record, completed_ns=now_ns, **facts)
        if facts.get("reason") == "restarted":
            ended = ended.next_attempt(now_ns, "restarted")
        return spools.settle(stage.spool, stage.entry, ended, NODE)

    return act


def _settled(stage: Stage, state: str | None) -> list[str]:
    names = os.listdir(f"{stage.spool.path}/running")
    if state is None:
        return [f"it says that it was not ours, and there are {names}"] if names else []
    stage.ends["1"] = {"completed" if state == "waiting" else state}
    return [f"it says {state}, and there are {names}"] if names else []


def _rewrite(stage: Stage) -> None:
    assert stage.entry is not None
    record = replace(spools.read(stage.spool, stage.entry), process=DEAD, pid=DEAD.pid, node=NODE, cores=1)
    spools.rewrite(stage.spool, stage.entry, record, NODE)


def _begin(stage: Stage) -> bool:
    assert stage.entry is not None
    return spools.begin(stage.spool, stage.entry, NODE) is not None


def _has_begun(stage: Stage, result: bool) -> list[str]:
    # It may have done something: it must never be taken for unbegun.
    if result:
        stage.ends["1"] = {"zombie"}
    return []


def _recover(stage: Stage) -> None:
    tenants = stage.tenants()
    tenants.look()
    tenants.recover()


# ---------------------------------------------------------------- what users ask for


def _held(stage: Stage) -> None:
    job_id = stage.submit(ends=("held", "canceled"))
    os.rename(f"{stage.spool.path}/waiting/{job_id}.job", f"{stage.spool.path}/held/{job_id}@user.job")


def _running(script: str = HOLDS, **fields: Any) -> Callable[[Stage], None]:
    def set_up(stage: Stage) -> None:
        stage.submit(script, ("completed", "canceled"), **fields)
        stage.run()

    return set_up


def _cancel(stage: Stage) -> str:
    (row,), _ = queue.find(stage.spool, ["1"])
    return queue.cancel(stage.spool, row, NODE, time.time_ns())


def _is_canceled(stage: Stage, result: str) -> list[str]:
    stage.ends["1"] = {"canceled"}
    return [] if result in (queue.GONE, queue.ASKED) else [f"cancel says {result}"]


def _some_to_be_canceled(stage: Stage) -> None:
    _held(stage)
    for _ in range(2):
        stage.submit(ends=("completed", "canceled"))


def _cancel_many(stage: Stage) -> tuple[list[str], list[str]]:
    done, moved_on, problem = cancellation.cancel(stage.spool, spools.scan(stage.spool, PENDING_STATES))
    if problem is not None:
        raise problem
    return [entry.id for entry in done], [entry.id for entry in moved_on]


def _are_canceled(stage: Stage, result: tuple[list[str], list[str]]) -> list[str]:
    done, moved_on = result
    for job_id in done:
        stage.ends[job_id] = {"canceled"}
    return [] if sorted([*done, *moved_on]) == ["1", "2", "3"] else [f"cancel says {result}"]


def _will_be_canceled(stage: Stage, _: None) -> list[str]:
    return _is_canceled(stage, queue.ASKED)


def _restart(stage: Stage) -> str:
    (row,), _ = queue.find(stage.spool, ["1"])
    return queue.restart(stage.spool, row, NODE)


def _runs_again(stage: Stage, result: str) -> list[str]:
    stage.again.add("1")
    return [] if result == queue.ASKED else [f"restart says {result}"]


def _preempt(stage: Stage) -> bool:
    tenants = stage.tenants()
    tenants.look()
    return tenants.preempt(tenants.by_id["1"], "to bob")


def _gives_way(stage: Stage, result: bool) -> list[str]:
    stage.again.add("1")
    return [] if result else ["it says that it was not asked"]


def _live_and_give_way(stage: Stage) -> int:
    me = procs.own_identity()
    # Not one of the steps: a daemon has left it.
    with open(f"{stage.spool.path}/requests/1.preempt", "w") as file:
        file.write(f"{environ.mark(me)}\nto bob\n")
    return _live(stage)


def _ask(stage: Stage) -> None:
    spools.request(stage.spool, "1", "cancel", NODE)


def _asked(stage: Stage) -> None:
    stage.claim(stage.submit(ends=("canceled",)))
    _ask(stage)


def _answer_as_daemon(stage: Stage) -> None:
    tenants = stage.tenants()
    tenants.look()
    # What was claimed is unborn, and not settled.
    for tenant in tenants:
        tenant.settled = False
    tenants.answer(spools.requests(stage.spool), time.time_ns())


def _ended(stage: Stage) -> None:
    stage.begin(stage.submit(ends=("completed",)))
    _settle(exit_code=0)(stage)


def _ended_and_asked(stage: Stage) -> None:
    _ended(stage)
    for verb in ("cancel", "restart", "preempt"):
        spools.request(stage.spool, "1", verb, NODE)


# ---------------------------------------------------------------- lost nodes


def _begun_elsewhere(*ends: str, **fields: Any) -> Callable[[Stage], None]:
    def set_up(stage: Stage) -> None:
        stage.begin(stage.submit(ends=ends, **fields), node="other")

    return set_up


def _seize(stage: Stage) -> bool:
    assert stage.entry is not None
    return spools.seize(stage.spool, stage.entry, NODE) is not None


def _on_other(stage: Stage) -> None:
    """One job that it had begun, and one that it had claimed."""
    stage.claim(stage.submit(), "other")
    stage.begin(stage.submit(restartable=True), node="other")


def _call_lost(stage: Stage) -> list[str]:
    return [asked.entry.id for asked in lost.call_lost(stage.spool, "other", NODE).asked]


def _are_called_lost(stage: Stage, asked: list[str]) -> list[str]:
    stage.is_other_lost = True
    return [f"only {asked} are taken over"] if sorted(asked) != ["1", "2"] else []


def _called_lost(stage: Stage) -> None:
    _on_other(stage)
    _call_lost(stage)
    stage.is_other_lost = True


def _take_from_lost(stage: Stage) -> None:
    tenants = stage.tenants()
    for job_id in spools.requests(stage.spool):
        tenants.take_from_lost(job_id, spools.asked_of(stage.spool, job_id, "lost") or "")


def _take_expired(stage: Stage) -> None:
    assert stage.entry is not None
    stage.tenants().take_expired(stage.entry)


def _leased(stage: Stage) -> None:
    _begun("completed", restartable=True)(stage)
    assert stage.entry is not None
    os.utime(spools.path_of(stage.spool, stage.entry), (1000, 1000))


def _renew(stage: Stage) -> bool:
    assert stage.entry is not None
    return files.touch(spools.path_of(stage.spool, stage.entry))


def _is_renewed(stage: Stage, result: bool) -> list[str]:
    assert stage.entry is not None
    is_new = os.stat(spools.path_of(stage.spool, stage.entry)).st_mtime > 1000
    return ["a lease that was not renewed is said to be"] if result and not is_new else []


# ---------------------------------------------------------------- archiving


def _old(stage: Stage) -> None:
    _ended(stage)
    _is_old(stage, "1")
    stage.submit()


def _is_old(stage: Stage, job_id: str) -> None:
    os.utime(f"{stage.spool.path}/completed/{job_id}.job", (1000, 1000))
    stage.old.add(job_id)


def _fold(stage: Stage) -> None:
    folding = Folding(stage.spool, NODE, logging.getLogger("crashpoints"))
    folding.begin(2000.0)
    while folding.again_s() < 1.0:
        folding.go_on(0.0)


def _old_and_folded(stage: Stage) -> None:
    """The journal has a line already, and there is more to fold."""
    _old(stage)
    _fold(stage)
    stage.begin(stage.submit())
    _settle(exit_code=0)(stage)
    _is_old(stage, "3")


def _half_moved(node: str) -> Callable[[Stage], None]:
    """An earlier daemon of this node or another died before it wrote the line."""

    def set_up(stage: Stage) -> None:
        _old(stage)
        assert history.take(stage.spool, stage.entry_of("1"), node) is not None

    return set_up


def _take_over_moving(stage: Stage) -> None:
    (moving,) = history.look(stage.spool).moving
    taken = history.take_over(stage.spool, moving, NODE)
    Journal(stage.spool, NODE).fold([] if taken is None else [taken], 1e9, 1e9)


def _twice_folded(stage: Stage) -> None:
    _old_and_folded(stage)
    _fold(stage)


def _close_volume(stage: Stage) -> None:
    Journal(stage.spool, NODE).close()


def _are_folded(stage: Stage, _: object) -> list[str]:
    found = sorted(past.id for past in history.since(stage.spool))
    wrong = [] if found == sorted(stage.old) else [f"the history tells of {found}"]
    return wrong + [f"{one} is not found" for one in stage.old if not history.find(stage.spool, [one])]


def _littered(stage: Stage) -> None:
    stage.submit()
    for number in (1, 2):
        with open(f"{stage.spool.path}/tmp/{NODE}.4194399.{number}.0badcafe", "w"):
            pass


def _sweep_temporaries(stage: Stage) -> None:
    spools.sweep_temporaries(stage.spool, NODE, lambda: [1])


def _old_environments(stage: Stage) -> None:
    digest = environments.store(stage.spool, {"PATH": "/usr/bin:/bin"}, NODE)
    stage.submit(environment=digest)
    for text in ("1", "2"):
        unused = environments.store(stage.spool, {"UNUSED": text}, NODE)
        os.utime(f"{stage.spool.path}/env/{unused}.json", (1000, 1000))


def _sweep_environments(stage: Stage) -> None:
    needed = {spools.read(stage.spool, stage.entry_of("1")).job.environment}
    environments.sweep(stage.spool, environments.stored(stage.spool) - needed, 2000.0)


def _sweep_all(stage: Stage) -> None:
    sweeping = Sweeping(stage.spool, NODE, logging.getLogger("crashpoints"))
    for now_s in (0.0, 4000.0, 8000.0):
        sweeping.run(
            now_s, 1e9, lambda: {spools.read(stage.spool, stage.entry_of("1")).job.environment or ""}
        )


def _littered_everywhere(stage: Stage) -> None:
    _old_environments(stage)
    _littered_tmp(stage)
    with open(f"{stage.spool.path}/{NODE}", "w"):
        pass


def _littered_tmp(stage: Stage) -> None:
    with open(f"{stage.spool.path}/tmp/{NODE}.4194399.1.0badcafe", "w"):
        pass


def _waiting(stage: Stage) -> None:
    stage.submit()


def _claimed_and_dead(*ends: str) -> Callable[[Stage], None]:
    """Its supervisor is in the record and died at the gate."""
    return lambda stage: stage.begin(stage.submit(ends=ends), is_running=False) and None


def _waiting_to_be_canceled(stage: Stage) -> None:
    stage.submit(ends=("completed", "canceled"))


def _claimed_to_be_canceled(stage: Stage) -> None:
    stage.claim(stage.submit(ends=("completed", "canceled")))


def _just_claimed(stage: Stage) -> None:
    stage.claim(stage.submit())


_FAILED: dict[str, Any] = {"reason": "exit", "exit_code": 3}

_COMPLETES = _ready(ends=("completed",))
_FAILS = _ready(f"{RUNS}; exit 3", ends=("failed", "completed"))
_GIVES_WAY = _ready(
    f'{RUNS}; [ "$RQ_RESTART_COUNT" -gt 0 ] || sleep 1', ends=("completed",), restartable=True
)
_IS_CANCELED = _ready(HOLDS, "cancel", ends=("canceled",))
_MAY_RUN_AGAIN = _begun("completed", restartable=True)
_RUNS_ELSEWHERE = _begun_elsewhere("completed", restartable=True)


def _ask_for_news(stage: Stage) -> None:
    news.ask(stage.spool, News("1", name="fit", on_end=("true",), directory=stage.home), NODE)


def _is_to_be_told(stage: Stage, _: None) -> list[str]:
    found = news.asked(stage.spool)
    wrong = [] if found == ["1.news"] else [f"the news are {found}"]
    return wrong or ([] if news.read(stage.spool, "1.news").on_end == ("true",) else ["it asks for nothing"])


def _to_be_told(stage: Stage) -> None:
    _waiting(stage)
    _ask_for_news(stage)


def _take_news(stage: Stage) -> str | None:
    return news.take(stage.spool, "1.news", NODE)


def _is_taken(stage: Stage, told: str | None) -> list[str]:
    names = os.listdir(f"{stage.spool.path}/news")
    return [] if names == [told] else [f"take says {told}, and there are {names}"]


OPERATIONS = [
    Operation("submit", _waiting, _submit(1), _accepted, USERS, canceled="1"),
    Operation("submit in bulk", _nothing, _submit(3), _accepted, USERS),
    Operation("submit an array", _nothing, _submit_array, _accepted, USERS),
    Operation("submit for the first time", _nothing, _first_submission, _accepted, USERS, is_new=True),
    Operation("found ids anew", _lose_token, _submit(1), _accepted, USERS),
    Operation("take ids", _waiting, _take, _taken, USERS),
    Operation("keep an environment", _waiting, _keep_environment, _is_kept, USERS),
    Operation("claim", _waiting, _claim, _claimed, MOVES, canceled="1"),
    Operation("withdraw", _just_claimed, _withdraw, canceled="1"),
    Operation(
        "verify and keep, birth", _waiting, _round, kinds=ALIVE, is_alive=True, is_brief=True, canceled="1"
    ),
    Operation("verify and withdraw", _neighbour, _round_that_loses, kinds=ALIVE, release=_bob_leaves),
    Operation("leave", _waiting, _leave, kinds=ALIVE),
    Operation("take over", _serve, _take_over, kinds=(steps.STOP,), is_alive=True),
    Operation("rewrite a claimed record", _just_claimed, _rewrite),
    Operation("begin", _claimed_and_dead("completed", "zombie"), _begin, _has_begun),
    Operation(
        "life of a job: completed",
        _COMPLETES,
        _live,
        _lived("completed"),
        ALIVE,
        is_alive=True,
        is_brief=True,
    ),
    Operation("life of a job: failed", _FAILS, _live, _lived("failed"), (steps.STOP,), is_alive=True),
    Operation(
        "life of a job: canceled", _IS_CANCELED, _live, _lived("canceled"), (steps.STOP,), is_alive=True
    ),
    Operation(
        "life of a job: preempted",
        _GIVES_WAY,
        _live_and_give_way,
        _lived("completed"),
        (steps.STOP,),
        is_alive=True,
        is_brief=True,
    ),
    Operation("end: completed", _begun("zombie", "completed"), _settle(exit_code=0), _settled),
    Operation("end: failed", _begun("zombie", "failed"), _settle(**_FAILED), _settled),
    Operation("end: canceled", _begun("zombie", "canceled"), _settle(reason="canceled", signal=15), _settled),
    Operation("end: lost", _begun("zombie"), _settle(reason="lost"), _settled),
    Operation("requeue", _MAY_RUN_AGAIN, _settle(reason="restarted"), _settled, canceled="1"),
    Operation("cancel what is held", _held, _cancel, _is_canceled, USERS),
    Operation("cancel what waits", _waiting_to_be_canceled, _cancel, _is_canceled, USERS, canceled="1"),
    Operation("cancel many at once", _some_to_be_canceled, _cancel_many, _are_canceled, USERS),
    Operation("cancel what is claimed", _claimed_to_be_canceled, _cancel, _is_canceled, USERS),
    Operation("cancel what is claimed, by its daemon", _asked, _answer_as_daemon),
    Operation("cancel what runs", _running(), _cancel, _is_canceled, ALIVE, is_alive=True),
    Operation("restart what runs", _running(restartable=True), _restart, _runs_again, ALIVE, is_alive=True),
    Operation("preempt what runs", _running(restartable=True), _preempt, _gives_way, ALIVE, is_alive=True),
    Operation("request", _waiting_to_be_canceled, _ask, _will_be_canceled, USERS),
    Operation("answer", _ended_and_asked, lambda stage: spools.answer(stage.spool, "1")),
    Operation("recover: claimed", _claimed_and_dead("completed"), _recover, canceled="1"),
    Operation("recover: running", _begun("zombie"), _recover),
    Operation("recover: running, restartable", _MAY_RUN_AGAIN, _recover, canceled="1"),
    Operation("recover: facts, but no move", _begun("failed", **_FAILED), _recover),
    Operation("seize", _begun_elsewhere("zombie"), _seize),
    Operation("seize, restartable", _RUNS_ELSEWHERE, _seize),
    Operation("call a node lost", _on_other, _call_lost, _are_called_lost, USERS),
    Operation("take from a lost node", _called_lost, _take_from_lost),
    Operation("take what lost its lease", _RUNS_ELSEWHERE, _take_expired),
    Operation("renew a lease", _leased, _renew, _is_renewed, MOVES),
    Operation("fold", _old, _fold),
    Operation("fold into a journal", _old_and_folded, _fold),
    Operation("fold what was half moved", _half_moved(NODE), _fold),
    Operation("fold what another node left", _half_moved("other"), _take_over_moving),
    Operation("ask for news", _waiting, _ask_for_news, _is_to_be_told, USERS),
    Operation("take news", _to_be_told, _take_news, _is_taken, MOVES),
    Operation("close a volume", _twice_folded, _close_volume, _are_folded),
    Operation("sweep: temporaries", _littered, _sweep_temporaries),
    Operation("sweep: environments", _old_environments, _sweep_environments),
    Operation("sweep: all of it", _littered_everywhere, _sweep_all),
    *changing.OPERATIONS,
    *letting.OPERATIONS,
]
