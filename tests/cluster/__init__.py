"""A cluster in a box: real nodes in namespaces, one home each sees through its own NFS-like mount.

Tests ask for the fixture `make_cluster` (plugin.py). The modules, top down:

    plugin    the pytest fixtures
    box       Cluster and Node: start, crash, freeze, partition, run things as a user
    runtime   makes roundq runnable at /opt/rq inside every node
    nfsim     the process behind one node's view of /home: reads requests, applies faults, answers
    nfs       what a Linux NFS client caches, and when it asks the server
    faults    rules that make the file system misbehave, and the messages that set them
    fuse      the wire format of /dev/fuse
    kernel    namespaces, mounts and cgroups
    scratch   directories that are swept when their owner has died

    checkers  independent judges of what a run left on disk
    ledger    a job that writes down when it really ran
    noinet    runs a command that may not touch the network
    wait      wait for a condition, never for a time

Nothing here imports roundq: what judges must not depend on what is judged.
"""
