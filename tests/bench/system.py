"""What the whole system costs: run it with `python -m tests.bench.system [JOBS]`.

Nothing is asserted, since a time is a fact of one machine. Prints, from real daemons and jobs on
this node: how many short jobs a second go through from submission to recorded end, beside the same
commands run by a bare loop and by task-spooler (if it is installed) in the same run; how soon after
its submission a job begins; private memory of an idle daemon and of a supervisor; what an idle daemon
and a round with 10,000 waiting jobs take.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from roundq.actors.round import Round
from roundq.records import spool as spools
from roundq.words.job import Job
from roundq.words.states import COMPLETED, RUNNING
from roundq.world.config import Config
from roundq.world.node import Node
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until

TRUE = "/bin/true"
CORES = 2
WAITING = 10_000
IDLE_S = 20.0


def main() -> None:
    """Prints one line for each figure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as directory:
        throughput(Path(directory), count)
        latency(Path(directory))
        memory(Path(directory))
        idle(Path(directory))
        long_queue(Path(directory))


def _say(title: str, text: str) -> None:
    print(f"{title:44}{text}", flush=True)


def _home(directory: Path, user: str) -> SpoolHome:
    home = SpoolHome(directory / user / "homes", user)
    del home.environ["RQ_POLL_MIN"], home.environ["RQ_POLL_MAX"]
    return home


def _submit(home: SpoolHome, count: int, *command: str, cores: int = 1) -> list[str]:
    job = Job(command, str(home.home), output="out", submitted_ns=time.time_ns(), max_output=0, cores=cores)
    return spools.submit(home.spool, [job] * count, NODE)


def _ended(home: SpoolHome) -> int:
    return len(os.listdir(home.spool.directory(COMPLETED)))


# ---------------------------------------------------------------- throughput and latency


def throughput(directory: Path, count: int) -> None:
    """Jobs a second, from one submission of them all to the last recorded end."""
    home = _home(directory, "many")
    daemon = home.daemon(RQ_CORES=str(CORES))
    began_s = time.perf_counter()
    _submit(home, count, TRUE)
    submitted_s = time.perf_counter() - began_s
    wait_until(lambda: _ended(home) == count, 300, on_timeout=home.story)
    ours_s = time.perf_counter() - began_s
    cpu_s = _cpu_s(daemon.pid)
    home.stop()

    began_s = time.perf_counter()
    for _ in range(count // CORES):
        for process in [subprocess.Popen([TRUE]) for _ in range(CORES)]:
            process.wait()
    bare_s = time.perf_counter() - began_s
    _say(f"{count} x true, {CORES} at once, in bulk", f"{count / ours_s:.0f} jobs/s ({ours_s:.2f} s)")
    _say("    of that the submission", f"{submitted_s:.2f} s")
    _say("    processor time of daemon and supervisors", f"{1000 * cpu_s / count:.1f} ms a job")
    _say(
        "    a bare loop of subprocess",
        f"{count / bare_s:.0f}/s; we take {ours_s / bare_s:.1f} times as long",
    )
    spooler = shutil.which("tsp")
    if spooler:
        spooler_s = _task_spooler(spooler, directory, count)
        _say(
            "    task-spooler, a call each",
            f"{count / spooler_s:.0f}/s; we take {ours_s / spooler_s:.1f} times",
        )


def _task_spooler(spooler: str, directory: Path, count: int) -> float:
    environ = {**os.environ, "TS_SOCKET": str(directory / "socket"), "TMPDIR": str(directory)}
    subprocess.run([spooler, "-S", str(CORES)], env=environ, check=True)
    began_s = time.perf_counter()
    for _ in range(count):
        subprocess.run([spooler, "-n", TRUE], env=environ, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([spooler, "-w"], env=environ, check=True)
    spent_s = time.perf_counter() - began_s
    subprocess.run([spooler, "-K"], env=environ, check=True)
    return spent_s


def latency(directory: Path) -> None:
    """From the return of a submission to the job's own first deed, on an idle node."""
    home = _home(directory, "soon")
    home.daemon(RQ_CORES=str(CORES))
    taken = []
    for number in range(20):
        began_s = time.perf_counter()
        (job_id,) = _submit(home, 1, "/bin/sh", "-c", f": > begun{number}")
        while not (home.home / f"begun{number}").exists():
            time.sleep(0.0005)
        taken.append(1000 * (time.perf_counter() - began_s))
        home.wait_for(job_id)
    home.stop()
    _say(
        "submission to start, same node",
        f"median {statistics.median(taken):.0f} ms, most {max(taken):.0f} ms",
    )


# ---------------------------------------------------------------- memory and idleness


def _private_mib(pid: int) -> float:
    kib = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            kib += int(line.split()[1])
    return kib / 1024


def _cpu_s(pid: int) -> float:
    """Of the process and of those of its children that were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def memory(directory: Path) -> None:
    """Private memory of a daemon that has run jobs, and of a supervisor whose job sleeps."""
    home = _home(directory, "small")
    daemon = home.daemon(RQ_CORES="4")
    for job_id in _submit(home, 20, TRUE):
        home.wait_for(job_id)
    jobs = _submit(home, 4, "/bin/sleep", "600")
    for job_id in jobs:
        home.wait_for(job_id, RUNNING)
    supervisors = [home.record(job_id).pid for job_id in jobs]
    # Each has its second thread by then.
    wait_until(lambda: all(len(os.listdir(f"/proc/{pid}/task")) == 2 for pid in supervisors))
    each = [_private_mib(pid) for pid in supervisors]
    _say("private memory of a supervisor", f"{statistics.median(each):.1f} MiB")
    for pid in supervisors:
        os.kill(pid, signal.SIGKILL)
    for job_id in jobs:
        home.wait_for(job_id)
    _say("private memory of a daemon", f"{_private_mib(daemon.pid):.1f} MiB")
    home.stop()


def idle(directory: Path) -> None:
    """Processor time of a daemon that has nothing to do, with the standard polls."""
    home = _home(directory, "calm")
    daemon = home.daemon()
    home.wait_for(_submit(home, 1, TRUE)[0])
    time.sleep(15)  # Until its polls are as rare as they get.
    before_s = _cpu_s(daemon.pid)
    time.sleep(IDLE_S)
    _say("an idle daemon", f"{100 * (_cpu_s(daemon.pid) - before_s) / IDLE_S:.3f} % of a core")
    home.stop()


def long_queue(directory: Path) -> None:
    """A round with many waiting jobs, of which none can start and nothing changes."""
    home = _home(directory, "long")
    # More cores than the node has: none can start.
    _submit(home, WAITING, "sleep", "1", cores=2)
    config = Config((str(home.home.parent),), cores=1)
    log = logging.getLogger("bench")
    os.environ["RQ_NODE"] = NODE
    node = Node(os.environ)
    round_ = Round(home.spool, node, lambda: (config, None), log, time.time_ns())
    began_s = time.perf_counter()
    while len(round_.waiting) < WAITING:
        round_.run(time.monotonic())
    _say(f"reading {WAITING} new job files", f"{time.perf_counter() - began_s:.2f} s")
    now_s = time.monotonic() + 10
    for _ in range(3):
        round_.run(now_s)
    taken = []
    for number in range(30):
        began_s = time.perf_counter()
        round_.run(now_s + number / 100)
        taken.append(1000 * (time.perf_counter() - began_s))
    _say(f"a round with {WAITING} unchanged waiting", f"median {statistics.median(taken):.2f} ms")
    home.stop()


if __name__ == "__main__":
    main()
