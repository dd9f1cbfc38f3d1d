"""`python -m casync_compat` is the `pycasync` command, and the script of that name begins here, too.

While the command itself is still being imported there is nothing to clean up: the process dies of a signal at once.
"""

from __future__ import annotations

import os
import sys
from signal import SIG_DFL, SIG_IGN, SIGHUP, SIGINT, SIGTERM, getsignal, signal

__all__ = ["main"]


def _quit(number: int, frame: object) -> None:
    try:
        os.write(2, b"Got exit signal, quitting.\n")
    finally:
        signal(number, SIG_DFL)
        os.kill(os.getpid(), number)
        # The first process of a container does not die of signals, not even of its own.
        os._exit(128 + number)


def main() -> int:
    """Run the command. Returns its exit status."""
    caught = [number for number in (SIGINT, SIGTERM, SIGHUP) if getsignal(number) is not SIG_IGN]
    for number in caught:
        signal(number, _quit)
    from casync_compat import cli  # only now: it takes a while

    status = cli.main()
    for number in caught:  # all is done; Python, while it ends, would go back to what signals do by default
        signal(number, SIG_IGN)
    return status


if __name__ == "__main__":
    sys.exit(main())
