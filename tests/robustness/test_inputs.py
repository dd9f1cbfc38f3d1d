"""Inputs that are no files, or are no end of files: a clear answer soon, in little memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .running import COMMAND, build_tree, environment, everything, fails, run, works

LIMIT = 150 << 20
"""Bytes that a run may have, who looks at a header and goes."""

INDEX_VERBS = (
    "list --what=archive-index {}", "mtree --what=archive-index {}", "digest --what=archive-index {}",
    "stat --what=archive-index {} .", "extract --what=archive-index {} out", "extract --what=blob-index {} out",
    "cat --what=archive-index {} a", "info {}", "verify {}", "convert-index --what=archive-index {} z.caidx", "gc {}",
)  # fmt: skip
STREAM_VERBS = (
    *(verb for verb in INDEX_VERBS if not verb.startswith("gc ")),
    "list --what=archive {}", "mtree --what=archive {}", "digest --what=archive {}", "digest {}",
    "extract --what=archive {} out", "dump {}", "make y.caibx {}",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree, an archive and indexes of it."""
    here = tmp_path_factory.mktemp("inputs")
    build_tree(here / "src", files=3)
    works("make", "x.caidx", "src", cwd=here)
    works("make", "x.catar", "src", cwd=here)
    works("make", "x.caibx", "x.catar", cwd=here)
    return here


@pytest.fixture
def at(made: Path, tmp_path: Path) -> Path:
    """A directory for a run, with those in it."""
    shutil.copytree(made, tmp_path / "here", symlinks=True)
    return tmp_path / "here"


@pytest.mark.parametrize("verb", INDEX_VERBS)
@pytest.mark.parametrize("behind", ["nothing", "header", "rows"])
def test_an_endless_index(at: Path, verb: str, behind: str) -> None:
    """A device, or 900 MB of a file, is refused at the first byte that is wrong."""
    right = (at / "x.caidx").read_bytes()
    keep = {"nothing": 0, "header": 64, "rows": len(right) - 40}[behind]
    with open(at / "huge.caidx", "wb") as file:
        file.write(right[:keep])
        file.truncate(900_000_000 // 40 * 40 + 24)
    names = ["huge.caidx"] if behind != "nothing" else ["huge.caidx", "/dev/zero"]
    for name in names:
        line = fails(*verb.format(name).split(), cwd=at, memory=LIMIT)
        assert "index" in line or "chunk" in line


@pytest.mark.parametrize("verb", [v for v in INDEX_VERBS if not v.startswith(("gc", "stat", "cat"))])
@pytest.mark.parametrize("behind", [0, 64])
def test_an_endless_index_from_a_pipe(at: Path, verb: str, behind: int) -> None:
    """The same where nobody knows the size."""
    words = verb.format("-").split()
    with subprocess.Popen(
        ["sh", "-c", f"head -c {behind} x.caidx; exec cat /dev/zero"], cwd=at, stdout=subprocess.PIPE
    ) as feeder:
        done = subprocess.run(
            (*COMMAND, *words),
            cwd=at,
            stdin=feeder.stdout,
            env=environment(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        feeder.kill()
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1, done.stderr
    assert b"internal error" not in done.stderr


def test_a_large_index_that_is_right(at: Path) -> None:
    """What is one is taken, in little more memory than its table has bytes."""
    import hashlib

    from casync_compat.chunker import ChunkSizes
    from casync_compat.ids import ChunkId
    from casync_compat.index import IndexBuilder

    id_ = ChunkId(hashlib.sha512(b"x").digest()[:32])
    builder = IndexBuilder(0xB000000000000000, ChunkSizes(64, 256, 1024))
    for _ in range(2_000_000):
        builder.append(id_, 1000)
    (at / "large.caibx").write_bytes(builder.build().to_bytes())
    small = works("info", "x.caibx", cwd=at).peak
    assert works("info", "--json", "large.caibx", cwd=at).peak < small + 80_000_000 * 2


@pytest.mark.parametrize("verb", STREAM_VERBS)
@pytest.mark.parametrize("what", ["/", "/dev/null"])
def test_standard_input_that_is_no_stream(at: Path, verb: str, what: str) -> None:
    """A directory, or nothing at all, is an error in one line; nothing is a blob of no bytes."""
    outcome = run(*verb.format("-").split(), cwd=at, stdin=Path(what))
    assert b"internal error" not in outcome.err, outcome
    if what == "/dev/null" and verb.startswith(("make", "digest {}")):
        assert outcome.status == 0, outcome
    else:
        assert outcome.status == 1, outcome
        assert outcome.err.count(b"\n") == 1, outcome


def test_extract_in_a_pipe_without_an_output(at: Path, tmp_path: Path) -> None:
    """The current directory is meant, which is taken when it is empty."""
    (tmp_path / "empty").mkdir()
    for words in (("extract",), ("extract", "-")):
        outcome = run(*words, cwd=at, stdin=at / "x.catar")
        assert outcome.status == 1, outcome
        assert outcome.err.count(b"\n") == 1, outcome
        shutil.rmtree(tmp_path / "empty")
        (tmp_path / "empty").mkdir()
        outcome = run(*words, cwd=tmp_path / "empty", stdin=at / "x.catar")
        assert outcome.status == 0, outcome
        assert everything(tmp_path / "empty") == everything(at / "src")


def test_a_fifo_as_cache_file(at: Path) -> None:
    """Nobody waits for what nobody writes."""
    works("make", "y.caidx", "src", "--cache=cache", cwd=at)
    (file,) = (at / "cache").iterdir()
    file.unlink()
    os.mkfifo(file)
    line = fails("make", "y.caidx", "src", "--cache=cache", cwd=at)
    assert line == f"cache/{file.name}: cannot use as a cache: it is not a regular file"
