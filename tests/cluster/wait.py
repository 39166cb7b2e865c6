"""Wait for a condition, never for a time: the one place of the test cluster that sleeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    timeout: float = 10.0,
    *,
    on_timeout: Callable[[], object] | str = "",
    every: float = 0.02,
) -> T:
    """Call `condition` until its answer is true and return that answer.

    After `timeout` seconds an AssertionError is raised that shows the last answer and what `on_timeout` says
    (a text, or a function that is called then: a log, a listing).
    """
    end = time.monotonic() + timeout
    while True:
        last_look = time.monotonic() >= end
        answer = condition()
        if answer:
            return answer
        if last_look:
            story = on_timeout() if callable(on_timeout) else on_timeout
            raise AssertionError(f"not true after {timeout:g} s, last answer {answer!r}\n{story}")
        time.sleep(every)
