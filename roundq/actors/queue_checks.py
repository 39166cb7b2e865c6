"""Checks of the queue itself: its daemons, how soon they see each other, and files that nobody will move.

Called by `doctor`, in its helper process; see `home_checks`. Nothing here moves or removes a file but the
ping that it left.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence

from roundq import __version__
from roundq.actors.home_checks import CLOCK_S, NAMES_TOLD, some
from roundq.actors.patient import Patient
from roundq.records import cards, neighbours, pings
from roundq.records import spool as spools
from roundq.records.neighbours import Seen
from roundq.records.spool import Entry
from roundq.words.errors import RecordError, RoundqError
from roundq.words.findings import Facts, Finding, ok, problem, warning
from roundq.words.names import is_conflict_copy
from roundq.words.quantities import format_age, visible
from roundq.words.states import OWNED_STATES, PENDING_STATES, STATES
from roundq.world import files

#: A daemon that serves renews its card once a minute; after this it is slow, or frozen.
STILL_S = 3 * cards.BEAT_S
#: A daemon that looks every `poll_max` may need two looks, and the card's way back.
PONG_MARGIN_S, PONG_MOST_S = 5.0, 40.0
#: A request that is older meets nobody who answers; a daemon takes a minute to find one moot.
REQUEST_S = 300.0
#: Names that are looked at, and for how long files are read: the doctor is waited for.
NAMES_MOST, READ_S = 50_000, 3.0
#: Troubles of daemons that are told; their logs have them all.
TROUBLES_TOLD = 5


# ---------------------------------------------------------------- daemons


def _seen(patient: Patient) -> list[Seen]:
    found = neighbours.seen_now([patient.spool], patient.spool, patient.node, time.monotonic())
    return sorted(found, key=lambda one: one.card.node)


def _serves(one: Seen) -> bool:
    return one.is_alive and one.card.state != cards.LEAVING


def daemons(patient: Patient) -> list[Finding]:
    """Where a daemon of the user lives, what it is, and what it complains of."""
    found: list[Finding] = []
    seen = _seen(patient)
    for one in seen:
        found += _of_daemon(one, patient)
    found += _complaints(seen)
    if not any(_serves(one) for one in seen):
        waiting = len(spools.scan(patient.spool, PENDING_STATES, most=NAMES_MOST))
        if waiting:
            found.append(
                warning(
                    "daemons",
                    f"{waiting:,} of your jobs wait, and no daemon of yours serves any node",
                    "your jobs are started by your own daemons only",
                    "start one on each node that is to work for you: rq daemon",
                    facts={"waiting": waiting},
                )
            )
        elif not seen:
            found.append(ok("daemons", "none has ever run; the first rq run on a node starts one there"))
        else:
            found.append(ok("daemons", "none serves any node, and no job waits"))
    return found


def _of_daemon(one: Seen, patient: Patient) -> Iterator[Finding]:
    card, node = one.card, one.card.node
    facts: Facts = {
        "node": node,
        "version": card.version,
        "silent_s": round(one.silent_s, 1),
        "is_alive": one.is_alive,
    }
    why = "a node works for you only while your daemon there does"
    if card.is_legacy:
        if one.is_alive:
            yield problem(
                "daemons",
                f"{node} has a daemon of roundqueue 0.2.9 of yours",
                "it does not know claims, and starts jobs that another node has taken",
                f"when its jobs have ended, on {node}: kill {card.pid}",
                facts=facts,
            )
        return
    if card.state == cards.LEAVING:
        yield ok("daemons", f"{node}: stopped {format_age(one.silent_s)} ago", why, facts=facts)
        return
    if not one.is_alive:
        here = node == patient.node
        yield warning(
            "daemons",
            f"{node}: {'its daemon is dead' if here else f'not seen for {format_age(one.silent_s)}'}",
            "nobody knows what became of the jobs that run there" if not here else why,
            "start it again: rq daemon"
            if here
            else f"look whether {node} is up, and start it there: rq daemon",
            facts=facts,
        )
        return
    told = f"{node}: {card.state}, version {card.version}, heard of {format_age(one.silent_s)} ago"
    if card.state == cards.DRAINING:
        yield warning(
            "daemons",
            f"{told}: it starts nothing: {visible(card.reason)}",
            why,
            "do what it says",
            facts=facts,
        )
    elif one.silent_s > STILL_S:
        yield warning(
            "daemons",
            f"{node}: its card stands still for {format_age(one.silent_s)}",
            "a daemon renews it once a minute: it is frozen, or does not reach the home",
            f"look on {node} what the process of rq daemon waits for: ps -o stat,wchan -p {card.pid}",
            facts=facts,
        )
    elif card.version != __version__:
        yield warning(
            "daemons",
            f"{told}; this is version {__version__}",
            "the older of the two may lack what the other one writes or expects",
            f"start it anew on {node}, which no running job notices: rq daemon",
            facts=facts,
        )
    else:
        yield ok("daemons", told, why, facts=facts)


def _complaints(seen: Sequence[Seen]) -> Iterator[Finding]:
    """What living daemons complain of; each of them sees the same queue, and says the same of it."""
    nodes: dict[str, list[str]] = {}
    for one in seen:
        if _serves(one):
            for text in one.card.trouble:
                nodes.setdefault(text, []).append(one.card.node)
    for text, theirs in list(nodes.items())[:TROUBLES_TOLD]:
        says = "says" if len(theirs) == 1 else "say"
        told = f"{some(theirs)} {says}: {visible(text)}"
        remedy = f"see {theirs[0]}.log in ~/.roundqueue"
        yield warning("daemons", told, "it is not used until it is right", remedy, {"nodes": len(theirs)})


def clocks(patient: Patient) -> list[Finding]:
    """The clocks of other nodes beside the file server's, as far as their cards tell."""
    found = []
    for one in _seen(patient):
        card = one.card
        if not card.written_ns or card.node == patient.node or not _serves(one):
            continue
        try:
            stamped_ns = files.signature(f"{patient.spool.path}/{card.node}")[1]
        except OSError:
            continue
        # Replaced meanwhile, the card that was read is older by a beat at most.
        ahead_s = (card.written_ns - stamped_ns) / 1e9
        fresh = cards.read(patient.spool, card.node)
        if fresh.written_ns != card.written_ns:
            continue
        if abs(ahead_s) > CLOCK_S:
            found.append(
                warning(
                    "clocks",
                    f"the clock of {card.node} is about {abs(ahead_s):,.0f} s"
                    f" {'ahead of' if ahead_s > 0 else 'behind'} the file server's",
                    "times in lists, the order of jobs, --begin and --backoff come from it; no claim does",
                    f"let chrony or another NTP client set it on {card.node}: see timedatectl",
                    facts={"node": card.node, "ahead_s": round(ahead_s, 3)},
                )
            )
    return found


# ---------------------------------------------------------------- how soon nodes see each other


def delays(patient: Patient) -> list[Finding]:
    """How long each node that serves takes to see a file of this one, and this one to see its answer."""
    spool, ping = patient.spool, patient.ping
    polls_s = patient.config.poll_max_s
    most_s = min(PONG_MOST_S, 2 * polls_s + PONG_MARGIN_S)
    asked = [one for one in _seen(patient) if _serves(one) and not one.card.is_legacy]
    answers: dict[str, float] = {}
    pause_s = 0.02
    began_s = time.monotonic()
    try:
        pings.leave(spool, ping, patient.node)
        began_s = time.monotonic()
        while len(answers) < len(asked) and time.monotonic() - began_s < most_s:
            for one in asked:
                node = one.card.node
                if node not in answers and _answered(patient, node):
                    answers[node] = time.monotonic() - began_s
            left = [one.card.node for one in asked if one.card.node not in answers]
            if left:
                since_s = time.monotonic() - began_s
                patient.say(f"waiting for {some(left)}: {since_s:.0f} of at most {most_s:.0f} s")
                time.sleep(pause_s)
                pause_s = min(0.25, 1.3 * pause_s)
    finally:
        with contextlib.suppress(OSError):
            pings.remove(spool, ping)
    return [judge_delay(one, answers.get(one.card.node), polls_s, most_s, patient.node) for one in asked]


def _answered(patient: Patient, node: str) -> bool:
    try:
        return patient.ping in cards.read(patient.spool, node).pong
    except (OSError, RoundqError):
        return False


def judge_delay(one: Seen, took_s: float | None, polls_s: float, most_s: float, here: str) -> Finding:
    """What is to be said of a node that took so long to show that it saw a file of `here`, None for never."""
    node = one.card.node
    why = "so long may a submission, a cancel or a claim take to be seen there"
    polls = f"it looks every {polls_s:g} s at the latest"
    facts = {"node": node, "seconds": None if took_s is None else round(took_s, 3), "poll_max_s": polls_s}
    if took_s is None:
        return warning(
            "delay",
            f"{node} did not show within {most_s:.0f} s that it saw a file of {here}; {polls}",
            why,
            f"see on {node} whether the home is mounted and answers there, and {node}.log"
            if one.card.version == __version__
            else f"start its daemon anew, it is version {one.card.version}: rq daemon",
            facts=facts,
        )
    told = f"{node} saw a file of {here}, and {here} its answer, after {took_s:.2g} s; {polls}"
    if took_s > polls_s + PONG_MARGIN_S:
        return warning(
            "delay", told, why, "see how long directories are remembered: acdirmax in nfs(5)", facts=facts
        )
    return ok("delay", told, why, facts=facts)


# ---------------------------------------------------------------- files that nobody will move


def names(patient: Patient) -> list[Finding]:
    """Files in the queue that are not ours: they are left alone."""
    copies: list[str] = []
    misnamed: list[str] = []
    others: list[str] = []
    for directory in (*STATES, "requests", "control", "ids", "env", "tmp"):
        for name in _every_name(patient.spool.directory(directory)):
            told = f"{directory}/{name}"
            if is_conflict_copy(name.removesuffix(spools.SUFFIX)):
                copies.append(told)
            elif directory not in STATES:
                others += [told] if _is_of_editors(name) else []
            elif spools.entry_of(directory, files.Name(name, 0)) is None or name.startswith("."):
                (misnamed if name.endswith(spools.SUFFIX) else others).append(told)
    found = []
    if copies:
        found.append(
            warning(
                "names",
                f"conflict copies, which are no jobs: {some(copies)}",
                "a program that synchronizes directories is at work here: it may undo a move of a job",
                "take ~/.roundqueue out of what is synchronized, then remove them",
                facts={"count": len(copies)},
            )
        )
    if misnamed:
        found.append(
            warning(
                "names",
                f"no job can have these names: {some(misnamed)}",
                "nobody will run or remove them",
                "give each a name of at most 120 printable characters that ends in .job",
                facts={"count": len(misnamed)},
            )
        )
    if others:
        told = f"left alone, since they are not ours: {some(others)}"
        found.append(
            ok(
                "names",
                told,
                "file systems and editors leave names of their own",
                facts={"count": len(others)},
            )
        )
    return found or [ok("names", "every file in the queue is ours", facts={"count": 0})]


def _every_name(directory: str) -> list[str]:
    """The names in a directory, hidden ones too."""
    with os.scandir(directory) as entries:
        return [entry.name for entry, _ in zip(entries, range(NAMES_MOST), strict=False)]


def _is_of_editors(name: str) -> bool:
    return name.startswith(".") or name.endswith(("~", ".bak", ".orig")) or name == "Thumbs.db"


def records(patient: Patient) -> list[Finding]:
    """Records that cannot be read, and those of nodes that nobody heard of."""
    spool = patient.spool
    entries = spools.scan(spool, PENDING_STATES + OWNED_STATES, most=NAMES_MOST)
    known = {entry.name for entry in cards.names(spool)}
    found = []
    broken: list[str] = []
    count = 0
    end_s = time.monotonic() + READ_S
    for entry in entries:
        if time.monotonic() > end_s:
            break
        count += 1
        try:
            spools.read(spool, entry)
        except FileNotFoundError:
            continue
        except RecordError as error:
            broken.append(f"{entry.state}/{entry.file} ({error})")
    if broken:
        found.append(
            warning(
                "records",
                f"not to be read as jobs: {some(broken)}",
                "nobody will run them",
                'mend or remove the files: a job needs at least {"job": {"command": [...]}}',
                facts={"count": len(broken)},
            )
        )
    strange = [entry for entry in entries if entry.node is not None and entry.node not in known]
    for node, theirs in _by_node(strange):
        found.append(
            warning(
                "records",
                f"{len(theirs)} {'job is' if len(theirs) == 1 else 'jobs are'} on {visible(node)},"
                f" of which nothing was ever heard: {some([entry.id for entry in theirs])}",
                "only a daemon on that node, or you, can say what became of them",
                f"if there is no such node: rq lost {visible(node)}",
                facts={"node": node, "count": len(theirs)},
            )
        )
    of = f" of {len(entries):,}" if count < len(entries) else ""
    return found or [
        ok("records", f"{count:,}{of} jobs that have not ended can be read", facts={"count": count})
    ]


def _by_node(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    of: dict[str, list[Entry]] = {}
    for entry in entries:
        of.setdefault(entry.node or "", []).append(entry)
    return sorted(of.items())[:NAMES_TOLD]


def requests(patient: Patient) -> list[Finding]:
    """Requests that are not answered."""
    spool = patient.spool
    server_ns = neighbours.stamped_ns(spool)
    old = []
    end_s = time.monotonic() + READ_S
    for job_id, verbs in sorted(spools.requests(spool).items()):
        if time.monotonic() > end_s:
            break
        for verb in sorted(verbs):
            with contextlib.suppress(OSError):
                age_s = (
                    server_ns - files.signature(f"{spool.directory('requests')}/{job_id}.{verb}")[1]
                ) / 1e9
                if age_s > REQUEST_S:
                    old.append(f"{verb} of job {job_id}, for {format_age(age_s)}")
    if not old:
        return [ok("requests", "none is unanswered")]
    return [
        warning(
            "requests",
            f"not answered: {some(old)}",
            "whoever owns the job does not look, or there is no such job and no daemon of yours to notice",
            "see rq why ID; start a daemon where the job is: rq daemon",
            facts={"count": len(old)},
        )
    ]
