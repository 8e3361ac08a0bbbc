"""`python -m agent`: the same as the command `quantd`."""

import sys

from agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
