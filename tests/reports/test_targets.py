"""Reports of what happened to the target: deleted, overwritten, written through a link, or refused without need."""

from __future__ import annotations

import os
import random
import stat
import subprocess
from pathlib import Path

import inodes
import pytest
from archives import END
from filesystems import FileSystems, lacking
from grounds import Grounds
from reports.trying import archive_of, complete, file, said, top
from robustness.running import everything, fails, run, temporary_files, works

from catar import Node
from catar.encoder import Encoder
from catar.flags import DEFAULT


def test_rsyncosx_1397(tmp_path: Path) -> None:
    """An empty archive over a full directory is not extracted by accident, and deletion is announced."""
    (tmp_path / "empty").mkdir()
    works("make", tmp_path / "x.caidx", "empty", cwd=tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    names = ("thesis", "photos", "mail", "taxes")
    for name in names:
        (work / name).write_bytes(b"precious")
    fails("extract", tmp_path / "x.caidx", cwd=work)
    assert len(list(work.iterdir())) == 4
    works("extract", "--delete=no", tmp_path / "x.caidx", ".", cwd=work)
    assert len(list(work.iterdir())) == 4
    outcome = run("extract", tmp_path / "x.caidx", ".", cwd=work)
    assert outcome.status == 0
    assert "4 entries" in said(outcome)
    assert sum(name in said(outcome) for name in names) == 3
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("where", ["copy", "copy/deep"])
def test_nextcloud_aio_6607(tmp_path: Path, where: str) -> None:
    """What an extraction reads from, below the directory it writes to, is there when it is done."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "file").write_bytes(b"data" * 5000)
    at = tmp_path / where
    at.mkdir(parents=True)
    works("make", at / "x.caidx", "src", cwd=tmp_path)
    (tmp_path / "copy" / "stray").write_bytes(b"goes")
    for _ in range(2):
        complete("extract", at / "x.caidx", tmp_path / "copy", cwd=tmp_path)
        assert (tmp_path / "copy" / "file").read_bytes() == b"data" * 5000
        assert not (tmp_path / "copy" / "stray").exists()
        works("verify", at / "x.caidx", cwd=tmp_path)


@pytest.mark.root
def test_breeze_5582(tmp_path: Path, ground: Grounds) -> None:
    """Of names that differ in case only the first stays, both are told, and all other files are there."""
    tree = tmp_path / "tree"
    headers = tree / "netfilter"
    headers.mkdir(parents=True)
    pairs = (("xt_CONNMARK.h", "xt_connmark.h"), ("xt_DSCP.h", "xt_dscp.h"))
    for pair in pairs:
        for name in pair:
            (headers / name).write_text(f"this is {name}")
    (headers / "xt_other.h").write_text("alone")
    works("make", tmp_path / "x.caidx", tree, cwd=tmp_path)
    target = ground("target", "nocase") / "out"
    for _ in range(2):
        outcome = run("extract", tmp_path / "x.caidx", target, cwd=tmp_path)
        assert outcome.status == 1
        for one, other in pairs:
            assert (target / "netfilter" / one).read_text() == f"this is {one}"
            assert f"/{one} and " in said(outcome)
            assert f"/{other} are" in said(outcome)
        assert (target / "netfilter" / "xt_other.h").read_text() == "alone"
        assert len(os.listdir(target / "netfilter")) == 3


@pytest.mark.parametrize("there", [False, True])
def test_s3_pit_restore_37(tmp_path: Path, there: bool) -> None:
    """A preview says all that would be done, and does none of it."""
    tree, out = tmp_path / "tree", tmp_path / "out"
    (tree / "some" / "deep" / "place").mkdir(parents=True)
    (tree / "some" / "file").write_text("new")
    works("make", tmp_path / "x.caidx", tree, cwd=tmp_path)
    if there:
        (out / "some" / "old").mkdir(parents=True)
        (out / "some" / "file").write_text("older")
    before = everything(tmp_path)
    outcome = run("extract", "-n", "x.caidx", "out", cwd=tmp_path)
    assert outcome.status == 0
    assert everything(tmp_path) == before
    lines = outcome.out.decode().splitlines()
    assert "Would create some/deep/place/" in lines
    assert ("Would change some/file" if there else "Would create some/file") in lines
    assert ("Would delete some/old/" in lines) == there


@pytest.mark.root
def test_casync_181(tmp_path: Path) -> None:
    """An image goes back to the very device that it was made of, whatever happened to the device meanwhile."""
    content = random.Random(1).randbytes(1 << 20) + bytes(1 << 20)
    (tmp_path / "disk").write_bytes(content)
    made = subprocess.run(
        ["losetup", "--find", "--show", str(tmp_path / "disk")], check=False, capture_output=True, text=True
    )
    if made.returncode:
        lacking(f"losetup: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        works("make", "disk.caibx", device, cwd=tmp_path)
        for damage in (b"", b"garbage" * 3000, content[4096:]):
            with open(device, "r+b") as disk:
                disk.write(damage)
            works("extract", "disk.caibx", device, cwd=tmp_path)
            works("verify", "disk.caibx", device, cwd=tmp_path)
            assert Path(device).read_bytes() == content
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_libarchive_1470(tmp_path: Path) -> None:
    """Directories that their owner may not write to, and files nobody may read, are filled before they are closed."""
    source = tmp_path / "src"
    (source / "master" / "deep").mkdir(parents=True)
    for name in ("master/rules", "master/deep/file"):
        (source / name).write_bytes(name.encode())
    os.link(source / "master" / "rules", source / "rules")
    os.chmod(source / "master" / "rules", 0o444)
    for name, bits in (("master/deep", 0o555), ("master", 0o555)):
        os.chmod(source / name, bits)
    try:
        works("make", "x.caidx", "src", cwd=tmp_path)
        for _ in range(2):
            works("extract", "x.caidx", "out", cwd=tmp_path)
            assert everything(tmp_path / "out") == everything(source)
    finally:
        for at in (source, tmp_path / "out"):
            for name in ("master", "master/deep"):
                os.chmod(at / name, 0o755)


@pytest.mark.root
def test_libarchive_482(filesystems: FileSystems, tmp_path: Path) -> None:
    """A target with another file system mounted in it is restored on both, and the mount point stays."""
    filesystems.directory("tmpfs")
    (tmp_path / "src" / "home" / "user").mkdir(parents=True)
    (tmp_path / "src" / "rescue").write_bytes(b"tool")
    os.link(tmp_path / "src" / "rescue", tmp_path / "src" / "home" / "user" / "rescue")
    works("make", "x.caidx", "src", cwd=tmp_path)
    for name in ("home", "data"):
        at = tmp_path / "out" / name
        at.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", str(at)], check=True)
    (tmp_path / "out" / "data" / "kept").write_bytes(b"not in the archive")
    try:
        line = complete("extract", "x.caidx", "out", "--seed=src", "--hardlink=yes", cwd=tmp_path)
        assert "data" in line
        for name in ("rescue", "home/user/rescue"):
            assert (tmp_path / "out" / name).read_bytes() == b"tool"
        assert (tmp_path / "out" / "data" / "kept").read_bytes() == b"not in the archive"
        assert os.path.ismount(tmp_path / "out" / "home")
    finally:
        for name in ("home", "data"):
            subprocess.run(["umount", "--lazy", str(tmp_path / "out" / name)], check=True)


def unchecked(*nodes: Node) -> bytes:
    """An archive of links and files, whatever their names."""
    encoder = Encoder(DEFAULT)
    return b"".join(encoder.begin(node) for node in (top(), *nodes)) + encoder.end_directory()


def test_libarchive_745(tmp_path: Path) -> None:
    """A link in the archive or in the target leads nowhere: what it points to keeps mode, time and contents."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "file").write_bytes(b"untouched")
    before = (everything(outside), outside.stat().st_mode, outside.stat().st_mtime_ns)
    (tmp_path / "src" / "aaa" / "bbb").mkdir(parents=True)
    (tmp_path / "src" / "aaa" / "bbb" / "file").write_bytes(b"ours")
    os.chmod(tmp_path / "src" / "aaa", 0o777)
    works("make", "x.caidx", "src", cwd=tmp_path)
    for name in ("aaa", "aaa/bbb"):
        target = tmp_path / name.replace("/", "-")
        (target / name).parent.mkdir(parents=True)
        (target / name).symlink_to(outside)
        for options in ([], ["--delete=no"]):
            run("extract", *options, "x.caidx", target, cwd=tmp_path)
            assert (everything(outside), outside.stat().st_mode, outside.stat().st_mtime_ns) == before
        assert (target / "aaa" / "bbb" / "file").read_bytes() == b"ours"
        assert not (target / "aaa").is_symlink()


def test_libarchive_746(tmp_path: Path) -> None:
    """An archive whose names lead out of the target is refused, and nothing is written outside."""
    good = file(b"good")
    (tmp_path / "in").mkdir()
    for name in (b"..", b"../up", b"a/b", b".", b"", b"/etc/x"):
        node = file(b"x" * max(len(name), 1))
        archive_of(tmp_path / "x.catar", [top(), good, node, END])
        data = (tmp_path / "x.catar").read_bytes()
        record = b"x" * max(len(name), 1) + b"\0"
        assert data.count(record) == 1
        if name:
            (tmp_path / "x.catar").write_bytes(data.replace(record, name + b"\0"))
        else:
            (tmp_path / "x.catar").write_bytes(data.replace(record, b"\0\0"))
        fails("extract", "x.catar", "in/out", cwd=tmp_path)
        assert set(os.listdir(tmp_path / "in")) <= {"out"}
        assert not (tmp_path / "up").exists()
        assert set(os.listdir(tmp_path / "in" / "out") if (tmp_path / "in" / "out").exists() else []) <= {
            "good"
        }


def test_libarchive_661(tmp_path: Path) -> None:
    """An archive that has a name twice is refused; it removes and replaces nothing of that name."""
    link = Node(b"file", stat.S_IFLNK | 0o777, uid=os.geteuid(), gid=os.getegid(), target=b"file")
    data = unchecked(Node(b"fild", link.mode, uid=link.uid, gid=link.gid, target=b"file"), link)
    (tmp_path / "x.catar").write_bytes(data.replace(b"fild\0", b"file\0", 1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_bytes(b"precious")
    fails("extract", "x.catar", "out", "--delete=no", cwd=tmp_path)
    assert len(os.listdir(tmp_path / "out")) == 1
    assert temporary_files(tmp_path) == []


@pytest.mark.root
def test_qubes_8867(tmp_path: Path) -> None:
    """Files that nothing may change are archived like others, and replaced where that was asked for."""

    (tmp_path / "src").mkdir()
    for name in ("icons", "icons-2"):
        (tmp_path / "src" / name).write_bytes(b"positions")
    inodes.set_flags(tmp_path / "src" / "icons", inodes.IMMUTABLE)
    try:
        works("make", "x.caidx", "src", cwd=tmp_path)
        works("extract", "x.caidx", "out", cwd=tmp_path)
        inodes.set_flags(tmp_path / "out" / "icons", drop=inodes.IMMUTABLE)
        (tmp_path / "out" / "icons").write_bytes(b"changed")
        inodes.set_flags(tmp_path / "out" / "icons", inodes.IMMUTABLE)
        line = fails("extract", "x.caidx", "out", cwd=tmp_path)
        assert "icons" in line
        works("extract", "--undo-immutable=yes", "x.caidx", "out", cwd=tmp_path)
        assert (tmp_path / "out" / "icons").read_bytes() == b"positions"
        assert inodes.flags(tmp_path / "out" / "icons") & inodes.IMMUTABLE
    finally:
        for at in ("src", "out"):
            inodes.set_flags(tmp_path / at / "icons", drop=inodes.IMMUTABLE)


@pytest.mark.root
def test_backup_utils_241(ground: Grounds, tmp_path: Path) -> None:
    """Names that differ in case alone are not merged silently where they are one: told, and status 1."""
    folding = ground("folding", "nocase")
    (tmp_path / "src" / "Pages").mkdir(parents=True)
    (tmp_path / "src" / "Pages" / "index").write_bytes(b"a directory")
    (tmp_path / "src" / "README").write_bytes(b"upper")
    (tmp_path / "src" / "readme").write_bytes(b"lower")
    (tmp_path / "src" / "other").write_bytes(b"whole")
    works("make", "x.caidx", "src", cwd=tmp_path)
    outcome = run("extract", "x.caidx", folding / "out", cwd=tmp_path)
    assert outcome.status == 1, outcome
    assert "readme" in said(outcome)
    left = {path.name: path.read_bytes() for path in (folding / "out").iterdir() if path.is_file()}
    assert left.get("README", left.get("readme")) in (b"upper", b"lower")
    assert left["other"] == b"whole"
    assert (folding / "out" / "Pages" / "index").read_bytes() == b"a directory"


def test_desync_269(tmp_path: Path) -> None:
    """Files that are as the archive has them are not written again: inode and change time stay."""
    (tmp_path / "src" / "d").mkdir(parents=True)
    for number in range(6):
        (tmp_path / "src" / "d" / f"f{number}").write_bytes(b"%d" % number * 3000)
    works("make", "x.caidx", "src", cwd=tmp_path)
    works("extract", "x.caidx", "out", cwd=tmp_path)

    def state() -> dict[str, tuple[int, int]]:
        found = {path.name: path.stat() for path in (tmp_path / "out" / "d").iterdir()}
        return {name: (status.st_ino, status.st_ctime_ns) for name, status in found.items()}

    before = state()
    works("extract", "x.caidx", "out", cwd=tmp_path)
    assert state() == before
    (tmp_path / "out" / "d" / "f3").write_bytes(b"changed")
    works("extract", "x.caidx", "out", cwd=tmp_path)
    after = state()
    assert {name for name in before if after[name] != before[name]} == {"f3"}
    assert (tmp_path / "out" / "d" / "f3").read_bytes() == b"3" * 3000


def test_rsyncwrapper_9(tmp_path: Path) -> None:
    """What the target leaves out of archives is not deleted by a restore in place."""
    source = tmp_path / "site"
    (source / "node_modules").mkdir(parents=True)
    (source / "node_modules" / "big").write_bytes(b"built here")
    (source / ".caexclude").write_bytes(b"node_modules\n")
    (source / "index.html").write_bytes(b"one")
    assert "1 by .caexclude" in complete("make", "x.caidx", "site", cwd=tmp_path)
    (source / "index.html").write_bytes(b"two")
    (source / "stray").write_bytes(b"goes")
    complete("extract", "x.caidx", "site", cwd=tmp_path)
    assert (source / "node_modules" / "big").read_bytes() == b"built here"
    assert (source / "index.html").read_bytes() == b"one"
    assert not (source / "stray").exists()


@pytest.mark.root
def test_borg_3160(ground: Grounds, tmp_path: Path) -> None:
    """Files whose flag keeps them out of archives are counted, come along when asked for, and survive a restore."""
    source = ground("source", "ext4")
    for name in ("scratch", "file"):
        (source / name).write_bytes(name.encode())
    inodes.set_flags(source / "scratch", inodes.NODUMP)
    assert "1 by the nodump flag" in complete("make", tmp_path / "x.caidx", source, cwd=tmp_path)
    assert b"scratch" not in works("list", tmp_path / "x.caidx", cwd=tmp_path).out
    works("make", "--exclude-nodump=no", tmp_path / "all.caidx", source, cwd=tmp_path)
    assert b"scratch" in works("list", tmp_path / "all.caidx", cwd=tmp_path).out
    (source / "file").write_bytes(b"changed")
    complete("extract", tmp_path / "x.caidx", source, cwd=tmp_path)
    assert (source / "scratch").read_bytes() == b"scratch"
    assert (source / "file").read_bytes() == b"file"
