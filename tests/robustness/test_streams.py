"""Standard streams that are full, closed, or read by somebody who leaves."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .running import COMMAND, build_tree, environment, fails, run, works


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree whose listing is longer than any pipe, and archives of it."""
    here = tmp_path_factory.mktemp("streams")
    build_tree(here / "src", files=40)
    (here / "src" / "many").mkdir()
    for i in range(3000):
        (here / "src" / "many" / f"{i:04}-{'x' * 60}").touch()
    works("make", "x.catar", "src", cwd=here)
    works("make", "x.caidx", "src", cwd=here)
    works("make", "x.caibx", "x.catar", cwd=here)
    return here


@pytest.fixture
def at(made: Path, tmp_path: Path) -> Path:
    """A directory for runs, with those archives in it, which are only read."""
    here = tmp_path / "here"
    here.mkdir()
    for path in made.iterdir():
        (here / path.name).symlink_to(path)
    return here


def shell(script: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a shell script in which `pycasync` is the command."""
    command = " ".join(f"'{word}'" for word in COMMAND)
    text = f'set -o pipefail; pycasync() {{ {command} "$@"; }}\n{script}'
    return subprocess.run(
        ["bash", "-c", text], cwd=cwd, capture_output=True, env=environment(), timeout=60, check=False
    )


@pytest.mark.parametrize(
    "words",
    [
        "list x.catar",
        "list --json x.caidx",
        "mtree src",
        "cat x.caibx",
        "extract x.caibx -",
        "make - src",
        "list src",
    ],
)
def test_a_reader_that_leaves(at: Path, words: str) -> None:
    """`| head` ends a run quietly: nothing is said, and the status tells that not everything was written."""
    done = shell(f"pycasync {words} | head -c 5 >/dev/null; echo ${{PIPESTATUS[0]}}", at)
    assert done.stdout == b"1\n", done
    assert b"Traceback" not in done.stderr
    assert done.stderr == b""


@pytest.mark.parametrize(
    "words", ["list x.catar", "digest x.catar", "stat x.catar", "info x.caidx", "mtree src", "cat x.caibx", "--help",
              "make --help", "oci convert --help", "completion bash", "--version",
              "make y.catar src", "extract x.caibx -", "make - src"],
)  # fmt: skip
def test_a_full_disk_behind_standard_output(at: Path, words: str) -> None:
    """Output that cannot be written is an error in one line, at the latest when the run ends."""
    outcome = run(*words.split(), cwd=at, stdout=Path("/dev/full"))
    assert outcome.status == 1, outcome
    assert outcome.err.count(b"\n") == 1, outcome
    assert b"No space left on device" in outcome.err


@pytest.mark.parametrize("words", ["list x.catar", "digest src", "make y.caidx src", "extract x.caidx out"])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(at: Path, words: str, closed: str) -> None:
    """Streams that are closed are no error where none is needed, and files that are opened are not taken for them."""
    done = shell(f"pycasync {words} {closed}", at)
    if ">&-" in closed.split() and words.startswith(("list", "digest")):
        assert done.returncode == 1, done
        assert b"standard output: cannot write" in done.stderr or "2>&-" in closed
        return
    assert (done.returncode, done.stderr) == (0, b"")
    if "make" in words:
        assert (at / "y.caidx").read_bytes() == (at / "x.caidx").read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        "mtree src",
        "stat x.catar",
        "info x.caidx",
        "cat x.caibx",
        "dump x.caibx",
        "--help",
        "list --help",
        "--version",
        "make - src",
        "extract x.caibx -",
    ],
)
def test_output_that_was_due_and_is_closed(at: Path, words: str) -> None:
    """What was asked for and went nowhere is an error in one line."""
    done = shell(f"pycasync {words} >&-", at)
    assert (done.returncode, done.stdout) == (1, b""), done
    assert done.stderr.count(b"\n") == 1, done


@pytest.mark.parametrize(
    "words",
    ["list --what=archive -", "digest --what=archive -", "extract --what=archive - out", "make y.caibx -"],
)
def test_input_that_was_due_and_is_closed(at: Path, words: str) -> None:
    """Closed standard input is an error, not an empty file."""
    done = shell(f"pycasync {words} <&-", at)
    assert (done.returncode, done.stdout) == (1, b""), done
    assert b"standard input: cannot read" in done.stderr
    assert not (at / "y.caibx").exists()


@pytest.mark.parametrize(
    "words", ["list x.catar", "list nothing.catar", "digest x.caidx", "make y.caidx src"]
)
def test_both_streams_are_full(at: Path, words: str) -> None:
    """The status alone tells, and it is that of any failure."""
    done = shell(f"pycasync {words} >/dev/full 2>/dev/full", at)
    assert done.returncode == 1, done


def test_an_error_without_anywhere_to_say_it(at: Path) -> None:
    """With standard error closed the status alone tells."""
    done = shell("pycasync list nowhere 2>&-", at)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_a_pipe_through_and_through(at: Path) -> None:
    """An archive made to a pipe is listed, digested and extracted from it."""
    done = shell(
        "pycasync make - src 2>digest | tee >(pycasync digest --what=archive - >digest2) "
        "| pycasync extract --what=archive - out && sleep 0.5 && cmp digest digest2", at
    )  # fmt: skip
    assert done.returncode == 0, done
    assert works("digest", "out", cwd=at).out == works("digest", "src", cwd=at).out


def test_named_pipes_and_devices_as_outputs(at: Path) -> None:
    """/dev/stdout is standard output, and /dev/null stays what it is."""
    done = shell("pycasync make --what=archive /dev/stdout src | head -c 65 | wc -c", at)
    assert done.stdout.endswith(b"65\n")
    works("make", "--what=archive", "/dev/null", "src", cwd=at)
    assert not os.path.isfile("/dev/null")


def test_nothing_is_drawn_in_a_pipe(at: Path) -> None:
    """Without a terminal, standard error stays empty however long a run takes."""
    for words in ("make y.caidx src", "extract x.caidx out", "digest src", "digest x.caidx"):
        works(*words.split(), cwd=at)


def test_words_that_are_not_text(at: Path) -> None:
    """Names on the command line are bytes: errors show them escaped, in one line."""
    assert fails("list", b"\xff\n\x1b[2J.catar", cwd=at).isprintable()
    assert works("make", b"\xfe.catar", "src", cwd=at).out
    assert works("list", b"\xfe.catar", cwd=at).out
