"""Two network namespaces joined by a line with latency and a limited rate, for as long as a block runs. Wants root."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Wan", "wan"]

_SIDES = (("pycasync-near", "pcnear", "10.77.0.1"), ("pycasync-far", "pcfar", "10.77.0.2"))


@dataclass(frozen=True)
class Wan:
    """A line that is up.

    :ivar near: what to put in front of a command to run it on the near side
    :ivar far: the same for the far side
    :ivar address: of the far side
    """

    near: tuple[str, ...] = ("ip", "netns", "exec", _SIDES[0][0])
    far: tuple[str, ...] = ("ip", "netns", "exec", _SIDES[1][0])
    address: str = _SIDES[1][2]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def wan(round_trip: float, mbit: int, work: Path, *, loss: int = 0) -> Iterator[Wan]:
    """A line with a round trip of so many milliseconds.

    :param mbit: its rate in each direction
    :param work: where the program is built
    :param loss: packets lost of a million
    """
    program = work / "wan"
    source = Path(__file__).with_name("wan.c")
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    for name, _, _ in _SIDES:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
        _ip("netns", "add", name)
    devices = [device for _, device, _ in _SIDES]
    line = subprocess.Popen(
        [program, *devices, str(round_trip / 2), str(mbit), str(loss)], stdout=subprocess.PIPE
    )
    try:
        assert line.stdout is not None
        assert line.stdout.readline() == b"up\n"
        for name, device, address in _SIDES:
            _ip("link", "set", device, "netns", name)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            _ip("-n", name, "link", "set", device, "up", "txqueuelen", "10000")
        time.sleep(0.2)
        yield Wan()
    finally:
        line.kill()
        line.wait()
        for name, _, _ in _SIDES:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
