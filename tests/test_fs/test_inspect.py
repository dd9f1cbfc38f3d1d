"""What is read of each inode, by feature flags and type of file."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import inodes
import posix1e
import pytest
import xattr
from grounds import Grounds

from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan.inspect import Inspector
from catar import flags
from catar.flags import FeatureFlags
from catar.records import AclDefault, AclEntry, Node, XAttr

F = FeatureFlags
EVERYTHING = flags.select(exclude_nodump=False)
SECOND = 1_000_000_000
CAPS = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
"""cap_net_raw=ep, as the kernel stores it."""


def look(path: Path, features: int = EVERYTHING, shift: IdShift | None = None) -> Node:
    """The node of a file, by the way that the scanner takes for its type."""
    inspector = Inspector(features, shift or IdShift())
    st = path.lstat()
    if not (stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode)):
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            target = os.fsencode(os.readlink(path)) if path.is_symlink() else None
            return inspector.special(os.fsencode(path.name), parent, st, target)
        finally:
            os.close(parent)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fs = inspector.file_system(fd, st.st_dev)
        return inspector.node(os.fsencode(path.name), fd, os.fstat(fd), fs, inspector.chattr_flags(fd))
    finally:
        os.close(fd)


def only(*which: FeatureFlags) -> int:
    """The flag word for these flags, normalised."""
    return flags.select([int(flag) for flag in which], exclude_nodump=False)


# ---- fields of ENTRY


@pytest.mark.parametrize(
    ("features", "file", "directory"),
    [
        ((F.PERMISSIONS,), [0o7777, 0o444, 0o640, 0o200], [0o7777, 0o555, 0o750, 0o200]),
        ((F.ACL,), [0o7777, 0o444, 0o640, 0o200], [0o7777, 0o555, 0o750, 0o200]),
        ((F.READ_ONLY,), [0o666, 0o444, 0o666, 0o666], [0o777, 0o555, 0o777, 0o777]),
        ((F.XATTRS,), [0o666] * 4, [0o777] * 4),
    ],
)
def test_modes(
    tmp_path: Path, features: tuple[FeatureFlags, ...], file: list[int], directory: list[int]
) -> None:
    """Permissions are kept, reduced to read-only or writable, or dropped; the type always stays."""
    if os.geteuid() != 0:
        pytest.skip("opening files of mode 0200 needs root")
    (tmp_path / "f").touch()
    (tmp_path / "d").mkdir()
    got: dict[str, list[int]] = {"f": [], "d": []}
    for name, modes in (("f", (0o7777, 0o444, 0o640, 0o200)), ("d", (0o7777, 0o555, 0o750, 0o200))):
        for mode in modes:
            os.chmod(tmp_path / name, mode)
            got[name].append(look(tmp_path / name, only(*features)).mode)
    assert got == {
        "f": [stat.S_IFREG | mode for mode in file],
        "d": [stat.S_IFDIR | mode for mode in directory],
    }


def test_mode_of_symlinks(tmp_path: Path) -> None:
    """A symlink is 0777, whatever is recorded of others."""
    (tmp_path / "l").symlink_to("x")
    for features in (EVERYTHING, only(F.READ_ONLY, F.SYMLINKS), only(F.SYMLINKS)):
        node = look(tmp_path / "l", features)
        assert node.mode == stat.S_IFLNK | 0o777
        assert node.target == b"x"


@pytest.mark.parametrize(
    ("flag", "ns", "stored"),
    [
        (F.NSEC_TIME, 1_500_000_000_123_456_789, 1_500_000_000_123_456_789),
        (F.USEC_TIME, 1_500_000_000_123_456_789, 1_500_000_000_123_456_000),
        (F.SEC_TIME, 1_500_000_001_999_999_999, 1_500_000_001 * SECOND),
        (F.TWO_SEC_TIME, 1_500_000_001_999_999_999, 1_500_000_000 * SECOND),
        (F.XATTRS, 1_500_000_000_123_456_789, 0),
        (F.NSEC_TIME, -5 * SECOND, (1 << 64) - 5 * SECOND),
        (F.SEC_TIME, -5 * SECOND + 1, ((1 << 64) - 5 * SECOND + 1) // SECOND * SECOND),
        (F.NSEC_TIME, 5_000_000_000 * SECOND + 1, 5_000_000_000 * SECOND + 1),
    ],
)
def test_times(tmp_path: Path, flag: FeatureFlags, ns: int, stored: int) -> None:
    """Times are nanoseconds since the epoch modulo 2^64, rounded down as unsigned numbers."""
    (tmp_path / "f").touch()
    (tmp_path / "l").symlink_to("f")
    for name in ("f", "l"):
        os.utime(tmp_path / name, ns=(ns, ns), follow_symlinks=False)
        if (tmp_path / name).lstat().st_mtime_ns != ns:
            pytest.skip("this file system cannot hold the time")
        assert look(tmp_path / name, only(flag, F.SYMLINKS)).mtime == stored


@pytest.mark.root
@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ((F.UIDS_32BIT, F.USER_NAMES), (33, 70000, b"www-data", None)),
        ((F.UIDS_32BIT,), (33, 70000, None, None)),
        ((F.USER_NAMES,), (0, 0, b"www-data", b"70000")),
        ((F.XATTRS,), (0, 0, None, None)),
    ],
)
def test_owners(
    tmp_path: Path,
    features: tuple[FeatureFlags, ...],
    expected: tuple[int, int, bytes | None, bytes | None],
) -> None:
    """Numbers and names as the flags ask; an unknown id becomes its digits when only names are kept."""
    (tmp_path / "f").touch()
    (tmp_path / "l").symlink_to("f")
    for name in ("f", "l"):
        os.chown(tmp_path / name, 33, 70000, follow_symlinks=False)
        node = look(tmp_path / name, only(*features, F.SYMLINKS))
        assert (node.uid, node.gid, node.user, node.group) == expected


@pytest.mark.root
def test_root_has_no_name(tmp_path: Path) -> None:
    """Neither uid nor gid 0 is ever named."""
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 0, 0)
    node = look(tmp_path / "f", only(F.USER_NAMES))
    assert (node.user, node.group) == (None, None)


@pytest.mark.root
def test_names_are_those_of_unshifted_ids(tmp_path: Path) -> None:
    """Shifting changes the number, not the name (casync does the same)."""
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 33, 33)
    node = look(tmp_path / "f", shift=IdShift(30, 0x10000, True))
    assert (node.uid, node.user, node.gid, node.group) == (3, b"www-data", 3, b"www-data")


@pytest.mark.root
def test_largest_16bit_id(tmp_path: Path) -> None:
    """16bit-uids holds ids up to 65534; 65535 is none at all."""
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 65534, 65534)
    assert look(tmp_path / "f", only(F.UIDS_16BIT)).uid == 65534
    os.chown(tmp_path / "f", 0, 65536)
    with pytest.raises(ValueError, match="group id 65536 does not fit 16bit-uids"):
        look(tmp_path / "f", only(F.UIDS_16BIT))
    assert look(tmp_path / "f", only(F.UIDS_32BIT)).gid == 65536


def test_size(tmp_path: Path) -> None:
    """Files have a size, directories have none."""
    (tmp_path / "f").write_bytes(b"abc")
    assert look(tmp_path / "f").size == 3
    assert look(tmp_path).size == 0


# ---- extended attributes


def set_xattr(path: Path, name: str, value: bytes) -> None:
    try:
        xattr.set(os.fsencode(path), name, value, 0, True)
    except OSError as error:
        pytest.skip(f"{name} cannot be set here: {error}")


def test_user_attributes(ground: Grounds) -> None:
    """Attributes are sorted by name, values are any bytes, empty ones count; directories have them too."""
    at = ground("xattrs")
    (at / "f").touch()
    for path in (at / "f", at):
        for name, value in (("user.z", b""), ("user.A", b"\0\xff"), ("user.a.b", b"x" * 1000)):
            set_xattr(path, name, value)
        expected = (XAttr(b"user.A", b"\0\xff"), XAttr(b"user.a.b", b"x" * 1000), XAttr(b"user.z", b""))
        assert look(path, only(F.XATTRS)).xattrs == expected
        assert look(path, only(F.ACL)).xattrs == ()


@pytest.mark.root
def test_namespaces(ground: Grounds) -> None:
    """`user.` and `trusted.` are recorded as they are; `security.` and `system.` only where a record is for them."""
    at = ground("namespaces")
    (at / "f").touch()
    for name in ("user.u", "trusted.t", "security.other"):
        set_xattr(at / "f", name, b"1")
    node = look(at / "f")
    assert node.xattrs == (XAttr(b"trusted.t", b"1"), XAttr(b"user.u", b"1"))
    assert (node.selinux, node.fcaps) == (None, None)


@pytest.mark.root
def test_attributes_of_special_files_are_left_out(ground: Grounds) -> None:
    """casync does not see attributes of fifos, sockets, devices and symlinks."""
    at = ground("special-xattrs")
    os.mkfifo(at / "fifo")
    (at / "link").symlink_to("x")
    for name in ("fifo", "link"):
        set_xattr(at / name, "trusted.t", b"1")
        assert look(at / name).xattrs == ()


@pytest.mark.root
def test_capabilities(ground: Grounds) -> None:
    """File capabilities are kept as the kernel's bytes, for regular files, if fcaps is recorded."""
    at = ground("caps")
    (at / "f").touch()
    set_xattr(at / "f", "security.capability", CAPS)
    assert look(at / "f", only(F.FCAPS)).fcaps == CAPS
    assert look(at / "f", only(F.XATTRS)).fcaps is None
    assert look(at, only(F.FCAPS)).fcaps is None


@pytest.mark.root
def test_selinux_labels(ground: Grounds) -> None:
    """Labels of every type of file are read, without the NUL at their end."""
    at = ground("labels")
    (at / "f").touch()
    (at / "d").mkdir()
    (at / "l").symlink_to("x")
    os.mkfifo(at / "p")
    for name in ("f", "d", "l", "p"):
        set_xattr(at / name, "security.selinux", b"system_u:object_r:etc_t:s0\0")
        assert look(at / name, only(F.SELINUX)).selinux == b"system_u:object_r:etc_t:s0"
        assert look(at / name, only(F.XATTRS)).selinux is None


# ---- ACLs


def set_acl(path: Path, text: str, kind: int = posix1e.ACL_TYPE_ACCESS) -> None:
    acl = posix1e.ACL(text=text)
    try:
        acl.applyto(os.fspath(path), kind)
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")


def test_access_acl(ground: Grounds) -> None:
    """Named entries are sorted; the mask is the group part of the mode, and GROUP_OBJ is stored beside it."""
    at = ground("acl")
    (at / "f").touch()
    set_acl(at / "f", "u::rw-,u:70001:r--,u:33:-wx,g::r-x,g:70002:rwx,g:1:---,m::rw-,o::--x")
    node = look(at / "f", only(F.ACL, F.UIDS_32BIT))
    assert node.mode & 0o777 == 0o661
    assert node.acl_users == (AclEntry(33, 3), AclEntry(70001, 4))
    assert node.acl_groups == (AclEntry(1, 0), AclEntry(70002, 7))
    assert node.acl_group_obj == 5


@pytest.mark.root
def test_acl_names(ground: Grounds) -> None:
    """Names stand beside ids if user-names is recorded; without numbers the ids are 0 and unknown ones are digits."""
    at = ground("acl-names")
    (at / "f").touch()
    set_acl(at / "f", "u::rw-,u:70001:r--,u:33:r--,u:0:r--,g::r--,m::r--,o::---")
    both = look(at / "f", only(F.ACL, F.UIDS_32BIT, F.USER_NAMES))
    assert both.acl_users == (AclEntry(0, 4), AclEntry(33, 4, b"www-data"), AclEntry(70001, 4))
    names = look(at / "f", only(F.ACL, F.USER_NAMES))
    assert names.acl_users == (AclEntry(0, 4), AclEntry(0, 4, b"70001"), AclEntry(0, 4, b"www-data"))


@pytest.mark.root
def test_acl_ids_are_shifted(ground: Grounds) -> None:
    """Ids in ACLs are shifted as owners are, and an id that cannot be is an error."""
    at = ground("acl-shift")
    (at / "f").touch()
    os.chown(at / "f", 100, 100)
    set_acl(at / "f", "u::rw-,u:105:r--,g::r--,m::r--,o::---")
    features = only(F.ACL, F.UIDS_32BIT)
    assert look(at / "f", features, IdShift(100, 0, True)).acl_users == (AclEntry(5, 4),)
    set_acl(at / "f", "u::rw-,u:99:r--,g::r--,m::r--,o::---")
    with pytest.raises(ValueError, match="99 is below the shift of 100"):
        look(at / "f", features, IdShift(100, 0, True))


def test_lone_mask(ground: Grounds) -> None:
    """A mask without named entries still needs its GROUP_OBJ; without a mask the mode says everything."""
    at = ground("acl-mask")
    (at / "f").touch()
    set_acl(at / "f", "u::rw-,g::rwx,m::r--,o::---")
    node = look(at / "f", only(F.ACL))
    assert (node.acl_users, node.acl_groups, node.acl_group_obj) == ((), (), 7)
    set_acl(at / "f", "u::rw-,g::r--,o::---")
    assert look(at / "f", only(F.ACL)).acl_group_obj is None


def test_default_acl(ground: Grounds) -> None:
    """Directories have default ACLs, with and without a mask; files never do."""
    at = ground("acl-default")
    (at / "d").mkdir()
    set_acl(at / "d", "u::rwx,g::r-x,o::---", posix1e.ACL_TYPE_DEFAULT)
    assert look(at / "d", only(F.ACL)).acl_default == AclDefault(7, 5, 0, None)
    set_acl(at / "d", "u::rwx,u:33:r--,g::r-x,g:1:rwx,m::rw-,o::--x", posix1e.ACL_TYPE_DEFAULT)
    node = look(at / "d", only(F.ACL, F.UIDS_32BIT))
    assert node.acl_default == AclDefault(7, 5, 1, 6)
    assert node.acl_default_users == (AclEntry(33, 4),)
    assert node.acl_default_groups == (AclEntry(1, 7),)
    assert (node.acl_users, node.acl_group_obj) == ((), None)
    assert look(at / "d", only(F.PERMISSIONS)).acl_default is None


def test_acl_of_special_files(ground: Grounds) -> None:
    """Fifos have ACLs although they are not opened; symlinks never do, and theirs are not those of the target."""
    at = ground("acl-special")
    os.mkfifo(at / "p")
    set_acl(at / "p", "u::rw-,u:33:r--,g::r--,m::r--,o::---")
    assert look(at / "p", only(F.ACL, F.UIDS_32BIT)).acl_users == (AclEntry(33, 4),)
    (at / "l").symlink_to("p")
    assert look(at / "l", only(F.ACL)).acl_group_obj is None


def test_nothing_is_invented(ground: Grounds) -> None:
    """A plain file has no optional metadata at all."""
    at = ground("plain")
    (at / "f").touch()
    node = look(at / "f", EVERYTHING & ~flags.CHATTR)
    assert (node.xattrs, node.acl_users, node.acl_group_obj, node.acl_default) == ((), (), None, None)
    assert (node.fcaps, node.projid, node.flags) == (None, 0, 0)


# ---- chattr flags, project ids, subvolumes


@pytest.mark.root
def test_chattr_flags(ground: Grounds) -> None:
    """Flags are recorded with the values of their feature flags, and only those that are asked for."""
    at = ground("chattr")
    (at / "f").touch()
    inodes.set_flags(at / "f", inodes.NOATIME | inodes.SYNC | inodes.APPEND | inodes.NODUMP)
    try:
        everything = F.FLAG_NOATIME | F.FLAG_SYNC | F.FLAG_APPEND | F.FLAG_NODUMP
        assert look(at / "f").flags == everything
        assert look(at / "f", flags.select()).flags == everything & ~F.FLAG_NODUMP
        assert look(at / "f", only(F.FLAG_SYNC)).flags == F.FLAG_SYNC
        assert look(at / "f", only(F.XATTRS)).flags == 0
    finally:
        inodes.set_flags(at / "f", drop=inodes.ARCHIVED)


@pytest.mark.root
def test_chattr_flags_of_directories(ground: Grounds) -> None:
    """Directories have flags of their own."""
    at = ground("chattr-dir")
    (at / "d").mkdir()
    inodes.set_flags(at / "d", inodes.DIRSYNC | inodes.NOATIME)
    assert look(at / "d").flags == F.FLAG_DIRSYNC | F.FLAG_NOATIME


@pytest.mark.root
@pytest.mark.parametrize("on", ["ext4", "xfs"])
def test_project_ids(ground: Grounds, on: str) -> None:
    """Quota project ids of files and directories are recorded where the file system has them."""
    at = ground("projid", on)
    (at / "f").touch()
    try:
        inodes.set_project(at / "f", 4711)
    except OSError as error:
        pytest.skip(f"project ids cannot be set on this {on}: {error}")
    assert look(at / "f", only(F.QUOTA_PROJID)).projid == 4711
    assert look(at / "f", only(F.XATTRS)).projid == 0


@pytest.mark.root
def test_subvolumes(ground: Grounds) -> None:
    """btrfs subvolumes are marked, read-only ones twice; plain directories are not."""
    at = ground("subvolumes", "btrfs")
    (at / "plain").mkdir()
    inodes.make_subvolume(at / "sub")
    assert look(at / "plain").flags & flags.SUBVOLUME_BITS == 0
    assert look(at / "sub").flags & flags.SUBVOLUME_BITS == F.SUBVOLUME
    inodes.set_read_only(at / "sub", True)
    try:
        assert look(at / "sub").flags & flags.SUBVOLUME_BITS == F.SUBVOLUME | F.SUBVOLUME_RO
        assert look(at / "sub", only(F.SUBVOLUME)).flags == F.SUBVOLUME
        assert look(at / "sub", only(F.XATTRS)).flags == 0
    finally:
        inodes.set_read_only(at / "sub", False)


@pytest.mark.root
def test_fat_attributes(ground: Grounds) -> None:
    """New files on FAT have the archive bit."""
    at = ground("fat", "vfat")
    (at / "f").touch()
    assert look(at / "f").flags == F.FLAG_ARCHIVE
    assert look(at / "f", only(F.FLAG_HIDDEN)).flags == 0


def test_types_and_flags() -> None:
    """Which types of file are stored is a matter of flags."""
    inspector = Inspector(only(F.FIFOS), IdShift())
    assert inspector.stores(stat.S_IFREG)
    assert inspector.stores(stat.S_IFDIR)
    assert inspector.stores(stat.S_IFIFO)
    assert not inspector.stores(stat.S_IFLNK)
    assert not inspector.stores(stat.S_IFSOCK)
    assert not inspector.stores(stat.S_IFCHR)
    assert not inspector.stores(0)
