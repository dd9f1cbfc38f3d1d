"""Metadata images that are kept: found while all they need is as it was, and no longer."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from casync_compat.oci.rootfs.keptroots import KeptRoot, KeptRoots
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.oci.rootfs.shared import stamp_of

DATA = b"an image of metadata" * 100
KEY = "ab" * 32
NAMES = [f"{number:02x}/{number:062x}" for number in range(5)]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with five files, and an image that leads to them."""
    for name in NAMES:
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    keep(tmp_path)
    return tmp_path


def keep(store: Path, key: str = KEY, now: float | None = None) -> KeptRoot:
    (store / "image").write_bytes(DATA)
    root = KeptRoot(
        7,
        123,
        len(DATA),
        hashlib.sha256(DATA).hexdigest(),
        True,
        Inode(stat.S_IFDIR, 0o1755, 5, 6, -7, ((b"user.\xff", b"\0"),)),
        {name.encode(): stamp_of((store / "files" / name).stat()) for name in NAMES},
    )
    KeptRoots(bytes(store), now).keep(key, bytes(store / "image"), root)
    return root


def test_what_is_kept_is_found(store: Path) -> None:
    """All of it, under its key alone, and the image where it says; nothing else is left."""
    roots = KeptRoots(bytes(store))
    found = roots.find(KEY)
    assert found is not None
    kept = keep(store)
    assert replace(found, root=kept.root) == kept
    assert [getattr(found.root, field) for field in ("kind", "mode", "uid", "gid", "mtime", "xattrs")] == [
        stat.S_IFDIR, 0o1755, 5, 6, -7, ((b"user.\xff", b"\0"),),
    ]  # fmt: skip
    assert Path(os.fsdecode(roots.image(KEY))).read_bytes() == DATA
    assert roots.find("cd" * 32) is None
    assert not (store / "image").exists()
    assert len(list((store / "roots").iterdir())) == 2


@pytest.mark.parametrize("how", ["written", "gone", "replaced", "link", "image", "list", "head", "no list"])
def test_what_is_another_now_is_not_found(store: Path, how: str) -> None:
    """A file that was written to, went or was replaced, and damage to what is kept."""
    roots = KeptRoots(bytes(store))
    file = store / "files" / NAMES[3]
    of_image, of_list = (store / f"roots/{KEY}.{kind}" for kind in ("erofs", "list"))
    match how:
        case "written":
            file.write_text(NAMES[2])
        case "gone":
            file.unlink()
        case "replaced":
            st = file.stat()
            file.rename(store / "old")
            file.write_text(NAMES[3])
            os.utime(file, ns=(st.st_atime_ns, st.st_mtime_ns))
        case "link":
            file.rename(store / "old")
            file.symlink_to(store / "old")
        case "image":
            of_image.write_bytes(DATA[:-1] + b"?")
        case "list":
            of_list.write_bytes(of_list.read_bytes()[:-1] + b"?")
        case "head":
            of_list.write_bytes(b"[]\n" + of_list.read_bytes())
        case "no list":
            of_list.unlink()
    assert roots.find(KEY) is None


def test_what_nobody_mounts_for_a_month_goes(store: Path) -> None:
    """When another is kept; what was found meanwhile stays."""
    now = time.time()
    keep(store, "cd" * 32)
    later = now + 29 * 86400
    assert KeptRoots(bytes(store), later).find("cd" * 32) is not None
    keep(store, "ef" * 32, now + 31 * 86400)
    assert sorted(path.name[:2] for path in (store / "roots").iterdir()) == ["cd", "cd", "ef", "ef"]


def test_a_store_that_cannot_keep_it(tmp_path: Path) -> None:
    """Is no error: it is only made again."""
    (tmp_path / "files").mkdir()
    (tmp_path / "roots").write_text("in the way")
    (tmp_path / "image").write_bytes(DATA)
    root = KeptRoot(0, 0, 1, "", False, Inode(stat.S_IFDIR), {})
    KeptRoots(bytes(tmp_path)).keep(KEY, bytes(tmp_path / "image"), root)
    assert KeptRoots(bytes(tmp_path)).find(KEY) is None
