"""What all descendants of a process use together, asked of many processes and one process table.

Anybody may have thousands of processes, one below the other, and name each as the root of a job: so the
table is gone through once, not once for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from roundq.words.job import Identity
from roundq.world.procs import Process


class Offspring:
    """The descendants of each process of one process table, summed up when they are first asked for."""

    def __init__(self, table: Mapping[int, Process]) -> None:
        self._table = table
        self._rss: dict[int, int] | None = None

    def has(self, root: Identity) -> bool:
        """Whether this process is in the table."""
        process = self._table.get(root.pid)
        return process is not None and process.identity == root

    def rss(self, of: Identity) -> int:
        """The resident memory in bytes of the living descendants of a process, as `procs.rss` has it.

        0 if it is not in the table.
        """
        if not self.has(of):
            return 0
        if self._rss is None:
            self._rss = _below(self._table)
        return self._rss[of.pid]


def _below(table: Mapping[int, Process]) -> dict[int, int]:
    """Of each process the resident memory of its living descendants, in one pass from the youngest up.

    A table is no snapshot and may show a circle: those in it have only what hangs below the circle.
    """
    processes = dict(table)
    below = dict.fromkeys(processes, 0)
    children = dict.fromkeys(processes, 0)
    for process in processes.values():
        if process.parent in children:
            children[process.parent] += 1
    ready = [pid for pid, count in children.items() if not count]
    while ready:
        process = processes[ready.pop()]
        if process.parent in processes:
            below[process.parent] += below[process.pid] + (0 if process.dead else process.rss_bytes)
            children[process.parent] -= 1
            if not children[process.parent]:
                ready.append(process.parent)
    return below
