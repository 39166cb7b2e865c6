"""The output of a job: where it goes, the open files, how much was written, and our own lines in it.

The supervisor opens it before the command begins and closes it, durably, after its end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
from dataclasses import dataclass

from roundq.words import outputs
from roundq.words.job import NO_NODE, Job, Record


@dataclass(slots=True)
class Streams:
    """The open output files of a job, and how large they were before it wrote."""

    path: str
    out: int
    err: int
    before: int = 0

    def size(self) -> int:
        """Bytes in the files now; pipes and devices have none."""
        total = 0
        for descriptor in {self.out, self.err}:
            status = os.fstat(descriptor)
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
        return total

    def say(self, line: str) -> None:
        """One line of ours in the output; that it cannot be written, or not now, ends and delays nothing.

        A FIFO may be full, since its reader sleeps; writing would wait for it, and the job's end with it.
        """
        data = os.fsencode(line) + b"\n"
        poller = select.poll()
        poller.register(self.out, select.POLLOUT)
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(self.out).st_mode):
                os.write(self.out, data)
            elif poller.poll(0):
                # As much as a pipe that is ready is sure to take at once, pipe(7).
                os.write(self.out, data[: select.PIPE_BUF - 1].removesuffix(b"\n") + b"\n")

    def close(self) -> None:
        """Makes the output durable and visible to other nodes (close-to-open)."""
        for descriptor in {self.out, self.err}:
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
            with contextlib.suppress(OSError):
                os.close(descriptor)


def output_path(of: Record | Job, job_id: str) -> str:
    """The path of the job's output file; of a job alone as if it had not begun yet."""
    return _path(of, job_id, _job_of(of).output or "rq-%j.out")


def error_path(of: Record | Job, job_id: str) -> str:
    """The path of the file for its standard error: that of its output, unless it asked for another."""
    named = _job_of(of).error
    return output_path(of, job_id) if named is None else _path(of, job_id, named)


def _job_of(of: Record | Job) -> Job:
    return of.job if isinstance(of, Record) else of


def _path(of: Record | Job, job_id: str, name: str) -> str:
    job = _job_of(of)
    node, restarts = "", 0
    if isinstance(of, Record):
        node, restarts = "" if of.node == NO_NODE else of.node, of.attempt - 1
    facts = outputs.Facts(job_id, os.path.basename(job.home_dir), node, restarts)
    return os.path.join(job.directory, outputs.filled(name, job, facts))


def _open_stream(path: str) -> int:
    # Not blocking: a FIFO without a reader is an error here, not a hang.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    directory = os.stat(os.path.dirname(path) or ".")
    if not directory.st_mode & stat.S_IWOTH:
        descriptor = os.open(path, flags, 0o666)
    else:
        descriptor = _open_among_strangers(path, flags, (os.geteuid(), directory.st_uid))
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
    return descriptor


def _open_among_strangers(path: str, flags: int, owners: tuple[int, ...]) -> int:
    """Opens a file in a directory to which everybody may write, such as /tmp, if it is of these owners.

    A stranger who knows the name may have put a link there that leads to a file of mine, or a file that he
    reads. Kernels refuse that if they are told to (proc(5), protected_symlinks, protected_hardlinks,
    protected_regular).
    """
    try:
        of_link = os.lstat(path)
        follows = stat.S_ISLNK(of_link.st_mode) and of_link.st_uid in owners
    except FileNotFoundError:
        follows = False
    try:
        descriptor = os.open(path, flags if follows else flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP and not follows:
            raise PermissionError(errno.EACCES, "it is a symbolic link of somebody else", path) from None
        raise
    status = os.fstat(descriptor)
    wrong = ""
    if not follows and status.st_uid not in owners:
        wrong = "it belongs to somebody else"
    elif not follows and stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        # Who made a hard link cannot be told.
        wrong = "it has another name, and somebody else may have linked it there"
    if wrong:
        os.close(descriptor)
        raise PermissionError(errno.EACCES, wrong, path)
    return descriptor


def open_streams(of: Record | Job, job_id: str) -> Streams:
    """Opens a job's output and error files to append to, with the submitter's umask.

    Raises OSError, which names the file.
    """
    job = _job_of(of)
    path = output_path(of, job_id)
    errors = error_path(of, job_id)
    # Only this, not the spool's files, is to have the submitter's mask.
    before = os.umask(0o022 if job.umask is None else job.umask)
    try:
        out = _open_stream(path)
        same = os.path.realpath(errors) == os.path.realpath(path)
        err = out if same else _open_stream(errors)
    finally:
        os.umask(before)
    streams = Streams(path, out, err)
    streams.before = streams.size()
    return streams
