"""My jobs on this node: claimed, born, adopted, recovered.

The daemon's hands: every transition that DESIGN's protocol gives to NODE's daemon is
made here, and supervisors are forked here. What to claim is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from roundq.actors import attempt, environ, preemption, supervisor
from roundq.actors.attempt import Terms
from roundq.actors.burial import Burial
from roundq.actors.grants import NOTHING, Grant
from roundq.records import copies
from roundq.records import spool as spools
from roundq.records.cards import Occupant
from roundq.records.spool import Entry, Spool
from roundq.words import record_format as formats
from roundq.words import retries
from roundq.words.copies import Copy, Settling
from roundq.words.errors import RecordError, RoundqError
from roundq.words.groups import groups_of
from roundq.words.job import Attempt, Identity, Record
from roundq.words.policy import Want, want_of
from roundq.words.room import cores_text
from roundq.words.states import CLAIMED, OWNED_STATES, RUNNING
from roundq.world import procs, spawn
from roundq.world.procs import Liveness

#: How often the spool is looked at anew because a job moved on meanwhile.
LOOKS = 3


@dataclass(slots=True)
class Tenant:
    """One of my jobs that this node has claimed.

    `stamp_ns` is the boot-time clock at the claim; `settled` that it passed the check
    or was born before this daemon; `child` that this daemon forked its supervisor. `settling`
    is how far it is looked who else has it, where a rename may have two winners; `goes_back`
    why it is withdrawn once nobody else has it, `obstacle` what hides whether anybody has.
    `earlier` is the supervisor of an attempt that was called lost, and still lives here.
    `gives_way` says to whom it was asked to give way, None if it was not. `paused_s` is for how long it stood
    still at the most, None while it does; `memory_used` are the bytes that it uses of what it was promised,
    None before that was measured.
    """

    entry: Entry
    record: Record
    stamp_ns: int = 0
    settled: bool = True
    child: int | None = None
    claimed_s: float = 0.0
    settling: Settling | None = None
    goes_back: str | None = None
    obstacle: str | None = None
    earlier: Identity | None = None
    gives_way: str | None = None
    paused_s: float | None = 0.0
    memory_used: int | None = None

    @property
    def is_ready(self) -> bool:
        """Whether its claim may be checked beside those of the neighbours, and then be born or canceled."""
        if self.goes_back is not None or self.earlier is not None:
            return False
        return self.settling is None or self.settling.is_settled

    @property
    def is_born(self) -> bool:
        """Whether it has a supervisor."""
        return self.record.process is not None

    @property
    def is_preempting(self) -> bool:
        """Whether it was asked to give way: its cores will be free when it has stopped."""
        return self.gives_way is not None

    def occupant(self) -> Occupant:
        """What neighbours may know of it."""
        job = self.record.job
        return Occupant(
            self.entry.id,
            self.entry.state,
            self.record.cores,
            job.memory_required,
            job.cores == 0,
            self.stamp_ns,
            self.settled,
            self.record.started_ns,
            job.name[:40],
            self.record.process,
            not self.is_ready,
            self.record.cpus,
            self.record.gpus,
            job.licenses,
            self._limit_s(),
            job.restartable,
            job.scavenge,
            self.record.threads,
            self.is_preempting,
            groups_of(job),
            self.memory_used,
        )

    def _limit_s(self) -> float | None:
        limit_s = self.record.job.time_limit_s
        return None if limit_s is None or self.paused_s is None else limit_s + self.paused_s

    def grant(self, given: Grant) -> None:
        """Names other CPUs and GPUs for it, before it is born."""
        self.record = replace(self.record, cpus=given.cpus, gpus=given.gpus, threads=given.threads)


class Tenants:
    """All of them, by id, kept true to what the spool says."""

    def __init__(self, spool: Spool, node: str, log: logging.Logger) -> None:
        self.spool, self.node, self.log = spool, node, log
        self.by_id: dict[str, Tenant] = {}
        #: Why a record of ours cannot be dealt with: told to the user, tried again each round.
        self.trouble: dict[str, str] = {}
        #: Whether there are records that were another node's a moment ago: to be looked at and recovered.
        self.has_seized = False
        #: What became of jobs that left, by id: kept only for somebody who asks for it, and clears it.
        self.became: dict[str, str] | None = None
        #: Whether what dead supervisors left was ended since somebody asked.
        self.has_buried = False
        #: For how long a claim is not trusted, where a rename may have two winners; 0 elsewhere.
        self.settle_s = 0.0
        self.burial = Burial(log)
        self._is_frozen = False
        # What every supervisor needs is loaded once, here, and shared by them all.
        spawn.prepare()
        formats.prepare()

    def __iter__(self) -> Iterator[Tenant]:
        return iter(list(self.by_id.values()))

    def __len__(self) -> int:
        return len(self.by_id)

    def supervisors(self) -> set[Identity]:
        """Those of all tenants, living and dead."""
        return {tenant.record.process for tenant in self if tenant.record.process is not None}

    def say(self, job_id: str, state: str, text: str, level: int = logging.INFO) -> None:
        """One line of the log about a job; fields for the journal."""
        fields = {"ROUNDQ_JOB": job_id, "ROUNDQ_STATE": state, "ROUNDQ_NODE": self.node}
        self.log.log(level, "job %s %s", job_id, text, extra=fields)

    # ------------------------------------------------------------ seeing

    def look(self) -> None:
        """Brings the tenants in line with the spool: adopts an earlier daemon's, forgets what ended."""
        self.has_seized = False
        # What moves on between the listing and the reading is met where it went.
        for _ in range(LOOKS):
            if self._look():
                return

    def _look(self) -> bool:
        """One look; whether all that was listed was still there."""
        listed = {e.id: e for e in spools.scan(self.spool, OWNED_STATES) if e.node == self.node}
        for job_id in [job_id for job_id in self.by_id if job_id not in listed]:
            # A supervisor that has not been reaped yet says itself how its job ended.
            if self.by_id[job_id].child is None:
                del self.by_id[job_id]
        self.trouble = {job_id: one.obstacle for job_id, one in self.by_id.items() if one.obstacle}
        is_complete = True
        for job_id, entry in listed.items():
            known = self.by_id.get(job_id)
            if known is not None and (
                known.child is not None or known.entry.inode == entry.inode or _is_settling(known, entry)
            ):
                known.entry = entry
                continue
            try:
                record = spools.read(self.spool, entry)
            except FileNotFoundError:
                is_complete = False
            except RecordError as error:
                self.trouble[job_id] = f"{entry.state}/{entry.file}: {error}"
            else:
                if known is None:
                    self.by_id[job_id] = Tenant(entry, record, settling=self._settling(entry))
                else:
                    known.entry, known.record = entry, record
        return is_complete

    def reap(self) -> bool:
        """Collects supervisors that ended; whether any did."""
        ended = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            ended = True
            for job_id, tenant in list(self.by_id.items()):
                if tenant.child != pid:
                    continue
                state = supervisor.state_of(os.waitstatus_to_exitcode(status))
                if state is None:
                    # It said nothing: killed, or its claim was not its own. The spool tells which.
                    tenant.child = None
                    tenant.entry = tenant.entry._replace(inode=-1)
                else:
                    self.say(job_id, state, f"is {state}")
                    if self.became is not None:
                        self.became[job_id] = state
                    del self.by_id[job_id]

    # ------------------------------------------------------------ claim, settle, birth

    def claim(
        self, entry: Entry, want: Want, cores: int, stamp_ns: int, now_s: float, given: Grant = NOTHING
    ) -> Tenant | None:
        """Claims a waiting job for this node; None if another node was faster, or it is not what it was.

        `cores` is what a job of all cores gets, `given` what it gets by name. The record is read after the
        claim: what it said before may have been another's.
        """
        if entry.id in self.by_id:
            # The listing is old: it is mine already.
            return None
        try:
            claimed = spools.claim(self.spool, entry, self.node)
        except FileNotFoundError:
            if not self.settle_s:
                raise
            # It is listed, and has moved on: this node learns it late.
            return None
        if claimed is None:
            return None
        try:
            record = spools.read(self.spool, claimed).unbegun()
        except (OSError, RecordError) as error:
            self.trouble[entry.id] = f"claimed/{claimed.file}: {error}"
            if not self.settle_s:
                spools.withdraw(self.spool, claimed)
            return None
        job = record.job
        granted = replace(record, cores=job.cores or cores, node=self.node).at_home(
            os.path.dirname(self.spool.path)
        )
        settling = self._settling(claimed)
        tenant = Tenant(claimed, granted, stamp_ns, settled=False, claimed_s=now_s, settling=settling)
        tenant.grant(given)
        is_what_it_was = want_of(want.id, job, want.submitted_ns).shape == want.shape.bare
        is_what_it_was &= set(want.groups) <= set(groups_of(job))
        if not is_what_it_was and settling is None:
            spools.withdraw(self.spool, claimed)
            return None
        if not is_what_it_was:
            tenant.goes_back = "it is not what it was"
        tenant.earlier = next((one for one in map(self._earlier, record.attempts) if one is not None), None)
        self.by_id[entry.id] = tenant
        return tenant

    def _earlier(self, ended: Attempt) -> Identity | None:
        """The supervisor of an ended attempt if it lives, since its node was called lost and was not.

        Only of this node: there the record of both would have one name, and each would take it for his.
        """
        return ended.process if ended.node == self.node and _may_live(ended.process) else None

    def _settling(self, entry: Entry) -> Settling | None:
        return Settling() if self.settle_s and entry.state == CLAIMED else None

    def drop(self, tenant: Tenant, first: Copy) -> None:
        """Removes the name of a claim, since another copy of the job goes before it."""
        copies.drop(self.spool, tenant.entry)
        where = f"{first.state} on {first.node}" if first.node else first.state
        self.say(tenant.entry.id, first.state, f"is not ours: it is {where}, so our claim is removed")
        self.by_id.pop(tenant.entry.id, None)

    def supersede(self, tenant: Tenant) -> None:
        """Removes what was put on hold beside a claim that is settled now."""
        if copies.supersede(self.spool, tenant.entry, tenant.record, self.node):
            self.say(tenant.entry.id, tenant.entry.state, "was held too late: it starts, and is not on hold")

    def withdraw(self, tenant: Tenant, why: str) -> bool:
        """Gives an unborn job back to the queue; whether it did. If others may have it: once nobody has."""
        if tenant.settling is not None and not tenant.settling.is_alone:
            tenant.goes_back = why
            return False
        self.say(tenant.entry.id, "waiting", f"goes back to waiting: {why}")
        spools.withdraw(self.spool, tenant.entry)
        self.by_id.pop(tenant.entry.id, None)
        return True

    def bear(
        self, settled: Iterable[Tenant], terms: Terms, lease_s: float | None, tell: Callable[[], None]
    ) -> bool:
        """Forks supervisors of settled claims, writes them into the records, opens their gates; whether all.

        `tell` publishes the card before any gate opens. A card that names no supervisor yet is believed
        only while the daemon lives: were it to die just after, the job would run and occupy nothing.
        `lease_s` is that of restartable jobs, None for no lease.
        """
        # A supervisor that is nudged before it is ready must not die of it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, attempt.WAITED)
        if not self._is_frozen:
            self._is_frozen = True
            # Once, and for good: what the collector never visits again keeps its pages shared with
            # the supervisors. A later collection of it here would make each of them a copy.
            gc.collect()
            gc.freeze()
        gates: list[tuple[Tenant, int]] = []
        unborn = list(settled)
        failed = False
        try:
            for tenant in unborn[:]:
                try:
                    gates.append((tenant, self._fork(tenant, terms, lease_s)))
                    sealed = spools.rewrite(self.spool, tenant.entry, tenant.record, self.node)
                    if sealed is None:
                        raise RoundqError("its claim was taken away")
                    tenant.entry = sealed
                except (OSError, RoundqError) as error:
                    failed = True
                    unborn.remove(tenant)
                    self._give_back(tenant, f"it could not be started: {error}")
            if unborn:
                tell()
            for tenant, gate in gates:
                if tenant in unborn:
                    # First: whatever happens from here, it may have begun.
                    unborn.remove(tenant)
                    failed |= not self._open(tenant, gate)
        finally:
            # A gate that stayed closed closes for good, its supervisor leaves, and the job was never begun.
            for _, gate in gates:
                os.close(gate)
            for tenant in unborn:
                self._give_back(tenant, "it was not begun")
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return not failed

    def _open(self, tenant: Tenant, gate: int) -> bool:
        try:
            os.write(gate, b"1")
        except OSError as error:
            self._give_back(tenant, f"its supervisor died: {error.strerror}")
            return False
        record = tenant.record
        self.say(
            tenant.entry.id,
            "running",
            f"begins: {cores_text(record.cores)}, attempt {record.attempt}",
        )
        return True

    def _give_back(self, tenant: Tenant, why: str) -> None:
        """Withdraws a claim whose birth failed; if the home does not let us now, the next round does."""
        tenant.record = replace(tenant.record, process=None, pid=0)
        tenant.child = None
        with contextlib.suppress(OSError, RoundqError):
            self.withdraw(tenant, why)

    def _fork(self, tenant: Tenant, terms: Terms, lease_s: float | None) -> int:
        """Forks a supervisor that waits at its gate; the descriptor that opens it."""
        shut, gate = os.pipe2(os.O_CLOEXEC)
        started_ns = time.time_ns()
        lease_s = lease_s if tenant.record.job.restartable else None
        record = replace(tenant.record, started_ns=started_ns, lease_s=lease_s)
        try:
            pid = os.fork()
        except OSError:
            os.close(shut)
            os.close(gate)
            raise
        if pid == 0:
            # Closes what it inherited, other gates too: held open here, none would close with the daemon.
            supervisor.after_fork(self.spool, tenant.entry, record, terms, shut)
        os.close(shut)
        process = procs.identity(pid)
        tenant.child = pid
        if process is None:
            os.close(gate)
            raise ProcessLookupError(3, "its supervisor vanished")
        tenant.record = replace(record, process=process, pid=pid)
        return gate

    # ------------------------------------------------------------ requests and recovery

    def answer(self, asked: dict[str, set[str]], now_ns: int) -> None:
        """Cancels what is not born, and has supervisors look at what is asked of them."""
        for job_id, verbs in asked.items():
            tenant = self.by_id.get(job_id)
            if tenant is None:
                continue
            if tenant.settling is not None and not tenant.settling.is_settled:
                # Whoever keeps it acts on it: were it canceled here, it might run on elsewhere.
                continue
            if tenant.record.process is not None:
                if "preempt" in verbs and not tenant.is_preempting:
                    # An earlier daemon may have asked.
                    tenant.gives_way = preemption.asked(self.spool, job_id, tenant.record)
                # A job that stands still as is asked for has nothing new to see.
                if verbs - {"pause", "paused"} or ("pause" in verbs) != ("paused" in verbs):
                    with contextlib.suppress(PermissionError):
                        procs.send(tenant.record.process, signal.SIGUSR1)
            elif "cancel" in verbs and spools.cancel(self.spool, tenant.entry, now_ns, self.node):
                self.say(job_id, "canceled", "is canceled before it began")
                del self.by_id[job_id]

    def preempt(self, tenant: Tenant, why: str) -> bool:
        """Asks a running job to give way, once; whether it was asked now. `why` follows "gives way ".

        Never asks one that may not be run again. Raises OSError or SpoolError if the request cannot be left.
        """
        says = preemption.ask(self.spool, self.node, tenant, why)
        if says is not None:
            self.say(tenant.entry.id, RUNNING, says)
        return says is not None

    def recover(self) -> None:
        """Gives back claims that nobody will bear, and buries what lost its supervisor.

        Only of this node. A supervisor of which nothing can be told is left alone.
        """
        dead: list[Tenant] = []
        for tenant in list(self.by_id.values()):
            if tenant.child is not None or (self._is_of_here(tenant) and _may_live(tenant.record.process)):
                continue
            if tenant.earlier is not None:
                self._wait_for_earlier(tenant, tenant.earlier)
            elif tenant.entry.state == CLAIMED:
                if tenant.settled:
                    # Its daemon, or its supervisor, died before it began.
                    self.withdraw(tenant, "it was claimed, but never begun")
            elif self._is_left(tenant):
                dead.append(tenant)
        self._bury(dead)

    def _wait_for_earlier(self, tenant: Tenant, earlier: Identity) -> None:
        """Has the supervisor of an earlier attempt see that the job was given away, which ends both."""
        if not _may_live(earlier):
            tenant.earlier = None
            return
        with contextlib.suppress(PermissionError):
            procs.send(earlier, signal.SIGUSR1)

    def _is_of_here(self, tenant: Tenant) -> bool:
        """Whether this node began it; what it seized names another node, and is dead by somebody's word."""
        return tenant.entry.state == CLAIMED or tenant.record.node == self.node

    def _is_left(self, tenant: Tenant) -> bool:
        """Whether a supervisor that is dead by now left its record in running/; what it says at last.

        It may have recorded the end and gone after we looked: only what is read after its death is final,
        and to write a record that has moved on would raise the dead.
        """
        for entry in (tenant.entry, tenant.entry.sealed):
            try:
                tenant.record = spools.read(self.spool, entry)
            except FileNotFoundError:
                # Sealed after we looked, or moved on.
                continue
            except RecordError as error:
                self.trouble[entry.id] = f"{entry.state}/{entry.file}: {error}"
                return False
            tenant.entry = entry
            return True
        self.by_id.pop(tenant.entry.id, None)
        return False

    def take_from_lost(self, job_id: str, asked: str) -> bool:
        """Frees or seizes a job of a node that its user called lost; `asked` says which attempt is meant.

        Whether it has to be tried again soon.
        """
        meant, _, word = asked.partition("\n")
        is_blocked = False
        for entry in spools.scan(self.spool, OWNED_STATES):
            if entry.id != job_id or entry.node in (None, self.node):
                continue
            with contextlib.suppress(FileNotFoundError, RecordError):
                if entry.state == CLAIMED:
                    # Whoever is about to write to it would raise the dead.
                    if meant == entry.node and (word == "force" or not entry.is_sealed):
                        self._freed(entry)
                    continue
                record = spools.read(self.spool, entry)
                # One that holds the facts of a requeue has its process among its attempts.
                process = record.process or (record.attempts[-1].process if record.attempts else None)
                if process is None or environ.mark(process) != meant:
                    continue
                is_blocked |= self._seize(
                    entry, record, "which its user called lost", is_forced=word == "force"
                )
        return is_blocked

    def _freed(self, entry: Entry) -> None:
        if spools.withdraw(self.spool, entry):
            self.say(
                entry.id, "waiting", f"goes back to waiting: {entry.node}, which had claimed it, is lost"
            )
        spools.answer(self.spool, entry.id, ("lost",))

    def take_expired(self, entry: Entry) -> None:
        """Seizes a job of another node whose lease ran out."""
        with contextlib.suppress(FileNotFoundError, RecordError):
            self._seize(entry, spools.read(self.spool, entry), "whose lease ran out", is_forced=False)

    def _seize(self, entry: Entry, record: Record, why: str, *, is_forced: bool) -> bool:
        """Takes a running record; whether it could not be yet.

        Not while the supervisor of an earlier attempt lives here: it would take the name for its own.
        """
        if spools.destination(record) is not None:
            # Its end is written, and only the move is left: whoever makes it, it is the same.
            state = spools.conclude(self.spool, entry, record)
            self.say(entry.id, state or RUNNING, f"had ended on {entry.node}: {state}")
            return False
        earlier = next((one for one in map(self._earlier, record.attempts) if one is not None), None)
        if earlier is not None:
            with contextlib.suppress(PermissionError):
                procs.send(earlier, signal.SIGUSR1)
            return True
        if (is_forced or not entry.is_sealed) and spools.seize(self.spool, entry, self.node) is not None:
            self.has_seized = True
            self.say(entry.id, RUNNING, f"is taken over from {entry.node}, {why}", logging.WARNING)
        return False

    def _bury(self, dead: list[Tenant]) -> None:
        # What holds the facts of its end was written after the death of all its processes.
        unknown = [tenant for tenant in dead if spools.destination(tenant.record) is None]
        buried = self.burial.step(t.record.process for t in unknown if t.record.process is not None)
        for tenant in dead:
            record = tenant.record
            if spools.destination(record) is None:
                if record.process is not None and record.process not in buried:
                    continue
                now_ns = time.time_ns()
                reason, detail = self._how_lost(tenant)
                record = replace(record, completed_ns=now_ns, reason=reason, detail=detail)
                if record.job.restartable:
                    record = record.next_attempt(now_ns, reason)
                else:
                    record = retries.retried(record, now_ns) or record
                state = spools.settle(self.spool, tenant.entry, record, self.node)
            else:
                # It wrote how it ended, and died before the move.
                state = spools.conclude(self.spool, tenant.entry, record)
            self.say(tenant.entry.id, state or RUNNING, f"lost its supervisor: {state}", logging.WARNING)
            self.has_buried = True
            self.by_id.pop(tenant.entry.id, None)

    def _how_lost(self, tenant: Tenant) -> tuple[str, str]:
        """Reason and detail of an attempt whose end nobody knows."""
        process = tenant.record.process
        if not self._is_of_here(tenant):
            return "lost", f"{tenant.record.node} was lost; nobody knows how it ended"
        if process is not None and process.boot != procs.boot_id():
            return "rebooted", f"{self.node} crashed or was rebooted; nobody knows how it ended"
        return "lost", f"its supervisor on {self.node} died; nobody knows how it ended"

    def leave(self) -> None:
        """Before the daemon ends: what is not born goes back."""
        for tenant in list(self.by_id.values()):
            if not tenant.is_born:
                with contextlib.suppress(OSError):
                    self.withdraw(tenant, "its daemon leaves")


def _is_settling(known: Tenant, entry: Entry) -> bool:
    """Whether a listed claim is the one that is known; its file may have another number after a rename."""
    return known.settling is not None and entry.state == CLAIMED and not known.is_born


def _may_live(process: Identity | None) -> bool:
    return process is not None and procs.liveness(process) is not Liveness.DEAD
