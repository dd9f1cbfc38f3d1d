"""Running casync, desync and pycasync alike: scrubbed environment, exact output, the same commands side by side.

`PYCASYNC_UNDER_TEST=casync` puts another program in pycasync's place. It is there to try the tests themselves: with
real casync on both sides every comparison must hold, and tests of what pycasync does better are skipped.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from builds import coverage_variables
from filesystems import lacking
from trees import TREES, Tree

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = os.environ.get("PYCASYNC_UNDER_TEST", "")
PYCASYNC = shlex.split(STAND_IN) or [sys.executable, "-m", "casync_compat"]

better_than_casync = pytest.mark.skipif(
    bool(STAND_IN), reason="casync cannot do this, and pycasync is not under test"
)
"""Marks a test of something that pycasync decided to do better, where there is no peer to compare with."""

Argument = str | bytes | Path

_WRONG_WORDS = 2
"""Our exit status where the words on the command line are wrong; catar/FORMAT.md has the table."""


def peer(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of peers/, in Go: as `.ci/setup` built it, or built here."""
    built = ROOT / ".peers" / "bin" / name
    if built.exists():
        return built
    go = shutil.which("go", path=os.environ.get("PATH", os.defpath) + ":/usr/local/go/bin")
    if go is None:
        lacking(f"{name} is not built and there is no go to build it with")
    out = tmp_path_factory.mktemp(name) / name
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    source = Path(__file__).parent / "peers" / name
    subprocess.run([go, "build", "-o", out, "."], cwd=source, check=True, env=environment)
    return out


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did: exit status and both streams."""

    argv: tuple[Argument, ...]
    status: int
    out: bytes
    err: bytes

    def __str__(self) -> str:
        # Escaped, because pytest-xdist cannot pass lone surrogates on.
        words = (os.fsencode(word).decode("utf-8", "backslashreplace") for word in self.argv)
        shown = " ".join(map(shlex.quote, words))
        return f"{shown}\n  status {self.status}\n  stdout {self.out[-400:]!r}\n  stderr {self.err[-2000:]!r}"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that is run from the outside.

    :ivar temporary: its home and its directory for temporary files, which it leaves as empty as it found it
    """

    name: str
    command: tuple[str, ...]
    temporary: Path
    variables: tuple[tuple[str, str], ...] = ()

    def given(self, **variables: str) -> Tool:
        """The same with further environment variables."""
        return replace(self, variables=(*self.variables, *variables.items()))

    def environment(self) -> dict[str, str]:
        """What it runs in, whatever that of the tests is."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.temporary),
            "TMPDIR": str(self.temporary),
            # What a run remembers for the next is no leftover.
            "XDG_CACHE_HOME": f"{self.temporary}-cache",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            # The directory a test runs in must not be taken for a place to import from.
            "PYTHONSAFEPATH": "1",
            **coverage_variables(),
            **dict(self.variables),
        }

    def run(self, *arguments: Argument, cwd: Path | None = None, stdin: Path | None = None) -> Outcome:
        """Run to the end, whatever the exit status. `stdin` is a file; without it there is nothing to read."""
        environment = self.environment()
        argv = (*self.command, *arguments)
        with open(stdin or os.devnull, "rb") as source:
            done = subprocess.run(
                argv, cwd=cwd, stdin=source, capture_output=True, env=environment, umask=0o022, timeout=120
            )
        status = done.returncode
        if not self.is_reference and status == _WRONG_WORDS:
            status = 1  # casync's for that, too
        outcome = Outcome(argv, status, done.stdout, done.stderr)
        assert b"Traceback (most recent call last)" not in done.stderr, f"a traceback: {outcome}"
        if not self.is_reference:
            assert not os.listdir(self.temporary), f"temporary files are left in {self.temporary}: {outcome}"
        return outcome

    def __call__(self, *arguments: Argument, cwd: Path | None = None, stdin: Path | None = None) -> bytes:
        """Run, require success, and return standard output."""
        outcome = self.run(*arguments, cwd=cwd, stdin=stdin)
        assert outcome.status == 0, f"{self.name} failed: {outcome}"
        return outcome.out

    @property
    def is_reference(self) -> bool:
        """Whether this is a peer, whose shortcomings are not ours to test."""
        return self.name != "pycasync" or bool(STAND_IN)


def find_desync() -> str | None:
    """The desync that `$DESYNC` names, or that `.ci/setup` built, or one on the path."""
    built = ROOT / ".peers" / "bin" / "desync"
    return os.environ.get("DESYNC") or (str(built) if built.exists() else shutil.which("desync"))


def file_modes(directory: Path) -> dict[str, str]:
    """Every path beneath a directory, with type and mode; file contents apart, all that outputs consist of."""
    return {
        str(path.relative_to(directory)): stat.filemode(path.lstat().st_mode) for path in directory.rglob("*")
    }  # fmt: skip


def leftovers(directory: Path) -> list[str]:
    """Temporary files, by the names that casync and desync give them."""
    return [p for p in file_modes(directory) if Path(p).name.startswith((".#", ".tmp")) or p.endswith(".tmp")]


@dataclass(frozen=True, slots=True)
class Pair:
    """The same command with both programs, each in a directory of its own.

    Outputs named in a command are relative, so that both command lines are the same to the byte.
    """

    casync: Tool
    pycasync: Tool
    base: Path

    @property
    def theirs(self) -> Path:
        """Where casync works."""
        return self._directory("casync")

    @property
    def ours(self) -> Path:
        """Where pycasync works."""
        return self._directory("pycasync")

    def _directory(self, name: str) -> Path:
        at = self.base / name
        at.mkdir(exist_ok=True)
        return at

    def run(self, *arguments: Argument, stdin: Path | None = None) -> tuple[Outcome, Outcome]:
        """Run with both and require the same exit status, which is 0 or 1."""
        theirs = self.casync.run(*arguments, cwd=self.theirs, stdin=stdin)
        ours = self.pycasync.run(*arguments, cwd=self.ours, stdin=stdin)
        assert theirs.status in (0, 1), f"casync did something unexpected: {theirs}"
        assert ours.status == theirs.status, f"exit status differs\n{theirs}\n{ours}"
        if ours.status and not STAND_IN:
            assert ours.err.count(b"\n") == 1, f"an error is one line: {ours}"
        return theirs, ours

    def same_output(self, *arguments: Argument, stdin: Path | None = None) -> bytes | None:
        """Require the same standard output as well; None if both failed.

        Of a run that fails, what it printed before is compared as far as both got: how soon is not a promise.
        """
        theirs, ours = self.run(*arguments, stdin=stdin)
        if theirs.status:
            assert theirs.out.startswith(ours.out) or ours.out.startswith(theirs.out), f"{theirs}\n{ours}"
            return None
        assert ours.out == theirs.out, f"output differs\n{theirs}\n{ours}"
        return ours.out

    def archive(self, output: str, *arguments: Argument) -> None:
        """`make` with both, which must succeed; what they wrote is compared elsewhere."""
        self.casync("make", output, *arguments, cwd=self.theirs)
        self.pycasync("make", output, *arguments, cwd=self.ours)

    def same_make(self, output: str, *arguments: Argument, stdin: Path | None = None) -> bool:
        """`make` with both and require the same files; False if both refused and wrote nothing.

        Chunk files may differ in their compressed bytes, which depend on the version of the compressor; their names
        are digests of what they hold.
        """
        digest = self.same_output("make", output, *arguments, stdin=stdin)
        if not STAND_IN:
            assert not leftovers(self.ours), "temporary files are left behind"
        if digest is None:
            assert not (self.ours / output).exists(), "a failed make leaves no output"
            return False
        assert file_modes(self.ours) == file_modes(self.theirs)
        assert (self.ours / output).read_bytes() == (self.theirs / output).read_bytes(), f"{output} differs"
        return True


def tree_cases(
    *names: str, large: bool = True, refused: bool = False, without: Collection[str] = ()
) -> list[object]:
    """Pytest parameters (tree, file system): all trees, or those named; refused ones only on request."""
    cases = []
    for tree in [TREES[name] for name in names] or TREES.values():
        if (tree.large and not large) or (tree.refused and not refused) or tree.name in without:
            continue
        for on in tree.on:
            marks = [pytest.mark.root] if tree.root or on != "any" else []
            cases.append(pytest.param(tree, on, id=_id(tree, on), marks=marks))
    return cases


def _id(tree: Tree, on: str) -> str:
    return tree.name if on == "any" else f"{tree.name}@{on}"
