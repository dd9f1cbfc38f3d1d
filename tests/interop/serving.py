"""`pycasync serve` on loopback, started by the tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filesystems import lacking
from interop.tools import Tool

__all__ = ["Serving", "serving"]


@dataclass
class Serving:
    """A running server.

    :ivar url: without a slash at its end
    :ivar process: it
    """

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def serving(tool: Tool, *arguments: str | Path) -> Iterator[Serving]:
    """Run it until the block ends, from when it says that it serves; then it must end well, unless it was killed."""
    try:
        import granian  # noqa: F401
        import httptools  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        lacking("uvicorn, httptools or granian is not installed; .ci/setup installs them")
    command = [*tool.command, "serve", "--listen=127.0.0.1:0", *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=tool.environment(),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        if not line.startswith("Serving at "):
            raise AssertionError(process.communicate(timeout=30)[1].decode())
        yield Serving(line.removeprefix("Serving at ").strip().rstrip("/"), process)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode in (0, -9), said.decode()
    assert b"Traceback" not in said, said.decode()
