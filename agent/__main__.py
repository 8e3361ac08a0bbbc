"""`python -m agent`: the same as the command `quantd`."""

import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["job"] and len(sys.argv) == 4:  # SPEC and its parent
        from agent.jobs.parent import end_with

        end_with(int(sys.argv.pop()))
    from agent.cli import main

    sys.exit(main())
