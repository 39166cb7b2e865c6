"""What systemd hears of the daemon: ready, alive, leaving, and its log with fields.

Through systemd-python, an extra of the package since it needs a C compiler; a unit
of Type=notify that runs without it fails at once and says so, instead of being
killed by a start timeout that nobody understands.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import shlex
import sys
from collections.abc import Mapping
from io import TextIOWrapper

from roundq.words.errors import ConfigError

#: A log grows to this size, in bytes, and one older one is kept.
LOG_BYTES_MAX = 1 << 20
_FIELDS = ("ROUNDQ_JOB", "ROUNDQ_STATE", "ROUNDQ_NODE")


class Notifier:
    """Speaks to the service manager if there is one; silent otherwise."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Raises ConfigError if a service manager waits for us and systemd-python is not installed."""
        self._notify = None
        #: Seconds within which the watchdog wants to hear of us, None if it does not.
        self.watchdog_s: float | None = None
        if not environ.get("NOTIFY_SOCKET"):
            return
        try:
            from systemd import daemon
        except ImportError:
            raise ConfigError(
                "systemd waits to be notified, but systemd-python is not installed",
                f"as the owner of this installation: {shlex.quote(sys.executable)} -m pip install"
                " systemd-python (it needs gcc, pkg-config and libsystemd-dev)",
            ) from None
        self._notify = daemon.notify
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if usec.isdecimal() and pid in ("", str(os.getpid())):
            self.watchdog_s = int(usec) / 1e6

    def say(self, text: str) -> None:
        """One or more lines of sd_notify(3), such as READY=1."""
        if self._notify is not None:
            self._notify(text)


class _NodeLog(logging.handlers.RotatingFileHandler):
    """NODE.log, rotated; standard error follows it, so that supervisors and tracebacks land there too."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging calls it so
        """Says nothing of a line that cannot be written: where it would be said is this very file."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        os.dup2(stream.fileno(), 2)
        return stream


class _Journal(logging.Handler):
    """The journal, with fields for the job, its state and the node."""

    def emit(self, record: logging.LogRecord) -> None:
        from systemd import journal

        level = 3 if record.levelno >= logging.ERROR else 4 if record.levelno >= logging.WARNING else 6
        fields = {name: str(value) for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        journal.send(self.format(record), PRIORITY=str(level), SYSLOG_IDENTIFIER="roundq", **fields)


def complain(text: str) -> None:
    """One line of a supervisor, whose standard error is the daemon's log.

    That may lie on a home that is full or away, which is what there is to complain of: it must cost no job.
    """
    with contextlib.suppress(OSError):
        os.write(2, text.encode(errors="backslashreplace") + b"\n")


def _is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether a descriptor leads to the journal, as systemd.exec(5) has it told.

    The variable alone says nothing: who types in a terminal of a desktop has inherited it.
    """
    told = environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return told == f"{status.st_dev}:{status.st_ino}"


def open_log(path: str, environ: Mapping[str, str], *, verbose: bool = False) -> logging.Logger:
    """The daemon's log: the journal under systemd, else the file `path`; also the screen if verbose."""
    log = logging.getLogger("roundq")
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False
    for old in log.handlers[:]:
        log.removeHandler(old)
        old.close()
    if verbose:
        screen = logging.StreamHandler(os.fdopen(os.dup(2), "w", errors="backslashreplace"))
        screen.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(screen)
    try:
        if not _is_journal(2, environ):
            raise ImportError
        from systemd import journal  # noqa: F401  # only to know that it is there
    except ImportError:
        # A full quota must not stop the daemon: it costs lines of the log and nothing else.
        handler: logging.Handler = _NodeLog(
            path, maxBytes=LOG_BYTES_MAX, backupCount=1, errors="backslashreplace"
        )
        handler.setFormatter(logging.Formatter("%(asctime)s [%(process)d] %(levelname)s %(message)s"))
    else:
        handler = _Journal()
        handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    return log
