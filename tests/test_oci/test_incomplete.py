"""Trees of images where target, kernel or privileges cannot hold everything: data first, and the rest is told."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grounds import Grounds
from test_oci import rawtar
from test_oci.opened import BOTH, opened, opened_again, tar

from casync_compat.cli import main
from casync_compat.errors import FileError
from casync_compat.fs.losses import LeftOutKind
from casync_compat.oci.checkout import CheckoutOptions, Link, checkout
from casync_compat.oci.unpack import UnpackOptions, unpack

Made = tuple[Path, tuple[LeftOutKind, ...], list[str]]
VERBS = pytest.mark.parametrize("verb", ["unpack", "hardlink", "copy"])
USER = rawtar.pax([rawtar.xattr(b"user.x", b"1")])


def write(at: Path, tars: list[bytes], verb: str, *, thin: bool = True, strict: bool = False) -> Made:
    """Write the tree of an image, by one of two verbs. Returns its root, what was left out, and all warnings."""
    warnings: list[str] = []
    opening = opened_again(at) if (at / "layout").exists() else opened(at / "layout", tars, thin)
    with opening as image:
        if verb == "unpack":
            unpacked = unpack(image, bytes(at / "out"), UnpackOptions(strict=strict), warn=warnings.append)
            return at / "out" / "rootfs", unpacked.left_out, warnings
        options = CheckoutOptions(Link.parse(verb), strict=strict)
        out = bytes(at / "out")
        checked = checkout(image, out, bytes(at / "files"), options, warn=warnings.append)
        return at / "out", checked.left_out, warnings


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, number: int, when: Callable[..., bool]) -> None:
    """Let a system call fail for some arguments."""
    real = getattr(os, call)

    def refusing(*arguments: Any, **keywords: Any) -> Any:
        if when(*arguments, **keywords):
            raise OSError(number, os.strerror(number))
        return real(*arguments, **keywords)

    monkeypatch.setattr(os, call, refusing)


def always(*_: Any, **__: Any) -> bool:
    return True


def counted(kinds: tuple[LeftOutKind, ...]) -> list[tuple[str, int, str]]:
    """Kind, count and first path, without where the tree is."""
    return [(each.kind, each.count, os.fsdecode(each.first).split("/out/")[1]) for each in kinds]


@VERBS
@BOTH
@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSPC, errno.E2BIG])
def test_attributes(
    tmp_path: Path, verb: str, thin: bool, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where attributes cannot be set, files are whole; two are counted with the first, at each run anew."""
    refuse(monkeypatch, "setxattr", number, lambda item, name, *_, **__: name == b"user.x")
    tars = [
        tar(USER + rawtar.file(b"a", b"first"), rawtar.file(b"b", b"x"), USER + rawtar.file(b"c", b"third"))
    ]
    for _ in range(2):
        root, kinds, warnings = write(tmp_path, tars, verb, thin=thin)
        under = "rootfs/" if verb == "unpack" else ""
        assert counted(kinds) == [("extended attributes", 2, f"{under}a")]
        assert warnings == [
            f"not restored, as the target cannot hold it: extended attributes (2, first {root}/a)"
        ]
        assert [(root / name).read_bytes() for name in "abc"] == [b"first", b"x", b"third"]
        os.rename(tmp_path / "out", tmp_path / f"done{len(os.listdir(tmp_path))}")


@VERBS
def test_strict(tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants all or nothing gets an error that names the entry, and nothing is left."""
    refuse(monkeypatch, "setxattr", errno.EOPNOTSUPP, lambda item, name, *_, **__: name == b"user.x")
    with pytest.raises(FileError, match=r"out/(rootfs/)?d/f: cannot set extended attribute user\.x of"):
        write(tmp_path, [tar(rawtar.directory(b"d"), USER + rawtar.file(b"d/f", b"x"))], verb, strict=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.root
@VERBS
def test_owners(tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners that are not mapped here: files are there without them, and without the bits that would mean another."""
    refuse(monkeypatch, "chown", errno.EINVAL, lambda item, uid, gid, **__: uid == 70_000)
    tars = [
        tar(
            rawtar.directory(b"d", uid=70_000, gid=5, mode=0o2755),
            rawtar.file(b"d/su", b"x", uid=70_000, gid=7, mode=0o6755),
            rawtar.symlink(b"l", b"d", uid=70_000),
            rawtar.file(b"mine", b"x", uid=7, mode=0o4755),
        )
    ]
    root, kinds, _ = write(tmp_path, tars, verb)
    assert counted(kinds)[0][:2] == ("owners", 3)
    su, mine = (root / "d/su").stat(), (root / "mine").stat()
    assert (su.st_uid, su.st_gid, stat.S_IMODE(su.st_mode)) == (0, 7, 0o755)
    assert (mine.st_uid, stat.S_IMODE(mine.st_mode)) == (7, 0o4755)
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o2755


@pytest.mark.root
@VERBS
def test_ids_that_linux_has_not(tmp_path: Path, verb: str) -> None:
    """A layer may say any number: owners and devices that cannot be are left out, and the rest is there."""
    tars = [
        tar(
            rawtar.pax([(b"uid", b"4294967295")]) + rawtar.file(b"f", b"x"),
            rawtar.pax([(b"gid", b"99999999999")]) + rawtar.directory(b"g"),
            rawtar.header(b"disk", 0, b"4", device=(4096, 0)),
            rawtar.file(b"z", b"last"),
        )
    ]
    root, kinds, _ = write(tmp_path, tars, verb)
    assert [(kind, count) for kind, count, _ in counted(kinds)] == [("device nodes", 1), ("owners", 2)]
    assert sorted(os.listdir(root)) == ["f", "g", "z"]
    assert (root / "z").read_bytes() == b"last"


@pytest.mark.parametrize(
    ("call", "kind", "member"),
    [
        ("mknod", "fifos", rawtar.header(b"n", 0, b"6")),
        ("symlink", "symlinks", rawtar.symlink(b"n", b"target")),
    ],
)
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_entries(
    tmp_path: Path, call: str, kind: str, member: bytes, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries of a type that the file system has not are left out, other names of them too; the rest is there."""
    refuse(monkeypatch, call, number, always)
    tars = [tar(member, rawtar.hard_link(b"other", b"n"), rawtar.file(b"z", b"last"))]
    root, kinds, _ = write(tmp_path, tars, "unpack")
    assert counted(kinds) == [(kind, 2, "rootfs/n")]
    assert os.listdir(root) == ["z"]


@VERBS
@BOTH
@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK])
def test_hard_links(
    tmp_path: Path, verb: str, thin: bool, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links, or with no more of them, each name has a file of its own with the same contents."""
    tars = [
        tar(
            rawtar.file(b"a", b"contents" * 999, mode=0o400),
            rawtar.hard_link(b"b", b"a"),
            rawtar.symlink(b"l", b"a"),
            rawtar.hard_link(b"m", b"l"),
        ),
        tar(rawtar.directory(b"d"), rawtar.hard_link(b"d/c", b"a")),
    ]
    refuse(
        monkeypatch,
        "link",
        number,
        lambda source, target, **_: target in (b"b", b"c", b"m") and b"/" not in source,
    )
    root, kinds, _ = write(tmp_path, tars, verb, thin=thin)
    assert counted(kinds)[0][:2] == ("hard links", 3)
    for name in ("a", "b", "d/c"):
        assert (root / name).read_bytes() == b"contents" * 999
        assert stat.S_IMODE((root / name).stat().st_mode) == 0o400
    assert os.readlink(root / "m") == "a"


@pytest.mark.parametrize(("call", "kind"), [("chmod", "permissions"), ("utime", "times")])
def test_modes_and_times(tmp_path: Path, call: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every owner may set elsewhere is no reason to give nothing."""
    refuse(monkeypatch, call, errno.EPERM, lambda item, *_, **__: item != b"l")
    root, kinds, _ = write(tmp_path, [tar(rawtar.file(b"f", b"x"))], "unpack")
    assert counted(kinds)[0][0] == kind
    assert (root / "f").read_bytes() == b"x"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_other_failures(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What says nothing of the kind is a failure as ever: a full disk makes no empty fifos."""
    refuse(monkeypatch, "mknod", number, always)
    with pytest.raises(FileError, match="n: cannot create fifo"):
        write(tmp_path, [tar(rawtar.header(b"n", 0, b"6"))], "unpack")
    assert not (tmp_path / "out").exists()


@pytest.mark.root
@VERBS
def test_attributes_without_room(ground: Grounds, verb: str) -> None:
    """ext4 has room for 4 KiB of attributes a file: what does not fit is left out, and what does is there."""
    at = ground("out", "ext4")
    large = rawtar.pax([rawtar.xattr(b"user.large", b"x" * 60_000), rawtar.xattr(b"user.small", b"y")])
    root, kinds, _ = write(at, [tar(large + rawtar.file(b"f", b"data", uid=1000))], verb)
    assert [(kind.kind, kind.count) for kind in kinds] == [("extended attributes", 1)]
    assert (root / "f").read_bytes() == b"data"
    assert os.listxattr(root / "f") == ["user.small"]
    assert (root / "f").stat().st_uid == 1000


@pytest.mark.parametrize("verb", ["unpack", "checkout"])
def test_command_line(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The status is 3, a program reads what is left out, `--strict` is status 1, and what is complete is 0."""
    with opened(tmp_path / "layout", [tar(USER + rawtar.file(b"f", b"x"))]):
        pass
    out = tmp_path / "out"
    words = ["oci", verb, "--json", f"oci:{tmp_path}/layout:image", str(out)]
    if verb == "checkout":
        words.insert(2, f"--file-store={tmp_path}/files")
    first = str(out / "rootfs/f" if verb == "unpack" else out / "f")
    with monkeypatch.context() as patch:
        refuse(patch, "setxattr", errno.EOPNOTSUPP, lambda item, name, *_, **__: name == b"user.x")
        assert main(words) == 3
        said = capfd.readouterr()
        assert json.loads(said.out)["left_out"] == [
            {"kind": "extended attributes", "count": 1, "first": first}
        ]
        assert f"extended attributes (1, first {first})" in said.err
        os.rename(out, tmp_path / "before")
        assert main([*words, "--strict"]) == 1
        said = capfd.readouterr()
        assert "--rootless" not in said.err  # would not help
        assert not out.exists()
    assert main([*words, "--strict"]) == 0
    assert json.loads(capfd.readouterr().out)["left_out"] == []
