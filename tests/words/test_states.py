"""Promises about the table of states: it is one machine, and every end of it is an end."""

from __future__ import annotations

import pytest

from roundq.words.states import (
    ANYBODY,
    CANCELED,
    CLAIMED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    HELD,
    MENDER,
    OWNED_STATES,
    PENDING_STATES,
    REASONS,
    REQUESTS,
    RUNNING,
    STATES,
    TRANSITIONS,
    WAITING,
    ZOMBIE,
    Transition,
)

each = pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda t: f"{t.name}-{t.source}-{t.target}")


def test_states_are_the_eight_directories() -> None:
    assert STATES == (HELD, WAITING, CLAIMED, RUNNING, COMPLETED, FAILED, CANCELED, ZOMBIE)
    assert len(set(STATES)) == 8
    assert all(name.isalpha() and name.islower() for name in STATES)


def test_a_state_is_pending_owned_or_ended() -> None:
    assert PENDING_STATES + OWNED_STATES + ENDED_STATES == STATES


#: Who may act for a node that its user called lost.
LOST_BY = "another daemon of the user"
SEALER = "the process that sealed it"


@each
def test_a_transition_is_between_two_states(transition: Transition) -> None:
    assert transition.target in STATES
    assert transition.source is None or transition.source in STATES
    if transition.source == transition.target:
        # What changes is who keeps it there, which the name tells.
        assert transition.target in (HELD, RUNNING)
        assert transition.name in ("seize", "hold", "release", "seal", "put", "mend")


@each
def test_a_transition_says_who_may_make_it_and_what_is_written_before(transition: Transition) -> None:
    assert transition.name.isalpha()
    actors = ("submitter", "NODE's daemon", "the supervisor", "any command of the user", LOST_BY)
    assert transition.actor in (*actors, ANYBODY, SEALER, MENDER)
    assert transition.before
    assert "\n" not in transition.before


@each
def test_only_a_change_takes_a_job_out_of_an_ended_state(transition: Transition) -> None:
    """Or else whoever waits for its end could miss it."""
    if transition.source in ENDED_STATES:
        assert (transition.name, transition.target) == ("seal", HELD)


@each
def test_only_who_sealed_a_record_puts_it_elsewhere_or_who_knows_him_dead(transition: Transition) -> None:
    """What is sealed goes where it was: so whoever may seal something may put it there, and no farther."""
    if transition.name in ("put", "mend"):
        assert transition.actor in (SEALER, MENDER)
        assert ("seal", transition.target) in {(t.name, t.source) for t in TRANSITIONS}
        if transition.name == "mend":
            assert "death" in transition.before
            assert "lost" in transition.before


@each
def test_only_an_owner_moves_what_is_owned(transition: Transition) -> None:
    """A command leaves a request: rewriting what one does not own would raise the dead."""
    if transition.source in OWNED_STATES:
        assert transition.actor in ("NODE's daemon", "the supervisor") or (
            transition.actor == LOST_BY and "is lost" in transition.before
        )


@each
def test_nobody_becomes_an_owner_but_by_his_own_move(transition: Transition) -> None:
    if transition.target in OWNED_STATES:
        assert transition.actor in ("NODE's daemon", "the supervisor", LOST_BY)


def test_no_move_stands_twice_in_the_table_for_one_actor() -> None:
    moves = [(t.name, t.source, t.target, t.actor) for t in TRANSITIONS]
    assert len(set(moves)) == len(moves)


def reached(start: set[str]) -> set[str]:
    while more := {t.target for t in TRANSITIONS if t.source in start} - start:
        start = start | more
    return start


def test_every_state_is_reached_by_a_submitted_job() -> None:
    submitted = {t.target for t in TRANSITIONS if t.source is None}
    assert submitted == {WAITING, HELD}
    assert reached(submitted) == set(STATES)


@pytest.mark.parametrize("state", PENDING_STATES + OWNED_STATES)
def test_an_end_is_reached_from_everywhere(state: str) -> None:
    assert CANCELED in reached({state})


def test_only_what_has_begun_is_completed_failed_or_lost() -> None:
    for transition in TRANSITIONS:
        if transition.target in (COMPLETED, FAILED, ZOMBIE):
            # Or what was, and was changed.
            assert transition.source == RUNNING or transition.name in ("put", "mend")


def test_one_word_never_means_two_things() -> None:
    names = {t.name for t in TRANSITIONS}
    assert not names & set(STATES)
    assert not set(REQUESTS) & set(STATES)


def test_a_request_can_end_a_file_name() -> None:
    """requests/ID.VERB is split at its last dot."""
    assert set(REQUESTS) == {"cancel", "restart", "preempt", "lost", "pause", "paused", "signal"}
    assert all(verb.isalpha() and verb.islower() for verb in REQUESTS)


def test_every_reason_is_explained_in_one_phrase() -> None:
    assert {"canceled", "lost", "exit", "signal"} <= set(REASONS)
    for reason, text in REASONS.items():
        assert reason
        assert text[0].islower()
        assert text.isprintable()
        assert not text.endswith(".")
