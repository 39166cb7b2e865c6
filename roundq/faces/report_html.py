"""A report as one page: figures, charts and a table that can be sorted, and nothing from elsewhere. Pure.

It can be opened from a disk without a network, in light and dark, and read without seeing the charts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roundq.faces import charts
from roundq.faces.charts import Bar, safe
from roundq.words.job import NS
from roundq.words.quantities import format_memory
from roundq.words.report import Figures, Report, succeeded, timeline, wait_classes
from roundq.words.report import common as reasons_of

#: Parts of the time in the chart of cores, and groups that have a color of their own there.
PARTS, GROUPS_MOST = 160, charts.COLORS - 1
#: Bars in one chart, and rows of the table.
BARS_MOST, ROWS_MOST = 12, 2000
OTHERS = "all others"
UNKNOWN = "-"
_WAITS = ("<1 s", "<10 s", "<1 min", "<10 min", "<1 h", "<6 h", "<1 d", "longer")
_TITLES = {"name": "Job", "set": "Set", "user": "User", "node": "Node", "day": "Day"}


@dataclass(frozen=True, slots=True)
class About:
    """What a report is of: whose jobs, from when to when, when it was made, and by which version."""

    whose: str
    since_ns: int
    until_ns: int
    now_ns: int
    version: str


def page(report: Report, about: About) -> str:
    """The whole page."""
    total = report.total
    title = f"Jobs of {about.whose}"
    when = f"{_day(about.since_ns)} to {_day(about.until_ns)}"
    body = [
        f"<header><h1>{safe(title)}</h1>",
        f"<p>{safe(when)} · {_count(total.jobs, 'job')} that ended</p></header>",
        _tiles(total),
    ]
    if total.jobs:
        body += [
            _section("Cores in use", _cores(report, about), "wide"),
            '<div class="pair">',
            _section("How long jobs waited", _waits(total)),
            _section("Why jobs failed", _failures(total)),
            "</div>",
            _section(
                f"Core-hours by {report.by}, and what was computed in them", _efficiency(report), "wide"
            ),
            _section(f"By {report.by}", _table(report), "wide"),
        ]
    else:
        body.append('<p class="none">No job has ended in this time.</p>')
    body.append(
        f"<footer>Made {safe(_moment(about.now_ns))} by roundq {safe(about.version)}. CPU efficiency is"
        " processor time by cores times run time, memory what was used by what was asked for; both of jobs of"
        " which they are known. A wait is that for the first start.</footer>"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing is loaded, whatever a name may hold.
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{safe(title)}, {safe(when)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + f"\n</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


# ---------------------------------------------------------------- figures


def _tiles(total: Figures) -> str:
    well = succeeded(total)
    told = [
        (f"{total.jobs:,}", "jobs", f"{total.failed:,} failed" if total.failed else "none failed"),
        (_percent(well), "ended well", "of those not canceled"),
        (_hours(total.core_s), "core-hours", f"{_hours(total.idle_core_s)} of them idle"),
        (_percent(total.efficiency), "CPU efficiency", "processor time by cores"),
        (_percent(total.memory), "of memory used", f"largest {format_memory(_whole(total.memory_most))}"),
        (_span(total.wait_mean_s), "mean wait", f"95 % at most {_span(total.wait_p95_s)}"),
    ]
    tiles = "".join(
        f'<div class="tile"><strong>{safe(value)}</strong><span>{safe(name)}</span>'
        f"<small>{safe(more)}</small></div>"
        for value, name, more in told
    )
    return f'<section class="tiles" aria-label="Figures">{tiles}</section>'


def _section(title: str, content: str, kind: str = "") -> str:
    return f'<section class="card {kind}"><h2>{safe(title)}</h2>{content}</section>'


def _cores(report: Report, about: About) -> str:
    lines = timeline(report.spans, about.since_ns, about.until_ns, PARTS)
    if not lines:
        return '<p class="none">Nothing ran.</p>'
    shown = _few(lines)
    total = [sum(line[place] for line in shown.values()) for place in range(PARTS)]
    sentence = f"At most {max(total):.1f}, on average {sum(total) / PARTS:.1f} cores."
    chart = charts.areas(shown, _marks(about), title="Cores in use over time", sentence=sentence)
    names = (
        ""
        if len(shown) == 1 and report.by != "day"
        else "".join(
            f'<li><span class="key c{place % charts.COLORS}"></span>{safe(name or charts.NONE, 40)}</li>'
            for place, name in enumerate(shown)
        )
    )
    legend = f'<ul class="legend">{names}</ul>' if names else ""
    return f"<p>{sentence}</p>{chart}{legend}"


def _few(lines: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """Those with most in them, and the sum of the others."""
    ordered = sorted(lines.items(), key=lambda pair: -sum(pair[1]))
    if len(ordered) <= GROUPS_MOST + 1:
        return dict(ordered)
    shown = dict(ordered[:GROUPS_MOST])
    others = [line for _, line in ordered[GROUPS_MOST:]]
    if OTHERS in shown:
        # A job may have any name.
        others.append(shown.pop(OTHERS))
    return {**shown, OTHERS: [sum(values) for values in zip(*others, strict=True)]}


def _marks(about: About) -> list[tuple[float, str]]:
    """Labels of the axis of time."""
    span_s = (about.until_ns - about.since_ns) / NS
    form = "%H:%M" if span_s < 86_400 else "%a %H:%M" if span_s < 4 * 86_400 else "%d %b"
    places = [place / 6 for place in range(1, 6)]
    return [(at, _form(int(about.since_ns + (about.until_ns - about.since_ns) * at), form)) for at in places]


def _waits(total: Figures) -> str:
    counts = wait_classes(total.waits_s)
    if not total.waits_s:
        return '<p class="none">No job has begun.</p>'
    sentence = f"On average {_span(total.wait_mean_s)}; 95 % waited at most {_span(total.wait_p95_s)}."
    return f"<p>{safe(sentence)}</p>" + charts.columns(
        _WAITS, counts, title="Jobs by how long they waited", sentence=sentence
    )


def _failures(total: Figures) -> str:
    if not total.reasons:
        return '<p class="none">None did.</p>'
    common = reasons_of(total.reasons)
    rows = [Bar(reason, count, None, f"{count:,}") for reason, count in common[:BARS_MOST]]
    if rest := sum(count for _, count in common[BARS_MOST:]):
        rows.append(Bar("others", rest, None, f"{rest:,}"))
    sentence = f"{_count(total.failed, 'job')} of {total.jobs:,}, most often: {common[0][0]}."
    return f"<p>{safe(sentence)}</p>" + charts.bars(
        rows, title="Failed jobs by reason", sentence=sentence, kind="bad"
    )


def _efficiency(report: Report) -> str:
    known = [(name, one) for name, one in report.groups.items() if one.measured_core_s]
    if not known:
        return '<p class="none">Of no job it is known what it computed.</p>'
    known.sort(key=lambda pair: -pair[1].measured_core_s)
    rows = [
        Bar(
            name or charts.NONE,
            one.measured_core_s,
            one.efficiency,
            f"{_hours(one.measured_core_s)} h, {_percent(one.efficiency)}",
        )
        for name, one in known[:BARS_MOST]
    ]
    worst = max(known, key=lambda pair: pair[1].idle_core_s)
    sentence = (
        f"The filled part was computed in. Most was left idle by {worst[0] or '(none)'}:"
        f" {_hours(worst[1].idle_core_s)} core-hours."
    )
    title = "Core-hours, and which part of them was computed in"
    return f"<p>{safe(sentence)}</p>{charts.bars(rows, title=title, sentence=sentence, width=charts.WIDTH)}"


# ---------------------------------------------------------------- the table


def _table(report: Report) -> str:
    heads = [_TITLES[report.by], "Jobs", "Ended well", "Failed", "Core-hours", "CPU", "Memory", "Mean wait"]
    heads += ["95 % wait", "Why they failed"]
    kinds = ["", *[' class="n"'] * 8, ""]
    cells = "".join(
        f'<th scope="col"{kind}><button type="button">{safe(head)}</button></th>'
        for head, kind in zip(heads, kinds, strict=True)
    )
    groups = list(report.groups.items())
    rows = [_row(name or charts.NONE, one) for name, one in groups[:ROWS_MOST]]
    more = len(groups) - ROWS_MOST
    note = f"<p>... and {more:,} more, which rq report --json has.</p>" if more > 0 else ""
    head, body = f"<thead><tr>{cells}</tr></thead>", f"<tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table>{head}{body}</table></div>{note}'


def _row(name: str, one: Figures) -> str:
    told: list[tuple[str, float | None]] = [
        (f"{one.jobs:,}", one.jobs),
        (_percent(succeeded(one)), succeeded(one)),
        (f"{one.failed:,}", one.failed),
        (_hours(one.core_s), one.core_s),
        (_percent(one.efficiency), one.efficiency),
        (_percent(one.memory), one.memory),
        (_span(one.wait_mean_s), one.wait_mean_s),
        (_span(one.wait_p95_s), one.wait_p95_s),
    ]
    cells = "".join(f'<td class="n" data-v="{_known(value):.6g}">{safe(text)}</td>' for text, value in told)
    why = ", ".join(f"{reason} ({count:,})" for reason, count in reasons_of(one.reasons)[:3])
    return f'<tr><th scope="row">{safe(name, 80)}</th>{cells}<td>{safe(why)}</td></tr>'


# ---------------------------------------------------------------- words


def _known(value: float | None) -> float:
    """What a cell is sorted by: what is not known is less than all else."""
    return -1.0 if value is None or not math.isfinite(value) else value


def _percent(part: float | None) -> str:
    return UNKNOWN if part is None or not math.isfinite(part) else f"{100 * part:.0f} %"


def _hours(core_s: float) -> str:
    hours = core_s / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def _whole(value: float) -> int:
    return int(value) if math.isfinite(value) else 0


def _span(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    for unit_s, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        # Twice the unit before the next one is used.
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.1f}".removesuffix(".0") + f" {name}"
    return f"{seconds:.0f} s"


def _count(count: int, of: str) -> str:
    return f"{count:,} {of}{'' if count == 1 else 's'}"


def _form(ns: int, form: str) -> str:
    try:
        return time.strftime(form, time.localtime(ns // NS))
    except (OverflowError, ValueError, OSError):
        return "?"


def _day(ns: int) -> str:
    return _form(ns, "%d %b %Y")


def _moment(ns: int) -> str:
    return _form(ns, "%Y-%m-%d %H:%M")


# ---------------------------------------------------------------- style and script

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_STYLE = """
:root{--bg:#f6f7f9;--card:#fff;--ink:#1b1f24;--dim:#5b6470;--line:#dfe3e8;--rest:#d5dae1;--bad:#c23b3b;
--c0:#2f6fb7;--c1:#2a9d8f;--c2:#d98a1f;--c3:#8457b8;--c4:#b8436e;--c5:#6b8e23;--c6:#8a94a1}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1d2126;--ink:#e8ebef;--dim:#9aa4b0;--line:#333a42;
--rest:#3d454f;--bad:#e57373;--c0:#6aa5e3;--c1:#56c4b5;--c2:#eab15c;--c3:#b493dd;--c4:#e384a7;--c5:#a3c45a;
--c6:#8a94a1}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.45 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1160px;margin:0 auto;padding:28px 20px 40px}
h1{font-size:1.7rem;margin:0}header p{margin:.2rem 0 1.2rem;color:var(--dim)}
h2{font-size:1.05rem;margin:0 0 .3rem}.card p,.none{margin:.1rem 0 .7rem;color:var(--dim)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-bottom:16px}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tile{padding:14px 16px;display:flex;flex-direction:column}.tile strong{font-size:1.6rem;line-height:1.2}
.tile small{color:var(--dim)}.card{padding:16px 18px;margin-bottom:16px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:16px}
svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font-size:12px}
svg .label{fill:var(--ink)}svg .value{fill:var(--ink)}
.grid{stroke:var(--line);stroke-width:1}.rest{fill:var(--rest)}.bad{fill:var(--bad)}
.c0{fill:var(--c0);background:var(--c0)}.c1{fill:var(--c1);background:var(--c1)}
.c2{fill:var(--c2);background:var(--c2)}.c3{fill:var(--c3);background:var(--c3)}
.c4{fill:var(--c4);background:var(--c4)}.c5{fill:var(--c5);background:var(--c5)}
.c6{fill:var(--c6);background:var(--c6)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;margin:.6rem 0 0;padding:0}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.45em}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 8px;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
td:last-child{white-space:normal;color:var(--dim);font-size:.85rem;min-width:13em}
tbody th{font-weight:500}.n{text-align:right}
thead button{all:unset;cursor:pointer;font-weight:600}thead button:focus-visible{outline:2px solid var(--c0)}
th[aria-sort=ascending] button::after{content:" \\2191"}
th[aria-sort=descending] button::after{content:" \\2193"}
tbody tr:hover{background:color-mix(in srgb,var(--c0) 8%,transparent)}
footer{color:var(--dim);font-size:.85rem}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
"""

_SCRIPT = """
document.querySelectorAll("thead button").forEach(function(button){button.addEventListener("click",function(){
var head=button.parentNode,place=head.cellIndex,body=head.closest("table").tBodies[0];
var down=head.getAttribute("aria-sort")?head.getAttribute("aria-sort")==="ascending":head.className==="n";
function value(row){var cell=row.cells[place];
return cell.dataset.v===undefined?cell.textContent.toLowerCase():parseFloat(cell.dataset.v)}
var rows=Array.from(body.rows).sort(function(a,b){var x=value(a),y=value(b);
return (x<y?-1:x>y?1:0)*(down?-1:1)});
head.parentNode.querySelectorAll("th").forEach(function(other){other.removeAttribute("aria-sort")});
head.setAttribute("aria-sort",down?"descending":"ascending");
rows.forEach(function(row){body.appendChild(row)})})});
"""
