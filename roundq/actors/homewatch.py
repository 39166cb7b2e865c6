"""What a supervisor looks at on the shared file system while its job runs: requests, and the size of output.

A thread of its own, so that a file server that hangs cannot suspend a time limit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

from roundq.actors.streams import Streams
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words import states
from roundq.words.job import Job

#: How often output is measured and requests are looked for without a nudge.
OUTPUT_LOOK_S = 1.0
REQUEST_LOOK_S = 30.0


class HomeWatch(threading.Thread):
    """Looks at what lies on the shared file system while the job runs: requests, and the size of output.

    Tells the main thread by SIGUSR2 once `verdict` is set: "cancel", "restart" or "output limit".
    """

    def __init__(self, spool: Spool, job_id: str, streams: Streams, job: Job) -> None:
        super().__init__(daemon=True)
        self.spool, self.job_id, self.streams, self.bytes_max = spool, job_id, streams, job.max_output
        # What may not be run twice is not, whatever program asked for it.
        self.verbs = [verb for verb in states.REQUESTS if verb != "restart" or job.restartable]
        self.verdict: str | None = None
        self.nudged = threading.Event()
        self.over = False

    def run(self) -> None:
        last = 0.0
        while not self.over:
            now = time.monotonic()
            with contextlib.suppress(OSError):
                if self.nudged.is_set() or now - last >= REQUEST_LOOK_S or last == 0.0:
                    self.nudged.clear()
                    last = now
                    self.verdict = self.asked()
                if (
                    self.verdict is None
                    and self.bytes_max
                    and self.streams.size() - self.streams.before > self.bytes_max
                ):
                    self.verdict = "output limit"
            if self.verdict is not None:
                os.kill(os.getpid(), signal.SIGUSR2)
                return
            self.nudged.wait(OUTPUT_LOOK_S if self.bytes_max else REQUEST_LOOK_S)

    def asked(self) -> str | None:
        """What is asked of this job, as far as it may be done."""
        asked = spools.requests(self.spool).get(self.job_id, set())
        return next((verb for verb in self.verbs if verb in asked), None)
