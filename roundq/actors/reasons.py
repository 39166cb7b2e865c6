"""Why a job is where it is, in sentences: what each daemon of its user last said of it, or how it ended.

Called by `actors.queue.why`. The sentences of daemons are the policy's own, taken
from the cards; nothing is decided here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from roundq.actors import outcome, paused, preemption, targets
from roundq.actors.ending import way_of
from roundq.actors.listing import Row
from roundq.records import cards, changes, neighbours
from roundq.records import spool as spools
from roundq.records.cards import HEADS_MAX, LEAVING, UP, Card
from roundq.records.neighbours import SILENT_S, Seen
from roundq.records.spool import Spool
from roundq.words import dependencies, policy
from roundq.words.errors import RoundqError
from roundq.words.groups import groups_of
from roundq.words.job import NS, Attempt, Job, Record
from roundq.words.policy import Shape
from roundq.words.quantities import format_age, visible
from roundq.words.sentences import within
from roundq.words.states import ENDED_STATES, HELD, OWNED_STATES, RUNNING

#: A word is as old as its card, which a daemon renews at least once a minute; older than this, it is said.
OLD_S = 90.0
#: Nodes without a daemon of mine, and earlier attempts, that are told one by one.
NAMED_MOST, ATTEMPTS_MOST = 5, 5
#: How the policy begins its sentence about a job that the node could never run, one that waits, and one
#: for which there is no room.
NEVER, WAITS, LACKS = "can never start here", "waits: ", "waits: needs "
_NO_DAEMON = "no daemon of yours runs on any node: rq daemon starts one"


def why(spool: Spool, row: Row, node: str, now_ns: int, of: Iterable[Spool] = ()) -> list[str]:
    """Why one of my jobs waits, or what it does, or how it ended: sentences, at least one.

    `node` is where we are: only there can a daemon be told to live. `of` are the spools of everybody, as
    far as they are to be asked which nodes there are and whether they are heard of. Each sentence about
    nodes begins with their names.
    """
    if row.state in ENDED_STATES:
        return [outcome.sentence(row)]
    if row.record is None:
        return [f"its job file cannot be read: {row.problem}; no daemon will start it"]
    if row.state in OWNED_STATES:
        does = _runs(row, now_ns) if row.state == RUNNING else _begins(spool, row)
        return [does, *_asked(spool, row), *_unseen(row, silent_nodes(spool, node, of))]
    seen = neighbours.seen_now([spool, *_others(spool, of)], spool, node, time.monotonic())
    if row.state == HELD:
        told = _held(row, row.record, node, now_ns)
        is_alive = any(one.is_alive for one in seen if one.spool.path == row.spool.path)
        return told if is_alive or row.entry.is_on_hold else [*told, _NO_DAEMON]
    return _waits(row, row.record.job, seen, (node, now_ns))


def _held(row: Row, record: Record, node: str, now_ns: int) -> list[str]:
    """What keeps it from waiting, as the daemons decide it."""
    seal = changes.seal_of(row.entry)
    if seal is None:
        when = dependencies.conditions(record)
        where = targets.now(row.spool, when.after)
        is_on_hold = row.entry.is_on_hold
        return [dependencies.decide(row.id, when, where.__getitem__, now_ns, is_on_hold=is_on_hold).text]
    if seal.node == node and not changes.may_live(seal):
        return [f"its change on {seal.node} was interrupted; a daemon of yours there puts it back"]
    return [f"it is being changed on {seal.node}"]


def attempts(row: Row, now_ns: int) -> list[str]:
    """How the earlier attempts of a job ended, the last ones, a sentence for each."""
    earlier = () if row.record is None else row.record.attempts
    more = len(earlier) - ATTEMPTS_MOST
    first = [f"{more} attempts before these"] if more > 0 else []
    return first + [_attempt(one, now_ns) for one in earlier[-ATTEMPTS_MOST:]]


def _attempt(one: Attempt, now_ns: int) -> str:
    ago = f" {format_age((now_ns - one.completed_ns) / NS)} ago" if one.completed_ns else ""
    after = f", after {format_age((one.completed_ns - one.started_ns) / NS)}" if one.started_ns else ""
    return f"{one.title} ended{ago}{after}: {outcome.of_attempt(one)}"


def _runs(row: Row, now_ns: int) -> str:
    assert row.record is not None
    since_s = max(0, now_ns - row.record.started_ns) / NS if row.record.started_ns else 0.0
    return f"it runs on {row.node or 'a node of roundqueue 0.2.9'}, for {format_age(since_s)} now"


def _begins(spool: Spool, row: Row) -> str:
    node = row.node or "a node"
    try:
        jobs = cards.read(spool, node).jobs
    except (OSError, RoundqError):
        jobs = ()
    if any(job.id == row.id and job.settling for job in jobs):
        return f"{node} has taken it; its claim is settling, until it is known that no other node has it"
    return f"{node} has taken it and is about to start it"


def _asked(spool: Spool, row: Row) -> list[str]:
    try:
        verbs = spools.requests(spool).get(row.id, set())
    except OSError:
        return []
    still = _paused(spool, row, verbs)
    way = preemption.asked(spool, row.id, row.record) if "preempt" in verbs and row.record else None
    gives_way = [] if way is None else [f"it gives way {way_of(way)}, and will wait again"]
    verbs -= {"preempt", "pause", "paused", "signal"}
    asked = [f"it was asked to {verb}, which its supervisor has not yet done" for verb in sorted(verbs)]
    return still + asked + gives_way


def _paused(spool: Spool, row: Row, verbs: set[str]) -> list[str]:
    """Whether it stands still, or is to."""
    told = paused.stands(spool, {row.id: verbs})
    if paused.is_paused(row, told):
        since_s = max(0.0, time.time() - told[row.id].since_s)
        return [f"it is paused, for {format_age(since_s)} now; rq cont {row.id} lets it go on"]
    if "pause" in verbs:
        return ["it was asked to pause, which its supervisor has not yet done"]
    return []


def _unseen(row: Row, silent: Mapping[str, float]) -> list[str]:
    """What is to be said if nothing is heard of the node that has it."""
    if row.node is None or row.node not in silent:
        return []
    return [f"{row.node} has not been seen for {format_age(silent[row.node])}: the job may still run there"]


def _waits(row: Row, job: Job, seen: list[Seen], here: tuple[str, int]) -> list[str]:
    """What holds everywhere first, then each node, then the nodes where nobody works for me."""
    mine = sorted((one for one in seen if one.spool.path == row.spool.path), key=lambda one: one.card.node)
    alive = [one for one in mine if one.is_alive]
    told: dict[str, list[str]] = {}
    for one in mine:
        told.setdefault(f"{said(row.id, job, one)}{_age(one, here)}", []).append(one.card.node)
    nodes = [f"{', '.join(names)}: {sentence}" for sentence, names in told.items()]
    if not alive:
        return [_NO_DAEMON, *nodes]
    nodes += _without_me(seen, alive)
    if len(nodes) > 1 and all(said(row.id, job, one).startswith(NEVER) for one in alive):
        nodes.insert(0, "no node where a daemon of yours runs can ever start it")
    return nodes


def _without_me(seen: Iterable[Seen], alive: Iterable[Seen]) -> list[str]:
    """Where others have daemons, and none of mine lives."""
    names = sorted({one.card.node for one in seen if one.is_alive} - {one.card.node for one in alive})
    if not names:
        return []
    more = f" and {len(names) - NAMED_MOST} more" if len(names) > NAMED_MOST else ""
    return [f"{', '.join(names[:NAMED_MOST])}{more}: no daemon of yours runs there; others' do"]


def said(job_id: str, job: Job, one: Seen) -> str:
    """What the daemon of a card last said of a waiting job: the policy's sentence, and when it starts."""
    card: Card = one.card
    if not one.is_alive:
        if card.state == LEAVING or one.silent_s < SILENT_S:
            return "your daemon there has stopped"
        return f"not seen for {format_age(one.silent_s)}"
    if card.is_legacy:
        return "a daemon of roundqueue 0.2.9 runs there, which does not say"
    word = _word(_shape(job), card)
    if word is not None:
        return word.of(job_id).text
    if card.worker:
        return f"a worker runs there, which takes {card.worker}"
    if len(card.said) >= HEADS_MAX:
        return f"jobs of {len(card.said)} other kinds come first, and its daemon tells of no more"
    return "its daemon has not yet looked at it"


class Word(NamedTuple):
    """What the daemon of a node said of a job, and within how many seconds it starts there, if it knows.

    `first` is the job of this shape that comes first, if the card tells it: of that it was said.
    """

    node: str
    says: str
    starts_in_s: float | None = None
    first: str | None = None

    @property
    def text(self) -> str:
        """What was said, and when the job starts."""
        if self.starts_in_s is None:
            return self.says
        return f"{self.says}; starts within {within(self.starts_in_s)} if nobody comes before it"

    @property
    def short(self) -> str:
        """The same for a column."""
        soon = "" if self.starts_in_s is None else f", within {within(self.starts_in_s)}"
        return f"{self.node}{soon}: {self.says.removeprefix(WAITS)}"

    def of(self, job_id: str) -> Word:
        """The word about one job of this shape: as the policy says it of those behind the first."""
        if self.first in (None, job_id):
            return self
        says = self.says
        if says.startswith(LACKS):
            says = f"{WAITS}behind job {visible(self.first or '')}, which {says.removeprefix(WAITS)}"
        # That the first of them starts soon says nothing of the others.
        return Word(self.node, says, None, self.first)


def _shape(job: Job) -> Shape:
    """The shape of a job with all of its groups: which of them have a limit, a card tells."""
    return policy.want_of("", job, 0, groups_of(job)).shape


def _word(shape: Shape, card: Card) -> Word | None:
    bare, groups = shape.bare, set(shape.groups)
    first = next((head.id for head in card.heads if head.shape == bare), None)
    said = [each for each in card.said if each.shape.bare == bare and groups.issuperset(each.shape.groups)]
    if not said:
        return None
    # It names those of the groups that have a limit.
    each = max(said, key=lambda each: len(each.shape.groups))
    return Word(card.node, each.says, each.starts_in_s, first)


def _age(one: Seen, here: tuple[str, int]) -> str:
    """How old the word of a living daemon is, if it is old."""
    node, now_ns = here
    age_s = one.silent_s
    if one.card.node == node and one.card.written_ns:
        # Our own clock on both sides. That of the server may have stood still with our files.
        age_s = max(age_s, (now_ns - one.card.written_ns) / NS)
    return f" (said {format_age(age_s)} ago)" if one.is_alive and age_s > OLD_S else ""


def nearest(waiting: Iterable[Row], seen: Iterable[Seen]) -> dict[tuple[str, str], Word]:
    """The word of the node that is nearest to starting each of these jobs.

    By the path of its spool and its id; a job of which no card tells is left out. `seen` are the cards of
    their owners.
    """
    of: dict[str, list[Seen]] = {}
    for one in seen:
        if one.is_alive:
            of.setdefault(one.spool.path, []).append(one)
    # Thousands of jobs wait, of a few shapes.
    known: dict[tuple[str, Shape], Word | None] = {}
    found = {}
    for row in waiting:
        if row.record is None:
            continue
        path, shape = row.spool.path, _shape(row.record.job)
        if (path, shape) not in known:
            known[path, shape] = _nearest(shape, of.get(path, ()))
        if (word := known[path, shape]) is not None:
            found[path, row.id] = word.of(row.id)
    return found


def _nearest(shape: Shape, of: Iterable[Seen]) -> Word | None:
    words = [(one.card.state != UP, word) for one in of if (word := _word(shape, one.card)) is not None]
    return min(words, key=lambda each: _how_far(*each))[1] if words else None


def _how_far(is_draining: bool, word: Word) -> tuple[bool, bool, bool, float, str]:
    is_never, waits = word.says.startswith(NEVER), word.says.startswith(WAITS)
    soon_s = float("inf") if word.starts_in_s is None else word.starts_in_s
    return is_never, is_draining, waits, soon_s, word.node


def _others(me: Spool, of: Iterable[Spool]) -> list[Spool]:
    return [spool for spool in of if spool.path != me.path]


def silent_nodes(me: Spool, node: str, of: Iterable[Spool] = ()) -> dict[str, float]:
    """The nodes that nothing is heard of, with for how many seconds; seen from `node`.

    By the cards of `of`, and by mine.
    """
    try:
        seen = neighbours.seen_now([me, *_others(me, of)], me, node, time.monotonic())
    except (OSError, RoundqError):
        return {}
    return neighbours.silence(seen, node)
