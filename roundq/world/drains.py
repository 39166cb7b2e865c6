"""The administrator's drain of this node: a file that stops every user's daemon here from starting more jobs.

roundqueue(7), "Control". Looked at in every round: while nothing changes that costs two calls of lstat(2).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence

from roundq.words.drains import ADMIN, Drain, first_line
from roundq.words.errors import RecordError
from roundq.world import files

#: For good, and until the next boot.
KEPT, PASSING = "/etc/roundq.d/drain", "/run/roundq/drain"
PLACES = (KEPT, PASSING)
#: Of its text at most so much is read.
BYTES_MAX = 4096


class AdminDrain:
    """The administrator's drain of this node, as it is now and was at the last look."""

    def __init__(self, places: Sequence[str] = PLACES, owner: int = 0) -> None:
        self.places, self.owner = places, owner
        #: What is wrong with a file that was passed over.
        self.trouble: list[str] = []
        self._read: dict[str, tuple[tuple[int, int, int], str]] = {}

    def look(self) -> Drain | None:
        """The drain that holds, the one for good first; None if there is none. Raises nothing."""
        self.trouble = []
        found = [drain for path in self.places if (drain := self._drain(path)) is not None]
        return found[0] if found else None

    def _drain(self, path: str) -> Drain | None:
        try:
            status = os.lstat(path)
        except OSError as error:
            self._read.pop(path, None)
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self.trouble.append(f"{path} cannot be looked at: {error.strerror}; jobs start all the same")
            return None
        unsafe = self._unsafe(status) or self._unsafe_place(os.path.dirname(path))
        if unsafe:
            self.trouble.append(f"{path} is passed over: {unsafe}")
            return None
        signature = (status.st_ino, status.st_mtime_ns, status.st_size)
        if path not in self._read or self._read[path][0] != signature:
            self._read[path] = signature, self._reason(path)
        return Drain(ADMIN, self._read[path][1], status.st_mtime_ns)

    def _unsafe(self, status: os.stat_result) -> str | None:
        if status.st_uid != self.owner:
            return f"it belongs to uid {status.st_uid}, not to uid {self.owner}"
        # The mode of a link says nothing.
        if not stat.S_ISLNK(status.st_mode) and files.others_write(status):
            return "it can be written by others: chmod go-w it"
        return None

    def _unsafe_place(self, directory: str) -> str | None:
        try:
            unsafe = self._unsafe(os.stat(directory))
        except OSError as error:
            unsafe = error.strerror
        return unsafe and f"of {directory}, {unsafe}"

    def _reason(self, path: str) -> str:
        # Whatever is there says by its name alone that nothing shall start.
        try:
            return first_line(files.read(path, most=BYTES_MAX, owner=self.owner).decode(errors="replace"))
        except (OSError, RecordError):
            return ""


def drain(reason: str, owner: str, path: str = PASSING) -> None:
    """Drains this node for all users, until the next boot; for root. Raises SpoolError if the system refuses.

    `owner` begins the name of a temporary file.
    """
    directory = os.path.dirname(path)
    with files.explained(f"write {path}"):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)
            # Every user's daemon has to see it, whatever the umask of root.
            os.chmod(directory, 0o755)
        temporary = files.write_temporary(directory, f".{owner}", f"{reason}\n".encode(), sync=False)
        files.replace(temporary, path)


def resume(path: str = PASSING) -> bool:
    """Takes that drain away; whether there was one. Raises SpoolError if the system refuses."""
    with files.explained(f"remove {path}"):
        return files.remove(path)
