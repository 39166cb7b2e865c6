"""`Hand`: a process on a node that does, line by line, what the test tells it. Made by Node.hand().

A step of a test that takes a new process is slow, and forgets its open files. A hand is one process from its
first step to its last, so a test can hold a file open here and look at it from there, in the order it says:

    hand.do('ls("/home/ann")')          the value, as text if it is no literal; of an OSError its name
    hand.begin('read("/home/ann/x")')   does not wait: for what is going to hang
    hand.answer(timeout=5)              the value of what was begun
"""

from __future__ import annotations

import ast
import select
import subprocess
from typing import TYPE_CHECKING, Any

from tests.cluster.runtime import INSIDE

if TYPE_CHECKING:
    from types import TracebackType

    from tests.cluster.node import Node

LISTEN = """
import ast, errno, fcntl, os, signal, stat, sys, time

def read(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 1 << 20).decode()
    finally:
        os.close(fd)

def write(path, text, flags=os.O_CREAT | os.O_TRUNC, mode=0o644):
    fd = os.open(path, os.O_WRONLY | flags, mode)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)

def ls(path):
    return sorted(os.listdir(path))

for line in sys.stdin:
    value = None
    try:
        try:
            code = compile(line.strip(), "<told>", "eval")
        except SyntaxError:
            exec(line, globals())
        else:
            value = eval(code, globals())
    except OSError as error:
        value = errno.errorcode[error.errno]
    try:
        ast.literal_eval(repr(value))
    except (SyntaxError, ValueError):
        value = str(value)
    print(repr(value), flush=True)
"""


class Hand:
    """See the module. `process` is its Popen."""

    def __init__(self, node: Node, user: str) -> None:
        argv = [f"{INSIDE}/bin/python", "-S", "-c", LISTEN]
        self.process = node.popen(argv, user, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def do(self, code: str, timeout: float = 20.0) -> Any:
        """One line of Python: an expression, whose value is returned, or a statement."""
        self.begin(code)
        return self.answer(timeout)

    def begin(self, code: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(code.encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, timeout: float = 20.0) -> Any:
        assert self.process.stdout
        assert self.answers_within(timeout), "no answer"
        line = self.process.stdout.readline().decode()
        assert line, "the process has ended"
        return ast.literal_eval(line)

    def answers_within(self, timeout: float) -> bool:
        """Is there an answer, or the end of the process, before `timeout` seconds are over?"""
        assert self.process.stdout
        return bool(select.select([self.process.stdout], [], [], timeout)[0])

    def state(self) -> str:
        """The state of the process as ps shows it: S, D, Z..."""
        with open(f"/proc/{self.process.pid}/stat") as f:
            return f.read().rpartition(") ")[2][0]

    def close(self) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        self.process.wait(10)

    def __enter__(self) -> Hand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
