"""A cluster in a box: real nodes in namespaces, one home each sees through its own NFS-like mount.

Tests ask for the fixture `make_cluster` (plugin.py). The modules, top down:

    plugin    the pytest fixtures
    box       Cluster: some nodes, some users, one home
    node      Node: start, crash, freeze, partition, run things as a user
    machine   the inside of a node: what its PID 1 builds
    accounts  the users and their homes
    requirements  what the machine must offer
    runtime   makes roundq runnable at /opt/rq inside every node
    nfsim     the process behind one node's view of /home: reads requests, applies faults, answers
    nfs       what each file operation of a Linux NFS client asks of its server
    handles   what is open on a node, and written there but not yet sent
    cache     what that client believes without asking, and for how long
    faults    rules that make the file system misbehave, and the messages that set them
    fuse      the wire format of /dev/fuse
    kernel    namespaces, mounts and cgroups
    scratch   directories that are swept when their owner has died

    lab       roundq at work on a cluster: daemons, ledger jobs, blows, the judgement at the end
    soak      a long run in which everything goes wrong at random: python -m tests.cluster.soak --minutes 30
    schedule  what goes wrong when, made from a seed
    clocks    clocks of a node that are wrong, or leap

    checkers  independent judges of what a run left on disk
    promises  and of what was promised to jobs at the same time
    turns     and of whose turn it was
    runs      what the jobs wrote down, for the judges
    ledger    a job that writes down when it really ran
    noinet    runs a command that may not touch the network
    wait      wait for a condition, never for a time

Nothing here imports roundq: what judges must not depend on what is judged.
"""
