"""Outputs of many jobs as one: whatever comes when, each can be had back from it byte by byte."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.faces.interleave import CONTINUED, ERROR, KEEP_S, LINE_BYTES, OUT, STALL_S, Interleaver

NAMES = {b"1 a": "a", b"2 b": "b", b"3 c": "c"}


def undone(text: bytes, names: Mapping[bytes, Hashable]) -> dict[Hashable, bytes]:
    """The outputs that were written as `text`, by the names before their lines.

    What was printed last of one may have got a newline that it did not have.
    """
    found: dict[Hashable, bytes] = dict.fromkeys(names.values(), b"")
    for line in re.findall(rb"[^\r\n]*(?:\r\n|\n|\r(?=[^\n])|\r\Z|\Z)", text):
        if line:
            begin = re.match(rb"(.*?) *([|!][ +])", line)
            assert begin is not None
            key = names[begin[1]]
            if begin[2] in CONTINUED.values():
                # The newline before it is not the job's.
                found[key] = found[key].removesuffix(b"\n")
            found[key] += line[begin.end() :]
    return found


class Screen:
    """What was written, and what writes there."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        self.text = b""
        self.of = Interleaver(self._write, is_terminal)
        for name, key in NAMES.items():
            self.of.add(key, name + b" ")

    def _write(self, data: bytes) -> None:
        self.text += data

    def new(self) -> bytes:
        """What was written since this was asked."""
        text, self.text = self.text, b""
        return text


def test_lines_have_names() -> None:
    """Whole lines of several outputs, in the order in which they came."""
    screen = Screen()
    screen.of.feed("a", b"one\ntwo\n", 0.0)
    screen.of.feed("b", b"\n\xff\xfe\n", 0.0)
    assert screen.text == b"1 a | one\n1 a | two\n2 b | \n2 b | \xff\xfe\n"


def test_what_is_written_to_an_error_file_is_marked() -> None:
    """A person sees which is which."""
    screen = Screen()
    screen.of.add("a!", b"1 a ", ERROR)
    screen.of.feed("a!", b"no\n", 0.0)
    screen.of.feed("a", b"yes\n", 0.0)
    assert screen.text == b"1 a ! no\n1 a | yes\n"


def test_half_a_line_waits_a_moment_for_the_rest() -> None:
    """So lines that are written in pieces are whole; a question is shown all the same."""
    screen = Screen()
    screen.of.feed("a", b"half", 0.0)
    assert screen.of.idle(KEEP_S / 2) <= KEEP_S / 2
    assert screen.new() == b""
    screen.of.feed("a", b" whole\nsure? ", KEEP_S / 2)
    assert screen.new() == b"1 a | half whole\n"

    screen.of.idle(KEEP_S * 2)

    assert screen.new() == b"1 a | sure? "


def test_a_line_that_is_not_ended_is_ended_by_others_only_when_it_stands_still() -> None:
    """And what continues it is marked."""
    screen = Screen()
    screen.of.feed("a", b"sure? ", 0.0)
    screen.of.idle(KEEP_S)
    assert not screen.of.may_feed("b", KEEP_S + STALL_S / 2)
    assert screen.of.may_feed("a", KEEP_S + STALL_S / 2)
    assert screen.of.may_feed("b", KEEP_S + STALL_S)

    screen.of.feed("b", b"line\n", KEEP_S + STALL_S)
    screen.of.feed("a", b"yes\nnext\n", 9.0)

    assert screen.text == b"1 a | sure? \n2 b | line\n1 a |+yes\n1 a | next\n"


def test_a_line_longer_than_any_buffer_is_one_line() -> None:
    """It is printed while it grows, and nobody writes into it."""
    screen = Screen()
    piece = b"x" * (LINE_BYTES - 1)
    for _ in range(5):
        screen.of.feed("a", piece, 0.0)
    assert not screen.of.may_feed("b", 0.5)
    screen.of.feed("a", b"\n", 0.5)
    assert screen.of.may_feed("b", 0.5)
    assert screen.text == b"1 a | " + piece * 5 + b"\n"


def test_a_progress_bar_keeps_the_name_before_it() -> None:
    """Each of its states is a line for us; on a terminal others do not stand in what is left of it."""
    screen = Screen(is_terminal=True)
    screen.of.feed("a", b"10 %\r20 %\r", 0.0)
    assert screen.new() == b"1 a | 10 %\r"
    screen.of.feed("a", b"30 %\r\n", 0.0)
    assert screen.new() == b"\x1b[K1 a | 20 %\r\x1b[K1 a | 30 %\r\n"
    screen.of.feed("a", b"40 %\r50", 0.0)
    screen.of.feed("b", b"b\n", 0.0)
    assert screen.new() == b"1 a | 40 %\r\x1b[K2 b | b\n"


def test_the_last_line_needs_no_newline() -> None:
    """It gets one if something follows."""
    screen = Screen()
    screen.of.feed("a", b"end", 0.0)
    screen.of.end("a", 0.0)
    assert screen.new() == b"1 a | end"
    screen.of.feed("b", b"b\n", 0.0)
    assert screen.new() == b"\n2 b | b\n"


def test_a_line_is_ended_before_something_else_is_printed() -> None:
    """A sentence of ours stands on a line of its own."""
    screen = Screen()
    screen.of.feed("a", b"half", 0.0)
    screen.of.idle(9.0)
    screen.of.break_line()
    screen.of.break_line()
    assert screen.new() == b"1 a | half\n"
    screen.of.feed("a", b" whole\n", 9.0)
    assert screen.new() == b"1 a |+ whole\n"


PIECES = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.lists(st.sampled_from([b"x", b"\n", b"\r", b"\r\n", b"|", b"+", b"\x00", b"\xff", b"1 a | "])).map(
            b"".join
        ),
        st.floats(0, 2),
        st.booleans(),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(PIECES)
def test_every_output_can_be_had_back(pieces: list[tuple[str, bytes, float, bool]]) -> None:
    """Whatever comes when: nothing is lost, doubled or in another order, within any output."""
    screen, now_s = Screen(), 0.0
    fed = dict.fromkeys("abc", b"")
    for key, data, passed_s, is_idle in pieces:
        now_s += passed_s
        if screen.of.may_feed(key, now_s):
            screen.of.feed(key, data, now_s)
            fed[key] += data
        if is_idle:
            screen.of.idle(now_s)
    for key in "abc":
        screen.of.end(key, now_s)

    got = undone(screen.text, NAMES)

    for key, data in fed.items():
        assert got[key] in (data, data + b"\n")


def test_the_marks_differ() -> None:
    """Else nobody could tell a line from what continues one."""
    assert len({OUT, ERROR, *CONTINUED.values()}) == 4
