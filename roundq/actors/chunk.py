"""The tasks of a chunk, one after the other in one job: what its supervisor executes in place of a command.

A program of its own, which imports nothing of roundq and little else: `python -I -S chunk.py`. Its standard
input is a file in memory, which holds the tasks; behind them it writes how each ended, so that what is known
stays known however the runner ends. The tasks themselves read nothing there.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

#: A descriptor that is no file's: standard input.
_GIVEN = 0
#: What shells say of a command that was not found, and of one that cannot be executed.
NOT_FOUND, NOT_EXECUTABLE = 127, 126
#: Signals that are passed on to the task that runs; after those that ask to end, no further task begins.
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
PASSED_ON = (*ENDING, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)


# ---------------------------------------------------------------- for the supervisor

Results = tuple[tuple[int, int], ...]


class Chunk:
    """The tasks of one attempt, and how they end."""

    def __init__(self, array_id: str, tasks: Sequence[tuple[int, Sequence[str]]], before: Results) -> None:
        """`tasks` are indices and commands; those of which `before` says that they ended well are not run
        again, unless all did."""
        well = {index for index, code in before if code == 0}
        left = [task for task in tasks if task[0] not in well]
        self._before = before if left else ()
        self.tasks = left or list(tasks)
        self.command = (sys.executable, "-I", "-S", os.path.abspath(__file__))
        data = _pack(array_id, self.tasks)
        self._size = len(data)
        self.descriptor = os.memfd_create("tasks")
        os.write(self.descriptor, data)

    def results(self) -> Results:
        """The index of each task that has ended, in any attempt, and its exit code; negative is a signal."""
        found, own = dict(self._before), {index for index, _ in self.tasks}
        size = os.fstat(self.descriptor).st_size - self._size
        for line in os.pread(self.descriptor, max(size, 0), self._size).split(b"\n")[:-1]:
            # Its processes could write there, too: it is believed of its own tasks only.
            index, _, code = line.partition(b" ")
            if index.isdigit() and code.removeprefix(b"-").isdigit() and len(line) < 40:
                if int(index) in own and -128 <= int(code) <= 255:
                    found[int(index)] = int(code)
        return tuple(sorted(found.items()))

    def told(self) -> str:
        """How many of this attempt's tasks did not end well, in words."""
        ended = dict(self.results())
        bad = sum(ended.get(index, 0) != 0 for index, _ in self.tasks)
        return f"{bad} of {len(self.tasks)} tasks did not end well"

    def close(self) -> None:
        """Gives up the file."""
        os.close(self.descriptor)


def _pack(array_id: str, tasks: Sequence[tuple[int, Sequence[str]]]) -> bytes:
    fields = [os.fsencode(array_id)]
    for index, command in tasks:
        fields += [b"%d" % index, b"%d" % len(command), *map(os.fsencode, command)]
    return b"\0".join(fields)


# ---------------------------------------------------------------- the runner


def _unpack(data: bytes) -> tuple[str, list[tuple[int, list[str]]]]:
    array_id, *fields = data.split(b"\0")
    tasks, place = [], 0
    while place < len(fields):
        count = int(fields[place + 1])
        tasks.append(
            (int(fields[place]), [os.fsdecode(word) for word in fields[place + 2 : place + 2 + count]])
        )
        place += 2 + count
    return os.fsdecode(array_id), tasks


class Runner:
    """Runs tasks."""

    def __init__(self) -> None:
        self._child = 0
        self._stopped_by = 0

    def hear(self, number: int, _frame: object) -> None:
        """A signal: it is the running task's."""
        if number in ENDING:
            self._stopped_by = number
        if self._child:
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        # To import contextlib would take as long as the interpreter itself.
        try:  # noqa: SIM105
            os.kill(self._child, number)
        except OSError:
            # It has just ended, or became another user.
            pass

    def run(self) -> int:
        """All tasks; the highest exit code, of a signal 128 and its number."""
        for number in PASSED_ON:
            signal.signal(number, self.hear)
        # The tasks must not find what is written here.
        given = os.dup(_GIVEN)
        array_id, tasks = _unpack(os.pread(given, os.fstat(given).st_size, 0))
        os.lseek(given, 0, os.SEEK_END)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, _GIVEN)
        os.close(null)
        highest = 0
        for index, command in tasks:
            if self._stopped_by:
                break
            began_s = time.monotonic()
            _say(f"rq: task {array_id}_{index} begins: {_line(command)}")
            code, told = self._run(index, command)
            os.write(given, b"%d %d\n" % (index, code))
            _say(f"rq: task {array_id}_{index} ended: {told}; ran {time.monotonic() - began_s:.1f} s")
            highest = max(highest, code if code >= 0 else 128 - code)
        if self._stopped_by:
            signal.signal(self._stopped_by, signal.SIG_DFL)
            os.kill(os.getpid(), self._stopped_by)
        return highest

    def _run(self, index: int, command: list[str]) -> tuple[int, str]:
        """The exit code of a task, or its signal as a negative number, and that in words."""
        os.environ["RQ_ARRAY_TASK_ID"] = str(index)
        try:
            # What this interpreter ignores is not the task's.
            self._child = os.posix_spawnp(
                command[0], command, os.environ, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ)
            )
        except OSError as error:
            is_missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
            code = NOT_FOUND if is_missing else NOT_EXECUTABLE
            return code, f"could not start: {_line(command[:1])}: {error.strerror}"
        if self._stopped_by:
            # It came before the task was known.
            self._pass_on(self._stopped_by)
        _, status = os.waitpid(self._child, 0)
        self._child = 0
        code = os.waitstatus_to_exitcode(status)
        return code, f"exit code {code}" if code >= 0 else f"killed by signal {-code}"


def _line(command: Sequence[str]) -> str:
    return " ".join(command).replace("\n", "\\n")


def _say(line: str) -> None:
    try:  # noqa: SIM105
        os.write(1, os.fsencode(line) + b"\n")
    except OSError:
        # The output may be full or gone; the tasks go on.
        pass


if __name__ == "__main__":
    # Nothing is left that Python would have to put away.
    os._exit(Runner().run())
