"""Running the command inside the test process, in an empty directory, with nothing from the environment."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from casync_compat.cli import main

Run = Callable[..., "Result"]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run left: exit status and both streams."""

    status: int
    out: bytes
    err: bytes


@pytest.fixture(autouse=True)
def quiet_surroundings(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A directory of its own, no variables that change defaults, and signal handlers as they were."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("CASYNC_", "PYCASYNC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-configuration"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old = [signal.getsignal(number) for number in signals]
    yield
    for number, handler in zip(signals, old, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run the command with some words; `stdin` becomes its standard input."""

    def call(*words: str | Path, stdin: Path | None = None) -> Result:
        old = os.dup(0)
        source = os.open(stdin or os.devnull, os.O_RDONLY)
        os.dup2(source, 0)
        try:
            status = main([os.fspath(word) for word in words])
        finally:
            os.dup2(old, 0)
            os.close(old)
            os.close(source)
        out, err = capfdbinary.readouterr()
        return Result(status, out, err)

    return call


@pytest.fixture
def ok(run: Run) -> Run:
    """Like `run`, for runs that must succeed and say nothing on standard error."""

    def call(*words: str | Path, stdin: Path | None = None) -> Result:
        result = run(*words, stdin=stdin)
        assert result.status == 0, result
        assert result.err == b"", result
        return result

    return call


@pytest.fixture
def fails(run: Run) -> Callable[..., str]:
    """Like `run`, for runs that must fail: one line on standard error, nothing on standard output. Returns the line.

    Whether it is status 1 or 2 depends on whether the words alone were wrong; `test_status` has which.
    """

    def call(*words: str | Path, stdin: Path | None = None) -> str:
        result = run(*words, stdin=stdin)
        assert result.status in (1, 2), result
        assert result.out == b"", result
        lines = result.err.decode().splitlines()
        assert len(lines) == 1, result
        assert lines[0].startswith("pycasync: ")
        assert "internal error" not in lines[0]
        return lines[0].removeprefix("pycasync: ")

    return call


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small directory called `tree`, the same every time apart from its owners."""
    at = tmp_path / "tree"
    (at / "sub").mkdir(parents=True)
    (at / "hello").write_bytes(b"hello world\n")
    (at / "sub" / "data").write_bytes(bytes(range(256)) * 1000)
    (at / "sub" / "link").symlink_to("../hello")
    for path, mode in ((at / "hello", 0o644), (at / "sub" / "data", 0o640), (at / "sub", 0o755), (at, 0o755)):
        os.chmod(path, mode)
    for path in (at / "sub" / "link", at / "sub" / "data", at / "sub", at / "hello", at):
        os.utime(path, ns=(0, 1_500_000_000_123_456_789), follow_symlinks=False)
    return at
