"""Job directories: a queue of files that workers take, done and failed ones beside them; no locks, no server.

The quick starts of dirjobs run with `from roundq.dirjobs import DirJobs`. See roundq(3), DIRJOBS.
"""

from roundq.faces.api.dirjobs import DirJobs, DoubleRun, Job, double_runs
from roundq.words.errors import DirJobsError

__all__ = ["DirJobs", "DirJobsError", "DoubleRun", "Job", "double_runs"]
