"""Every crash point: operations on a spool are stopped, refused and lied to at each of their file operations.

`python -m tests.crashpoints [NAME...]` runs them and prints a table. Each operation is played once on a real
directory, and its file operations are noted (`steps`). Then, for each of these: the process is killed there;
the node loses its power there; the operation happens but reports an error; it is refused; Ctrl-C comes.
After each a fresh daemon and a fresh client work on what lies there (`survivors`), and judges that know
nothing of roundq's code say what is wrong (`judges`). The operations are in `operations`, and mistakes that
the tests must find in `mistakes`.
"""
