"""Ways of breaking the protocol. Each is a mistake that somebody could make, and each has to be caught.

`python -m tests.simulation --mutant NAME` plays seeds with it. `apply` changes the running process for good.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from roundq.actors import attempt, homewatch, preemption, queue, supervisor, tenants
from roundq.actors.round import Round
from roundq.records import changes, ids
from roundq.records import spool as spools
from roundq.words import policy, states
from roundq.words import record_format as formats
from roundq.world import files
from tests.simulation import calls, system

#: By name: what is broken, and how.
MUTANTS: dict[str, tuple[str, Callable[[], None]]] = {}


def _mutant(text: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(change: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[change.__name__.replace("_", "-")] = text, change
        return change

    return register


def apply(name: str) -> None:
    """Breaks the protocol in this way."""
    MUTANTS[name][1]()


def _set(owner: Any, name: str, value: Any) -> None:
    assert hasattr(owner, name), f"{owner} has no {name} to be broken"
    setattr(owner, name, value)


# ---------------------------------------------------------------- claims


@_mutant("a claim is kept without looking whether it fits beside those of others")
def skip_verify() -> None:
    _set(policy, "settle", lambda *_, **__: (policy.Ruling.KEEP, "as I like it"))


@_mutant("others' cards are read before one's own claim is published")
def look_before_publishing() -> None:
    publish = Round._publish

    def publish_late(self: Any, now_s: float) -> None:
        if all(tenant.settled for tenant in self.tenants):
            publish(self, now_s)

    _set(Round, "_publish", publish_late)


@_mutant("CPUs of others are not looked at after a claim")
def keep_taken_cpus() -> None:
    settle = policy.settle

    def blind(mine: Any, others: Iterable[Any], *rest: Any) -> Any:
        return settle(mine, [replace(one, cpus=()) for one in others], *rest)

    _set(policy, "settle", blind)


@_mutant("limits of arrays are not looked at after a claim")
def forget_limits() -> None:
    settle = policy.settle

    def blind(mine: Any, others: Iterable[Any], *rest: Any) -> Any:
        return settle(replace(mine, groups=()), others, *rest)

    _set(policy, "settle", blind)


@_mutant("numbers are counted, not taken: the highest in use and one")
def count_ids() -> None:
    def take(_path: str, _count: int, _claimant: str, used: Callable[[], int], *_: Any) -> int:
        return used() + 1

    _set(ids, "take", take)


# ---------------------------------------------------------------- birth


@_mutant("the gate is open before the supervisor stands in the record")
def skip_gate() -> None:
    fork = tenants.Tenants._fork

    def fork_open(*arguments: Any) -> int:
        gate = fork(*arguments)
        system.SimOS.write(gate, b"1")
        return gate

    _set(tenants.Tenants, "_fork", fork_open)


@_mutant("the command is executed before the record is in running/")
def begin_late() -> None:
    begin, execute = spools.begin, supervisor._execute

    def begin_nothing(_spool: Any, entry: Any, node: str) -> Any:
        return entry._replace(state="running", file=spools.owned_file(entry.id, node), node=node)

    def execute_first(spool: Any, entry: Any, record: Any, terms: Any, *rest: Any) -> Any:
        outcome = execute(spool, entry, record, terms, *rest)
        begin(spool, entry._replace(state="claimed"), terms.node)
        return outcome

    _set(spools, "begin", begin_nothing)
    _set(supervisor, "_execute", execute_first)


# ---------------------------------------------------------------- errors


@_mutant("ENOENT after a rename is believed: somebody else has it")
def trust_enoent() -> None:
    move = files.move

    def moved(source: str, target: str) -> bool:
        try:
            system.SimOS.rename(source, target)
        except FileNotFoundError:
            return False
        except OSError:
            return move(source, target)
        return True

    _set(files, "move", moved)


@_mutant("an error of a rename is believed: nothing has happened")
def trust_errors() -> None:
    def moved(source: str, target: str) -> bool:
        system.SimOS.rename(source, target)
        return True

    _set(files, "move", moved)


# ---------------------------------------------------------------- ends


@_mutant("facts are written to a record whether or not it is still one's own")
def write_after_losing() -> None:
    def rewrite(spool: Any, entry: Any, record: Any, node: str) -> Any:
        temporary = spools.temporary_of(spool, node, formats.dump(record))
        with contextlib.suppress(OSError):
            files.move(spools.path_of(spool, entry), spools.path_of(spool, entry.sealed))
        files.replace(temporary, spools.path_of(spool, entry.sealed))
        return entry.sealed

    _set(spools, "rewrite", rewrite)


@_mutant("the record moves first, and the facts follow")
def move_first() -> None:
    def settle(spool: Any, entry: Any, record: Any, node: str) -> str | None:
        state = spools.conclude(spool, entry, record)
        if state is not None:
            target = f"{spool.directory(state)}/{entry.id}.job"
            files.replace(spools.temporary_of(spool, node, formats.dump(record)), target)
        return state

    _set(spools, "settle", settle)


@_mutant("nothing is synced")
def skip_fsync() -> None:
    write = files.write_temporary

    def unsynced(*arguments: Any, **options: Any) -> str:
        return write(*arguments, **{**options, "sync": False})

    _set(files, "write_temporary", unsynced)
    _set(files, "sync_directory", lambda _path: None)


# ---------------------------------------------------------------- recovery


@_mutant("a record that this daemon did not bear is recovered without asking whether its supervisor lives")
def presume_dead() -> None:
    _set(tenants, "_may_live", lambda _process: False)


@_mutant("a daemon judges the processes of other nodes")
def judge_other_nodes() -> None:
    class Spools:
        def __getattr__(self, name: str) -> Any:
            return getattr(spools, name)

        @staticmethod
        def scan(spool: Any, states: Iterable[str] = states.STATES, **options: Any) -> list[Any]:
            here = calls.process().node.name
            found = spools.scan(spool, states, **options)
            return [entry._replace(node=here) if entry.node else entry for entry in found]

    _set(tenants, "spools", Spools())


@_mutant("a running record whose supervisor is dead is not read again before it is judged")
def judge_unread() -> None:
    _set(tenants.Tenants, "_is_left", lambda _self, _tenant: True)
    write_after_losing()


# ---------------------------------------------------------------- other people's records


@_mutant("cancel takes the record of a running job itself")
def cancel_running() -> None:
    cancel = queue.cancel

    def rude(spool: Any, row: Any, node: str, now_ns: int, **options: Any) -> str:
        if row.state != "running" or row.record is None:
            return cancel(spool, row, node, now_ns, **options)
        record = replace(row.record, completed_ns=now_ns, reason="canceled")
        sealed = spools.rewrite(spool, row.entry, record, node)
        if sealed is not None:
            spools.conclude(spool, sealed, record)
        return queue.GONE

    _set(queue, "cancel", rude)


@_mutant("a sealed record is seized, into which its owner is about to write")
def seize_sealed() -> None:
    seize, take = tenants.Tenants._seize, tenants.Tenants.take_from_lost

    def seize_all(self: Any, entry: Any, record: Any, why: str, **_: Any) -> None:
        seize(self, entry, record, why, is_forced=True)

    def take_all(self: Any, job_id: str, asked: str) -> None:
        take(self, job_id, f"{asked}\nforce")

    _set(tenants.Tenants, "_seize", seize_all)
    _set(tenants.Tenants, "take_from_lost", take_all)


@_mutant("a request to restart meets whichever attempt runs")
def restart_any() -> None:
    _set(homewatch.HomeWatch, "_means_us", lambda _self, _verb: True)


@_mutant("a job that may not be run again gives way")
def preempt_any_job() -> None:
    ask, begin = preemption.ask, homewatch.HomeWatch.__init__

    def ask_all(spool: Any, node: str, tenant: Any, why: str) -> str | None:
        record = tenant.record
        tenant.record = replace(record, job=replace(record.job, restartable=True))
        try:
            return ask(spool, node, tenant, why)
        finally:
            tenant.record = record

    def heed_all(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self.verbs = ["cancel", *homewatch.YIELDS]

    _set(preemption, "ask", ask_all)
    _set(homewatch.HomeWatch, "__init__", heed_all)


@_mutant("a request to give way stays, and meets the next attempt, too")
def preempt_again() -> None:
    _set(spools, "OF_AN_ATTEMPT", ("restart", "lost"))
    means = homewatch.HomeWatch._means_us
    _set(homewatch.HomeWatch, "_means_us", lambda self, verb: verb == "preempt" or means(self, verb))


@_mutant("a command is told of its end again and again")
def notice_again() -> None:
    notice = attempt.Attempt._notice

    def again(self: Any, now_s: float) -> float:
        if self.watch.is_to_yield is not None:
            self.noticed_s = None
        return notice(self, now_s)

    _set(attempt.Attempt, "_notice", again)


@_mutant("a supervisor goes on without its lease")
def outlive_lease() -> None:
    name = "leased_s" if hasattr(attempt.Attempt, "leased_s") else "_leased_s"
    _set(attempt.Attempt, name, lambda _self, _part: math.inf)


# ---------------------------------------------------------------- changes


@_mutant("what is canceled is written to after the move, when somebody may have it run again")
def cancel_writes_behind() -> None:
    def cancel(spool: Any, entry: Any, now_ns: int, node: str) -> bool:
        target = f"{spool.directory('canceled')}/{entry.id}.job"
        if entry.is_sealed or not files.move(spools.path_of(spool, entry), target):
            return False
        with contextlib.suppress(OSError):
            record = spools.read(spool, entry._replace(state="canceled", file=f"{entry.id}.job"))
            data = formats.dump(spools.canceled(record, now_ns))
            files.replace(spools.temporary_of(spool, node, data), target)
        return True

    _set(changes, "cancel", cancel)


@_mutant("a record that is being changed is mended without asking whether its process lives")
def mend_the_living() -> None:
    _set(changes, "may_live", lambda _seal, **_: False)


@_mutant("an edit lets go what is on hold")
def edit_lets_go() -> None:
    put = changes.put

    def free(spool: Any, sealed: Any, record: Any, state: str, node: str, **options: Any) -> bool:
        state = "waiting" if state == "held" else state
        return put(spool, sealed, record, state, node, **{**options, "on_hold": False})

    _set(changes, "put", free)
