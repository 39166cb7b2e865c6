"""The environment a job finds: its submitter's, and what roundq tells it.

RQ_JOB_ID and its kin are named as in other queues (SLURM_JOB_ID); besides them stand 0.2.9's
RQ_SUBMIT_TIME, and the variables by which libraries learn how many threads to use.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from roundq.records.spool import Entry, Spool
from roundq.words.allocation import AMD, cpus_text
from roundq.words.job import NS, Array, Identity, Record

#: HTCondor's list: what numerical libraries and runtimes read as their number of threads.
THREAD_VARIABLES = (
    "CUBACORES",
    "GOMAXPROCS",
    "JULIA_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "OPENBLAS_NUM_THREADS",
    "PYTHON_CPU_COUNT",
    "ROOT_MAX_THREADS",
    "TF_LOOP_PARALLEL_ITERATIONS",
    "TF_NUM_THREADS",
)
#: What tells libraries and runtimes of containers which GPUs they may use; empty for none.
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
#: By what nvidia-smi(1) counts GPUs; CUDA itself counts the fastest first.
_ORDER = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
#: Counted within the GPUs of ROCR_VISIBLE_DEVICES: those of the submitter mean something else.
_WITHIN = ("HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")
#: What belongs to the daemon, or to another job, and must not reach this one.
FOREIGN_VARIABLES = frozenset(
    "INVOCATION_ID JOURNAL_STREAM LISTEN_FDNAMES LISTEN_FDS LISTEN_PID MAINPID MEMORY_PRESSURE_WATCH"
    " MEMORY_PRESSURE_WRITE NOTIFY_SOCKET RQ_DELEGATED SYSTEMD_EXEC_PID WATCHDOG_PID WATCHDOG_USEC".split()
)
#: Our own variables of a job. Others that begin with RQ_ are configuration, and stay.
JOB_VARIABLES = frozenset(
    "RQ_ARRAY_JOB_ID RQ_ARRAY_TASK_COUNT RQ_ARRAY_TASK_ID RQ_ARRAY_TASK_MAX RQ_ARRAY_TASK_MIN"
    " RQ_ARRAY_TASK_STEP RQ_CPUS RQ_CPU_LIST RQ_GPUS RQ_JOB_ID RQ_JOB_NAME RQ_MARK RQ_MEM_MB"
    " RQ_NODE RQ_OUTPUT RQ_RESTART_COUNT RQ_SUBMIT_DIR RQ_SUBMIT_TIME RQ_USER".split()
)


def mark(process: Identity) -> str:
    """What every process of an attempt bears in its environment: the identity of its supervisor."""
    return f"{process.boot}.{process.pid}.{process.start}"


def submitted(environ: Mapping[str, str]) -> dict[str, str]:
    """What of a submitter's environment belongs to the job; what is a job's own stays behind."""
    given = {
        name: value
        for name, value in environ.items()
        if name not in FOREIGN_VARIABLES and name not in JOB_VARIABLES and name and "=" not in name
    }
    if "RQ_JOB_ID" in environ:
        # Submitted by a job: its temporary files and GPUs, and the threads it was told, are not the next's.
        for name in ("TMPDIR", *GPU_VARIABLES):
            given.pop(name, None)
        for name in THREAD_VARIABLES:
            if given.get(name) == environ.get("RQ_CPUS"):
                given.pop(name, None)
    return given


def of_job(
    base: Mapping[str, str], spool: Spool, entry: Entry, record: Record, output: str
) -> dict[str, str]:
    """The whole environment of a job that runs with `record.cores` cores on `record.node`.

    `base` is the submitter's; thread counts that it sets are left alone.
    """
    job = record.job
    given = submitted(base)
    cores = str(max(record.cores, 1))
    for name in THREAD_VARIABLES:
        given.setdefault(name, cores)
    given.setdefault("HOME", job.home_dir or os.path.dirname(spool.path))
    given.setdefault("USER", spool.user)
    given.setdefault("LOGNAME", spool.user)
    given.setdefault("PATH", os.defpath)
    given |= {
        "PWD": job.directory or given["HOME"],
        "RQ_CPUS": cores,
        "RQ_JOB_ID": entry.id,
        "RQ_JOB_NAME": job.name.replace("\0", ""),
        "RQ_MEM_MB": str(job.memory_required >> 20),
        "RQ_NODE": record.node,
        "RQ_OUTPUT": output,
        "RQ_RESTART_COUNT": str(record.attempt - 1),
        "RQ_SUBMIT_DIR": job.directory,
        # Neighbours' 0.2.9 daemons tell by it that the process of a running record is alive.
        "RQ_SUBMIT_TIME": str(job.submitted_ns // NS),
        "RQ_USER": spool.user,
    }
    if job.array is not None:
        given |= of_task(job.array)
    if record.process is not None:
        given["RQ_MARK"] = mark(record.process)
    return given


def of_task(array: Array) -> dict[str, str]:
    """What tells a task its place in its array."""
    return {
        "RQ_ARRAY_JOB_ID": array.id,
        "RQ_ARRAY_TASK_ID": str(array.index),
        "RQ_ARRAY_TASK_MIN": str(array.first),
        "RQ_ARRAY_TASK_MAX": str(array.last),
        "RQ_ARRAY_TASK_COUNT": str(array.count),
        "RQ_ARRAY_TASK_STEP": str(array.step),
    }


def of_node(
    job: Mapping[str, str], cpus: Iterable[int], gpus: Sequence[str], maker: str | None, tmp: str | None
) -> dict[str, str]:
    """The environment of a job with what it is given of its node: CPUs, ids of GPUs, a TMPDIR.

    `maker` is whose GPUs the node has, None if it has none; there the submitter's variables are left alone.
    """
    given = {**job, "RQ_GPUS": ",".join(gpus)}
    if cpus:
        given["RQ_CPU_LIST"] = cpus_text(cpus)
    if tmp is not None:
        given["TMPDIR"] = tmp
    if maker is None and not gpus:
        return given
    for name in _WITHIN:
        given.pop(name, None)
    given |= dict.fromkeys(GPU_VARIABLES, ",".join(gpus))
    if maker == AMD:
        # Its libraries read that of CUDA, too, and count within those that they may use.
        given |= {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(len(gpus)))), "NVIDIA_VISIBLE_DEVICES": ""}
    elif gpus:
        given |= dict([_ORDER])
    return given
