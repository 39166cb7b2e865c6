"""A job that writes down when it really ran: `ledger LABEL SECONDS [CORES [EXIT_CODE]]`, inside every node.

Every run appends to a file of its own in /opt/ledger, which all nodes share without any NFS between: one line
when it starts, one about every 50 ms while it lives, one when it ends. So even of a job that was killed the
checkers know when it was last alive. The first line tells what it found: which attempt of which job it is,
and which cores, CPUs and GPUs it has. CORES are those it was submitted with, 0 for a whole node. A label with
a `+` is that of a process which a job left behind: its exit code is nobody's.
SECONDS may be a list, joined by commas: of each attempt, the last of all that follow. A run ends sooner when
there is a file /tmp/end.LABEL on its node.
A file of its own that imports only the standard library and is started with -S: it is quick.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

DIRECTORY = "/opt/ledger"
END = "/tmp/end."
TICK_S = 0.05
#: The variables that tell a job its GPUs.
DEVICES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def main() -> int:
    label, times = sys.argv[1], sys.argv[2].split(",")
    cores = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    exit_code = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    node = socket.gethostname()
    # Every run has a file of its own: pids repeat on another node or after a reboot, instants do not.
    path = os.path.join(DIRECTORY, f"{node}.{os.getpid()}.{time.monotonic_ns()}")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def note(event: str, **more: object) -> None:
        # The monotonic clock is one for all nodes of the box, and nobody sets it.
        line = {"event": event, "at": time.monotonic(), **more}
        os.write(fd, json.dumps(line).encode() + b"\n")

    mine = os.environ
    again = mine.get("RQ_RESTART_COUNT")
    attempt = None if again is None else int(again) + 1
    seconds = float(times[min(attempt or 1, len(times)) - 1])
    who = {"node": node, "uid": os.getuid(), "pid": os.getpid(), "mark": mine.get("RQ_MARK")}
    has = {
        "granted": None if "RQ_CPUS" not in mine else int(mine["RQ_CPUS"]),
        "cpus": sorted(os.sched_getaffinity(0)),
        "cpu_list": mine.get("RQ_CPU_LIST"),
        "devices": {name: mine[name] for name in DEVICES if name in mine},
    }
    note("start", label=label, cores=cores, **who, job=mine.get("RQ_JOB_ID"), attempt=attempt, **has)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not os.path.exists(END + label):
        time.sleep(min(TICK_S, left))
        note("alive")
    note("end", exit_code=exit_code)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
