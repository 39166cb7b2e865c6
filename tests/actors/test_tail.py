"""Files that other nodes write, followed: every byte once, in order, whatever the file system shows when."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from roundq.actors.part import Part
from roundq.actors.tail import CUT, REPLACED, SURE_S, Look, Opened, Tail


class Server:
    """A file as an NFS client sees it: late, in another order than it was written, or not at all."""

    def __init__(self) -> None:
        self.content = b""
        self.inode = 7
        self.is_regular = True
        #: What the client is shown: the first so many bytes, and zeros instead of these places.
        self.shown: int | None = None
        self.holes: list[tuple[int, int]] = []
        self.errors: list[int] = []
        self.opened = self.closed = 0
        self.now_s = 100.0

    def clock(self) -> float:
        return self.now_s

    def open(self, path: str) -> Opened:
        if self.errors and self.errors[0] < 0:
            raise OSError(-self.errors.pop(0), "refused", path)
        self.opened += 1
        return _Handle(self)

    def seen(self) -> bytes:
        data = bytearray(self.content if self.shown is None else self.content[: self.shown])
        for begin, end in self.holes:
            data[begin:end] = bytes(len(data[begin:end]))
        return bytes(data)


class _Handle:
    def __init__(self, server: Server) -> None:
        self._server, self._seen = server, server.seen()
        self.inode, self.size, self.is_regular = server.inode, len(self._seen), server.is_regular

    def read(self, most: int, offset: int) -> bytes:
        if self._server.errors:
            raise OSError(self._server.errors.pop(0), "refused")
        return self._seen[offset : offset + most]

    def close(self) -> None:
        self._server.closed += 1


@pytest.fixture
def server() -> Server:
    return Server()


def tail(server: Server, of: Part | None = None) -> Tail:
    return Tail("out", of, opens=server.open, clock=server.clock)


def drain(of: Tail, most: int = 1 << 16, *, is_final: bool = False) -> bytes:
    """All that can be had now."""
    got = b""
    while True:
        found = of.look(most, is_final=is_final)
        got += found.data
        if not found.is_more:
            return got


@pytest.mark.parametrize("most", [1, 7, 4096])
def test_every_byte_is_had_once_in_order(server: Server, most: int) -> None:
    """Also those that are no text, and no whole lines; however few are asked for."""
    rng = random.Random(4)
    written = rng.randbytes(3000)
    followed = tail(server)
    got = b""
    while len(server.content) < len(written):
        server.content = written[: len(server.content) + rng.randint(1, 300)]
        got += drain(followed, most)

    got += drain(followed, most, is_final=True)

    assert got == written
    assert server.opened == server.closed


def test_what_is_shown_late_is_had_late(server: Server) -> None:
    """A client that does not know the new length yet shows nothing, and nothing is passed over."""
    followed = tail(server)
    server.content, server.shown = b"one two", 3
    assert drain(followed) == b"one"
    assert drain(followed) == b""
    server.shown = None
    assert drain(followed) == b" two"


def test_a_hole_is_waited_for(server: Server) -> None:
    """What a writer's client sent early lies behind zeros until the rest is there; they are not content."""
    followed = tail(server)
    server.content, server.holes = b"a" * 100 + b"b" * 5000 + b"c" * 100, [(100, 5100)]
    assert drain(followed) == b"a" * 100
    server.now_s += SURE_S / 2
    assert drain(followed) == b""

    server.holes = []

    assert drain(followed) == b"b" * 5000 + b"c" * 100


def test_zeros_that_stay_are_content(server: Server) -> None:
    """After a while they are believed, and at once when the writer has closed the file."""
    zeros = b"x" + bytes(500) + b"y" + bytes(3)
    followed = tail(server)
    server.content = zeros
    assert drain(followed) == b"x"
    server.now_s += SURE_S
    assert drain(followed) == zeros[1:]

    server.content += zeros
    assert drain(followed, is_final=True) == zeros


def test_a_stream_with_zeros_is_only_late(server: Server) -> None:
    """It is not held up anew by each of them: a look every second has all that is older than some seconds."""
    rng = random.Random(1)
    followed, got = tail(server), b""
    sizes = []
    for _ in range(60):
        server.content += rng.randbytes(50) + bytes(100)
        sizes.append(len(server.content))
        got += drain(followed)
        server.now_s += 1.0
        if len(sizes) > SURE_S + 1:
            assert len(got) >= sizes[-1 - int(SURE_S) - 1]
    assert server.content.startswith(got)


def test_a_file_that_is_replaced_or_cut_is_told_and_begun_anew(server: Server) -> None:
    """Else what is printed would look as if it belonged together."""
    followed = tail(server)
    server.content = b"first"
    assert followed.look(100) == Look(b"first")

    server.inode, server.content = 8, b"second, longer"
    assert followed.look(100) == Look(b"second, longer", False, REPLACED)

    server.content = b"cut"
    assert followed.look(100) == Look(b"cut", False, CUT)
    assert followed.look(100) == Look(b"")


@pytest.mark.parametrize("where", ["open", "read"])
def test_a_stale_handle_is_opened_again(server: Server, where: str) -> None:
    """The server replaced the file under the client: nobody has to know."""
    server.content = b"content"
    server.errors = [-errno.ESTALE if where == "open" else errno.ESTALE]
    followed = tail(server)

    assert drain(followed) == b"content"
    assert followed.problem == ""
    assert server.opened == server.closed


def test_an_error_is_told_and_tried_again_with_the_next_look(server: Server) -> None:
    """A server that is away for a while ends nothing, and loses no byte."""
    server.content = b"content"
    followed = tail(server)
    server.errors = [errno.EIO]
    assert followed.look(100) == Look(b"")
    assert followed.problem == "refused"
    assert not followed.has_begun

    assert followed.look(100) == Look(b"content")
    assert followed.problem == ""
    assert followed.has_begun


def test_a_part_ends_where_it_ends(server: Server) -> None:
    """What others wrote behind it is not its content."""
    server.content = b"before|mine|after"
    followed = tail(server, Part(7, 7, 11))
    assert drain(followed, 3) == b"mine"
    server.content += b" more"
    assert drain(followed) == b""


def test_to_skip_is_to_begin_at_the_end(server: Server) -> None:
    """What is there now is passed over, and no more."""
    server.content = b"old"
    followed = tail(server)
    followed.skip_to_end()
    server.content += b"new"
    assert drain(followed) == b"new"


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A FIFO without a writer would never answer."""
    os.mkfifo(tmp_path / "out")
    followed = Tail(str(tmp_path / "out"))
    assert followed.look(100) == Look(b"")
    assert "not a regular file" in followed.problem


def test_a_real_file_is_followed(tmp_path: Path) -> None:
    """Missing, made, appended to, replaced."""
    path = tmp_path / "out"
    followed = Tail(str(path))
    assert followed.look(100) == Look(b"")
    assert followed.problem == "No such file or directory"
    path.write_bytes(b"one\n")
    assert followed.look(100) == Look(b"one\n")
    with path.open("ab") as file:
        file.write(b"two")
    assert followed.look(2) == Look(b"tw", True)
    assert followed.look(2) == Look(b"o")
    (tmp_path / "new").write_bytes(b"other")
    os.rename(tmp_path / "new", path)
    assert followed.look(100) == Look(b"other", False, REPLACED)
