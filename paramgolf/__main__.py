"""`python -m paramgolf`."""

import sys

from paramgolf.cli import main

if __name__ == "__main__":
    sys.exit(main())
