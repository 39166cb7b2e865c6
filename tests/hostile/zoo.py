"""A zoo of homes whose owner wishes everybody ill: all kinds of things where a card or a job belongs."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STATES = ("held", "waiting", "claimed", "running", "completed", "failed", "canceled", "zombie", "cancel")
#: What a terminal would obey, and what makes one text look like another.
NASTY = (
    "\x1b[31mred\x1b]0;title\x07\x1b[2J",
    "\x9b31m\x9d0;title\x9c",
    "a\u202egnp.exe\u2066\u2069",
    "a\u200bb\u200d\ufeff\u2060",
    "line\nbreak\r\ttab\x08\x7f\x00".replace("\x00", ""),
    "e\u0301\u0301\u0301" * 8,
)
DEPTH = 100_000


def deep(opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """JSON that is nested so deeply that a parser that calls itself would fall."""
    return opening * DEPTH + closing * DEPTH


def card(node: str, name: str = "x", **ours: Any) -> dict[str, Any]:
    """A card that is one, with a text of choice wherever there is a text."""
    identity = {"boot": name, "pid": 5, "start": 1}
    job = {"id": name, "state": name, "cores": 1, "memory": 0, "stamp": 1, "settled": True, "name": name}
    head = {"id": name, "cores": 1, "memory": 0, "submitted": {"secs": 1 << 40}, "kept_on": name}
    said = {"cores": 1, "memory": 0, "says": name}
    known = {"version": name, "state": "draining", "reason": name, "beat": 1, "cores": 4, "load": 1e308}
    lists = {"jobs": [{**job, "process": identity}], "heads": [head], "said": [said], "trouble": [name]}
    common = {"hostname": node, "pid": 5, "physical_cores": 4, "logical_cpus": 4}
    return {**common, "roundq": {**known, "process": identity, **lists, **ours}}


def record(name: str = "x", node: str = "NONE", **fields: Any) -> dict[str, Any]:
    """A record that is one, with a text of choice wherever there is a text."""
    job = {
        "command": [name, name],
        "jobname": name,
        "directory": name,
        "home_dir": name,
        "output": name,
        "error": name,
        "submitted": {"secs": 1 << 40, "nanos": 999_999_999},
        "cores": 1 << 20,
        "memory_required": 1 << 60,
        "priority": -(1 << 31),
    }
    ended = {"reason": name, "detail": name, "signal": 128, "usage": {name: 1e308}}
    times = {"started": {"secs": 1 << 40}, "completed": {"secs": 1}}
    return {"job": job, "node": node, "pid": 1, **times, **ended, "exit_code": -(1 << 31), **fields}


CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"job":{"command":["tr',
    "nul": b"\0" * 4096,
    "deep": deep(),
    "deep objects": deep(b'{"a":', b"}"),
    "deep in a card": b'{"hostname":"n1","roundq":' + deep() + b"}",
    "deep in a job": b'{"job":{"command":["x"]},"x":' + deep() + b"}",
    "1e999": b'{"hostname":"n1","pid":1e999,"physical_cores":1e999,"job":{"command":["x"],"cores":1e999}}',
    "10**10000": b'{"hostname":"n1","pid":1%b,"job":{"command":["x"],"cores":1%b}}'
    % (b"0" * 10**4, b"0" * 10**4),
    "nan": b'{"hostname":"n1","pid":NaN,"job":{"command":["x"],"cores":-Infinity},"roundq":Infinity}',
    "twice": b'{"job":{"command":["a"]},"job":{"command":["b"]},"hostname":"n1","hostname":"n2"}',
    "not UTF-8": b'{"job":{"command":["\xff\xfe"]},"hostname":"\xc3\x28"}',
    "surrogates": b'{"job":{"command":["\\ud800","\\udfff"],"jobname":"\\udc9b"},"hostname":"\\ud800"}',
    "BOM": b"\xef\xbb\xbf\xef\xbb\xbf{}",
    "million": json.dumps({**card("n1", cores=1_000_000), **record(cores=1_000_000)}).encode(),
    "negative": json.dumps({**card("n1", cores=-1, waiting=-1), **record(cores=-1)}).encode(),
    "many jobs": json.dumps(card("n1", jobs=[{}] * 50_000)).encode(),
    "wrong": b'["job",{"hostname":null}]',
    **{
        f"nasty {place}": json.dumps({**card("n1", text), **record(text, text)}).encode()
        for place, text in enumerate(NASTY)
    },
    "nasty raw": json.dumps({**card("n1", NASTY[1]), **record(NASTY[1])}, ensure_ascii=False).encode(),
}


def _socket(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            # A path that is longer than 108 bytes cannot be bound.
            made.bind(f"/proc/self/fd/{descriptor}/{os.path.basename(path)}")
    finally:
        os.close(descriptor)


def _device(major: int, minor: int) -> Callable[[str], None]:
    def make(path: str) -> None:
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        except PermissionError:
            os.symlink(f"/dev/{'zero' if minor == 5 else 'tty'}", path)

    return make


def _sparse(path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(8 << 30)


def _closed(path: str) -> None:
    Path(path).write_bytes(b"{}")
    os.chmod(path, 0)


def _loop(path: str) -> None:
    os.symlink(os.path.basename(path), path)


#: What a name may lead to, beside a file.
KINDS: dict[str, Callable[[str], None]] = {
    "fifo": os.mkfifo,
    "socket": _socket,
    "zero": _device(1, 5),
    "terminal": _device(5, 0),
    "directory": os.mkdir,
    "sparse": _sparse,
    "closed": _closed,
    "circle": _loop,
    **{
        f"link to {target}": lambda path, target=target: os.symlink(target, path)  # type: ignore[misc]
        for target in ("/etc/shadow", "/dev/zero", "/", "/proc/self/mem", "/nowhere", "../..", "x" * 4000)
    },
}


class Zoo:
    """Homes below one parent, all of one stranger."""

    def __init__(self, parent: str, uid: int) -> None:
        self.parent, self.uid = parent, uid
        self.names: list[str] = []

    def fill(self) -> None:
        """Makes all of them."""
        self._in_place_of_the_queue()
        self._in_place_of_a_state()
        self._in_place_of_files()
        self._contents()
        self._names()
        self._many()
        self._own()

    def _home(self, name: str, *, queue: bool = True) -> str:
        """A home; with a queue its path is that of the queue."""
        path = f"{self.parent}/{name}"
        os.mkdir(path, 0o755)
        self.names.append(name)
        if not queue:
            return f"{path}/.roundqueue"
        for state in ("", *STATES):
            os.mkdir(f"{path}/.roundqueue/{state}", 0o755)
        return f"{path}/.roundqueue"

    def _in_place_of_the_queue(self) -> None:
        for number, make in enumerate(KINDS.values()):
            make(self._home(f"queue{number}", queue=False))
        os.symlink(f"{self.parent}/ann/.roundqueue", self._home("queue-ann", queue=False))
        os.symlink(self.parent, self._home("queue-homes", queue=False))
        os.chmod(os.path.dirname(self._home("queue-closed")), 0)
        os.chmod(self._home("queue-inner"), 0)
        for name, target in (("home-circle", "home-circle"), ("home-proc", "/proc"), ("home-dev", "/dev")):
            os.symlink(target, f"{self.parent}/{name}")
        os.mkfifo(f"{self.parent}/home-fifo")

    def _in_place_of_a_state(self) -> None:
        for number, make in enumerate(KINDS.values()):
            queue = self._home(f"state{number}")
            for state in STATES:
                os.rmdir(f"{queue}/{state}")
                make(f"{queue}/{state}")

    def _in_place_of_files(self) -> None:
        for number, make in enumerate(KINDS.values()):
            queue = self._home(f"file{number}")
            for state in STATES:
                make(f"{queue}/{state}/1.job")
                make(f"{queue}/{state}/2@n1.job")
            for node in ("n1", "n2", "x.log"):
                make(f"{queue}/{node}")

    def _contents(self) -> None:
        for number, content in enumerate(CONTENTS.values()):
            queue = self._home(f"content{number}")
            for state in STATES:
                Path(f"{queue}/{state}/1.job").write_bytes(content)
                Path(f"{queue}/{state}/2@n1.job").write_bytes(content)
                Path(f"{queue}/{state}/170000000.5.job").write_bytes(content)
            for node in ("n1", "n2"):
                Path(f"{queue}/{node}").write_bytes(content.replace(b'"n1"', b'"%b"' % node.encode()))

    def _names(self) -> None:
        for number, text in enumerate(NASTY):
            queue = self._home(f"{number}{text}")
            job = json.dumps(record(text, text)).encode()
            for state in STATES:
                for name in (
                    f"{text}.job",
                    f"{text}@{text}.job",
                    "@.job",
                    "@@.job",
                    ".job",
                    f"{'9' * 200}.job",
                ):
                    Path(f"{queue}/{state}/{name}").write_bytes(job)
            Path(f"{queue}/{text}").write_text(json.dumps(card(text, text)))
        queue = self._home(os.fsdecode(b"bytes\xff\x9b"))
        for state in STATES:
            Path(f"{queue}/{state}/{os.fsdecode(bytes([0xFF, 0x9B]))}.job").write_text(json.dumps(record()))

    def _many(self) -> None:
        """More names than anybody looks at, in each of the places; links to one file are cheap to make."""
        queue = self._home("many")
        for place, count in (("running", 3000), ("waiting", 3000), ("completed", 60_000), ("", 10_000)):
            Path(f"{queue}/{place}/0").write_text(json.dumps(record(node="n1")))
            suffix = ".job" if place else ""
            for number in range(1, count):
                os.link(f"{queue}/{place}/0", f"{queue}/{place}/{number}{suffix}")
        queue = self._home("large")
        text = json.dumps(record("x" * 1000, "n1", padding="x" * 1_000_000))
        for state in STATES:
            Path(f"{queue}/{state}/0.job").write_text(text)
            for number in range(1, 300):
                os.link(f"{queue}/{state}/0.job", f"{queue}/{state}/{number}.job")

    def _own(self) -> None:
        for name in self.names:
            for path in _everything(f"{self.parent}/{name}"):
                os.chown(path, self.uid, self.uid, follow_symlinks=False)
        for name in ("home-circle", "home-proc", "home-dev", "home-fifo"):
            os.chown(f"{self.parent}/{name}", self.uid, self.uid, follow_symlinks=False)


def _everything(home: str) -> Iterator[str]:
    seen: set[int] = set()
    for directory, names, files in os.walk(home):
        yield directory
        for entry in os.scandir(directory):
            # Of many links to one file one is enough.
            if entry.inode() not in seen and (entry.name in names or entry.name in files):
                seen.add(entry.inode())
                yield entry.path
