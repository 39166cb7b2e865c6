"""A batch: jobs on their way into the queue together, and the way back.

What `spool.submit` consists of. Whatever ends it, even between two steps, it knows which of its jobs are in
the queue: the name of each is noted before it is given. An array is such a batch: one number, and a file for
each task, or for each chunk of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from roundq.records import spool as spools
from roundq.records.spool import SUFFIX, Spool
from roundq.words import record_format as formats
from roundq.words.errors import PartlySubmitted, RecordError, SpoolError, SubmissionInterrupted
from roundq.words.job import Dependency, Job, Record, Task
from roundq.words.seals import ON_HOLD
from roundq.words.states import HELD, WAITING
from roundq.world import files

if TYPE_CHECKING:
    from roundq.world.together import Together

#: From so many files on they are synced together: syncfs(2) writes what others wrote, too.
TOGETHER_LEAST = 50
#: Of more of them it is told each so many how far it is.
STEPS = 50
#: Ends the id in a dependency of an array's tasks that means, for each, the task of the same index of another
#: array; or, of chunks that are cut alike, the one that begins with it.
EACH, EACH_CHUNK = "_*", "_^"

T = TypeVar("T")
TakeIds = Callable[[int], list[str]]
OnStep = Callable[[float], None]


def submit(
    spool: Spool,
    described: Sequence[Job],
    node: str,
    take_ids: TakeIds,
    on_step: OnStep,
    *,
    on_hold: bool,
) -> list[str]:
    """`spool.submit`; `take_ids` gives so many ids that nobody else has."""
    batch = Batch(spool, node, len(described), on_step)

    def act() -> list[str]:
        return batch.submit([_place_of(job, on_hold) for job in described], described, take_ids)

    return _whole(batch, act)


def submit_array(
    spool: Spool,
    job: Job,
    parts: Sequence[Sequence[Task]],
    node: str,
    take_ids: TakeIds,
    on_step: OnStep,
    *,
    on_hold: bool,
) -> str:
    """`spool.submit_array`."""
    batch = Batch(spool, node, len(parts), on_step)
    return _whole(batch, lambda: batch.submit_array(_place_of(job, on_hold), job, parts, take_ids))


def _whole(batch: Batch, act: Callable[[], T]) -> T:
    """All of the batch or, as far as that can be, nothing."""
    try:
        with files.explained(f"submit to {batch.spool.path}"):
            return act()
    except BaseException as error:
        kept, doubtful = batch.take_back()
        if isinstance(error, KeyboardInterrupt):
            raise SubmissionInterrupted([*kept, *doubtful]) from error
        if kept or doubtful:
            raise PartlySubmitted(str(error), kept, doubtful) from error
        raise
    finally:
        batch.close()


def _place_of(job: Job, on_hold: bool) -> tuple[str, str]:
    """The state into which a job is submitted, and what follows the id in its name there."""
    if on_hold:
        return HELD, ON_HOLD
    return (HELD if job.begin_ns or job.after else WAITING), ""


def tasks_of(job: Job, array_id: str, parts: Sequence[Sequence[Task]]) -> Iterator[tuple[int, Job]]:
    """The jobs of an array, each with its index: one for each task, or for each chunk of several."""
    assert job.array is not None
    for part in parts:
        first = part[0]
        array = replace(job.array, id=array_id, index=first.index)
        chunk = tuple(part) if len(part) > 1 else ()
        after = tuple(each for one in job.after for each in _each(one, part)) if job.after else ()
        yield first.index, replace(job, array=array, command=first.command, chunk=chunk, after=after)


def _each(one: Dependency, part: Sequence[Task]) -> Iterator[Dependency]:
    """What one job of an array comes after where each comes after the one of its index in another array."""
    if one.job.endswith(EACH):
        yield from (replace(one, job=f"{one.job[:-1]}{task.index}") for task in part)
    elif one.job.endswith(EACH_CHUNK):
        yield replace(one, job=f"{one.job[:-1]}{part[0].index}")
    else:
        yield one


def _together(spool: Spool) -> Together:
    # One job needs none.
    from roundq.world.together import Together

    return Together(spool.directory("tmp"))


class Batch:
    """Records of some jobs, not yet submitted."""

    def __init__(self, spool: Spool, node: str, count: int, on_step: OnStep) -> None:
        self.spool, self._node, self._count, self._on_step = spool, node, count, on_step
        self._together = _together(spool) if count >= TOGETHER_LEAST else None
        self._temporaries: list[str] = []
        #: The paths of the ids that were tried.
        self._tried: dict[str, str] = {}
        #: The last of them, while it is not known whether it has its name.
        self._unknown: tuple[str, Job] | None = None

    def close(self) -> None:
        """Gives up what it keeps open."""
        if self._together is not None:
            self._together.close()

    # ------------------------------------------------------------ the way in

    def submit(
        self, places: Sequence[tuple[str, str]], described: Sequence[Job], take_ids: TakeIds
    ) -> list[str]:
        """Writes all, and then gives all their names; the ids, in order. Durable when it returns."""
        contents = [formats.dump(Record(job)) for job in described]
        self._write(contents)
        given = take_ids(self._count)
        for number, place in enumerate(places):
            # A foreign program may have dropped a file of that name: take another number.
            while not self._place(number, given[number], place, described[number]):
                self._temporaries[number] = spools.temporary_of(self.spool, self._node, contents[number])
                given[number : number + 1] = take_ids(1)
            self._placed(number)
        self._sync()
        return given

    def submit_array(
        self, place: tuple[str, str], job: Job, parts: Sequence[Sequence[Task]], take_ids: TakeIds
    ) -> str:
        """The same for an array; its id."""
        # No module of words that one job does not need.
        from roundq.words.arrays import task_id

        (array_id,) = take_ids(1)
        # Its id is in its records, so it comes first.
        self._write(formats.dump(Record(task)) for _, task in tasks_of(job, array_id, parts))
        for number, (index, task) in enumerate(tasks_of(job, array_id, parts)):
            job_id = task_id(array_id, index)
            if not self._place(number, job_id, place, task):
                raise SpoolError(
                    f"{self._path(job_id, place)} is there already: another program gave its file the number"
                    " of this array",
                    "submit again; what programs drop there must not be named by numbers",
                )
            self._placed(number)
        self._sync()
        return array_id

    def _write(self, contents: Iterable[bytes]) -> None:
        each = self._together is None or self._together.each
        for number, data in enumerate(contents, 1):
            self._temporaries.append(spools.temporary_of(self.spool, self._node, data, sync=each))
            self._tell(number)
        if self._together is not None:
            # Before the first of them gets its name: no job may be accepted whose record a crash cuts.
            self._together.sync()

    def _place(self, number: int, job_id: str, place: tuple[str, str], job: Job) -> bool:
        path = self._path(job_id, place)
        self._unknown = job_id, job
        self._tried[job_id] = path
        is_placed = files.place(self._temporaries[number], path)
        if not is_placed:
            del self._tried[job_id]
        self._unknown = None
        return is_placed

    def _placed(self, number: int) -> None:
        # With the last one all is done, and nothing may come in the way of saying so.
        if number + 1 < self._count:
            self._tell(self._count + number + 1)

    def _tell(self, step: int) -> None:
        if self._together is None or step % STEPS == 0:
            self._on_step(step / self._count / 2)

    def _path(self, job_id: str, place: tuple[str, str]) -> str:
        state, ending = place
        return f"{self.spool.directory(state)}/{job_id}{ending}{SUFFIX}"

    def _sync(self) -> None:
        for directory in {path.rpartition("/")[0] for path in self._tried.values()}:
            files.sync_directory(directory)

    # ------------------------------------------------------------ the way back

    def take_back(self) -> tuple[list[str], list[str]]:
        """Takes away what no node has taken; the ids of what is in the queue all the same, and may be."""
        for path in self._temporaries:
            with contextlib.suppress(OSError):
                files.remove(path)
        kept: list[str] = []
        doubtful: list[str] = []
        for job_id, path in self._tried.items():
            try:
                if self._unknown is not None and job_id == self._unknown[0] and not self._is_there(path):
                    continue
                if not files.remove(path):
                    kept.append(job_id)
            except OSError:
                # A home that does not answer: it may be there, and it may be gone.
                doubtful.append(job_id)
        if len(kept) < len(self._tried):
            # Nor may they be back after a crash of the server.
            with contextlib.suppress(OSError):
                self._sync()
        return kept, doubtful

    def _is_there(self, path: str) -> bool:
        """Whether the unknown job has got its name; a file of that name may be a foreign program's."""
        assert self._unknown is not None
        job_id, job = self._unknown
        for entry in spools.scan(self.spool):
            with contextlib.suppress(OSError, RecordError):
                # If it is elsewhere a node has taken it: nobody else takes a number that was just given.
                if entry.id == job_id and (
                    spools.path_of(self.spool, entry) != path
                    or spools.content(self.spool, entry) == formats.dump(Record(job))
                ):
                    return True
        return False
