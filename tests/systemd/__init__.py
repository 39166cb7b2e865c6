"""The units under a real systemd.

conftest    the fixture `systemd_box`
sdbox       a systemd as PID 1 of namespaces, over the host's own files
boot.sh     its first process
"""
