"""Waiting for what can be read, in programs with many open files."""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Iterator

import pytest

from casync_compat.errors import RemoteError
from casync_compat.fs.waiting import readable
from casync_compat.store.program import Program

MANY = 1100
"""More than a descriptor's number may be for select(2)."""


@pytest.fixture
def crowded() -> Iterator[None]:
    """Whatever is opened gets a number that is high."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2 * MANY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * MANY, hard))
    taken: list[int] = []
    try:
        while not taken or taken[-1] < MANY:
            taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_high_numbers(crowded: None) -> None:
    """What is there is found, also the end; and nothing where there is nothing."""
    out, into = os.pipe()
    high = fcntl.fcntl(out, fcntl.F_DUPFD_CLOEXEC, MANY)
    os.close(out)
    assert readable([high], 0) == set()
    assert readable([high], -1.0) == set()
    os.write(into, b"x")
    assert readable([high], None) == {high}
    os.read(high, 1)
    os.close(into)
    assert readable([high], None) == {high}
    os.close(high)


def test_a_program_is_spoken_with(crowded: None) -> None:
    """Also while so many files are open, to its end and after it."""
    heard: list[bytes] = []
    with Program(("sh", "-c", "cat; exit 3"), "there", heard.append) as program:
        program.send(b"hello")
        program.finish()
        assert program.status() == 3


def test_one_that_ends_too_early(crowded: None) -> None:
    """Its last words are told."""
    program = Program(("sh", "-c", "echo no room >&2"), "there", lambda data: None)
    with program, pytest.raises(RemoteError, match="no room"):
        program.wait(lambda: False, "read")
