"""What is wrong with a spool, by its files alone. Knows nothing of roundq's code, as tests.cluster.checkers.

Each returns one line for each thing that is wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tests.cluster import checkers
from tests.cluster.checkers import ENDED, OPEN, SPOOL, STATES, Found

#: What a spool consists of, beside cards and logs.
PARTS = {*STATES, "requests", "control", "history", "news", "tmp", "ids", "env"}
#: Fields of records and cards that differ each time.
DIFFERENT = frozenset(
    "secs nanos pid start stamp since until begun ended load memory_available beat"
    " cpu_s memory_bytes written".split()
)
#: Where a record belongs that says why it ended; any other reason is a failure.
REASON_STATES = {None: "completed", "canceled": "canceled", "lost": "zombie", "rebooted": "zombie"}


def standing(homes: str, accepted: Iterable[str]) -> list[str]:
    """At any instant: each job in one state with one owner, whole, and nothing of what was accepted gone."""
    there = {found.id for found in checkers.find(homes, "ann")} | set(folded(homes))
    gone = [f"job {id_} was accepted and is gone" for id_ in sorted(set(accepted) - there)]
    return checkers.one_state(homes) + checkers.no_strays(homes) + gone


def folded(homes: str) -> dict[str, str]:
    """The jobs of which the history tells, by whole lines or records on their way, with the state of each."""
    found: dict[str, str] = {}
    directory = f"{homes}/ann/{SPOOL}/history"
    for name in os.listdir(directory) if os.path.isdir(directory) else []:
        stem, _, end = name.rpartition(".")
        if end in ENDED:
            found[stem.rpartition("@")[0]] = end
        elif end == "jsonl":
            with open(f"{directory}/{name}") as file:
                for text in file:
                    with contextlib.suppress(ValueError):
                        line = json.loads(text)
                        if "id" in line:
                            found[line["id"]] = line["state"]
    return found


def promised(homes: str) -> dict[str, set[str]]:
    """The states in which jobs must end, by what is on the disk: facts of an end, and requests to cancel."""
    asked = _asked(homes)
    promises: dict[str, set[str]] = {}
    for found in checkers.find(homes, "ann"):
        record = found.record or {}
        if found.state == "running" and _has_ended(record) and record.get("process"):
            promises[found.id] = {REASON_STATES.get(record.get("reason"), "failed")}
        elif found.state in OPEN and found.id in asked:
            promises[found.id] = {"canceled", "zombie"} if found.state == "running" else {"canceled"}
    return promises


def _has_ended(record: Mapping[str, Any]) -> bool:
    completed = record.get("completed") or {}
    return bool(completed.get("secs") or completed.get("nanos"))


def _asked(homes: str) -> set[str]:
    names = (
        os.listdir(f"{homes}/ann/{SPOOL}/requests") if os.path.isdir(f"{homes}/ann/{SPOOL}/requests") else []
    )
    return {name[: -len(".cancel")] for name in names if name.endswith(".cancel")}


def ended(homes: str, allowed: Mapping[str, set[str]], runs: Counter[tuple[str, int]]) -> list[str]:
    """When all is over: where each job may be, what its record says of its end, how often it really ran."""
    wrong = checkers.true_outcomes(homes)
    for found in checkers.find(homes, "ann"):
        if found.state not in allowed.get(found.id, {"completed"}):
            wrong.append(f"{found} is not in {sorted(allowed.get(found.id, {'completed'}))}")
        if found.state in ENDED:
            wrong += _untrue(found, runs)
        elif found.state == "held" and any(id_ == found.id for id_, _ in runs):
            wrong.append(f"{found} ran")
    for id_, state in folded(homes).items():
        if state not in allowed.get(id_, {"completed"}):
            wrong.append(f"the history says that job {id_} is {state}")
    return wrong + [
        f"attempt {n + 1} of job {id_} ran {runs[id_, n]} times" for id_, n in runs if runs[id_, n] > 1
    ]


def _untrue(found: Found, runs: Counter[tuple[str, int]]) -> list[str]:
    record: dict[str, Any] = found.record or {}
    job = record.get("job", {})
    attempt = record.get("attempt", 1)
    began = sorted(n for id_, n in runs if id_ == found.id)
    wrong = []
    is_told = _has_ended(record) and (record.get("reason") or record.get("exit_code") is not None)
    # A job that never began is canceled by its move; the facts follow if they can.
    if not is_told and not (found.state == "canceled" and not record.get("process")):
        wrong.append(f"{found} does not say how it ended")
    if found.state == "completed" and attempt - 1 not in began and record.get("usage") is not None:
        wrong.append(f"{found} completed and never ran")
    if found.state == "canceled" and not record.get("process") and attempt == 1 and began:
        wrong.append(f"{found} ran and says that it did not")
    if not job.get("restartable") and len(began) > 1:
        wrong.append(f"{found} ran {len(began)} times and may be run once")
    if any(n >= attempt for n in began):
        wrong.append(f"{found} ran as attempts {began}, and knows of {attempt}")
    return wrong


def swept(homes: str, node: str) -> list[str]:
    """When all is over and swept: nothing is left anywhere, and the next number is above all given ones."""
    spool = f"{homes}/ann/{SPOOL}"
    left = {part: os.listdir(f"{spool}/{part}") for part in ("tmp", "requests", "claimed", "running")}
    left["history"] = [name for name in os.listdir(f"{spool}/history") if not name.endswith(".jsonl")]
    wrong = [f"left in {part}: {names}" for part, names in left.items() if names]
    sealed = [name for name in os.listdir(f"{spool}/held") if name.endswith("!.job")]
    wrong += [f"nobody changes {name} any more" for name in sealed]
    known = PARTS | {f"{name}{ending}" for name in (node, "other") for ending in ("", ".log")}
    wrong += [f"in the spool: {name}" for name in sorted(set(os.listdir(spool)) - known)]
    tokens = os.listdir(f"{spool}/ids")
    if len(tokens) != 1:
        wrong.append(f"tokens: {tokens}")
    else:
        there = [found.id for found in checkers.find(homes, "ann")]
        numbers = [int(id_) for id_ in (*there, *folded(homes)) if id_.isdecimal()]
        if int(tokens[0].partition(".")[0]) <= max(numbers, default=0):
            wrong.append(f"token {tokens} is not above {numbers}")
    return wrong


def ledger(home: str) -> Counter[tuple[str, int]]:
    """How often each attempt of each job ran, as the jobs themselves wrote it down: by id, and from 0."""
    try:
        with open(f"{home}/ledger") as file:
            lines = [line.split() for line in file]
    except FileNotFoundError:
        lines = []
    return Counter((id_, int(number)) for id_, number in lines)


def fingerprint(homes: str) -> str:
    """All that lies below, without what differs each time: times, processes, random names."""
    lines = []
    for directory, below, names in sorted(os.walk(homes)):
        below.sort()
        for name in sorted(names):
            path = os.path.join(directory, name)
            if name.endswith(".log"):
                continue
            where = os.path.relpath(directory, homes)
            with open(path, "rb") as file:
                content = file.read()
            lines.append(f"{where}/{_plain(name, where)} {os.stat(path).st_nlink} {_timeless(content)}")
    return "\n".join(sorted(lines))


def _plain(name: str, where: str) -> str:
    if where.endswith("/tmp"):
        return re.sub(r"\.\d+\.\d+\.[0-9a-f]{8}$|\.[0-9a-f]{16}$", "", name)
    # Who changes a record is another one each time.
    name = re.sub(r"@[0-9]+-[0-9]+-(?=[0-9a-f]{8}-\w+@)", "@", name)
    return re.sub(r"-[0-9a-f]{12}$", "", name) if where.endswith("/ids") else name


def _timeless(content: bytes) -> str:
    lines = content.splitlines()
    if len(lines) > 1:
        return "\n".join(map(_timeless, lines))
    try:
        value = json.loads(content)
    except ValueError:
        return repr(content)

    def plain(part: Any, key: str = "") -> Any:
        if isinstance(part, dict):
            return {k: plain(v, k) for k, v in part.items()}
        if isinstance(part, list):
            return [plain(v, key) for v in part]
        is_time = key in DIFFERENT
        return bool(part) if is_time else part

    return json.dumps(plain(value), sort_keys=True)
