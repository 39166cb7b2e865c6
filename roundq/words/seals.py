"""Names in held/: who keeps a record there, its conditions, its user, or a process that changes it.

Pure. roundqueue(7), "Holding and changing". `ID.job` waits for its conditions, `ID@user.job` is on hold, and
`ID@PID-START-BOOT-ORIGIN@NODE!.job` is sealed: the name says which process changes it, and where it was.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from roundq.words.job import Identity
from roundq.words.states import ENDED_STATES, HELD, WAITING

#: Ends the stem of a record that somebody is about to rewrite: nobody else moves that.
SEAL = "!"
#: Ends the stem of one that is on hold.
ON_HOLD = "@user"
#: Where a sealed record was: in a directory, or in held/ on hold by its user.
USER = "user"
ORIGINS = (HELD, USER, WAITING, *ENDED_STATES)
_SEALED = rf"(?s:(.+))@([0-9]{{1,10}})-([0-9]{{1,20}})-([0-9a-f]{{8}})-({'|'.join(ORIGINS)})@([^@]+){SEAL}"


class Seal(NamedTuple):
    """What the name of a sealed record says: by which process, of which boot of `node`, and from where.

    `boot` is `boot_digits`: the whole id has no room in a name.
    """

    pid: int
    start: int
    boot: str
    origin: str
    node: str

    def is_of(self, process: Identity) -> bool:
        """Whether it is this process of the node."""
        return (self.pid, self.start, self.boot) == (process.pid, process.start, boot_digits(process.boot))


def boot_digits(boot: str) -> str:
    """Eight hexadecimal digits of a boot id, which tell the boots of one node apart."""
    return re.sub("[^0-9a-f]", "", boot)[:8].rjust(8, "0")


@functools.cache
def _sealed() -> re.Pattern[str]:
    # `rq run` meets none.
    return re.compile(_SEALED)


def sealed_stem(job_id: str, process: Identity, origin: str, node: str) -> str:
    """The stem of a record that this process of `node` is about to rewrite."""
    return f"{job_id}@{process.pid}-{process.start}-{boot_digits(process.boot)}-{origin}@{node}{SEAL}"


def parse(stem: str) -> tuple[str, str | None]:
    """The id of a stem in held/, and the node on which it is being changed, None if it is not."""
    # Ten thousand are listed at once, and hardly any is sealed.
    if stem.endswith(SEAL) and (found := _sealed().fullmatch(stem)) is not None:
        return found[1], found[6]
    return stem.removesuffix(ON_HOLD) or stem, None


def seal_of(stem: str) -> Seal | None:
    """What a stem in held/ says of its seal; None if it has none."""
    found = _sealed().fullmatch(stem)
    if found is None:
        return None
    return Seal(int(found[2]), int(found[3]), found[4], found[5], found[6])
