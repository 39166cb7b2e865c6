"""Match expressions: `state=failed & (name="fit*" | cores>=4)` says which jobs are meant.

Pure. The grammar stands in rq(1), "EXPRESSIONS". The whole text is an expression, or an error that points at
the column where it stops being one: what was half understood must never be acted on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NoReturn

from roundq.words import ranges
from roundq.words.errors import UsageError
from roundq.words.expressions import BARE, All, Compare, Either, EndedWith, Every, Expression, Not
from roundq.words.fields import FIELDS, STATE_WORDS, Facts, Field, Needs, suggestion, whole
from roundq.words.pattern import pattern
from roundq.words.quantities import visible
from roundq.words.states import STATES

__all__ = ["Expression", "Facts", "Needs", "is_meant", "parse"]

#: Parentheses and `!` within each other: what is deeper nobody wrote.
DEPTH_MAX = 100
#: How much of a long expression is shown around a mistake.
SHOWN_CHARS = 70
# ---------------------------------------------------------------- parsing

_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9-]*", re.ASCII)
_OPERATOR = re.compile(r"[<>!]=|[=<>]")
_BEGINS = re.compile(
    r"""\s*(?: [!("] | \*\s*(?:$|[&|)!]|and\b|or\b|[*]) | not\s*[!("*] | not\s+[A-Za-z_]\w*\s*[=<>!]
    | [A-Za-z_]\w*\s*(?:[<>!]=|[=<>]) )""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_AND, _OR, _NOT = ("&", "and"), ("|", "or"), ("!", "not")


def is_meant(text: str) -> bool:
    """Whether a word can only be meant as an expression, also if it is a wrong one.

    It begins as one: with a field and a comparison, `!`, `not`, a parenthesis, a quote, or as `*`.
    """
    return _BEGINS.match(text) is not None


def parse(text: str) -> Expression:
    """The expression that this text is, all of it. Raises UsageError; its `lines` show where it is wrong."""
    return _Parser(text).whole()


class _Parser:
    """Goes through a text once; `at` is where it is."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.depth = 0

    def whole(self) -> Expression:
        found = self.either()
        self.skip()
        if self.at < len(self.text):
            self.unexpected()
        return found

    def either(self) -> Expression:
        parts = [self.all()]
        while self.takes(_OR):
            parts.append(self.all())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def all(self) -> Expression:
        parts = [self.one()]
        while self.takes(_AND):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def one(self) -> Expression:
        began = self.at
        self.depth += 1
        if self.depth > DEPTH_MAX:
            self.refuse(began, f"more than {DEPTH_MAX} levels of ! and parentheses", "write it flatter")
        try:
            if self.takes(_NOT):
                return Not(self.one())
            self.skip()
            if self.text.startswith("(", self.at):
                return self.parentheses()
            if self.text.startswith("*", self.at):
                return self.every()
            return self.comparison()
        finally:
            self.depth -= 1

    def parentheses(self) -> Expression:
        opened = self.at
        self.at += 1
        found = self.either()
        self.skip()
        if not self.text.startswith(")", self.at):
            if self.at < len(self.text):
                self.unexpected()
            self.refuse(opened, "this parenthesis is not closed", "write ) where it ends")
        self.at += 1
        return found

    def every(self) -> Expression:
        began = self.at
        self.at += 1
        if bare := BARE.match(self.text, self.at):
            self.refuse(began, "* alone means every job", f'did you mean name="*{bare[0]}"?')
        return Every()

    def comparison(self) -> Expression:
        began = self.at
        found = _WORD.match(self.text, self.at)
        if found is None:
            self.unexpected(is_term=True)
        word = found[0]
        self.at = found.end()
        self.skip()
        symbol = _OPERATOR.match(self.text, self.at)
        if word.lower() not in FIELDS:
            if symbol is None:
                self.refuse(began, f"{_quoted(word)} is no comparison", self.compared(word))
            near = suggestion(word, FIELDS)
            self.refuse(
                began, f"there is no field {_quoted(word)}", near or f"fields are {', '.join(FIELDS)}"
            )
        name = word.lower()
        field = FIELDS[name]
        at = self.at
        if symbol is None:
            self.refuse(at, f"what of {name}?", f"write {name} and = or another comparison, then a value")
        self.at = symbol.end()
        if field.kind is None and symbol[0] not in ("=", "!="):
            self.refuse(at, f"{name} has no order", f"write {name}= or {name}!=")
        return self.compare(name, field, symbol[0])

    def compared(self, word: str) -> str:
        """What may have been meant by a word that no comparison follows."""
        if word.lower() in STATE_WORDS:
            return f"did you mean state={word.lower()}?"
        if word.lower() in ("and", "or", "not", "xor"):
            return "between & and |, and after !, stands a comparison, such as state=running"
        return f'did you mean name="{word}"?'

    def compare(self, name: str, field: Field, symbol: str) -> Expression:
        self.skip()
        began = self.at
        text, is_quoted = self.value(name)
        if name == "state":
            return self.state(text, began, symbol, is_quoted=is_quoted)
        if name == "id":
            try:
                return Compare(name, symbol, ranges.parse(text))
            except ranges.ListError as error:
                self.refuse(began + error.column + is_quoted, error.why, error.hint)
        if field.kind is None:
            return Compare(name, symbol, pattern(text))
        try:
            return Compare(name, symbol, field.kind.parse(text))
        except UsageError as error:
            self.refuse(began, str(error), error.hint)

    def state(self, text: str, began: int, symbol: str, *, is_quoted: bool) -> Expression:
        if text.lower() == "code" and not is_quoted:
            self.skip()
            if not self.text.startswith("=", self.at):
                self.refuse(self.at, "which code?", "write state=code=3")
            self.at += 1
            self.skip()
            began = self.at
            code, _ = self.value("code")
            try:
                found: Expression = EndedWith(int(whole(code)))
            except UsageError as error:
                self.refuse(began, str(error), error.hint)
            return found if symbol == "=" else Not(found)
        if text.lower() not in STATE_WORDS:
            near = suggestion(text, STATE_WORDS)
            if "," in text:
                near = f"write {' | '.join(f'state={one}' for one in text.split(',') if one)}"
            self.refuse(
                began,
                f"there is no state {_quoted(text)}",
                near or f"states are {', '.join(STATES)}, or see: man rq",
            )
        return Compare("state", symbol, text.lower())

    # ------------------------------------------------------------ pieces

    def skip(self) -> None:
        """Goes over blanks."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def takes(self, either: tuple[str, str]) -> bool:
        """Whether an operator stands here, as its sign or as its word; then it is behind us."""
        self.skip()
        sign, word = either
        if self.text.startswith(sign, self.at):
            self.at += 1
            if self.text.startswith(sign, self.at) and sign in "&|":
                self.refuse(self.at, f"{sign} stands once", f"write one {sign}")
            return True
        found = _WORD.match(self.text, self.at)
        if found is None or found[0].lower() != word:
            return False
        self.at = found.end()
        return True

    def value(self, name: str) -> tuple[str, bool]:
        """The value that stands here, in quotes or not, and whether it was; escapes are still in it."""
        began = self.at
        if self.text.startswith('"', self.at):
            return self.quoted(name), True
        found = BARE.match(self.text, self.at)
        if found is None:
            if self.at >= len(self.text):
                self.refuse(began, f"{name} is compared with nothing", "a value is missing at the end")
            if self.text[self.at] == "'":
                self.refuse(
                    began, 'a value is quoted by "', f'write {name}="...", and \' around the whole expression'
                )
            self.refuse(
                began, f"{_quoted(self.text[self.at])} cannot begin a value", f'quote it: {name}="..."'
            )
        self.at = found.end()
        if self.at < len(self.text) and self.text[self.at] in "'\\`\"":
            self.refuse(
                self.at,
                f"{_quoted(self.text[self.at])} in a value that is not quoted",
                f'quote it: {name}="..."',
            )
        return found[0], False

    def quoted(self, name: str) -> str:
        opened = self.at
        self.at += 1
        inner = ""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return inner
            if char == "\\":
                following = self.text[self.at + 1 : self.at + 2]
                if following not in ("\\", '"', "*", "?"):
                    self.refuse(self.at, 'a \\ stands only before " * ? and \\', "write \\\\ for a \\ itself")
                inner += char
                self.at += 1
                char = following
            inner += char
            self.at += 1
        return self.refuse(opened, "this quote is not closed", f'write {name}="..." with a " at the end')

    # ------------------------------------------------------------ errors

    def unexpected(self, *, is_term: bool = False) -> NoReturn:
        """Refuses what stands here."""
        self.skip()
        began = self.at
        if began >= len(self.text):
            if not self.text.strip():
                self.refuse(0, "it is empty", "* means every job")
            self.refuse(began, "it ends where a comparison is missing", "such as state=running")
        bare = BARE.match(self.text, began)
        shown = bare[0] if bare else self.text[began]
        hint = "between two comparisons stands & or |"
        if shown == ")":
            hint = "a ( is missing before it" if not is_term else "a comparison is missing before it"
        elif shown in "&|":
            hint = "a comparison is missing before it"
        elif bare and not is_term and not _OPERATOR.match(self.text[bare.end() :].lstrip()[:2]):
            hint = "a value with blanks is quoted by \", and ' stands around the whole expression"
        elif is_term:
            hint = "a comparison is FIELD=VALUE, such as state=running"
        self.refuse(began, f"unexpected {_quoted(shown)}", hint)

    def refuse(self, at: int, why: str, hint: str | None) -> NoReturn:
        """Raises UsageError that points at a place."""
        at = max(0, min(at, len(self.text)))
        raise UsageError(f"expression, column {at + 1}: {why}", hint, tuple(_pointed(self.text, at)))


def _quoted(text: str) -> str:
    return f'"{visible(text[:40])}…"' if len(text) > 40 else f'"{visible(text)}"'


def _pointed(text: str, at: int) -> Iterator[str]:
    """The text, or what is around `at` of a long one, and below it a mark."""
    begin = max(0, min(at - SHOWN_CHARS // 2, len(text) - SHOWN_CHARS + 1))
    before, rest = visible(text[begin:at]), visible(text[at : begin + SHOWN_CHARS])
    before = f"…{before}" if begin else before
    yield f"{before}{rest}{'…' if begin + SHOWN_CHARS < len(text) else ''}"
    yield f"{' ' * _columns(before)}^"


def _columns(text: str) -> int:
    """How many columns of a terminal a text has."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)
