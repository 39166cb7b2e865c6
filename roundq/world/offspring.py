"""What all descendants of a process use together, asked of many processes and one process table.

Anybody may have thousands of processes, one below the other, and name each as the root of a job: so the
table is gone through once, not once for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from roundq.words.job import Identity
from roundq.world.procs import Process


class _Below(NamedTuple):
    """The resident memory of all descendants of a process, and of the largest of them."""

    total: int
    largest: int


_NONE = _Below(0, 0)


class Offspring:
    """The descendants of each process of one process table, summed up when they are first asked for."""

    def __init__(self, table: Mapping[int, Process]) -> None:
        self._table = table
        self._below: dict[int, _Below] | None = None

    def has(self, root: Identity) -> bool:
        """Whether this process is in the table."""
        process = self._table.get(root.pid)
        return process is not None and process.identity == root

    def rss(self, of: Identity) -> int:
        """The resident memory in bytes of the living descendants of a process, as `procs.rss` has it.

        0 if it is not in the table.
        """
        return self._of(of).total

    def largest(self, of: Identity) -> int:
        """That of the largest of these descendants."""
        return self._of(of).largest

    def _of(self, root: Identity) -> _Below:
        if not self.has(root):
            return _NONE
        if self._below is None:
            self._below = _below(self._table)
        return self._below[root.pid]


def _below(table: Mapping[int, Process]) -> dict[int, _Below]:
    """Of each process the resident memory of its living descendants, in one pass from the youngest up.

    A table is no snapshot and may show a circle: those in it have only what hangs below the circle.
    """
    processes = dict(table)
    below = dict.fromkeys(processes, _NONE)
    children = dict.fromkeys(processes, 0)
    for process in processes.values():
        if process.parent in children:
            children[process.parent] += 1
    ready = [pid for pid, count in children.items() if not count]
    while ready:
        process = processes[ready.pop()]
        if process.parent in processes:
            size = 0 if process.dead else process.rss_bytes
            own, above = below[process.pid], below[process.parent]
            below[process.parent] = _Below(
                above.total + own.total + size, max(above.largest, own.largest, size)
            )
            children[process.parent] -= 1
            if not children[process.parent]:
                ready.append(process.parent)
    return below
