"""`rq top` as a person sees it: what is on the screen, and what a key does to it. Pure.

A `Snapshot` is what the queue looked like at one moment; a `Model` is where the person is in it: which job is
chosen, what is asked, which text is read. `frame` makes lines of both, `press` turns a key into a change of
the model and, perhaps, something to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from roundq.actors.listing import ORDER, Bundle, age_key, ended_ns
from roundq.faces import queue_notes, queue_view, tables
from roundq.faces.queue_view import Facts, Item
from roundq.faces.tables import Cell, Column, Painted
from roundq.words.quantities import ALL_CORES, visible
from roundq.words.states import ENDED_STATES, OWNED_STATES, PENDING_STATES

#: Below so many lines there are no users, or no nodes either.
USERS_LINES, NODES_LINES = 18, 12
#: Parts of the lines that nodes and users may take.
NODES_PART, USERS_PART = 4, 6
#: Items that are laid out together: columns do not jump while one scrolls.
SPAN = 200
SORTS = ("state", "name", "cores", "time", "user")
KEYS = "c cancel  h hold  p pause  o output  w why  / filter  s sort  ? help  q quit"
HELP = (
    "Keys of rq top",
    "",
    "  up, down, j, k     choose a job; page up, page down, home, end, g, G go further",
    "  c                  cancel it, after y",
    "  h                  keep it from starting, or release it",
    "  p                  have it stand still, or go on",
    "  o, enter           look at its output; q goes back",
    "  w                  why it waits, or what became of it",
    "  /                  show only some jobs: an expression as of rq list, or a part of a name;",
    "                     nothing shows all again, and Ctrl-U forgets what stands there",
    "  s                  sort by state, name, cores, time or user",
    "  m                  my jobs, or those of everybody",
    "  t                  a line for each task of an array, or one for the array",
    "  space              look now, not with the next second",
    "  q                  leave",
    "",
    "Of an array in one line all tasks are meant. Jobs of others can be seen, and not touched.",
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The queue at one moment, `at` as text. Tables are columns and rows."""

    at: str
    node: str
    items: tuple[Item, ...]
    facts: Facts
    footer: str = ""
    nodes: tuple[Sequence[Column], Sequence[tables.Row]] = ((), ())
    users: tuple[Sequence[Column], Sequence[tables.Row]] = ((), ())
    troubles: tuple[str, ...] = ()


@dataclass(slots=True)
class Model:
    """Where the person is.

    `chosen` is (spool path, id) of a job, `top` the first item on the screen. `prompt` is what is being typed
    behind /, `question` what y answers, and `ask` what is done then. `page` is a text that is read instead of
    the list, from its line `page_top`; `page_of` is whose output it is, if it goes on.
    """

    is_mine: bool = False
    has_tasks: bool = False
    sort: str = SORTS[0]
    filter: str = ""
    chosen: tuple[str, str] | None = None
    place: int = 0
    top: int = 0
    message: str = ""
    prompt: str | None = None
    question: str = ""
    ask: str = ""
    page: tuple[str, ...] | None = None
    page_title: str = ""
    page_top: int = 0
    page_of: tuple[str, str] | None = None
    is_at_end: bool = False
    has_quit: bool = False
    items: list[Item] = field(default_factory=list)
    #: How many lines the list, or the text, had when it was last drawn.
    lines: int = 1


def key_of(item: Item) -> tuple[str, str]:
    """What tells one item from all others."""
    return item.spool.path, item.id


# ---------------------------------------------------------------- the list


def take(model: Model, snapshot: Snapshot, means: Callable[[Item], bool] | None = None) -> None:
    """Takes over what is there now; the same job stays chosen, or the one in its place. A question about a
    job that is gone is dropped: the answer would be taken for one about the other."""
    items = [item for item in snapshot.items if means is None or means(item)]
    model.items = _sorted(items, model.sort, snapshot.facts)
    keys = [key_of(item) for item in model.items]
    if model.chosen in keys:
        model.place = keys.index(model.chosen)
    elif model.question and model.chosen is not None:
        model.question = ""
        model.message = f"{model.chosen[1]} has moved on: nothing was done"
    model.place = max(0, min(model.place, len(keys) - 1))
    model.chosen = keys[model.place] if keys else None


def chosen(model: Model) -> Item | None:
    """The job that keys are about."""
    return model.items[model.place] if model.items else None


def _sorted(items: Sequence[Item], sort: str, facts: Facts) -> list[Item]:
    listed = sorted(items, key=lambda item: (not item.is_mine, item.user, item.spool.path, *_order(item)))
    if sort == "name":
        listed.sort(key=_name)
    elif sort == "cores":
        listed.sort(key=_cores, reverse=True)
    elif sort == "time":
        listed.sort(key=lambda item: _time(item, facts), reverse=True)
    elif sort == "user":
        listed.sort(key=lambda item: item.user)
    return listed


def _order(item: Item) -> tuple[int, float, object]:
    """The place in the list: by state, what ended newest first."""
    place = ORDER.index(item.state)
    record = item.record
    if record is None:
        return place, 0, age_key(item.id)
    if item.state in ENDED_STATES:
        return place, -(item.ended_ns if isinstance(item, Bundle) else ended_ns(record)), age_key(item.id)
    by = -record.job.priority if item.state in PENDING_STATES else record.started_ns
    return place, by, age_key(item.id)


def _name(item: Item) -> str:
    return "" if item.record is None else item.record.job.name


def _cores(item: Item) -> float:
    if item.record is None:
        return 0
    cores = queue_view.cores_of(item.record)
    return float("inf") if cores == ALL_CORES else cores


def _time(item: Item, facts: Facts) -> float:
    row = item.row if isinstance(item, Bundle) else item
    return queue_view.run_time_s(row, facts.now_ns) or 0.0


# ---------------------------------------------------------------- keys


def press(model: Model, key: str, snapshot: Snapshot) -> str | None:
    """What a key does; what is to be done beside it: "cancel", "hold", "release", "pause", "cont", "output",
    "why", "filter", "sort" or "look"."""
    if model.question:
        return _answered(model, key)
    if model.prompt is not None:
        return _typed(model, key)
    model.message = ""
    if model.page is not None:
        return _read_on(model, key)
    if key in ("q", "escape") and (key == "q" or not model.filter):
        model.has_quit = True
    elif key == "escape":
        model.filter = ""
        return "filter"
    elif key in ("?", "f1"):
        _open(model, "help", HELP)
    elif key == "/":
        model.prompt = model.filter
    elif key == "s":
        model.sort = SORTS[(SORTS.index(model.sort) + 1) % len(SORTS)]
        model.message = f"sorted by {model.sort}"
        return "sort"
    elif key == "m":
        model.is_mine = not model.is_mine
        model.message = "my jobs" if model.is_mine else "jobs of everybody"
        return "look"
    elif key == "t":
        model.has_tasks = not model.has_tasks
        model.message = "a line for each task" if model.has_tasks else "a line for each array"
        return "look"
    elif key in (" ", "r"):
        return "look"
    elif key in _MOVES:
        _move(model, _MOVES[key])
    else:
        return _about_chosen(model, key, snapshot)
    return None


#: How far keys go: lines, or parts of a screen as text.
_MOVES: dict[str, int | str] = {
    "up": -1, "k": -1, "down": 1, "j": 1, "page up": "-page", "page down": "+page",
    "home": "first", "g": "first", "end": "last", "G": "last",
}  # fmt: skip


def _step(model: Model, by: int | str, last: int) -> int:
    """How far to go, in lines."""
    if isinstance(by, int):
        return by
    page = max(1, model.lines - 1)
    return {"-page": -page, "+page": page, "first": -last - 1, "last": last + 1}[by]


def _move(model: Model, by: int | str) -> None:
    last = len(model.items) - 1
    model.place = max(0, min(model.place + _step(model, by, last), last))
    model.chosen = key_of(model.items[model.place]) if model.items else None


def _about_chosen(model: Model, key: str, snapshot: Snapshot) -> str | None:
    if key not in ("c", "h", "p", "o", "enter", "w"):
        return None
    item = chosen(model)
    if item is None:
        model.message = "there is no job here"
        return None
    if key == "w":
        return "why"
    if key in ("o", "enter"):
        return "output"
    if not item.is_mine:
        model.message = f"{item.id} is a job of {item.user}"
        return None
    return _asked(model, key, item, snapshot)


def _asked(model: Model, key: str, item: Item, snapshot: Snapshot) -> str | None:
    """What is to be done to a job of mine, as far as it can be."""
    counts = item.counts if isinstance(item, Bundle) else {item.state: 1}
    if key == "c":
        if not any(counts.get(state) for state in (*PENDING_STATES, *OWNED_STATES)):
            model.message = f"{item.id} has ended"
            return None
        model.question, model.ask = f"cancel {title(item)}? y/n", "cancel"
        return None
    if key == "h":
        if not any(counts.get(state) for state in PENDING_STATES):
            model.message = f"{item.id} has begun"
            return None
        return "release" if _is_on_hold(item) else "hold"
    if not counts.get("running"):
        model.message = f"{item.id} does not run"
        return None
    row = item.row if isinstance(item, Bundle) else item
    return "cont" if (row.spool.path, row.id) in snapshot.facts.paused else "pause"


def _is_on_hold(item: Item) -> bool:
    row = item.row if isinstance(item, Bundle) else item
    return row.entry.is_on_hold


def title(item: Item) -> str:
    """A job in a sentence: its id and its name; of an array how many tasks."""
    name = f' "{_name(item)}"' if item.record is not None else ""
    of = f", {item.tasks} tasks" if isinstance(item, Bundle) else ""
    return visible(f"{item.id}{name}{of}")


def _answered(model: Model, key: str) -> str | None:
    model.question = ""
    if key in ("y", "Y"):
        return model.ask
    model.message = "nothing was done"
    return None


def _typed(model: Model, key: str) -> str | None:
    assert model.prompt is not None
    if key == "escape":
        model.prompt = None
    elif key == "enter":
        model.filter, model.prompt = model.prompt.strip(), None
        return "filter"
    elif key == "backspace":
        model.prompt = model.prompt[:-1]
    elif key == "clear":
        model.prompt = ""
    elif len(key) == 1:
        model.prompt += key
    return None


# ---------------------------------------------------------------- a text


def _open(model: Model, what: str, lines: Sequence[str], of: tuple[str, str] | None = None) -> None:
    model.page, model.page_title, model.page_top, model.page_of = _readable(lines), what, 0, of
    model.is_at_end = False


def open_text(model: Model, what: str, lines: Sequence[str], of: tuple[str, str] | None = None) -> None:
    """Shows a text instead of the list; the end of it first if it is an output that goes on."""
    _open(model, what, lines, of)
    model.is_at_end = of is not None


def renew_text(model: Model, lines: Sequence[str]) -> None:
    """The same text, longer by now."""
    if model.page is not None:
        model.page = _readable(lines)


def _readable(lines: Sequence[str]) -> tuple[str, ...]:
    """With what tabs stand for: they are text, and no sign that has to be made visible."""
    return tuple(line.expandtabs() for line in lines)


def _read_on(model: Model, key: str) -> str | None:
    assert model.page is not None
    if key in ("q", "escape", "o", "w", "?", "enter"):
        model.page, model.page_of = None, None
    elif key in _MOVES or key == " ":
        by = _step(model, _MOVES.get(key, "+page"), len(model.page))
        model.page_top = max(0, min(model.page_top + by, len(model.page) - model.lines))
        model.is_at_end = model.page_top >= len(model.page) - model.lines
    return None


# ---------------------------------------------------------------- the screen


def frame(
    model: Model, snapshot: Snapshot | None, columns: int, lines: int, *, is_ascii: bool = False
) -> list[Painted]:
    """The lines of the screen, at most so many, each at most so wide."""
    if columns < 4 or lines < 2:
        return [[Cell("rq"[:columns])]][:lines]
    dots = "..." if is_ascii else "…"
    drawn = [_title(model, snapshot, columns, dots)]
    below = [_below(model, columns, dots)]
    if lines >= 5 and model.page is None:
        below.append([Cell(tables.shorten(KEYS, columns, dots), "dim")])
    room = lines - 1 - len(below)
    if model.page is not None:
        drawn += _text(model, columns, room, dots)
    elif snapshot is None:
        drawn.append([Cell(tables.shorten("looking ...", columns, dots), "dim")])
    else:
        drawn += _lists(model, snapshot, columns, room, dots)
    drawn = drawn[: lines - len(below)]
    drawn += [[Cell("")]] * (lines - len(below) - len(drawn))
    return drawn + below


def _title(model: Model, snapshot: Snapshot | None, columns: int, dots: str) -> Painted:
    if model.page is not None:
        text = model.page_title
    elif snapshot is None:
        text = "rq top"
    else:
        only = f"  only {visible(model.filter)}" if model.filter else ""
        mine = "  mine" if model.is_mine else ""
        text = f"rq top  {snapshot.node}  {snapshot.at}  {snapshot.footer or 'no jobs'}{mine}{only}"
    text = tables.shorten(text, columns, dots)
    return [Cell(text + " " * (columns - tables.width(text)), "reverse")]


def _below(model: Model, columns: int, dots: str) -> Painted:
    if model.prompt is not None:
        # What is typed now is at its end.
        text = f"/{visible(model.prompt)}_"
        while tables.width(text) > columns:
            text = text[1:]
        return [Cell(text, "bold")]
    if model.question:
        return [Cell(tables.shorten(model.question, columns, dots), "bold yellow")]
    return [Cell(tables.shorten(visible(model.message), columns, dots), "yellow")]


def _text(model: Model, columns: int, room: int, dots: str) -> list[Painted]:
    assert model.page is not None
    model.lines = max(1, room - 1)
    last = max(0, len(model.page) - model.lines)
    model.page_top = last if model.is_at_end else max(0, min(model.page_top, last))
    shown = model.page[model.page_top : model.page_top + model.lines]
    drawn: list[Painted] = [[Cell(tables.shorten(visible(line), columns, dots))] for line in shown]
    drawn += [[Cell("")]] * (model.lines - len(drawn))
    end = model.page_top + len(shown)
    where = f"{model.page_top + 1}-{end} of {len(model.page)}" if shown else "nothing"
    return [*drawn, [Cell(tables.shorten(f"lines {where}  q back", columns, dots), "dim")]]


def _lists(model: Model, snapshot: Snapshot, columns: int, room: int, dots: str) -> list[Painted]:
    drawn: list[Painted] = []
    if room >= NODES_LINES:
        drawn += _table(snapshot.nodes, columns, max(4, room // NODES_PART), dots)
    if room >= USERS_LINES:
        drawn += _table(snapshot.users, columns, max(4, room // USERS_PART), dots)
    for trouble in snapshot.troubles[: 1 if room >= NODES_LINES else 0]:
        drawn.append([Cell(tables.shorten(visible(trouble), columns, dots), "yellow")])
    return drawn + _jobs(model, snapshot, columns, room - len(drawn), dots)


def _table(
    table: tuple[Sequence[Column], Sequence[tables.Row]], columns: int, most: int, dots: str
) -> list[Painted]:
    """A table in at most so many lines; its last row, the total, is kept, and then the notes below it."""
    titles, rows = table
    if not rows:
        return []
    lines = tables.lay_out(titles, rows, columns, dots)
    # Notes may take more than a line.
    count = 1 + sum(not isinstance(row, tables.Line) for row in rows)
    if count <= most:
        return lines[:most]
    more = count - most + 1
    return [
        *lines[: most - 2],
        [Cell(tables.shorten(f"{dots} {more} more", columns, dots), "dim")],
        lines[count - 1],
    ]


def _jobs(model: Model, snapshot: Snapshot, columns: int, room: int, dots: str) -> list[Painted]:
    model.lines = max(1, room - 1)
    model.top = max(0, min(model.top, len(model.items) - model.lines))
    if model.place < model.top:
        model.top = model.place
    elif model.place >= model.top + model.lines:
        model.top = model.place - model.lines + 1
    if not model.items:
        text = f"no job matches {visible(model.filter)}" if model.filter else queue_notes.EMPTY
        return [[Cell(tables.shorten(text, columns, dots), "dim")]]
    titles = queue_view.columns_of(snapshot.facts, is_wordy=False, is_whole=False)
    begin = model.top // SPAN * SPAN
    near = model.items[begin : max(begin + 2 * SPAN, model.top + model.lines)]
    is_ascii = dots == "..."
    rows = [queue_view.line_of(item, snapshot.facts, titles, ascii_only=is_ascii) for item in near]
    laid = tables.lay_out(titles, rows, columns, dots)
    shown = laid[1:][model.top - begin : model.top - begin + model.lines]
    place = model.place - model.top
    if 0 <= place < len(shown):
        shown[place] = _marked(shown[place], columns)
    return [_bold(laid[0]), *shown]


def _marked(line: Painted, columns: int) -> Painted:
    """The line of the chosen job, across the screen."""
    cells = [Cell(cell.text, f"{cell.style} reverse".strip()) for cell in line]
    room = columns - sum(tables.width(cell.text) for cell in line)
    return [*cells, Cell(" " * max(0, room), "reverse")]


def _bold(line: Painted) -> Painted:
    return [Cell(cell.text, "bold") for cell in line]
