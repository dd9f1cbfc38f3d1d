"""`python -m casync_compat` is the `pycasync` command."""

from __future__ import annotations

import sys

from casync_compat.cli import main

if __name__ == "__main__":
    sys.exit(main())
