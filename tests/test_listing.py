"""Listings: what `list`, `mtree` and their JSON form print, compared with what casync 2 printed.

Lines marked V11 and V15 are output of the real binary over those two trees; the other expected lines were printed by
it for the very archives that are built here (2026-11, `casync 2+20201210-1+b1`), unless a test says that we differ.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from archives import END, Memory, OneByOne, Step, archive, encode
from hypothesis import given
from hypothesis import strategies as st
from strategies import Archived, plain_archives

from casync_compat.ids import Digest
from casync_compat.lines import has_runs, json_lines, list_lines, mtree_lines
from casync_compat.textform import escape, ls_mode
from catar import Archive, FormatError, Node, RangeSource, Walker, XAttr
from catar.flags import DEFAULT, NO_REPLAY_LIMIT, NODE_FLAGS, SUBVOLUME_BITS, WITH_ALL, FeatureFlags, select
from catar.records import AclDefault, AclEntry, DirectoryEnd

F = FeatureFlags
REG, DIR, LNK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK

T = 1_500_000_000_000_000_000
NOFLAGS = "flags=nohidden,nosystem,noarchive,nosappend,nosimmutable"
ALLFLAGS = "flags=hidden,system,archive,sappend,simmutable"
ROOT = "uid=0 gid=0 uname=root gname=root"
X_DIGEST = "6a1db6c1dd481f7aab2adb9c262b210edcca35624ec64c29ffca6857b1e30253"
Q_DIGEST = "a234e923dde04be6a2d4d1a1f4f39e5381aa1693a3e8e45533e0751cc22cdfa3"


def text(lines: Iterable[bytes]) -> str:
    return b"".join(lines).decode("ascii")


def rows(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def v11() -> Archive:
    """The tree of V3 and V11: files that hold their own names, and `dir/f`."""
    files: list[Step] = [(Node(n, REG | 0o644, mtime=T), n) for n in (b"B", b"a", b"a-b", b"a.b", b"b")]
    below: list[Step] = [
        Node(b"dir", DIR | 0o755, mtime=T),
        (Node(b"f", REG | 0o644, mtime=T), b"deep"),
        END,
        END,
    ]
    return archive([Node(b"", DIR | 0o755, mtime=T), *files, *below])


def v15() -> Archive:
    """The mixed tree of V15."""
    t = T + 500_000_000
    return archive(
        [
            Node(b"", DIR | 0o755, mtime=t),
            (Node(b"back\\slash", REG | 0o644, mtime=t), b"x"),
            Node(b"blk", stat.S_IFBLK | 0o600, mtime=t, device=(7, 1)),
            (Node(b"hash#", REG | 0o644, mtime=t, xattrs=(XAttr(b"user.k", b"a b\n"),)), b"x"),
            Node(b"l", LNK | 0o777, mtime=t, target=b"tar get"),
            Node(b"p", stat.S_IFIFO | 0o644, mtime=t),
            (Node(b"sp ace", REG | 0o644, mtime=t), b"hello"),
            (
                Node(b"suid", REG | 0o4711, mtime=t, uid=33, gid=33, user=b"www-data", group=b"www-data"),
                b"s",
            ),
            Node(b"tmp", DIR | 0o1777, mtime=t),
            END,
            (Node("ü".encode(), REG | 0o644, mtime=t), b"x"),
            END,
        ]
    )


def one(node: Node, payload: bytes = b"", features: int = DEFAULT) -> Archive:
    """An archive with one file in it."""
    steps: list[Step] = [Node(b"", DIR | 0o755), (node, payload)]
    return archive([*steps, END, END] if node.is_dir else [*steps, END], features)


def last(lines: Iterable[bytes]) -> str:
    return list(lines)[-1].decode("ascii")


# list


def test_list_mixed() -> None:
    """`list` prints type, permissions and the escaped path of every node (V15)."""
    assert text(list_lines(v15().walk())).splitlines() == [
        "drwxr-xr-x .",
        r"-rw-r--r-- back\134slash",
        "brw------- blk",
        r"-rw-r--r-- hash\043",
        "lrwxrwxrwx l",
        "prw-r--r-- p",
        r"-rw-r--r-- sp\040ace",
        "-rws--x--x suid",
        "drwxrwxrwt tmp",
        r"-rw-r--r-- \303\274",
    ]


V11_TOP = [
    "drwxr-xr-x .",
    "-rw-r--r-- B",
    "-rw-r--r-- a",
    "-rw-r--r-- a-b",
    "-rw-r--r-- a.b",
    "-rw-r--r-- b",
    "drwxr-xr-x dir",
]


def test_list_recursive() -> None:
    """Nodes below have full paths, and a path inside starts there with paths still full (V11)."""
    assert text(list_lines(v11().walk())).splitlines() == [*V11_TOP, "-rw-r--r-- dir/f"]
    assert text(list_lines(v11().walk(b"dir"))).splitlines() == ["drwxr-xr-x dir", "-rw-r--r-- dir/f"]
    assert text(list_lines(v11().walk(b"a-b"))) == "-rw-r--r-- a-b\n"


def test_list_not_recursive() -> None:
    """Without recursion the top node and its children are listed, wherever the top is (V11)."""
    assert text(list_lines(v11().walk(), recursive=False)).splitlines() == V11_TOP
    tree = archive(
        [
            Node(b"", DIR | 0o755),
            Node(b"a", DIR | 0o755),
            Node(b"b", DIR | 0o755),
            (Node(b"c", REG | 0o644), b""),
            END,
            END,
            (Node(b"z", REG | 0o600), b""),
            END,
        ]
    )
    listed = text(list_lines(tree.walk(), recursive=False)).splitlines()
    assert listed == ["drwxr-xr-x .", "drwxr-xr-x a", "-rw------- z"]
    listed = text(list_lines(tree.walk(b"a"), recursive=False)).splitlines()
    assert listed == ["drwxr-xr-x a", "drwxr-xr-x a/b"]


def test_list_reads_no_payload() -> None:
    """Contents are passed over in the source, so that listing a large archive costs its metadata only."""
    data = encode([Node(b"", DIR | 0o755), (Node(b"big", REG | 0o644), bytes(1 << 20)), END])
    memory = Memory(data)
    walker = Walker(RangeSource(memory, 0, len(data), 4096))
    assert text(list_lines(walker)).splitlines() == ["drwxr-xr-x .", "-rw-r--r-- big"]
    assert memory.bytes_read < 16384


def test_list_broken_archive() -> None:
    """What stands before the damage is listed, then the error comes, with its offset."""
    data = encode([Node(b"", DIR | 0o755), (Node(b"a", REG | 0o644), b""), END])
    lines = list_lines(Walker(RangeSource(Memory(data[:-8]), 0, len(data) - 8)))
    assert next(lines) == b"drwxr-xr-x .\n"
    assert next(lines) == b"-rw-r--r-- a\n"
    with pytest.raises(FormatError) as caught:
        next(lines)
    assert caught.value.offset == len(data) - 8


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        (REG | 0o0, "----------"),
        (REG | 0o1000, "----------"),
        (REG | 0o2000, "------S---"),
        (REG | 0o4000, "---S------"),
        (REG | 0o7000, "---S--S---"),
        (REG | 0o7777, "-rwsrwsrwx"),
        (REG | 0o1001, "---------x"),
        (REG | 0o2010, "------s---"),
        (REG | 0o4100, "---s------"),
        (DIR | 0o7755, "drwsr-sr-t"),
        (DIR | 0o1776, "drwxrwxrwT"),
        (DIR | 0o7000, "d--S--S--T"),
        (stat.S_IFCHR | 0o1600, "crw-------"),
        (stat.S_IFBLK | 0o7777, "brwsrwsrwx"),
        (stat.S_IFIFO | 0o1777, "prwxrwxrwx"),
        (stat.S_IFSOCK | 0o4755, "srwsr-xr-x"),
        (LNK | 0o777, "lrwxrwxrwx"),
    ],
)
def test_modes(mode: int, shown: str) -> None:
    """Special bits take the place of x; the sticky bit shows on directories only, unlike in ls."""
    assert ls_mode(mode).decode() == shown


def test_escape_every_byte() -> None:
    """Exactly control bytes, space, DEL, everything from 0x80 on, backslash and hash become three octal digits."""
    odd = {*range(0x21), *range(0x7F, 0x100), ord("\\"), ord("#")}
    for byte in range(256):
        expected = b"\\" + oct(byte)[2:].zfill(3).encode() if byte in odd else bytes([byte])
        assert escape(bytes([byte])) == expected


@given(st.binary())
def test_escape_loses_nothing(name: bytes) -> None:
    """Escaped text is one printable ASCII word, from which the name can be had back."""
    shown = escape(name)
    assert re.fullmatch(rb"[!-~]*", shown)
    assert re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), shown) == name


@given(plain_archives(), st.sampled_from([1 << 20, 200]))
def test_list_in_runs(archived: Archived, piece: int) -> None:
    """Lines of runs, made by `_listing.c`, are those of one node at a time."""
    source = RangeSource(Memory(archived.data), 0, len(archived.data), piece)
    assert text(list_lines(Walker(source))) == text(list_lines(OneByOne(archived.data)))


@pytest.mark.skipif(not has_runs(), reason="the native part is not compiled")
def test_modes_in_runs() -> None:
    """The native part shows every mode that nodes in runs can have as `ls_mode` does, and puts paths together alike."""
    from casync_compat._lines import list_text

    buffer = b"?a#b"
    for kind in (REG, LNK):
        packed = b"".join(struct.pack("=16Q", kind | bits, 1, 3, *[0] * 13) for bits in range(0o10000))
        expected = [b"%b in/a\\043b" % ls_mode(kind | bits) for bits in range(0o10000)]
        assert list_text(buffer, packed, b"in").splitlines() == expected
    for bits in range(0o10000):
        packed = struct.pack("=16Q", DIR | bits, 1, 1, *[0] * 13) * 2 + bytes(128) * 2
        shown = ls_mode(DIR | bits)
        assert list_text(buffer, packed, b"") == b"%b a\n%b a/a\n" % (shown, shown)


@pytest.mark.skipif(not has_runs(), reason="the native part is not compiled")
@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (bytes(127), "not whole rows"),
        (struct.pack("=16Q", REG, 4, 1, *[0] * 13), "outside"),
        (struct.pack("=16Q", REG, 1 << 63, 1 << 63, *[0] * 13), "outside"),
        (struct.pack("=16Q", REG, 0, 1 << 63, *[0] * 13), "outside"),
    ],
)
def test_rows_that_cannot_be(rows: bytes, says: str) -> None:
    """Rows that point outside of their buffer are refused."""
    from casync_compat._lines import list_text, mtree_text

    with pytest.raises(ValueError, match=says):
        list_text(b"abcd", rows, b"")
    with pytest.raises(ValueError, match=says):
        mtree_text(b"abcd", rows, b"", (True, True, False, 0, True, b"", b"", b"d"), bytes(64))


# mtree


def test_mtree_mixed() -> None:
    """`mtree` prints all of V15 as casync does, with all flags "set" on nodes that have none."""
    common, t = f"{ROOT} {NOFLAGS}", "time=1500000000.500000000"
    x = f"size=1 {common} {t} sha512256digest={X_DIGEST}"
    hello = "e30d87cfa2a75db545eac4d61baf970366a8357c7f72fa95b52d0accb698f13a"
    suid = "ed6f35fcd7bc4122ce07a56971e3c9cd4c868d4bf3faf725159329a8df242eb5"
    www = "uid=33 gid=33 uname=www-data gname=www-data"
    assert text(mtree_lines(v15().walk())).splitlines() == [
        f". type=dir mode=0755 {common} {t}",
        rf"back\134slash type=file mode=0644 {x}",
        f"blk type=block mode=0600 device=linux,7,1 {ROOT} {ALLFLAGS} {t}",
        rf"hash\043 type=file mode=0644 {x}",
        rf"l type=link mode=0777 link=tar\040get {ROOT} {ALLFLAGS} {t}",
        f"p type=fifo mode=0644 {ROOT} {ALLFLAGS} {t}",
        rf"sp\040ace type=file mode=0644 size=5 {common} {t} sha512256digest={hello}",
        f"suid type=file mode=4711 size=1 {www} {NOFLAGS} {t} sha512256digest={suid}",
        f"tmp type=dir mode=1777 {common} {t}",
        rf"\303\274 type=file mode=0644 {x}",
    ]


def test_mtree_inside() -> None:
    """A path inside is listed from there, with full paths (V11)."""
    common, t = f"{ROOT} {NOFLAGS}", "time=1500000000.000000000"
    deep = "ec55ac0a574e3ac41f1dae3f860b38fa1e2541360eb550cd6731a20a169dcef5"
    assert text(mtree_lines(v11().walk(b"dir"))).splitlines() == [
        f"dir type=dir mode=0755 {common} {t}",
        f"dir/f type=file mode=0644 size=4 {common} {t} sha512256digest={deep}",
    ]


def test_mtree_other_kinds() -> None:
    """Sockets and character devices have their words; device numbers are the full ones."""
    sock = one(Node(b"d2", stat.S_IFSOCK | 0o4755))
    assert last(mtree_lines(sock.walk())) == (
        f"d2 type=socket mode=4755 {ROOT} {ALLFLAGS} time=0.000000000\n"
    )
    char = one(Node(b"c2", stat.S_IFCHR | 0o7777, device=(4095, 1048575)))
    assert last(mtree_lines(char.walk())) == (
        f"c2 type=char mode=7777 device=linux,4095,1048575 {ROOT} {ALLFLAGS} time=0.000000000\n"
    )


@pytest.mark.parametrize(
    ("mtime", "shown"),
    [
        (-2 % 2**64, "18446744073.709551614"),
        (-5 * 10**9 % 2**64, "18446744068.709551616"),
        (2**63, "9223372036.854775808"),
    ],
)
def test_mtree_time_is_unsigned(mtime: int, shown: str) -> None:
    """Times before 1970 print as the unsigned number that is stored, as casync does."""
    line = last(mtree_lines(one(Node(b"f", REG | 0o644, mtime=mtime)).walk()))
    assert f" time={shown} " in line


def owners() -> Archive:
    """Owners with and without names, and a time."""
    t = 1_600_000_000_123_456_789
    return archive(
        [
            Node(b"", DIR | 0o755, uid=3, gid=0, mtime=t),
            (Node(b"a", REG | 0o644, uid=3, gid=4, mtime=t), b"q"),
            (Node(b"b", REG | 0o644, uid=0, gid=4, group=b"adm", mtime=t), b"q"),
            Node(b"l", LNK | 0o777, target=b"/", uid=3, gid=0),
            END,
        ]
    )


TIME = "time=1600000000.123456789"


@pytest.mark.parametrize(
    ("mask", "top", "a", "b"),
    [
        (int(F.USER_NAMES), f"gname=root {NOFLAGS}", NOFLAGS, f"uname=root gname=adm {NOFLAGS}"),
        (int(F.UIDS_32BIT), f"uid=3 gid=0 {NOFLAGS}", f"uid=3 gid=4 {NOFLAGS}", f"uid=0 gid=4 {NOFLAGS}"),
        (int(F.UIDS_16BIT), f"uid=3 gid=0 {NOFLAGS}", f"uid=3 gid=4 {NOFLAGS}", f"uid=0 gid=4 {NOFLAGS}"),
        (int(F.SEC_TIME), f"{NOFLAGS} {TIME}", f"{NOFLAGS} {TIME}", f"{NOFLAGS} {TIME}"),
        (0, NOFLAGS, NOFLAGS, NOFLAGS),
        (
            WITH_ALL,
            f"uid=3 gid=0 gname=root {NOFLAGS} {TIME}",
            f"uid=3 gid=4 {NOFLAGS} {TIME}",
            f"uid=0 gid=4 uname=root gname=adm {NOFLAGS} {TIME}",
        ),
    ],
)
def test_mtree_mask(mask: int, top: str, a: str, b: str) -> None:
    """`--with` and `--without` limit owners and times; `root` is shown for id 0 where names are."""
    size, digest = "size=1", f"sha512256digest={Q_DIGEST}"
    assert text(mtree_lines(owners().walk(), mask=mask)).splitlines()[:3] == [
        f". type=dir mode=0755 {top}",
        f"a type=file mode=0644 {size} {a} {digest}",
        f"b type=file mode=0644 {size} {b} {digest}",
    ]


def test_mtree_shifted() -> None:
    """With an id shift, owner 0 is not called root."""
    lines = text(mtree_lines(owners().walk(), shifted=True)).splitlines()
    assert lines[0] == f". type=dir mode=0755 uid=3 gid=0 {NOFLAGS} {TIME}"
    assert " uid=0 gid=4 gname=adm flags" in lines[2]


def test_mtree_acl_brings_owners() -> None:
    """ACLs need owners, so that a mask of ACLs alone shows ids and names, even if no names were recorded."""
    features = select([F.ACL | F.UIDS_16BIT])
    node = Node(b"a", REG | 0o644, uid=3, gid=0)
    tree = one(node, b"q", features)
    assert last(mtree_lines(tree.walk())).startswith("a type=file mode=0644 size=1 uid=3 gid=0 sha")
    shown = last(mtree_lines(tree.walk(), mask=int(F.ACL)))
    assert shown.startswith("a type=file mode=0644 size=1 uid=3 gid=0 gname=root sha")


EVERY_FLAG = DEFAULT & NODE_FLAGS & ~SUBVOLUME_BITS


@pytest.mark.parametrize(
    ("mask", "regular"),
    [
        (NO_REPLAY_LIMIT, ALLFLAGS),
        (int(F.FLAG_APPEND), "flags=nohidden,nosystem,noarchive,sappend,nosimmutable"),
        (select([], [F.FLAG_HIDDEN]), "flags=nohidden,system,archive,sappend,simmutable"),
        (0, NOFLAGS),
    ],
)
def test_mtree_flags(mask: int, regular: str) -> None:
    """The archive says which flags are listed, the mask which of them may be set."""
    file = Node(b"e1", REG | 0o644, flags=EVERY_FLAG)
    assert f" {regular} " in last(mtree_lines(one(file).walk(), mask=mask))
    fifo = one(Node(b"p", stat.S_IFIFO | 0o644))
    assert ALLFLAGS in last(mtree_lines(fifo.walk(), mask=mask))


@pytest.mark.parametrize(
    ("features", "shown"),
    [
        (select([F.FLAG_HIDDEN]), " flags=nohidden"),
        (
            select([F.FLAG_NODUMP | F.FLAG_IMMUTABLE | F.FLAG_APPEND], exclude_nodump=False),
            " flags=nosappend,nonodump,nosimmutable",
        ),
        (select([F.FLAG_NOATIME | F.READ_ONLY]), ""),
        (select([F.FLAG_SYNC | F.SUBVOLUME]), ""),
    ],
)
def test_mtree_lists_recorded_flags(features: int, shown: str) -> None:
    """Flags that the archive does not record are not mentioned, nor are those that mtree has no word for."""
    tree = archive([Node(b"", DIR | 0o777), (Node(b"a", REG | 0o666), b"abc"), END], features)
    abc = "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"
    assert text(mtree_lines(tree.walk())).splitlines() == [
        f". type=dir mode=0777{shown}",
        f"a type=file mode=0666 size=3{shown} sha512256digest={abc}",
    ]


def test_mtree_label_is_the_digest() -> None:
    """The digest keyword tells the archive's algorithm. (casync's tells its --digest option; we differ on purpose.)"""
    tree = one(Node(b"a", REG | 0o644), b"abc", select(digest_bits=0))
    assert last(mtree_lines(tree.walk())).endswith(f" sha256digest={hashlib.sha256(b'abc').hexdigest()}\n")
    as_casync = last(mtree_lines(tree.walk(), digest_label=Digest.SHA512_256))
    assert as_casync.endswith(f" sha512256digest={hashlib.sha256(b'abc').hexdigest()}\n")


def test_mtree_blake3() -> None:
    """A blake3 archive has blake3 digests under a keyword of their own. The value is the published one of b"abc"."""
    tree = one(Node(b"a", REG | 0o644), b"abc", select(digest_bits=int(F.BLAKE3)))
    abc = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
    assert last(mtree_lines(tree.walk())).endswith(f" blake3digest={abc}\n")


def test_mtree_payload_in_pieces() -> None:
    """A file that comes in many pieces has the digest of the whole."""
    payload = bytes(range(256)) * 64
    data = encode([Node(b"", DIR | 0o755), (Node(b"a", REG | 0o644), payload), END])
    line = last(mtree_lines(Walker(RangeSource(Memory(data), 0, len(data), 1000))))
    assert line.endswith(f"={hashlib.new('sha512_256', payload).hexdigest()}\n")


def test_owner_names_cannot_forge_lines() -> None:
    """A user name with a line feed, which casync would refuse, stays inside its field."""
    tree = one(Node(b"a", REG | 0o644, uid=5, gid=6, user=b"x\nfake type=file", group=b"ok"))
    lines = list(mtree_lines(tree.walk()))
    assert len(lines) == 2
    assert rb" uname=x\012fake\040type=file gname=ok " in lines[1]
    assert lines[1].count(b"\n") == 1


class Scan:
    """A tree that is not an archive: steps without offsets, as a directory scan gives them."""

    def __init__(self, steps: Sequence[tuple[bytes, Node | DirectoryEnd, bytes]], features: int) -> None:
        self.path = b""
        self.feature_flags = features
        self._steps = steps
        self._payload = b""

    def __iter__(self) -> Iterator[Node | DirectoryEnd]:
        for path, step, payload in self._steps:
            self.path, self._payload = path, payload
            yield step

    def payload(self) -> Iterator[memoryview]:
        """Hands out one buffer again and again, as a scanner may."""
        buffer = bytearray(2)
        for start in range(0, len(self._payload), 2):
            piece = self._payload[start : start + 2]
            buffer[: len(piece)] = piece
            yield memoryview(buffer)[: len(piece)]


def test_other_streams() -> None:
    """Any tree stream can be listed; a piece of payload need not outlive the next."""
    top, end = Node(b"", DIR | 0o755, mtime=T), DirectoryEnd(0, 0, 0)
    sub = Node(b"s", DIR | 0o755, mtime=T)
    file = Node(b"q", REG | 0o644, mtime=T, size=5)
    steps: list[tuple[bytes, Node | DirectoryEnd, bytes]]
    steps = [(b"", top, b""), (b"s", sub, b""), (b"s/q", file, b"hello"), (b"s", end, b""), (b"", end, b"")]
    hello = "e30d87cfa2a75db545eac4d61baf970366a8357c7f72fa95b52d0accb698f13a"
    assert last(list_lines(Scan(steps, DEFAULT))) == "-rw-r--r-- s/q\n"
    assert last(list_lines(Scan(steps, DEFAULT), recursive=False)) == "drwxr-xr-x s\n"
    assert last(mtree_lines(Scan(steps, DEFAULT))).endswith(f" sha512256digest={hello}\n")


# JSON


def test_json_of_plain_nodes() -> None:
    """One object a line; keys that do not apply to a node are absent."""
    found = rows(json_lines(v15().walk()))
    assert [row.get("name") for row in found][:4] == [".", "back\\slash", "blk", "hash#"]
    assert found[7] == {
        "name": "suid",
        "type": "file",
        "mode": "4711",
        "size": 1,
        "uid": 33,
        "gid": 33,
        "user": "www-data",
        "group": "www-data",
        "mtime": "2017-07-14T02:40:00.500000000Z",
        "mtime_ns": 1500000000500000000,
        "offset": 735,
    }
    assert found[4]["target"] == "tar get"
    assert found[2]["device"] == {"major": 7, "minor": 1}
    assert "size" not in found[2]
    assert found[3]["xattrs"] == [{"name": "user.k", "value": "a b\n"}]
    assert found[9]["name"] == "ü"


def test_json_recursion_and_start() -> None:
    """JSON lines list the same nodes as plain ones."""
    assert [row["name"] for row in rows(json_lines(v11().walk(b"dir")))] == ["dir", "dir/f"]
    names = [row["name"] for row in rows(json_lines(v11().walk(), recursive=False))]
    assert names == [".", "B", "a", "a-b", "a.b", "b", "dir"]


def test_json_bytes_that_are_no_text() -> None:
    """Bytes that are not UTF-8 stand in base64 under another key, and the line is ASCII all the same."""
    node = Node(b"\xff\n", REG | 0o644, xattrs=(XAttr(b"user.\xe9", b"\0\x80"), XAttr(b"user.\xea", b"\0")))
    line = list(json_lines(one(node).walk()))[-1]
    assert line.isascii()
    assert line.count(b"\n") == 1
    row = json.loads(line)
    assert "name" not in row
    assert row["name_base64"] == "/wo="
    assert row["xattrs"] == [
        {"name_base64": "dXNlci7p", "value_base64": "AIA="},
        {"name_base64": "dXNlci7q", "value": "\0"},
    ]


def test_json_rare_metadata() -> None:
    """ACLs, flags, labels, capabilities and project ids are given in full."""
    node = Node(
        b"d",
        DIR | 0o750,
        flags=int(F.FLAG_APPEND | F.FLAG_NOATIME),
        projid=77,
        selinux=b"u:r:t",
        acl_users=(AclEntry(3, 7, b"q"), AclEntry(4, 6)),
        acl_groups=(AclEntry(5, 1),),
        acl_group_obj=5,
        acl_default=AclDefault(7, 5, 0, 4),
        acl_default_users=(AclEntry(33, 2, b"www"),),
    )
    row = rows(json_lines(one(node).walk()))[-1]
    assert row["flags"] == ["flag-append", "flag-noatime"]
    assert row["projid"] == 77
    assert row["selinux"] == "u:r:t"
    assert row["acl"] == {
        "users": [
            {"id": 3, "name": "q", "permissions": "rwx"},
            {"id": 4, "permissions": "rw-"},
        ],
        "groups": [{"id": 5, "permissions": "--x"}],
        "group_obj": "r-x",
        "default": {
            "user_obj": "rwx",
            "group_obj": "r-x",
            "other": "---",
            "mask": "r--",
            "users": [{"id": 33, "name": "www", "permissions": "-w-"}],
            "groups": [],
        },
    }
    file = rows(json_lines(one(Node(b"f", REG | 0o755, fcaps=b"\x01\0\0\x02")).walk()))[-1]
    assert file["fcaps"] == "01000002"


@pytest.mark.parametrize(
    ("features", "raw", "ns", "iso"),
    [
        (DEFAULT, -5 * 10**9 % 2**64, -5 * 10**9, "1969-12-31T23:59:55.000000000Z"),
        (DEFAULT, -1 % 2**64, -1, "1969-12-31T23:59:59.999999999Z"),
        (select([F.SEC_TIME]), (2**64 - 5 * 10**9) // 10**9 * 10**9, -5 * 10**9, "1969-12-31T23:59:55.000000000Z"),
        (DEFAULT, 2**63, 2**63, "2262-04-11T23:47:16.854775808Z"),
    ],
)  # fmt: skip
def test_json_time_is_the_moment(features: int, raw: int, ns: int, iso: str) -> None:
    """JSON tells the moment that is meant, also before 1970, where the text forms print what is stored."""
    permissions = 0o644 if features & F.ACL else 0o666
    steps: list[Step] = [Node(b"", DIR | (0o755 if features & F.ACL else 0o777))]
    tree = archive([*steps, (Node(b"f", REG | permissions, mtime=raw), b""), END], features)
    row = rows(json_lines(tree.walk()))[-1]
    assert (row["mtime_ns"], row["mtime"]) == (ns, iso)


def test_json_mask() -> None:
    """The mask takes keys away, and `root` stands where names are shown."""
    row = rows(json_lines(owners().walk(), mask=int(F.USER_NAMES)))[2]
    assert (row["user"], row["group"]) == ("root", "adm")
    assert not {"uid", "gid", "mtime", "mtime_ns"} & row.keys()
    row = rows(json_lines(owners().walk(), mask=int(F.UIDS_32BIT | F.NSEC_TIME)))[2]
    assert (row["uid"], row["gid"], row["mtime_ns"]) == (0, 4, 1_600_000_000_123_456_789)
    assert not {"user", "group"} & row.keys()
    flagged = one(Node(b"f", REG | 0o644, flags=EVERY_FLAG))
    assert "flags" not in rows(json_lines(flagged.walk(), mask=0))[-1]
