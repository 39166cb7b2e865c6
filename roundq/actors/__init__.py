"""What acts: the daemon of a node, the supervisor of a job, the queue as Python programs see it."""
