"""Charts as SVG, for a page that needs nothing else: areas over time, columns, and bars with labels. Pure.

Colors are classes, which the page gives for light and dark. Each chart has a title and a sentence for those
who do not see it, and every mark tells its value. Whatever a label holds is made harmless here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from roundq.words.quantities import visible

#: What a group without a name is called.
NONE = "(none)"
#: Series that have a color of their own; more than these are not told apart by anybody.
COLORS = 7
WIDTH = 960
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 28
_BAR, _GAP = 22, 8
#: Of a label beside a bar.
_LABEL_CHARS_MAX, _LABEL_WIDTH, _VALUE_WIDTH = 34, 220, 110


class Bar(NamedTuple):
    """A bar: its label, its length, how much of it is filled (None: all), and its value as text."""

    label: str
    value: float
    filled: float | None
    text: str


def safe(text: str, most: int = 200) -> str:
    """A text of anybody as a part of a page: visible, not too long, and never markup."""
    text = visible(text)
    return html.escape(text if len(text) <= most else f"{text[: most - 1]}…", quote=True)


def ticks(most: float, count: int = 5) -> list[float]:
    """Round numbers from 0 to at least `most`, about `count` of them."""
    if not most > 0 or not math.isfinite(most):
        return [0.0, 1.0]
    raw = most / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    return [step * place for place in range(math.ceil(most / step - 1e-9) + 1)]


def number(value: float) -> str:
    """A number beside an axis: "0.5", "12", "3,000"."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.3g}"


def _svg(width: float, height: float, title: str, sentence: str, parts: Sequence[str]) -> str:
    label = f"{safe(title)}. {safe(sentence, 1000)}"
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}"'
        f' preserveAspectRatio="xMidYMid meet">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{safe(text)}</text>'


def _line(begin: float, end: float, y: float) -> str:
    return f'<line class="grid" x1="{begin:g}" x2="{end:g}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _box(kind: str, x: float, y: float, width: float, height: float, inner: str = "") -> str:
    sizes = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {sizes} rx="2">{inner}</rect>'


def areas(
    lines: Mapping[str, Sequence[float]],
    marks: Sequence[tuple[float, str]],
    *,
    title: str,
    sentence: str,
    height: int = 260,
) -> str:
    """Stacked areas over a time: by name the mean of each of its equal parts. `marks` are labels below, each
    with its place from 0 to 1."""
    count = max((len(line) for line in lines.values()), default=1)
    total = [sum(line[place] for line in lines.values()) for place in range(count)]
    scale = ticks(max(total, default=0.0))
    wide, high = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def x(place: float) -> float:
        return _LEFT + wide * place / count

    def y(value: float) -> float:
        return _TOP + high * (1 - value / scale[-1])

    parts = []
    for value in scale:
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        )
        parts.append(_text(_LEFT - 8, y(value) + 4, number(value), "end"))
    for place, label in marks:
        parts.append(_text(_LEFT + wide * place, height - 8, label, "middle"))
    below = [0.0] * count
    for index, (name, line) in enumerate(lines.items()):
        above = [low + value for low, value in zip(below, line, strict=True)]
        # Steps: each part of the time has one value.
        points = [f"{x(place + side):.1f},{y(above[place]):.1f}" for place in range(count) for side in (0, 1)]
        points += [
            f"{x(place + side):.1f},{y(below[place]):.1f}"
            for place in reversed(range(count))
            for side in (1, 0)
        ]
        told = f"<title>{safe(name or NONE)}</title>"
        parts.append(f'<polygon class="c{index % COLORS}" points="{" ".join(points)}">{told}</polygon>')
        below = above
    return _svg(WIDTH, height, title, sentence, parts)


def columns(
    labels: Sequence[str], values: Sequence[float], *, title: str, sentence: str, height: int = 240
) -> str:
    """Upright bars, one for each label."""
    width = WIDTH // 2
    scale = ticks(max(values, default=0.0), 4)
    wide, high = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    step = wide / max(1, len(values))
    parts = []
    for value in scale:
        y = _TOP + high * (1 - value / scale[-1])
        parts.append(_line(_LEFT, width - _RIGHT, y))
        parts.append(_text(_LEFT - 8, y + 4, number(value), "end"))
    for place, (label, value) in enumerate(zip(labels, values, strict=True)):
        tall = high * value / scale[-1]
        at = _LEFT + step * place
        told = f"<title>{safe(label)}: {number(value)}</title>"
        parts.append(_box("c0", at + step * 0.12, _TOP + high - tall, step * 0.76, tall, told))
        parts.append(_text(at + step / 2, height - 8, label, "middle"))
    return _svg(width, height, title, sentence, parts)


def bars(rows: Sequence[Bar], *, title: str, sentence: str, kind: str = "c0", width: int = WIDTH // 2) -> str:
    """Bars to the right, one below the other, each with its label before it and its value behind."""
    height = max(1, len(rows)) * (_BAR + _GAP) + _GAP
    most = max((row.value for row in rows), default=0.0)
    longest = max((min(len(visible(row.label)), _LABEL_CHARS_MAX) for row in rows), default=0)
    begin = min(_LABEL_WIDTH, 16 + 7 * longest)
    # With room for the value behind the longest.
    room = width - begin - _VALUE_WIDTH
    parts = []
    for place, row in enumerate(rows):
        y = _GAP + place * (_BAR + _GAP)
        long = room * row.value / most if most > 0 else 0.0
        parts.append(f"<g><title>{safe(row.label)}: {safe(row.text)}</title>")
        label = visible(row.label)
        cut = label if len(label) <= _LABEL_CHARS_MAX else f"{label[: _LABEL_CHARS_MAX - 1]}…"
        parts.append(_text(begin - 8, y + 15, cut, "end", "label"))
        parts.append(_box(kind if row.filled is None else "rest", begin, y, max(1.0, long), _BAR))
        if row.filled is not None:
            parts.append(_box(kind, begin, y, long * min(1.0, max(0.0, row.filled)), _BAR))
        parts.append(_text(begin + long + 6, y + 15, row.text, "start", "value"))
        parts.append("</g>")
    return _svg(width, height, title, sentence, parts)
