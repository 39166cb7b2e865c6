"""rq, as far as its units can see: a stand-in for tests of the units alone (installed in the box as `rq`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

SPOOL = os.path.expanduser("~/.roundqueue")
STATES = ("waiting", "claimed", "running", "completed", "failed")


def run(argv: list[str]) -> int:
    for state in STATES:
        os.makedirs(f"{SPOOL}/{state}", exist_ok=True)
    job_id = str(time.monotonic_ns())
    with open(f"{SPOOL}/{job_id}", "w") as file:
        json.dump({"job": {"command": argv, "directory": os.getcwd()}}, file)
    os.rename(f"{SPOOL}/{job_id}", f"{SPOOL}/waiting/{job_id}.job")
    print(job_id)
    return 0


def supervise(job_id: str) -> None:
    if os.fork():
        return
    os.setsid()
    node = os.uname().nodename
    os.rename(f"{SPOOL}/waiting/{job_id}.job", f"{SPOOL}/running/{job_id}@{node}.job")
    with open(f"{SPOOL}/running/{job_id}@{node}.job") as file:
        record = json.load(file)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NOTIFY_", "WATCHDOG_"))}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    command = subprocess.Popen(record["job"]["command"], cwd=record["job"]["directory"], env=env)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = command.wait()
    record["exit_code"] = None if code < 0 else code
    record["signal"] = -code if code < 0 else None
    state = "failed" if code else "completed"
    with open(f"{SPOOL}/{job_id}", "w") as file:
        json.dump(record, file)
    os.rename(f"{SPOOL}/{job_id}", f"{SPOOL}/{state}/{job_id}.job")
    os.unlink(f"{SPOOL}/running/{job_id}@{node}.job")
    os._exit(0)


def daemon() -> int:
    try:
        from systemd.daemon import notify
        from systemd.journal import send
    except ImportError:
        print("rq: systemd-python is not installed.\nhint: pip install 'roundq[systemd]'", file=sys.stderr)
        return 78
    signal.signal(signal.SIGTERM, lambda *_: (notify("STOPPING=1"), sys.exit(0)))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for state in STATES:
        os.makedirs(f"{SPOOL}/{state}", exist_ok=True)
    ready = False
    while True:
        for name in sorted(os.listdir(f"{SPOOL}/waiting")):
            job_id = name.removesuffix(".job")
            send(
                f"job {job_id} starts",
                ROUNDQ_JOB=job_id, ROUNDQ_STATE="running", ROUNDQ_NODE=os.uname().nodename,
                SYSLOG_IDENTIFIER="roundq",
            )  # fmt: skip
            supervise(job_id)
        if not ready:
            notify("READY=1\nSTATUS=0 running")
            ready = True
        notify("WATCHDOG=1")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(run(sys.argv[2:]) if sys.argv[1] == "run" else daemon())
