"""Promises about readers of what others wrote: any bytes are read, or refused with the promised error.

A part of what `python -m tests.hostile.fuzz` does for as long as one likes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import tempfile
import time
from pathlib import Path

import pytest

from roundq.words import record_format as formats
from roundq.words.errors import RecordError
from tests.hostile import fuzz

#: Inputs of each target: each takes about a second.
COUNTS = {
    "card": 1000,
    "config": 700,
    "environment": 1000,
    "legacy": 200,
    "lock": 300,
    "names": 250,
    "record": 2500,
    "request": 600,
}
SEED = 20261121


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_no_input_does_anything_but_be_read_or_refused(name: str, tmp_path: Path) -> None:
    """No other error, no hang, and nothing raw in what is shown of it."""
    target = fuzz.Targets(tmp_path).by_name[name]
    assert fuzz.run(name, target, SEED, COUNTS[name], time.monotonic() + 120) == COUNTS[name]


def test_every_target_is_fuzzed(tmp_path: Path) -> None:
    assert set(fuzz.Targets(tmp_path).by_name) == set(COUNTS)


def test_mutations_reach_behind_the_grammar() -> None:
    """Many are records still, in which something is not as usual: else only the parser of JSON is tried."""
    accepted = set()
    for data in itertools.islice(fuzz.mutations(fuzz.corpus("record"), random.Random(1)), 2000):
        try:
            accepted.add(json.dumps(formats.to_dict(formats.parse(data))))
        except RecordError:
            continue
    assert len(accepted) > 150


def test_a_reader_that_fails_on_some_input_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzzer has teeth, keeps what it found, and finds it again with the same seed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def trusting(data: bytes) -> None:
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(data)
            # As somebody might write it: right for every honest file, and all of the corpus.
            if isinstance(value, dict) and isinstance(value.get("attempts"), list):
                assert all(attempt["number"] < 1 << 31 for attempt in value["attempts"])

    found = []
    for _ in range(2):
        with pytest.raises(fuzz.Finding, match="seed 5, input") as caught:
            fuzz.run("record", trusting, 5, 20_000, time.monotonic() + 60)
        found.append(str(caught.value).partition(":")[0])
    assert found[0] == found[1]
    (kept,) = tmp_path.glob("roundq-fuzz-record-*")
    assert kept.read_bytes()


def test_an_input_that_takes_long_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "SLOW_S", 0.01)

    def slow(_: bytes) -> None:
        until_s = time.process_time() + 0.05
        while time.process_time() < until_s:
            pass

    with pytest.raises(fuzz.Finding, match="took"):
        fuzz.check(slow, b"")
