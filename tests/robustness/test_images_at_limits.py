"""Verbs of images with few descriptors, little memory, no threads, full or closed outputs, or told to end."""

from __future__ import annotations

import io
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from test_oci.images import build, layer, layout_at, noise

from casync_compat.oci.convert import ConvertOptions, convert

from .mutants import fresh
from .running import environment, everything, run, start, works
from .test_signals import wait_for
from .test_streams import shell

VERBS = (
    "convert oci:lay:plain oci:new:x", "convert --thin oci:lay:plain oci:new:x",
    "convert --thin --squash oci:lay:plain oci:new:x", "convert --thin --store=new.castr oci:lay:plain oci:new:x",
    "export oci:lay:x oci:new:x", "export oci:lay:x docker-archive:new.tar:a:b", "push oci:lay:x oci:new:x",
    "pull oci:lay:x oci:new:x", "pull --store=new.castr oci:lay:x oci:new:x", "ls oci:lay:x", "ls --json oci:lay:plain",
    "cat oci:lay:x etc/file", "inspect oci:lay:x", "inspect --json oci:lay:x", "verify oci:lay:x",
    "verify oci:lay:plain", "stats oci:lay:x", "unpack oci:lay:x new", "unpack --json oci:lay:plain new",
    "checkout oci:lay:x new --file-store=new.files", "checkout --link=copy oci:lay:x new --file-store=new.files",
    "repack oci:copy:x", "gc oci:copy", "gc --dry-run oci:copy",
)  # fmt: skip
LIMITS = [
    *((resource.RLIMIT_NOFILE, most) for most in (4, 7, 16)),
    *((resource.RLIMIT_FSIZE, most) for most in (0, 4096)),
    *((resource.RLIMIT_AS, most << 20) for most in (2, 40)),
]
NEW = ("new", "new.castr", "new.files", "new.tar", "copy")


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image, plain and converted."""
    here = tmp_path_factory.mktemp("image-limits") / "here"
    here.mkdir()
    layers = [
        layer({"etc": None, "etc/file": noise(50_000)}),
        layer({"etc/more": noise(20_000, 2), "usr": None}),
    ]
    with layout_at(here / "lay") as layout:
        build(layout, "plain", layers)
        convert(layout, "plain", layout, "x", ConvertOptions(thin=True))
    return here


def renew(at: Path) -> None:
    for name in (*NEW, *map(str, at.glob(".#*"))):
        fresh(at / name)
    shutil.copytree(at / "lay", at / "copy")


def leftovers(at: Path) -> list[str]:
    """What no run may leave that ended by itself."""
    temporary = [str(path) for path in at.rglob("*") if path.name.startswith((".#", ".pycasync-"))]
    return [*temporary, *map(str, at.glob("new.files/tmp/*")), *map(str, at.glob("new.castr/.pycasync/**/*"))]


def is_right(at: Path, words: str) -> bool:
    """Whether what a run says that it made is there."""
    if "oci:new" in words and "--store" not in words:
        return run("oci", "verify", "oci:new:x", cwd=at).status == 0
    if "--squash" not in words and ("unpack" in words or "checkout" in words):
        root = at / "new" / ("rootfs" if "unpack" in words else "")
        return (root / "etc" / "file").read_bytes() == noise(50_000)
    return run("oci", "verify", "oci:copy:x", cwd=at).status == 0


@pytest.mark.parametrize(("which", "most"), LIMITS)
def test_limits(at: Path, which: int, most: int) -> None:
    """Every verb works, or says why it cannot; what was there stays, and nothing half-made looks whole."""
    before = everything(at / "lay")
    for words in VERBS:
        renew(at)
        outcome = run("oci", *words.split(), cwd=at, limits=[(which, most)])
        if which == resource.RLIMIT_FSIZE and not outcome.err and outcome.status == 1:
            continue  # the file that takes what it says has that limit, too
        text = outcome.err.decode()
        assert outcome.status in (0, 1, 3), outcome
        assert not any(word in text for word in ("internal error", "Traceback")), outcome
        if outcome.status == 1:
            assert text.splitlines()[-1].startswith("pycasync: ") or words.startswith("verify"), outcome
        else:
            assert is_right(at, words), outcome
        assert leftovers(at) == [], outcome
    assert everything(at / "lay") == before
    renew(at)


WRITES = (
    "convert",
    "export",
    "push",
    "pull",
    "ls",
    "cat",
    "inspect",
    "verify",
    "stats",
    "unpack --json",
    "repack",
)


@pytest.mark.parametrize("words", [words for words in VERBS if words.startswith(WRITES)])
def test_a_full_disk_behind_standard_output(at: Path, words: str) -> None:
    """Output that cannot be written is an error in one line, if there is any."""
    renew(at)
    heard = run("oci", *words.split(), cwd=at).out
    renew(at)
    outcome = run("oci", *words.split(), cwd=at, stdout=Path("/dev/full"))
    assert outcome.status == (1 if heard else 0), outcome
    assert b"internal error" not in outcome.err
    assert not heard or b"No space left on device" in outcome.err.splitlines()[-1]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(at: Path, closed: str) -> None:
    """Files that are opened are not taken for streams that are closed; what cannot be said is no internal error."""
    for words in VERBS[::3]:
        renew(at)
        heard = bool(run("oci", *words.split(), cwd=at).out)
        renew(at)
        done = shell(f"pycasync oci {words} {closed}", at)
        lost = heard and ">&-" in closed.split()
        assert done.returncode == (1 if lost else 0), (words, done)
        assert b"internal error" not in done.stderr
        if done.returncode == 0:
            assert is_right(at, words)


@pytest.mark.parametrize("words", ["ls oci:lay:x", "cat oci:lay:x etc/file", "inspect --json oci:lay:x"])
def test_a_reader_that_leaves(at: Path, words: str) -> None:
    """It is not told of, and costs no more than the status."""
    done = shell(f"pycasync oci {words} | true; echo ${{PIPESTATUS[0]}}", at)
    assert (done.stdout in (b"0\n", b"1\n"), done.stderr) == (True, b"")


NO_THREADS = (
    "import itertools, sys, threading\n"
    "start, number = threading._start_new_thread, itertools.count()\n"
    "def limited(*arguments):\n"
    "    if next(number) >= int(sys.argv[1]):\n"
    '        raise RuntimeError("can\'t start new thread")\n'
    "    return start(*arguments)\n"
    "threading._start_new_thread = limited\n"
    "from casync_compat.cli import main\n"
    "sys.exit(main(sys.argv[2:]))\n"
)


@pytest.mark.parametrize("most", [0, 1])
def test_no_thread_to_be_had(at: Path, most: int) -> None:
    """Where no thread can be started, or only one, the work is done without."""
    for words in VERBS:
        renew(at)
        command = [sys.executable, "-c", NO_THREADS, str(most), "oci", *words.split()]
        done = subprocess.run(
            command,
            cwd=at,
            env=environment(),
            capture_output=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, (words, done)
        assert is_right(at, words)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image that takes a while, plain and converted."""
    here = tmp_path_factory.mktemp("image-signals") / "here"
    here.mkdir()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(3000):
            member = tarfile.TarInfo(f"d{number % 70}/f{number}")
            member.size = 9000
            tar.addfile(member, io.BytesIO(noise(9000, number)))
    with layout_at(here / "lay") as layout:
        build(layout, "plain", [out.getvalue()])
    works("oci", "convert", "--thin", "oci:lay:plain", "oci:lay:x", cwd=here)
    return here


def has_begun(process: subprocess.Popen[bytes]) -> bool:
    """Whether the interpreter has started, and our code catches signals; before that it does as it likes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


@pytest.mark.parametrize("words", [words for words in VERBS if "etc/file" not in words])
def test_told_to_end(large: Path, words: str) -> None:
    """At whatever moment: soon, with one line, and nothing half-made is left or looks whole."""
    before = everything(large / "lay")
    for moment, number in ((0.0, signal.SIGINT), (0.2, signal.SIGTERM), (0.5, signal.SIGHUP)):
        renew(large)
        process = start("oci", *words.split(), cwd=large)
        wait_for(lambda process=process: has_begun(process), process)  # type: ignore[misc]
        time.sleep(moment)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert process.returncode in (0, -number), (out, err)
        assert b"internal error" not in err
        assert b"Traceback" not in err
        if process.returncode:
            assert b"Got exit signal, quitting." in err.splitlines()[-1]
        assert leftovers(large) == []
        made = large / "new"
        assert not made.is_dir() or (made / "oci-layout").exists() or "checkout" in words or "unpack" in words
    assert everything(large / "lay") == before
    works("oci", "verify", "oci:lay:x", cwd=large)
