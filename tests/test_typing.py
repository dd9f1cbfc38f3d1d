"""The library is typed for its users: a program that uses all of it passes mypy's strictest checks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import io
import os
from pathlib import Path

import casync_compat as casync


def show(moment: casync.Progress) -> None:
    print(moment.done, moment.total or 0)


def run(top: Path) -> int:
    options = casync.MakeOptions(sizes=casync.ChunkSizes(1024, 4096, 16384), jobs=2)
    store = casync.MemoryStore()
    made = casync.make(top / "x.caidx", "etc", store=store, options=options, warn=print, progress=show)
    casync.make(b"y.caibx", os.fsencode("disk.img"), store="y.castr")
    done = casync.extract("x.caidx", "copy", store=store, options=casync.ExtractOptions(hardlink=True))
    assert made.index is not None
    total: int = made.size + done.size + made.index.size + len(made.index)
    with casync.open_archive("x.caidx", store=store) as tree:
        for path, node in tree:
            total += len(path) + node.size
        if "hostname" in tree and tree["hostname"].is_regular:
            with tree.open_file(Path("hostname")) as file:
                total += len(file.read())
        names: list[bytes] = tree.listdir()
        total += len(list(tree)) + len(names)
    with casync.open_blob(made.index, store=store) as blob:
        total += len(io.BufferedReader(blob).read(10))
    entries: list[bytes] = [path for path, node in casync.list("x.caidx", store=store)]
    digest: casync.ChunkId = casync.digest("etc")
    text: bytes = casync.cat("x.catar", "hostname") + casync.mtree("x.catar")
    try:
        casync.stat("x.catar", "hostname").digest
    except casync.NotFound as error:
        total += error.errno
    except (casync.FileError, casync.FormatError, casync.StoreError, casync.UsageError) as error:
        print(error)
    layered = casync.Layered(store, casync.LocalStore(b"y.castr"))
    info = casync.info("x.caidx", store=layered)
    removed: int = casync.gc(["x.caidx", made.index], store=store, on_chunk=lambda id: print(id.hex())).removed
    casync.convert_index("x.caidx", "z.caidx", store=store, output_store=store, digest=casync.Digest.BLAKE3)
    index: casync.Index = casync.Index.load("x.caidx")
    return total + len(entries) + len(digest) + len(text) + info.unique + removed + len(index)
"""


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_a_program_of_a_user(tmp_path: Path) -> None:
    """Against the installed package, as strictly as can be."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Success"), done.stdout + done.stderr
