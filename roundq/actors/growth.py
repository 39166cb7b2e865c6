"""What grows towards a limit, such as output or memory, and when to look again. Pure."""

from __future__ import annotations

#: Looks are never further apart, nor closer together, than this.
LOOK_MOST_S, LOOK_LEAST_S = 1.0, 0.1


class Growth:
    """The size of something at each look. It is looked at again before it could reach its limit at the rate
    seen since the last look; what begins to grow faster than ever is seen a second later."""

    def __init__(self, limit: int, now_s: float) -> None:
        self.limit = limit
        self._size, self._at_s = 0, now_s
        self.again_s = LOOK_LEAST_S

    def is_beyond(self, size: int, now_s: float) -> bool:
        """Whether this size, seen now, is beyond the limit; sets `again_s`, the seconds to the next look."""
        rate = (size - self._size) / max(now_s - self._at_s, 1e-3)
        self._size, self._at_s = size, now_s
        left_s = (self.limit - size) / rate if rate > 0 else LOOK_MOST_S
        self.again_s = min(max(left_s, LOOK_LEAST_S), LOOK_MOST_S)
        return size > self.limit
