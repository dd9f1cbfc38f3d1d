"""Reports of contents and names: holes, links, names of any bytes, what is left out, what an archive costs."""

from __future__ import annotations

import os
import random
import stat
import subprocess
from pathlib import Path

import pytest
from compare import holes
from reports.trying import restored
from robustness.running import COMMAND, environment, everything, fails, run, start, works

MIB = 1 << 20


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("punch", ["yes", "no"])
def test_rsync_114(tmp_path: Path, punch: str) -> None:
    """A sparse file restored over an older one has zeros where they belong, not what was there before."""
    old = noise(3 * MIB)
    new = bytes(MIB) + noise(4096, 1) + bytes(MIB) + noise(5000, 2) + bytes(300_000)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "git-index").write_bytes(new)
    for target in ("out", "blob"):
        (tmp_path / target).mkdir()
        (tmp_path / target / "git-index").write_bytes(old)
    works("make", "x.caidx", "src", cwd=tmp_path)
    works("make", "x.caibx", "src/git-index", cwd=tmp_path)
    for _ in range(2):
        works("extract", f"--punch-holes={punch}", "x.caidx", "out", cwd=tmp_path)
        works("extract", f"--punch-holes={punch}", "x.caibx", "blob/git-index", cwd=tmp_path)
        assert (tmp_path / "out" / "git-index").read_bytes() == new
        assert (tmp_path / "blob" / "git-index").read_bytes() == new


def test_bup_25(tmp_path: Path) -> None:
    """Files that begin, or end, with a hole are the same after a restore, and take no more room."""
    source = tmp_path / "src"
    source.mkdir()
    for name, size, pieces in (
        ("front", 700_003, [(600_000, b"data")]),
        ("odd", 300_000, [(1, b"x"), (4095, b"yz"), (200_001, b"end")]),
        ("tail", 2 * MIB, [(0, noise(70_000))]),
        ("nothing", 1_000_000, []),
    ):
        with open(source / name, "wb") as file:
            for offset, data in pieces:
                os.pwrite(file.fileno(), data, offset)
            file.truncate(size)
    out = restored(source, tmp_path)
    for path in source.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name
        assert (out / path.name).stat().st_blocks <= path.stat().st_blocks + 16, path.name
    assert holes(out / "nothing") == [(0, 1_000_000)]


def test_restic_836(tmp_path: Path) -> None:
    """Restoring over files that are hard links of each other, or of one outside, changes nothing but those files."""
    for name in ("gunzip", "uncompress", "third"):
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "src" / name).write_bytes(name.encode() * 1000)
    (tmp_path / "out").mkdir()
    (tmp_path / "outside").write_bytes(b"not ours")
    for name in ("gunzip", "uncompress"):
        os.link(tmp_path / "outside", tmp_path / "out" / name)
    works("make", "x.caidx", "src", cwd=tmp_path)
    for _ in range(2):
        works("extract", "x.caidx", "out", cwd=tmp_path)
        assert everything(tmp_path / "out") == everything(tmp_path / "src")
    assert (tmp_path / "outside").read_bytes() == b"not ours"
    assert (tmp_path / "outside").stat().st_nlink == 1


def test_borg_5603(tmp_path: Path) -> None:
    """Each name of a hard-linked file is in the archive with its contents, so that none can dangle."""
    for name in ("a", "b"):
        (tmp_path / "src" / name).mkdir(parents=True)
    (tmp_path / "src" / "a" / "first").write_bytes(b"hi everybody\n")
    os.link(tmp_path / "src" / "a" / "first", tmp_path / "src" / "b" / "second")
    works("make", "x.caidx", "src", cwd=tmp_path)
    works("extract", "x.caidx", "part", "b", cwd=tmp_path)
    assert (tmp_path / "part" / "b" / "second").read_bytes() == b"hi everybody\n"
    works("extract", "x.caidx", "whole", cwd=tmp_path)
    assert everything(tmp_path / "whole") == everything(tmp_path / "src")


ODD = (
    b"kokosnu\xdf.txt",
    b"\xff\xfe",
    b"new\nline",
    b"-rf",
    b"--store=x",
    b" ",
    b"\x1b[31mred",
    b"tab\there",
    b"..a",
    b"#",
)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_borg_8183(tmp_path: Path, locale: str) -> None:
    """Names that are no UTF-8, or look like options, go in and out in every locale; a terminal sees no escape."""
    (tmp_path / "src").mkdir()
    for name in ODD:
        with open(os.path.join(os.fsencode(tmp_path / "src"), name), "wb") as file:
            file.write(name)
    for words in (("make", "-v", "x.caidx", "src"), ("list", "x.caidx"), ("extract", "-v", "x.caidx", "out")):
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=tmp_path,
            env={**environment(), "LC_ALL": locale},
            capture_output=True,
            check=True,
        )
        assert b"\x1b" not in done.stdout + done.stderr
        assert b"Traceback" not in done.stderr
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted(ODD)
    assert everything(tmp_path / "out") == everything(tmp_path / "src")


def test_borg_5222(tmp_path: Path) -> None:
    """An archive that was made where names are Latin-1 is listed and extracted where they are UTF-8."""
    name = "señor/größe".encode("latin-1")
    at = os.path.join(os.fsencode(tmp_path / "src"), name)
    os.makedirs(os.path.dirname(at))
    with open(at, "wb") as file:
        file.write(b"old")
    environ = {**environment(), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run(
        [*COMMAND, "make", "x.catar", "src"], cwd=tmp_path, env=environ, check=True, capture_output=True
    )
    assert len(works("list", "x.catar", cwd=tmp_path).out.splitlines()) == 3
    works("extract", "x.catar", "out", cwd=tmp_path)
    assert everything(tmp_path / "out") == everything(tmp_path / "src")


def test_backintime_1112(tmp_path: Path) -> None:
    """Names of 255 bytes leave no room for a temporary suffix, and come back all the same, also over old ones."""
    source = tmp_path / "src"
    source.mkdir()
    names = ["ю" * 127 + "x", "f" * 255, "€" * 85]
    for name in names:
        assert len(os.fsencode(name)) == 255
        (source / name).write_bytes(name.encode())
        (source / f"d{name[1:]}"[:250]).mkdir(exist_ok=True)
    (source / ("l" * 255)).symlink_to("target")
    works("make", "x.caidx", "src", cwd=tmp_path)
    for _ in range(2):
        works("extract", "x.caidx", "out", cwd=tmp_path)
        assert everything(tmp_path / "out") == everything(source)
        (tmp_path / "out" / names[0]).write_bytes(b"changed")
        (tmp_path / "out" / ("l" * 255)).unlink()
        (tmp_path / "out" / ("l" * 255)).write_bytes(b"in the way")
    works("extract", "x.caidx", "out", cwd=tmp_path)
    assert everything(tmp_path / "out") == everything(source)


def test_borg_6037(tmp_path: Path) -> None:
    """A part of an archive that lies after fifos and links is extracted, and nothing waits for a writer."""
    source = tmp_path / "src"
    for name in ("aa/data", "zz/data"):
        (source / name).mkdir(parents=True)
        os.mkfifo(source / name / "fifo", 0o600)
        (source / name / "file").write_bytes(name.encode())
        (source / name / "link").symlink_to("file")
    works("make", "x.caidx", "src", cwd=tmp_path)
    works("extract", "x.caidx", "part", "zz/data", cwd=tmp_path)
    assert everything(tmp_path / "part" / "data") == everything(source / "zz" / "data")
    assert stat.S_ISFIFO((tmp_path / "part" / "data" / "fifo").lstat().st_mode)


def test_restic_499(tmp_path: Path) -> None:
    """A rule with a slash at its end leaves out the directory it names, and everything that is in it."""
    source = tmp_path / "src"
    for name in ("cache", "keep", "keep/cache"):
        (source / name).mkdir(parents=True)
        (source / name / "file").write_bytes(name.encode())
    (source / ".caexclude").write_bytes(b"cache/\n# a comment\n\n*.tmp\n")
    (source / "keep" / "x.tmp").write_bytes(b"gone")
    out = restored(source, tmp_path, kept="2 by .caexclude")
    left = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    assert left == [".caexclude", "keep", "keep/cache", "keep/cache/file", "keep/file"]


def test_restic_1178(tmp_path: Path) -> None:
    """A rule for what is in a directory keeps the directory itself, empty."""
    source = tmp_path / "src"
    for name in ("proc/1", "dev/pts"):
        (source / name).mkdir(parents=True)
        (source / name / "x").write_bytes(b"")
    (source / "proc" / ".hidden").write_bytes(b"")
    os.chmod(source / "proc", 0o555)
    (source / ".caexclude").write_bytes(b"proc/*\ndev/*\n")
    out = restored(source, tmp_path, kept="2 by .caexclude")
    os.chmod(source / "proc", 0o755)
    left = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    assert [name for name in left if name != "proc/.hidden"] == [".caexclude", "dev", "proc"]
    assert stat.S_IMODE((out / "proc").stat().st_mode) == 0o555


def test_dietpi_2366(tmp_path: Path) -> None:
    """An archive that is kept inside the directory it is made of does not archive itself, nor its chunks."""
    source = tmp_path / "home"
    (source / "backup").mkdir(parents=True)
    (source / "file").write_bytes(noise(200_000))
    listings = set()
    for _ in range(3):
        works("make", "backup/home.caidx", ".", cwd=source)
        listings.add(works("list", "backup/home.caidx", cwd=source).out)
    assert [line.split()[-1] for line in listings.pop().splitlines()] == [b".", b"backup", b"file"]
    assert listings == set()
    works("extract", source / "backup" / "home.caidx", "out", cwd=tmp_path)
    assert (tmp_path / "out" / "file").read_bytes() == noise(200_000)
    assert list((tmp_path / "out" / "backup").iterdir()) == []


def test_rauc_511(tmp_path: Path) -> None:
    """A running system is a seed although chunks lie in it; the restored system has none of them."""
    slot = tmp_path / "slot"
    (slot / "usr").mkdir(parents=True)
    for number in range(8):
        (slot / "usr" / f"lib{number}").write_bytes(noise(200_000, number))
    works("make", "new.caidx", "slot", cwd=tmp_path)
    store = slot / "var" / "tmp" / "cache.castr"
    store.parent.mkdir(parents=True)
    works("make", f"--store={store}", "old.caidx", slot / "usr", cwd=tmp_path)
    outcome = works("extract", "--json", f"--seed={slot}", "new.caidx", "out", cwd=tmp_path)
    assert b'"from_seeds": 0' not in outcome.out
    assert not (tmp_path / "out" / "var").exists()
    assert (tmp_path / "out" / "usr" / "lib7").read_bytes() == noise(200_000, 7)
    assert len(list(store.rglob("*.cacnk"))) > 8


def test_desync_123(tmp_path: Path) -> None:
    """A directory, its archive and its index give the same mtree listing, and one changed byte shows in it."""
    source = tmp_path / "src"
    (source / "d").mkdir(parents=True)
    for name in ("one", "d/two"):
        (source / name).write_bytes(name.encode())
    works("make", "x.caidx", "src", cwd=tmp_path)
    works("make", "x.catar", "src", cwd=tmp_path)
    listings = {works("mtree", what, cwd=tmp_path).out for what in ("src", "x.caidx", "x.catar")}
    assert len(listings) == 1
    before = (source / "d" / "two").stat()
    (source / "d" / "two").write_bytes(b"d/twO")
    os.utime(source / "d" / "two", ns=(0, before.st_mtime_ns))
    changed = works("mtree", "src", cwd=tmp_path).out
    assert len(set(changed.splitlines()) ^ set(listings.pop().splitlines())) == 2


def test_restic_1453(tmp_path: Path) -> None:
    """Ten times the data take the memory of the data once."""
    peaks = []
    for size in (8, 80):
        with open(tmp_path / f"{size}.img", "wb") as file:
            for number in range(size):
                file.write(noise(4096, number) * 256)
        made = run("make", "--jobs=2", f"{size}.caibx", f"{size}.img", cwd=tmp_path)
        read = run("extract", "--jobs=2", f"{size}.caibx", f"{size}.out", cwd=tmp_path)
        assert made.status == read.status == 0
        peaks.append((made.peak, read.peak))
        (tmp_path / f"{size}.img").unlink()
        (tmp_path / f"{size}.out").unlink()
    for small, large in zip(*peaks, strict=True):
        assert large < small + 40 * MIB


def test_casync_250(tmp_path: Path) -> None:
    """What is not there is named: the index, the directory of the output, the chunk and the store it should be in."""
    (tmp_path / "f").write_bytes(b"x")
    works("make", "f.caibx", "f", cwd=tmp_path)
    assert "update.caibx" in fails("extract", "update.caibx", "out", cwd=tmp_path)
    assert "no/such/dir" in fails("extract", "f.caibx", "no/such/dir/out", cwd=tmp_path)
    chunk = next((tmp_path / "default.castr").rglob("*.cacnk"))
    chunk.unlink()
    line = fails("extract", "f.caibx", "out", cwd=tmp_path)
    assert chunk.stem in line
    assert "default.castr" in line
    assert not (tmp_path / "out").exists()


def test_borg_1116(tmp_path: Path) -> None:
    """A reader that has enough, such as head, ends a listing without a word; the status tells that it was not whole."""
    (tmp_path / "src").mkdir()
    for number in range(4000):
        (tmp_path / "src" / f"{number:0100}").touch()
    works("make", "x.catar", "src", cwd=tmp_path)
    for words in (("list", "x.catar"), ("mtree", "x.catar"), ("dump", "x.catar")):
        process = start(*words, cwd=tmp_path)
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1  # not everything was written
