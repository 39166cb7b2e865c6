"""`python -m roundq` is `rq`."""

import sys

from roundq.faces.cli import main

if __name__ == "__main__":
    sys.exit(main())
