"""The real protocol code, many nodes and users in one process, on a world that misbehaves by a seed.

`python -m tests.simulation --seed N --verbose` runs one seed and shows what happened; what may break, and
what may not, is in tests/faults.md.

    schedule   greenlets that take turns at every operation, in simulated time
    disk       the file server: inodes, names, what a crash of it loses
    client     what one node's NFS client believes of it
    machine    nodes, processes, pipes, signals
    calls      whose turn it is, and where turns change
    system     `os` for the code under test; moments: `time`, `signal`; lives: `procs`, `spawn`
    seams      where these take the place of the real ones
    faults     what goes wrong, and when
    resources  GPUs, memory, licenses, and who was promised what
    people     users and their commands, and who starts daemons
    judge      the checks, without any code of roundq
    world      one run of one seed
    mutants    ways of breaking the protocol, each of which must be caught
"""
