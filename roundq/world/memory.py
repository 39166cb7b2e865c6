"""How much memory processes of this node use, measured without the help of a control group.

Called by a supervisor every second, so it looks at the processes of one job only, not at the whole table.
Memory is what a process has for itself or shares with others of the job: anonymous and shared memory.
File cache, which the kernel takes back when it needs the room, is none of it. All is in bytes; what has
gone uses nothing. Facts are from proc(5).
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def descendants(of: int) -> list[int]:
    """The pids of the children of this process, their children, and so on; not its own.

    Who is forked or ends meanwhile may be missed. Empty where the kernel does not list children
    (CONFIG_PROC_CHILDREN).
    """
    found: dict[int, None] = {}
    generation = [of]
    while generation:
        generation = [child for pid in generation for child in _children(pid) if child not in found]
        found.update(dict.fromkeys(generation))
    return list(found)


def _children(of: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{of}/task"):
            found += [int(word) for word in _read(f"/proc/{of}/task/{thread}/children").split()]
    except OSError:
        pass
    return found


def most(of: Iterable[int]) -> int:
    """What these processes use at most: what several of them share is counted for each. 10 us a process."""
    total = 0
    for pid in of:
        try:
            words = _read(f"/proc/{pid}/status").split()
        except OSError:
            continue
        # Absent of zombies and of threads of the kernel; in kB.
        for name in (b"RssAnon:", b"RssShmem:"):
            if name in words:
                total += int(words[words.index(name) + 1]) << 10
    return total


def exactly(of: Iterable[int]) -> int:
    """What these processes use together: of shared memory each has its part (PSS).

    It walks through their page tables: up to a second for 100 GiB, in which they cannot map memory. Of what
    another user became, and on a kernel before 5.3, it is what `most` says.
    """
    total = 0
    for pid in of:
        try:
            words = _read(f"/proc/{pid}/smaps_rollup").split()
            total += sum(int(words[words.index(name) + 1]) << 10 for name in (b"Pss_Anon:", b"Pss_Shmem:"))
        except (OSError, ValueError):
            total += most([pid])
    return total


@functools.cache
def can_list_children() -> bool:
    """Whether this kernel tells the children of a process."""
    return os.path.exists("/proc/thread-self/children")


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(descriptor, 1 << 16):
            chunks.append(chunk)
    finally:
        os.close(descriptor)
    return b"".join(chunks)
