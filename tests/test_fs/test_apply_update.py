"""Updating a tree in place: what is there as recorded is left alone, what differs is mended or replaced."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import applying
import inodes
import pytest
from applying import FLAGS, WHEN, Item, Steps, apply, d, f, leftovers, link, special, stream
from grounds import Grounds

from casync_compat.fs.apply.options import ApplyOptions
from casync_compat.fs.apply.tree import TreeWriter, apply_tree
from casync_compat.fs.apply.uptodate import Tally
from catar.flags import WITH_ALL, FeatureFlags
from catar.records import AclDefault, AclEntry, XAttr

ROOT = pytest.mark.root

LARGE = os.urandom(300_000)


def tree() -> Item:
    return d(
        b"",
        d(b"deep", f(b"inner", b"deep"), d(b"empty"), mode=0o700),
        f(b"file", b"contents"),
        f(b"large", LARGE),
        link(b"link", b"/nowhere/at all"),
        f(b"nothing"),
        special(b"pipe", stat.S_IFIFO),
        f(b"run", b"#!", mode=0o755),
        special(b"socket", stat.S_IFSOCK, 0o700),
        f(b"sparse", bytes(100_000) + b"x" + bytes(100_000)),
        f(b"tagged", b"x", xattrs=(XAttr(b"user.tag", b"value"),)),
    )


ENTRIES = 13


def seen(target: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the last change of everything."""
    paths = [target, *target.rglob("*")]
    return {str(path.relative_to(target)): (path.lstat().st_ino, path.lstat().st_ctime_ns) for path in paths}


def update(target: Path, top: Item, **options: Any) -> Tally:
    writer = TreeWriter(os.fsencode(target), None, ApplyOptions(**options), warn=print)
    apply_tree(stream(top, FLAGS, applying.in_runs), writer)
    return writer.tally


def changed(before: dict[str, tuple[int, int]], target: Path) -> set[str]:
    after = seen(target)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_what_is_as_recorded_is_left_alone(tmp_path: Path) -> None:
    """Files, links, directories and special nodes keep inode and ctime; not a byte nor an attribute is set again."""
    apply(tmp_path / "out", tree())
    before = seen(tmp_path / "out")
    assert apply(tmp_path / "out", tree()) == []
    assert seen(tmp_path / "out") == before
    assert update(tmp_path / "out", tree()) == Tally(unchanged=ENTRIES)


def _touch(path: Path) -> None:
    os.utime(path, ns=(0, 1), follow_symlinks=False)


METADATA: dict[str, tuple[str, Callable[[Path], object]]] = {
    "time": ("file", _touch),
    "mode": ("file", lambda path: path.chmod(0o600)),
    "setuid": ("run", lambda path: path.chmod(0o4755)),
    "attribute": ("file", lambda path: os.setxattr(path, "user.more", b"x")),
    "attribute's value": ("tagged", lambda path: os.setxattr(path, "user.tag", b"other")),
    "no attribute": ("tagged", lambda path: os.removexattr(path, "user.tag")),
    "mode of a directory": ("deep", lambda path: path.chmod(0o755)),
    "time of a link": ("link", _touch),
    "mode of a fifo": ("pipe", lambda path: path.chmod(0o600)),
    "time of a socket": ("socket", _touch),
    "an empty file": ("nothing", _touch),
}


@pytest.mark.parametrize("what", METADATA)
def test_metadata_alone_is_set_in_place(tmp_path: Path, what: str) -> None:
    """Where only metadata is wrong, contents stay: the inode is the same, and nothing else is touched."""
    target = tmp_path / "out"
    apply(target, tree())
    before = seen(target)
    name, spoil = METADATA[what]
    spoil(target / name)
    assert apply(target, tree()) == []
    assert changed(before, target) == {name}
    assert seen(target)[name][0] == before[name][0]
    assert update(target, tree()) == Tally(unchanged=ENTRIES)


@ROOT
@pytest.mark.parametrize("name", ["file", "link", "pipe", "deep"])
def test_the_owner_alone_is_set_in_place(tmp_path: Path, name: str) -> None:
    """So it is with the owner, after whose change the mode is right as well."""
    target = tmp_path / "out"
    apply(target, tree())
    before = seen(target)
    os.chown(target / name, 1234, 1234, follow_symlinks=False)
    assert apply(target, tree()) == []
    st = (target / name).lstat()
    assert (st.st_uid, st.st_ino) == (os.geteuid(), before[name][0])
    assert changed(before, target) == {name}


@ROOT
def test_capabilities_that_are_not_recorded_are_taken_away(ground: Grounds) -> None:
    """A file that has privileges beyond what is recorded does not keep them, as when it is made anew."""
    target = ground("fcaps")
    apply(target, d(b"", f(b"run", b"#!", mode=0o755)))
    value = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(target / "run", "security.capability", value)
    apply(target, d(b"", f(b"run", b"#!", mode=0o755)))
    assert "security.capability" not in os.listxattr(target / "run")
    apply(target, d(b"", f(b"run", b"#!", mode=0o755, fcaps=value)))
    before = seen(target)
    apply(target, d(b"", f(b"run", b"#!", mode=0o755, fcaps=value)))
    assert seen(target) == before


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("file", b"Contents"),
        ("file", b"longer contents"),
        ("file", b""),
        ("large", LARGE[:-1] + b"?"),
        ("large", b"?" + LARGE[1:]),
        ("sparse", bytes(200_001)),
        ("nothing", b"?"),
    ],
)
def test_other_contents_make_a_new_file(tmp_path: Path, name: str, data: bytes) -> None:
    """Wherever a file differs it is replaced as a whole; holes stay holes, and the rest is left alone."""
    target = tmp_path / "out"
    top = tree()
    apply(target, top)
    st = (target / name).stat()
    (target / name).write_bytes(data)
    os.utime(target / name, ns=(WHEN, WHEN))
    before = seen(target)
    blocks = st.st_blocks
    assert update(target, top) == Tally(unchanged=ENTRIES - 2, updated=2), (
        "the file, and the directory it is in"
    )
    assert changed(before, target) == {name, "."}
    wanted = next(item.data for item in top.children if item.node.name == os.fsencode(name))
    assert (target / name).read_bytes() == wanted
    assert (target / name).stat().st_blocks <= blocks
    assert leftovers(target) == []


def test_a_file_with_other_names_is_left_alone_when_it_is_right(tmp_path: Path) -> None:
    """Hard links into the target stay such as long as there is nothing to change."""
    target, other = tmp_path / "out", tmp_path / "other"
    apply(target, tree())
    os.link(target / "file", other)
    before = seen(target)
    apply(target, tree())
    assert seen(target) == before


@pytest.mark.parametrize(
    "spoil", [_touch, lambda path: path.chmod(0o600), lambda path: path.write_bytes(b"CONTENTS")]
)
def test_a_file_with_other_names_is_not_changed_through_them(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    """What another name outside of the tree leads to keeps contents and metadata: the target gets a file of its own."""
    target, other = tmp_path / "out", tmp_path / "other"
    apply(target, tree())
    os.link(target / "file", other)
    spoil(other)
    st, data = other.stat(), other.read_bytes()
    apply(target, tree())
    assert (target / "file").read_bytes() == b"contents"
    assert (target / "file").stat().st_mtime_ns == WHEN
    assert stat.S_IMODE((target / "file").stat().st_mode) == 0o644
    after = other.stat()
    assert (after.st_mode, after.st_mtime_ns, other.read_bytes()) == (st.st_mode, st.st_mtime_ns, data)
    assert (target / "file").stat().st_ino != after.st_ino


def test_another_type_is_replaced(tmp_path: Path) -> None:
    """A symlink to an equal file, a fifo for a file and the like are not what is recorded."""
    target = tmp_path / "out"
    apply(target, tree())
    os.rename(target / "file", tmp_path / "elsewhere")
    (target / "file").symlink_to(tmp_path / "elsewhere")
    (target / "link").unlink()
    os.mkfifo(target / "link")
    os.utime(target / "link", ns=(WHEN, WHEN))
    (target / "pipe").unlink()
    (target / "pipe").write_bytes(b"")
    counts = update(target, tree())
    assert counts == Tally(unchanged=ENTRIES - 4, updated=4)
    assert not (target / "file").is_symlink()
    assert os.readlink(target / "link") == "/nowhere/at all"
    assert (target / "pipe").is_fifo()
    assert (tmp_path / "elsewhere").read_bytes() == b"contents"


def test_links_that_lead_elsewhere_are_replaced(tmp_path: Path) -> None:
    """Neither a longer nor a shorter text of a symlink passes for the recorded one."""
    target = tmp_path / "out"
    for text in ("/nowhere", "/nowhere/at all!", "x"):
        apply(target, tree())
        (target / "link").unlink()
        (target / "link").symlink_to(text)
        os.utime(target / "link", ns=(WHEN, WHEN), follow_symlinks=False)
        apply(target, tree())
        assert os.readlink(target / "link") == "/nowhere/at all"


def test_metadata_may_be_taken_for_contents(tmp_path: Path) -> None:
    """With compare=metadata, equal size, time, mode and owner are enough; without one of them contents count."""
    target = tmp_path / "out"
    apply(target, tree())
    for name in ("file", "large"):
        data = b"?" + (target / name).read_bytes()[1:]
        (target / name).write_bytes(data)
        os.utime(target / name, ns=(WHEN, WHEN))
    before = seen(target)
    assert update(target, tree(), compare="metadata") == Tally(unchanged=ENTRIES)
    assert seen(target) == before
    _touch(target / "file")
    (target / "large").chmod(0o600)
    apply(target, tree(), compare="metadata")
    assert (target / "file").read_bytes() == b"contents"
    assert (target / "large").read_bytes() == LARGE


def test_an_interrupted_update_leaves_each_file_old_or_new(tmp_path: Path) -> None:
    """Also where it breaks off in a file that was the same up to there."""
    target = tmp_path / "out"
    apply(target, d(b"", f(b"a", LARGE), f(b"b", LARGE)))
    before = seen(target)

    class Breaking(Steps):
        def payload(self):  # type: ignore[no-untyped-def]
            yield from list(super().payload())[:2]
            raise RuntimeError

    for data in (LARGE, LARGE[:70_000] + bytes(230_000), bytes(300_000)):
        writer = TreeWriter(os.fsencode(target), None, warn=print)
        with pytest.raises(RuntimeError):
            apply_tree(Breaking(d(b"", f(b"a", data)), FLAGS), writer)
        assert (target / "a").read_bytes() == LARGE
        assert {name: ino for name, (ino, _) in seen(target).items()} == {
            name: ino for name, (ino, _) in before.items()
        }


def test_what_changes_while_it_is_compared_is_an_error(tmp_path: Path) -> None:
    """A file that was equal so far, and is written to then, is never mixed with the new contents."""
    target = tmp_path / "out"
    apply(target, d(b"", f(b"a", LARGE)))
    data = LARGE[:200_000] + bytes(100_000)

    class Meddling(Steps):
        def payload(self):  # type: ignore[no-untyped-def]
            for number, piece in enumerate(super().payload()):
                if number == 2:
                    (target / "a").write_bytes(bytes(300_000))
                yield piece

    writer = TreeWriter(os.fsencode(target), None, warn=print)
    with pytest.raises(Exception, match="changed while it was compared"):
        apply_tree(Meddling(d(b"", f(b"a", data)), FLAGS), writer)
    assert (target / "a").read_bytes() == bytes(300_000)
    assert leftovers(target) == []


@ROOT
def test_an_immutable_file_that_is_right_is_no_obstacle(ground: Grounds) -> None:
    """Nothing is in the way of what need not be written."""
    target = ground("locked")
    flags = int(FeatureFlags.FLAG_IMMUTABLE)
    top = d(b"", f(b"i", b"x", flags=flags))
    try:
        apply(target, top)
        before = seen(target)
        assert apply(target, top) == []
        assert seen(target) == before
    finally:
        inodes.set_flags(target / "i", drop=inodes.IMMUTABLE)


def test_what_was_not_there_is_created(tmp_path: Path) -> None:
    """Entries are counted by what became of them."""
    target = tmp_path / "out"
    assert update(target, tree()) == Tally()
    (target / "file").unlink()
    (target / "deep" / "inner").unlink()
    counts = update(target, tree())
    assert counts == Tally(unchanged=ENTRIES - 4, updated=2), "two made; two directories were written into"


def test_types_that_are_not_restored_count_as_skipped(tmp_path: Path) -> None:
    """So that what is neither unchanged, updated nor skipped was created."""
    mask = WITH_ALL & ~int(FeatureFlags.FIFOS | FeatureFlags.SYMLINKS)
    assert update(tmp_path / "out", tree(), mask=mask).skipped == 2


ACLS: dict[str, Any] = {
    "acl_users": (AclEntry(7, 4), AclEntry(9, 7)),
    "acl_groups": (AclEntry(7, 5),),
    "acl_group_obj": 5,
}
DEFAULT_ACL: dict[str, Any] = {
    "acl_default": AclDefault(7, 5, 0, 7),
    "acl_default_users": (AclEntry(7, 6),),
}


@ROOT
def test_acls_that_are_right_are_left_alone(ground: Grounds) -> None:
    """ACLs are compared as they are on disk, and set where they are not as recorded."""
    target = ground("acls")
    top = d(b"", d(b"d", f(b"inner"), **DEFAULT_ACL), f(b"f", b"x", mode=0o670, **ACLS), f(b"plain", b"x"))
    apply(target, top)
    before = seen(target)
    assert apply(target, top) == []
    assert seen(target) == before
    recorded = {name: os.getxattr(target / "f", name) for name in os.listxattr(target / "f")}
    os.removexattr(target / "f", "system.posix_acl_access")
    os.setxattr(target / "plain", "system.posix_acl_access", recorded["system.posix_acl_access"])
    os.removexattr(target / "d", "system.posix_acl_default")
    apply(target, top)
    assert changed(before, target) == {"f", "plain", "d"}
    assert {name: ino for name, (ino, _) in seen(target).items()} == {
        name: ino for name, (ino, _) in before.items()
    }
    assert {name: os.getxattr(target / "f", name) for name in os.listxattr(target / "f")} == recorded
    assert os.listxattr(target / "plain") == []
    assert stat.S_IMODE((target / "plain").stat().st_mode) == 0o644
    assert os.listxattr(target / "d") == ["system.posix_acl_default"]


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An overlay file system over a tree that is as recorded, and where it keeps what is changed."""
    libc = ctypes.CDLL(None, use_errno=True)
    lower, upper, work, merged = (tmp_path / name for name in ("lower", "upper", "work", "merged"))
    for path in (lower, upper, work, merged):
        path.mkdir()
    apply(lower / "out", tree())
    options = f"lowerdir={lower},upperdir={upper},workdir={work}".encode()
    if libc.mount(b"overlay", os.fsencode(merged), b"overlay", 0, options):
        pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    yield merged / "out", upper
    libc.umount2(os.fsencode(merged), 2)


@ROOT
def test_nothing_is_copied_up_that_is_right(overlay: tuple[Path, Path]) -> None:
    """On overlayfs an update brings nothing into the upper layer but what it changes."""
    target, upper = overlay
    assert apply(target, tree()) == []
    assert list(upper.iterdir()) == []
    (target / "deep" / "inner").chmod(0o600)
    apply(target, tree())
    assert {path.name for path in upper.rglob("*")} == {"out", "deep", "inner"}


@ROOT
def test_a_read_only_file_system_is_no_obstacle_to_what_is_right(tmp_path: Path) -> None:
    """Where nothing is to be written, nothing has to be writable."""
    libc = ctypes.CDLL(None, use_errno=True)
    target = tmp_path / "out"
    apply(target, tree())
    at = os.fsencode(target)
    bind, remount, read_only = 4096, 32, 1
    if libc.mount(at, at, None, bind, None) or libc.mount(None, at, None, bind | remount | read_only, None):
        pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    try:
        assert apply(target, tree()) == []
    finally:
        libc.umount2(at, 2)
