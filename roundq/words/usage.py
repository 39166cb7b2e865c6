"""Usage with memory: core-seconds, which count for half as much after each half-life. Pure.

What is added later and what has decayed meanwhile simply add up, so that it does not matter how often, or in
which order, sums are brought up to date. Times are in seconds, and never run backwards here.
"""

from __future__ import annotations

import math


def decayed(usage: float, after_s: float, half_life_s: float) -> float:
    """What counts of it after so long: half of it after each half-life, nothing of what is no number."""
    if not (0 < usage < math.inf and 0 < half_life_s < math.inf) or math.isnan(after_s):
        return 0.0
    return usage * math.pow(2.0, -max(after_s, 0.0) / half_life_s)


def used(cores: float, for_s: float, half_life_s: float) -> float:
    """What counts at the end of a time in which so many cores were used; it decays from the first second."""
    if not (0 < cores < math.inf and for_s > 0 and 0 < half_life_s < math.inf):
        return 0.0
    return most(cores, half_life_s) * -math.expm1(-for_s / half_life_s * math.log(2))


def most(cores: float, half_life_s: float) -> float:
    """What so many cores have used that were always in use: no usage is beyond it, of a node or a cluster."""
    return max(cores, 0.0) * half_life_s / math.log(2)


def part(usage: float, cores: float, half_life_s: float) -> float:
    """Usage as a part, from 0 to 1, of what so many cores could have given; 0 where there are none."""
    whole = most(cores, half_life_s)
    return min(decayed(usage, 0.0, half_life_s) / whole, 1.0) if 0 < whole < math.inf else 0.0
