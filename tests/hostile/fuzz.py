"""Fuzzing of all that reads what others wrote: `python -m tests.hostile.fuzz [--minutes N] [TARGET...]`.

Each target is given bytes and may refuse them in the one way that its module documents; anything else, more
than `SLOW_S` of processor time, or a raw control character in what a person would see, is a finding. It is
kept in a file, and `--replay FILE TARGET` repeats it. Mutations are made of a corpus of true files, blindly
and by the grammar of JSON; where atheris is installed, `--coverage` lets it guide them.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from roundq.actors.listing import Listing, Row
from roundq.faces import cluster, nodes_view, queue_view, tables
from roundq.records import cards, environments, ids, neighbours
from roundq.records import spool as spools
from roundq.records.spool import Entry
from roundq.words import job as jobs
from roundq.words import policy
from roundq.words import record_format as formats
from roundq.words.errors import ConfigError, RecordError, SpoolError
from roundq.words.policy import Neighbour, Snapshot, Want
from roundq.words.states import FAILED, RUNNING, STATES, WAITING
from roundq.world import config
from roundq.world.files import Name
from roundq.world.nodelock import NodeLock
from tests.hostile.zoo import CONTENTS, NASTY, card, record
from tests.records.crowd import new_spool

#: Of processor time for one input; the slowest honest one takes a thousandth.
SLOW_S = 2.0
BYTES_MAX = 1 << 18
NOW_NS = 1_790_000_000 * jobs.NS
#: What is read, where it makes a difference.
TOKENS = [
    *(b"1e999 -1e999 NaN Infinity -Infinity -0 1.0 1E400 0x10 01 .5 true null".split()),
    *(
        str(number).encode()
        for number in (-1, 0, 1 << 20, 1 << 31, 1 << 53, 1 << 62, 1 << 63, 1 << 64, 10**400)
    ),
    *(b'"\\ud800" "\\u0000" "\\u202e" "\\u001b[2J" {} [] "" : , { } [ ]'.split()),
    *(b"\xff \xc3\x28 \xed\xa0\x80 \xef\xbb\xbf \x00 \x1b \x9b".split(b" ")),
    b"[" * 500,
    b'{"a":' * 500,
    b"9" * 5000,
]


class Finding(AssertionError):
    """An input that is not read as it should be."""


def _printable(text: str) -> None:
    if not text.isprintable():
        raise Finding(f"a reason that is no printable line: {text!r}")


def _shown(show: Callable[[io.StringIO], None]) -> None:
    """What a person would see has nothing raw in it."""
    from tests.hostile.test_zoo import RAW

    out = io.StringIO()
    show(out)
    if raw := RAW.findall(out.getvalue()):
        raise Finding(f"raw in the output: {raw[:5]}")


# ---------------------------------------------------------------- targets


class Targets:
    """The readers, each as a function of bytes; what it raises beyond its contract is a finding."""

    def __init__(self, directory: Path) -> None:
        self.spool = new_spool(directory / "homes" / "ann", "ann")
        self.directory = directory
        self.by_name: dict[str, Callable[[bytes], None]] = {
            name.removeprefix("target_"): getattr(self, name)
            for name in dir(self)
            if name.startswith("target_")
        }

    def target_record(self, data: bytes) -> None:
        """A job file: parsed, written again, read again, and shown."""
        try:
            read = formats.parse(data)
        except RecordError as error:
            _printable(str(error))
            return
        assert formats.parse(formats.dump(read)) == read
        read.unbegun(), read.at_home("/home/eve")
        entries = [Entry("1", state, "n1", "1.job", 1) for state in (WAITING, RUNNING, FAILED)]
        rows = tuple(Row(self.spool, entry, read) for entry in entries)
        facts = queue_view.Facts(NOW_NS)
        listing = Listing(rows, {"ann": dict.fromkeys(STATES, 1)})
        _shown(
            lambda out: tables.show(
                queue_view.COLUMNS, queue_view.rows_of(listing, facts, is_short=False), out
            )
        )

    def target_card(self, data: bytes) -> None:
        """A card: parsed, written again, decided upon, and shown."""
        try:
            read = cards.parse(data, "eve")
        except RecordError as error:
            _printable(str(error))
            return
        if not read.is_legacy:
            assert cards.parse(cards.dump(read), "eve").jobs == read.jobs or len(cards.dump(read)) > len(data)
        neighbour = Neighbour("eve", read.heads[0] if read.heads else None, read.waiting, read.heads[1:50])
        policy.decide(
            Snapshot("n1", "ann", 8, 1 << 34, 1 << 33, wants=(Want("1", 1, 0, 5),), neighbours=(neighbour,))
        )
        seen = neighbours.Seen(self.spool, read, True, 1e300)
        occupied = tuple(cluster.Occupancy(self.spool, read.node, job.cores) for job in read.jobs)
        look = cluster.Look(self.spool, "here", (seen,), occupied, {self.spool: read.waiting})
        nodes, users = cluster.nodes_of(look), cluster.users_of(look)
        _shown(lambda out: tables.show(nodes_view.NODE_COLUMNS, nodes_view.node_rows(nodes), out))
        _shown(lambda out: tables.show(nodes_view.USER_COLUMNS, nodes_view.user_rows(users, nodes), out))

    def target_legacy(self, data: bytes) -> None:
        """A job of 0.2.9 that runs or waits: counted, or passed over."""
        for state in (RUNNING, WAITING):
            Path(self.spool.directory(state), "1700000000.5.job").write_bytes(data)
        neighbours.legacy_occupants(self.spool)
        neighbours.legacy_here(self.spool, "n1")
        neighbours.legacy_head(self.spool, 8, 1 << 34)

    def target_environment(self, data: bytes) -> None:
        """A stored environment, even one whose digest is right."""
        digest = hashlib.sha256(data).hexdigest()
        path = Path(self.spool.directory("env"), f"{digest}.json")
        path.write_bytes(data)
        with contextlib.suppress(RecordError):
            found = environments.load(self.spool, digest)
            assert all(isinstance(text, str) for text in (*found, *found.values()))
        path.unlink()

    def target_config(self, data: bytes) -> None:
        """A configuration file."""
        path = self.directory / "config" / "roundq.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        with contextlib.suppress(ConfigError):
            config.load({}, str(self.directory / "homes" / "ann"), etc=str(path))

    def target_request(self, data: bytes) -> None:
        """The content of a request."""
        Path(self.spool.directory("requests"), "1.cancel").write_bytes(data)
        assert spools.requests(self.spool) == {"1": {"cancel"}}
        spools.asked_of(self.spool, "1", "cancel")

    def target_lock(self, data: bytes) -> None:
        """The file that says who holds the lock of a node."""
        lock = NodeLock(self.spool.path, (str(self.directory),))
        assert lock.acquire()
        (path,) = lock._descriptors
        Path(path).write_bytes(data)
        lock.holder()
        lock.release()

    def target_names(self, data: bytes) -> None:
        """Names in the directories of a queue, and in that of the next number."""
        words = [
            os.fsdecode(word.replace(b"/", b"").replace(b"\0", b""))[:100]
            for word in data[:4000].split(b"\n")
        ]
        for word in words[:50]:
            for state in STATES:
                spools.entry_of(state, Name(f"{word}.job", 1))
            cards.among([Name(word, 1)])
        directory = Path(self.spool.directory(ids.DIRECTORY))
        for word in words[:5]:
            with contextlib.suppress(OSError, ValueError):
                (directory / word).touch()
        with contextlib.suppress(SpoolError):
            number = ids.take(self.spool.path, 3, "n1.1", lambda: 7)
            assert number > 0
        for path in directory.iterdir():
            path.unlink()
        with contextlib.suppress(OSError):
            directory.rmdir()
        ids.found(self.spool.path, lambda: 7)


# ---------------------------------------------------------------- corpus and mutations


def corpus(target: str) -> list[bytes]:
    """True files of this kind, and files from the zoo."""
    whole = record("fit", "n1", attempt=2, process={"boot": "b", "pid": 4, "start": 9})
    whole["attempts"] = [{"number": 1, "node": "n1", "reason": "lost", "signal": 9}]
    true = {
        "config": [b'homes = ["/home"]\ncores = 4\npoll_min = "1s"\n[nodes.n1]\ncores = 2\n'],
        "environment": [b'{"PATH":"/bin","LANG":"C.UTF-8"}'],
        "request": [b"2\n"],
        "lock": [b'{"boot":"b","pid":4,"start":9}'],
        "names": [b"1\n1@n1\n1@n1!\n7.founded\n18.n1.4\n" + "\n".join(NASTY).encode()],
        "card": [
            json.dumps(card("n1", "ok")).encode(),
            b'{"hostname":"n1","pid":4,"physical_cores":4,"logical_cpus":8}',
        ],
    }
    return [*true.get(target, [json.dumps(whole).encode()]), *CONTENTS.values()]


def mutations(seeds: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Inputs without end."""
    while True:
        data = seeds[0] if chance.random() < 0.5 else chance.choice(seeds)
        spoils = chance.choice((1, 1, 2, 4, 16))
        if chance.random() < 0.7:
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(data)
                for _ in range(chance.choice((1, 1, 2, 5))):
                    value = _mutated(value, chance)
                data, spoils = json.dumps(value).encode(), chance.choice((0, 0, 0, 1))
        for _ in range(spoils):
            data = _spoiled(data, seeds, chance)
        yield data[:BYTES_MAX]


def _spoiled(data: bytes, seeds: list[bytes], chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    end = min(len(data), start + int(chance.expovariate(0.1)))
    kind = chance.randrange(5)
    if kind == 0:
        return data[:start] + data[end:]
    if kind == 1:
        return data[:start] + chance.choice(TOKENS) + data[end:]
    if kind == 2:
        return data[:end] + data[start:end] * chance.choice((1, 3, 100)) + data[end:]
    if kind == 3:
        other = chance.choice(seeds)
        cut = chance.randint(0, len(other))
        return data[:start] + other[cut : cut + 1000] + data[end:]
    return data[:start] + bytes(chance.randrange(256) for _ in range(1 + (end - start) % 8)) + data[end:]


_NUMBERS = (-1, 0, 1, 9, 1 << 20, 1 << 30, 1 << 40, 1 << 52, 1 << 60, 1 << 62, 1 << 63, 10**400, -(1 << 31))
_TEXTS = ("", "x" * 5000, "\ud800", "\udcff", "1", "NONE", "up", "leaving", "all", *NASTY)
_LEAVES: list[Any] = [None, True, 0.5, 1e308, [], {}, [[]], {"secs": 1 << 41}, {"secs": 1, "nanos": 10**9}]


def _mutated(value: Any, chance: random.Random) -> Any:
    """The value with something in it replaced, left out, or given again."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        if chance.random() < 0.1:
            return {name: kept for name, kept in value.items() if name != key}
        return {**value, key: _mutated(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        if chance.random() < 0.1:
            return value * chance.choice((2, 100))
        return [*value[:place], _mutated(value[place], chance), *value[place + 1 :]]
    if isinstance(value, bool) or chance.random() < 0.2:
        return chance.choice([*_LEAVES, *_NUMBERS, *_TEXTS])
    if isinstance(value, (int, float)):
        return chance.choice(_NUMBERS)
    return chance.choice(_TEXTS) if isinstance(value, str) else chance.choice(_LEAVES)


# ---------------------------------------------------------------- running


def check(target: Callable[[bytes], None], data: bytes) -> None:
    """Gives the target this input. Raises Finding with what is wrong."""
    began_s = time.process_time()
    try:
        target(data)
    except Finding:
        raise
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {error}\n{traceback.format_exc()}") from error
    took_s = time.process_time() - began_s
    if took_s > SLOW_S:
        raise Finding(f"it took {took_s:.1f} s")


def run(name: str, target: Callable[[bytes], None], seed: int, count: int | None, until_s: float) -> int:
    """Tries mutations, as many as `count` or until a monotonic time; how many. Raises Finding."""
    seeds = corpus(name)
    chance = random.Random(f"{name} {seed}")
    tried = 0
    for data in seeds:
        check(target, data)
    for data in mutations(seeds, chance):
        if (count is not None and tried >= count) or time.monotonic() >= until_s:
            break
        tried += 1
        try:
            check(target, data)
        except Finding as finding:
            kept = Path(tempfile.gettempdir(), f"roundq-fuzz-{name}-{hashlib.sha256(data).hexdigest()[:12]}")
            kept.write_bytes(data)
            raise Finding(f"{name}, seed {seed}, input {tried}, kept as {kept}: {finding}") from finding
    return tried


def _guided(name: str, target: Callable[[bytes], None], seconds: int, directory: str) -> None:
    import atheris  # type: ignore[import-untyped]  # an option, which not every Python has

    for number, data in enumerate(corpus(name)):
        Path(directory, f"{number}").write_bytes(data)
    atheris.instrument_all()
    options = [f"-max_total_time={seconds}", f"-max_len={BYTES_MAX}", "-timeout=10", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *options, directory], lambda data: check(target, data))
    atheris.Fuzz()


def main() -> None:
    """Fuzzes for as long as was asked for; ends with 1 at the first finding."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--replay", metavar="FILE")
    parser.add_argument("--coverage", action="store_true", help="guided by atheris, one TARGET")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        known = Targets(Path(directory)).by_name
        chosen = {name: known[name] for name in options.targets or known}
        for place, (name, target) in enumerate(chosen.items()):
            if options.replay:
                check(target, Path(options.replay).read_bytes())
                continue
            share_s = 60 * options.minutes / len(chosen)
            if options.coverage:
                os.mkdir(f"{directory}/corpus{place}")
                _guided(name, target, int(share_s), f"{directory}/corpus{place}")
            tried = run(name, target, options.seed, None, time.monotonic() + share_s)
            print(f"{name}: {tried:,} inputs, seed {options.seed}: nothing found", flush=True)


if __name__ == "__main__":
    main()
