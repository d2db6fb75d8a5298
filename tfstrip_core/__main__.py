"""Run the command as `python -m tfstrip_core`."""

import sys

from tfstrip_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
