"""One node in full: what `stat` prints, compared with what casync 2 printed, and its JSON.

Blocks marked V11 and V15 are output of the real binary for those trees; the other expected lines were printed by it
for the very archives that are built here (2026-11, `casync 2+20201210-1+b1`), unless a test says that we differ.
"""

from __future__ import annotations

import hashlib
import json
import stat
import time
from collections.abc import Iterable, Iterator
from random import Random

import pytest
from archives import END, Memory, Step, archive

from casync_compat.nodeview import json_line, json_pieces
from casync_compat.textform import chattr_letters, escape, fat_letters
from casync_compat.verbs.stat import NodeStat, read_stat, stat_json, stat_lines
from catar import Archive, Encoder, Node, RangeSource, Walker, XAttr
from catar.decoder import Decoder
from catar.flags import DEFAULT, NO_REPLAY_LIMIT, NODE_FLAGS, SUBVOLUME_BITS, FeatureFlags, select
from catar.records import AclDefault, AclEntry, DirectoryEnd

F = FeatureFlags
REG, DIR, LNK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK

T = 1_500_000_000_000_000_000
EVERY_FLAG = DEFAULT & NODE_FLAGS & ~SUBVOLUME_BITS


def one(node: Node, payload: bytes = b"", features: int = DEFAULT) -> NodeStat:
    """What is to be said about a file `f` in an archive with nothing else."""
    node.name = b"f"
    mode = DIR | (0o755 if features & (F.ACL | F.PERMISSIONS) else 0o777)
    steps: list[Step] = [Node(b"", mode), (node, payload), END]
    return read_stat(archive([*steps, END] if node.is_dir else steps, features).walk(b"f"))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Tests run in UTC; the time zone of the process comes back after them."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield patch
    time.tzset()


def shown(
    about: NodeStat, *, mask: int = NO_REPLAY_LIMIT, scanned: bool = False, shifted: bool = False
) -> list[str]:
    lines = stat_lines(about, mask=mask, scanned=scanned, shifted=shifted)
    return b"".join(lines).decode().removesuffix("\n").split("\n")


def labels(lines: Iterable[str]) -> list[str]:
    return [line[:8].strip() for line in lines]


def v15() -> Archive:
    """The mixed tree of V15."""
    t = T + 500_000_000
    www = b"www-data"
    return archive(
        [
            Node(b"", DIR | 0o755, mtime=t),
            (Node(b"back\\slash", REG | 0o644, mtime=t), b"x"),
            Node(b"blk", stat.S_IFBLK | 0o600, mtime=t, device=(7, 1)),
            (Node(b"hash#", REG | 0o644, mtime=t, xattrs=(XAttr(b"user.k", b"a b\n"),)), b"x"),
            Node(b"l", LNK | 0o777, mtime=t, target=b"tar get"),
            Node(b"p", stat.S_IFIFO | 0o644, mtime=t),
            (Node(b"sp ace", REG | 0o644, mtime=t), b"hello"),
            (Node(b"suid", REG | 0o4711, mtime=t, uid=33, gid=33, user=www, group=www), b"s"),
            Node(b"tmp", DIR | 0o1777, mtime=t),
            END,
            (Node("ü".encode(), REG | 0o644, mtime=t), b"x"),
            END,
        ]
    )


V15 = {
    b"": r"""
    File: .
    Mode: drwxr-xr-x
FileAttr: ----------
 FATAttr: ---
  Offset: 0
    Time: 2017-07-14 02:40:00.500000000
    User: root (0)
   Group: root (0)""",
    b"hash#": r"""
    File: hash\043
    Mode: -rw-r--r--
FileAttr: ----------
 FATAttr: ---
  Offset: 310
    Time: 2017-07-14 02:40:00.500000000
    Size: 1
    User: root (0)
   Group: root (0)
   XAttr: user.k → a\040b\012
  Digest: 6a1db6c1dd481f7aab2adb9c262b210edcca35624ec64c29ffca6857b1e30253
HLDigest: e7fffc3e18629c20d3dd40dee701c890550d25ddaa7d51369cb75839892f2713""",
    b"l": r"""
    File: l
    Mode: lrwxrwxrwx
  Offset: 436
    Time: 2017-07-14 02:40:00.500000000
    User: root (0)
   Group: root (0)
  Target: tar\040get
HLDigest: 9b22ad64f86411d451d4a2628b420d07fe6d60d0e6061cce7d8ff78fd84fbc2f""",
    b"blk": r"""
    File: blk
    Mode: brw-------
  Offset: 192
    Time: 2017-07-14 02:40:00.500000000
    User: root (0)
   Group: root (0)
  Device: 7:1
  Digest: c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a
HLDigest: d7c54e3377a8528a8d1a52765bc37b3609d6c0c025a7e1fd016e949ac52e031a""",
    b"suid": r"""
    File: suid
    Mode: -rws--x--x
FileAttr: ----------
 FATAttr: ---
  Offset: 735
    Time: 2017-07-14 02:40:00.500000000
    Size: 1
    User: www-data (33)
   Group: www-data (33)
  Digest: ed6f35fcd7bc4122ce07a56971e3c9cd4c868d4bf3faf725159329a8df242eb5
HLDigest: 2106f30c155e797b845008c82aec48b87f7f6e24eb84cc243d6557dac01ac405""",
}


@pytest.mark.parametrize("path", V15)
def test_mixed(path: bytes) -> None:
    """Every kind of node is shown as casync does, both digests included (V15)."""
    assert ["", *shown(read_stat(v15().walk(path)))] == V15[path].split("\n")


def test_indexed_tree() -> None:
    """A file of the V3 tree, as casync showed it from an index (V11)."""
    files: list[Step] = [(Node(n, REG | 0o644, mtime=T), n) for n in (b"B", b"a", b"a-b", b"a.b", b"b")]
    tree = archive([Node(b"", DIR | 0o755, mtime=T), *files, END])
    assert shown(read_stat(tree.walk(b"a-b"))) == [
        "    File: a-b",
        "    Mode: -rw-r--r--",
        "FileAttr: ----------",
        " FATAttr: ---",
        "  Offset: 282",
        "    Time: 2017-07-14 02:40:00.000000000",
        "    Size: 3",
        "    User: root (0)",
        "   Group: root (0)",
        "  Digest: 327b60616d15663c06e646682513bb37f3f6fa6a3c2b30c213bf055cebb37b40",
        "HLDigest: e5847a05c1bd2c856b2d46b5c32d963b9c2a5a34c63a34d62bae01696924fb20",
    ]


def rich() -> Node:
    """A file with nearly everything that a file can have."""
    return Node(
        b"f",
        REG | 0o644,
        uid=5,
        gid=6,
        user=b"u-x",
        group=b"g_x",
        mtime=-5 * 10**9 % 2**64,
        xattrs=(XAttr(b"user.a b", b"\0\xff#\\ x"), XAttr(b"user.b", b"")),
        fcaps=b"\x01\0\0\x02xx",
        selinux=b"lab:el x",
        projid=77,
    )


def test_rich_file() -> None:
    """Attributes are escaped, an empty one keeps its arrow; labels and capabilities are left out, as casync does."""
    assert shown(one(rich(), b"hi")) == [
        "    File: f",
        "    Mode: -rw-r--r--",
        "FileAttr: ----------",
        " FATAttr: ---",
        "  Offset: 82",
        "    Time: 2554-07-21 23:34:28.709551616",
        "    Size: 2",
        "    User: u-x (5)",
        "   Group: g_x (6)",
        "  ProjID: 77",
        r"   XAttr: user.a\040b → \000\377\043\134\040x",
        "   XAttr: user.b → ",
        "  Digest: 8ab98d4dbaa10dbf48a1ee02367c967e39987e5096b90a4067a242b470be755a",
        "HLDigest: 656ec201ebef675ae6ee0cfd19dee28b5e45c3d0beba96f4440738cb3acfdae7",
    ]


@pytest.mark.parametrize("mode", [stat.S_IFIFO | 0o777, stat.S_IFSOCK | 0o600, stat.S_IFCHR | 0o600])
def test_special_nodes(mode: int) -> None:
    """Nodes without contents have an HLDigest only."""
    about = one(Node(b"f", mode, device=(1, 3) if stat.S_ISCHR(mode) else None))
    wanted = ["File", "Mode", "Offset", "Time", "User", "Group", "HLDigest"]
    if stat.S_ISCHR(mode):
        wanted.insert(6, "Device")
    assert labels(shown(about)) == wanted


def test_flags_of_files() -> None:
    """Attribute letters stand in casync's order; a missing one is a dash."""
    lines = shown(one(Node(b"f", REG | 0o644, flags=EVERY_FLAG)))
    assert lines[2:4] == ["FileAttr: SDia-AcNCP", " FATAttr: hsa"]
    lines = shown(one(Node(b"f", DIR | 0o755, flags=int(F.FLAG_APPEND | F.FLAG_SYSTEM))))
    assert lines[2:4] == ["FileAttr: ---a------", " FATAttr: -s-"]


@pytest.mark.parametrize(
    ("flag", "letter"),
    [
        (F.FLAG_SYNC, "S"),
        (F.FLAG_DIRSYNC, "D"),
        (F.FLAG_IMMUTABLE, "i"),
        (F.FLAG_APPEND, "a"),
        (F.FLAG_NODUMP, "d"),
        (F.FLAG_NOATIME, "A"),
        (F.FLAG_COMPR, "c"),
        (F.FLAG_NOCOMP, "N"),
        (F.FLAG_NOCOW, "C"),
        (F.FLAG_PROJINHERIT, "P"),
    ],
)
def test_each_attribute_letter(flag: FeatureFlags, letter: str) -> None:
    """Each chattr flag has the letter that lsattr has for it (N and C are casync's choice)."""
    assert chattr_letters(int(flag)).replace(b"-", b"").decode() == letter
    assert fat_letters(int(flag)) == b"---"


def owned() -> NodeStat:
    return one(Node(b"f", REG | 0o644, uid=0, gid=4, group=b"adm", mtime=1_600_000_000_123_456_789), b"q")


@pytest.mark.parametrize(
    ("mask", "user", "group", "when"),
    [
        (int(F.USER_NAMES), ["    User: root"], ["   Group: adm"], []),
        (int(F.UIDS_16BIT), ["    User: 0"], ["   Group: 4"], []),
        (int(F.SEC_TIME), [], [], ["    Time: 2020-09-13 12:26:40.123456789"]),
        (int(F.ACL), ["    User: root (0)"], ["   Group: adm (4)"], []),
        (0, [], [], []),
    ],
)
def test_mask(mask: int, user: list[str], group: list[str], when: list[str]) -> None:
    """`--with` and `--without` limit owners and times."""
    lines = shown(owned(), mask=mask)
    assert lines[:5] == [
        "    File: f",
        "    Mode: -rw-r--r--",
        "FileAttr: ----------",
        " FATAttr: ---",
        "  Offset: 82",
    ]
    assert lines[5:-2] == [*when, "    Size: 1", *user, *group]


def test_mask_limits_flags_only() -> None:
    """Flags that are masked out show as dashes; project ids and attributes are shown whatever the mask."""
    node = rich()
    node.flags = EVERY_FLAG
    lines = shown(one(node, b"hi"), mask=int(F.FLAG_APPEND))
    assert lines[2:4] == ["FileAttr: ---a------", " FATAttr: ---"]
    assert labels(lines)[5:] == ["Size", "ProjID", "XAttr", "XAttr", "Digest", "HLDigest"]


def test_unknown_owner() -> None:
    """An owner without a name is shown by number; where only names are wanted, not at all."""
    about = one(Node(b"f", REG | 0o644, uid=3, gid=0))
    assert "    User: 3" in shown(about)
    assert "   Group: root (0)" in shown(about)
    assert [line for line in shown(about, mask=int(F.USER_NAMES)) if "User" in line or "Group" in line] == [
        "   Group: root"
    ]


def test_shifted() -> None:
    """With an id shift, owner 0 is not called root."""
    assert "    User: 0" in shown(owned(), shifted=True)
    assert "   Group: adm (4)" in shown(owned(), shifted=True)


def test_owner_names_cannot_forge_lines() -> None:
    """A user name with a line feed, which casync would refuse, stays in its line."""
    about = one(Node(b"f", REG | 0o644, uid=5, gid=5, user=b"x\n  Digest: 00", group=b"g"))
    assert r"    User: x\012\040\040Digest:\04000 (5)" in shown(about)


@pytest.mark.parametrize(
    ("zone", "early", "late"),
    [
        ("UTC", "2017-07-14 02:40:00.000000005", "2554-07-21 23:34:33.709551614"),
        ("Europe/Berlin", "2017-07-14 04:40:00.000000005", "2554-07-22 01:34:33.709551614"),
        ("America/St_Johns", "2017-07-14 00:10:00.000000005", "2554-07-21 21:04:33.709551614"),
        ("XXX-3:17:11", "2017-07-14 05:57:11.000000005", "2554-07-22 02:51:44.709551614"),
    ],
)
def test_local_time(utc: pytest.MonkeyPatch, zone: str, early: str, late: str) -> None:
    """Times are shown in the local zone, up to the largest that an archive can hold."""
    utc.setenv("TZ", zone)
    time.tzset()
    assert f"    Time: {early}" in shown(one(Node(b"f", REG | 0o644, mtime=T + 5)))
    assert f"    Time: {late}" in shown(one(Node(b"f", REG | 0o644, mtime=2**64 - 2)))


def test_other_feature_flags() -> None:
    """An archive with few features and SHA-256 says what it has, and hashes with SHA-256."""
    features = select([F.USER_NAMES | F.UIDS_16BIT | F.TWO_SEC_TIME | F.QUOTA_PROJID], digest_bits=0)
    node = Node(b"a", REG | 0o666, uid=7, gid=8, user=b"uu", group=b"gg", mtime=T, projid=9)
    assert shown(one(node, b"abc", features)) == [
        "    File: f",
        "    Mode: -rw-rw-rw-",
        "FileAttr: ----------",
        " FATAttr: ---",
        "  Offset: 82",
        "    Time: 2017-07-14 02:40:00.000000000",
        "    Size: 3",
        "    User: uu (7)",
        "   Group: gg (8)",
        "  ProjID: 9",
        "  Digest: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "HLDigest: e62a89a295329f8b84b2accb703345948241359c8af84cb22953321fbb9a79b7",
    ]


@pytest.mark.parametrize(
    ("with_", "expected"),
    [
        (F.XATTRS, ["File", "Mode", "FileAttr", "Offset"]),
        (F.XATTRS | F.FLAG_HIDDEN, ["File", "Mode", "FileAttr", "FATAttr", "Offset"]),
        (F.XATTRS | F.QUOTA_PROJID, ["File", "Mode", "FileAttr", "Offset", "ProjID"]),
        (F.XATTRS | F.UIDS_16BIT, ["File", "Mode", "FileAttr", "Offset", "User", "Group"]),
    ],
)
def test_scanned_directory(with_: FeatureFlags, expected: list[str]) -> None:
    """For a directory, FAT attributes and project id appear when they are asked for, even when there are none."""
    about = NodeStat(b"", Node(b"", DIR | 0o777), select([with_]), None, None)
    assert labels(shown(about, scanned=True)) == expected


# Digests


def walked(data: bytes, piece: int) -> NodeStat:
    decoder = Decoder(any_top=True)
    return read_stat(Walker(RangeSource(Memory(data), 0, len(data), piece), decoder))


@pytest.mark.parametrize("piece", [1, 7, 64, 100_000])
def test_hl_digest_covers_the_inode(piece: int) -> None:
    """HLDigest is over exactly the archive's bytes of the inode, in whatever pieces they come."""
    node = rich()
    node.name = b""
    node.size = 300
    payload = bytes(range(100)) * 3
    data = Encoder(DEFAULT, any_top=True).begin(node) + payload
    about = walked(data, piece)
    assert about.hl_digest == hashlib.new("sha512_256", data).digest()
    assert about.digest == hashlib.new("sha512_256", payload).digest()


def test_hard_links_share_it() -> None:
    """Two names of one inode have one HLDigest, wherever they stand; another inode has another."""

    def inode(name: bytes, uid: int = 0) -> Step:
        acl = (AclEntry(3, 7, b"q"),)
        return (Node(name, REG | 0o640, mtime=T, uid=uid, acl_users=acl, acl_group_obj=5), b"same")

    top, sub = Node(b"", DIR | 0o755), Node(b"d", DIR | 0o755)
    tree = archive([top, inode(b"a"), sub, inode(b"other"), END, inode(b"z", uid=1), END])
    first, second, third = (read_stat(tree.walk(path)) for path in (b"a", b"d/other", b"z"))
    assert first.hl_digest == second.hl_digest
    assert first.hl_digest != third.hl_digest
    assert first.digest == second.digest == third.digest


def test_node_is_left_alone() -> None:
    """Making the digests does not change what the stream gave out: name and offsets stay."""
    about = read_stat(v15().walk(b"hash#"))
    assert about.path == b"hash#"
    assert (about.node.offset, about.node.payload_offset) == (310, 417)


class ClosingStream:
    """A stream that, like a directory scan, closes its file when nobody holds its iterator any more."""

    path = b"f"
    feature_flags = DEFAULT

    def __init__(self) -> None:
        self.open = False

    def __iter__(self) -> Iterator[Node | DirectoryEnd]:
        self.open = True
        try:
            yield Node(b"f", REG | 0o644, size=2)
        finally:
            self.open = False

    def payload(self) -> Iterator[memoryview]:
        assert self.open
        yield memoryview(b"hi")


def test_payload_is_read_before_the_stream_ends() -> None:
    """The file of a scanned node is still open when its payload is hashed."""
    about = read_stat(ClosingStream())
    assert about.digest == hashlib.new("sha512_256", b"hi").digest()


# JSON


def test_json() -> None:
    """`stat --json` adds digests, and their algorithm, to what a listing says of the node."""
    row = json.loads(b"".join(stat_json(one(rich(), b"hi"))))
    assert row == {
        "name": "f",
        "type": "file",
        "mode": "0644",
        "size": 2,
        "uid": 5,
        "gid": 6,
        "user": "u-x",
        "group": "g_x",
        "mtime": "1969-12-31T23:59:55.000000000Z",
        "mtime_ns": -5_000_000_000,
        "projid": 77,
        "xattrs": [
            {"name": "user.a b", "value_base64": "AP8jXCB4"},
            {"name": "user.b", "value": ""},
        ],
        "selinux": "lab:el x",
        "fcaps": "010000027878",
        "offset": 82,
        "digest_algorithm": "sha512-256",
        "digest": "8ab98d4dbaa10dbf48a1ee02367c967e39987e5096b90a4067a242b470be755a",
        "hldigest": "656ec201ebef675ae6ee0cfd19dee28b5e45c3d0beba96f4440738cb3acfdae7",
    }


def test_json_acl_text() -> None:
    """An ACL also stands there as `getfacl --numeric` has it; the mask and the owner's part are those of the mode."""
    users = (AclEntry(33, 6, b"www-data"), AclEntry(40, 1))
    default = AclDefault(7, 5, 0, 4)
    node = Node(
        b"", DIR | 0o750, acl_users=users, acl_group_obj=0, acl_default=default, acl_default_users=users
    )
    row = json.loads(b"".join(stat_json(one(node))))
    assert row["acl_text"] == "user::rwx,user:33:rw-,user:40:--x,group::---,mask::r-x,other::---"
    assert row["acl_default_text"] == "user::rwx,user:33:rw-,user:40:--x,group::r-x,mask::r--,other::---"
    assert not {"acl", "acl_text"} & json.loads(b"".join(stat_json(one(rich())))).keys()


def test_json_is_one_line() -> None:
    """A line of JSON ends in the only line feed in it, whatever is in the node, and is ASCII."""
    line = b"".join(stat_json(read_stat(v15().walk(b"hash#"))))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert b"".join(stat_json(read_stat(v15().walk("ü".encode())))).isascii()


def test_json_without_digests() -> None:
    """A directory has no digests; a symlink has no payload digest."""
    top = json.loads(b"".join(stat_json(read_stat(v15().walk()))))
    assert not {"digest", "hldigest", "digest_algorithm"} & top.keys()
    link = json.loads(b"".join(stat_json(read_stat(v15().walk(b"l")))))
    assert link["hldigest"].startswith("9b22ad64")
    assert "digest" not in link


def test_json_mask() -> None:
    """The mask takes away what it does from the text."""
    row = json.loads(b"".join(stat_json(owned(), mask=int(F.UIDS_32BIT))))
    assert (row["uid"], row["gid"]) == (0, 4)
    assert not {"user", "group", "mtime", "mtime_ns"} & row.keys()


def test_json_in_pieces_is_the_same_line() -> None:
    """Pieces put together are what one call of json gives."""
    for fields in ({}, {"a": []}, {"a": [1, {"b": "ü"}], "c": {"d": None}, "\udcff": "x"}):
        assert b"".join(json_pieces(fields)) == json_line(fields)


def test_a_node_with_all_attributes_that_it_may_have() -> None:
    """62 MiB of values that have to be escaped are shown line by line, exactly as a byte alone would be."""
    values = [Random(number).randbytes(65_000) for number in range(3)] + [
        bytes(range(256)) * 3,
        b"x" * 200,
        b"\0" * 128,
    ]
    node = Node(
        name=b"",
        mode=REG | 0o644,
        xattrs=tuple(XAttr(b"user.%d" % i, value) for i, value in enumerate(values)),
    )
    lines = [line for line in stat_lines(one(node)) if line.startswith(b"   XAttr")]
    for number, (line, value) in enumerate(zip(lines, values, strict=True)):
        wanted = b"".join(escape(bytes([byte])) for byte in value)
        assert line == b"   XAttr: user.%d \xe2\x86\x92 %b\n" % (number, wanted)
