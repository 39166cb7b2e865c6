"""`python -m roundq` is `rq`, and so is the program that an installation makes of `rq`."""

import signal
import sys
from typing import NoReturn


def rq() -> NoReturn:
    """The command, as a process of its own."""
    # While all is being loaded Ctrl-C has nothing to undo, and the interpreter would print where it was.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from roundq.faces.cli import main

    sys.exit(main())


if __name__ == "__main__":
    rq()
