"""The diary of a worker of a job directory, and what earlier workers of its id have left.

roundq(3), DIRJOBS. A job is gone on with only if the process that had it is certainly dead: it was of this
node, and its own diary names the job.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator

from roundq.faces.api.means import Means
from roundq.records.jobdir import JobDir, is_dead
from roundq.words import jobdir as words
from roundq.words.jobdir import WAITING, Author, Claim, Diary
from roundq.words.quantities import visible
from roundq.world import procs
from roundq.world.procs import Liveness

#: Diaries of the dead that tell of runs are removed after this time, or so many times `sync_time`.
OLD_S, OLD_SYNCS = 86400.0, 100
#: A worker that has told nothing for so long, or for so many times `sync_time`, and whose job waits again,
#: has lost it to a person who moved it, and not to an old list.
SILENT_S, SILENT_SYNCS = 60.0, 10

_log = logging.getLogger("roundq.dirjobs")


class OwnDiary:
    """The diary of one worker. All methods raise OSError for what the system refuses."""

    id: str
    author: Author

    def __init__(self, directory: JobDir, means: Means, wid: str) -> None:
        self._dir, self._means, self._wid = directory, means, wid
        self._pid = 0
        self._has_runs, self._is_open = False, False
        self._knew: list[str] = []

    def begin(self) -> None:
        """Makes the file, for this process."""
        self.author = self._means.author()
        self.id = self._dir.begin(self._wid, self.author)
        self._pid = os.getpid()

    def claims(self, name: str) -> None:
        """Before a claim."""
        self._dir.note(self.id, words.claims(name), sync=False)
        self._is_open = True

    def look_at_runs(self, name: str, sync_s: float) -> None:
        """Between that and the claim, if it is to be settled: which runs of the job are over by what is known
        now. Of any other its worker may have the same file."""
        self._knew = []
        for diary in self.of_others():
            runs = [run for run in diary.runs if run.name == name]
            if runs and runs[-1] == diary.running() and not self._is_silent(diary, sync_s):
                runs.pop()
            self._knew += [run.id for run in runs]

    def _is_silent(self, diary: Diary, sync_s: float) -> bool:
        """Whether what is seen of this worker is long ago: it may run still, but who moved its job knows."""
        silent_s = max(SILENT_S, SILENT_SYNCS * sync_s)
        return self.is_over(diary) or self._dir.age_s(diary.file, self.id) > silent_s

    def lost(self, name: str) -> None:
        """After a claim that came to nothing."""
        self._dir.note(self.id, words.lost(name), sync=False)
        self._is_open = False

    def is_made(self, claim: Claim) -> bool:
        """Whether a claim was made, and by this worker, whatever was answered; else it is noted as lost."""
        is_made = self._dir.is_claimed(claim) and self.is_alone(claim.name)
        if not is_made:
            self.lost(claim.name)
        return is_made

    def runs(self, name: str) -> None:
        """Before a settled job is handed out."""
        self._dir.note(self.id, words.runs(name, self._knew), sync=True)
        self._has_runs = True

    def ended(self, name: str) -> None:
        """After a job was moved to where it belongs."""
        self._dir.note(self.id, words.ended(name), sync=False)
        self._is_open = False

    def leave(self) -> None:
        """The worker is no more. Never fails: it may be the interpreter that ends."""
        if self._pid != os.getpid() or self._is_open:
            return
        try:
            if self._has_runs:
                self._dir.note(self.id, words.left(), sync=False)
            else:
                self._dir.forget(self.id)
        except OSError as error:
            _log.debug("%s stays: %s", self.id, error)

    # ---------------------------------------------------------------- others

    def is_alone(self, name: str) -> bool:
        """Whether no other worker of this id, that may live, has noted that it claims this job."""
        return not any(
            (one.wid, one.open) == (self._wid, name) and not self.is_over(one) for one in self.of_others()
        )

    def of_others(self) -> list[Diary]:
        """All diaries but this one."""
        return [diary for diary in self._dir.diaries() if diary.id != self.id]

    def is_over(self, diary: Diary) -> bool:
        """Whether the worker of this diary certainly does nothing more."""
        return diary.is_inherited or diary.has_left or self._is_dead(diary)

    def _is_dead(self, diary: Diary) -> bool:
        return diary.author is not None and is_dead(diary.author, self.author)

    def look_back(self, sync_s: float) -> list[Claim]:
        """The jobs that dead workers of this id have left. Diaries of no more use are removed, and of what
        nobody is known to have is told."""
        diaries = self.of_others()
        claims = set(self._dir.claims())
        old_s = max(OLD_S, OLD_SYNCS * sync_s)
        for diary in diaries:
            # What it has open, somebody may have to go on with; its runs may show that one was run twice.
            if self.is_over(diary) and Claim(diary.wid, diary.open or "") not in claims:
                if not diary.runs or self._dir.age_s(diary.file, self.id) > old_s:
                    self._dir.forget(diary.file)
        return list(self._left(claims, diaries))

    def _left(self, claims: Collection[Claim], diaries: Collection[Diary]) -> Iterator[Claim]:
        for claim in sorted(one for one in claims if one.wid == self._wid):
            owners = _owners(claim, diaries)
            if owners and all(map(self._is_dead, owners)):
                yield claim
            elif not any(map(self._lives, owners)):
                _log.warning(
                    "%s stays as it is: it is not known whether worker %s, which has it%s, still runs;"
                    " if it does not, move the file back to %s",
                    visible(self._dir.running(claim)),
                    self._wid,
                    _where(owners),
                    WAITING,
                )

    def _lives(self, diary: Diary) -> bool:
        one, me = diary.author, self.author
        if one is None or (one.node, one.machine, one.space) != (me.node, me.machine, me.space):
            return False
        return procs.liveness(one.process) is Liveness.ALIVE

    def inherit(self, claim: Claim, sync_s: float) -> bool:
        """Takes over a job that `look_back` found; whether nobody else did."""
        others = self.of_others()
        owners = _owners(claim, others)
        # One that an earlier try took, which then was told that it failed.
        ours = [one for one in others if one.heir == self.id and (one.wid, one.open) == claim]
        # Noted before: else a crash would leave a job that nobody is known to have had.
        self.claims(claim.name)
        self.look_at_runs(claim.name, sync_s)
        # Of several that begin at once one wins the first, and only that one goes on to the next.
        if (
            (owners or ours)
            and all(map(self._is_dead, owners))
            and all(self._dir.inherit(one.file, self.id) for one in sorted(owners))
        ):
            _log.info("going on with %s, which an earlier worker %s had", visible(claim.name), self._wid)
            return True
        self.lost(claim.name)
        return False


def _owners(claim: Claim, diaries: Collection[Diary]) -> list[Diary]:
    """Whose claim this may be, by what each noted last."""
    return [
        one for one in diaries if (one.wid, one.open) == claim and not one.is_inherited and not one.has_left
    ]


def is_free(wid: str, path: str, author: Author) -> bool:
    """Whether no worker of the job directory at this path that may still live is called so."""
    directory = JobDir(path)
    diaries = [diary for diary in directory.diaries() if diary.wid == wid]
    for diary in diaries:
        if not (diary.is_inherited or diary.has_left or (diary.author and is_dead(diary.author, author))):
            return False
    return all(_owners(claim, diaries) for claim in directory.claims() if claim.wid == wid)


def _where(owners: Collection[Diary]) -> str:
    told = [f"{one.author.node}, pid {one.author.process.pid}" for one in owners if one.author]
    return f" ({visible('; '.join(told))})" if told else ""
