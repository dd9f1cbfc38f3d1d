"""EROFS images of metadata are composefs' byte for byte, and nothing gets into one that the kernel cannot give out.

The digests are those of the files that `mkcomposefs --from-file` (composefs 1.0.8, built from its sources) wrote of the
same descriptions.
"""

from __future__ import annotations

import hashlib
import stat

import pytest
from composefsdump import read_dump

from casync_compat.oci.erofs.image import write_image
from casync_compat.oci.erofs.node import MAX_STUB, Node
from casync_compat.oci.erofs.xattrs import hash_name

_FILE = stat.S_IFREG | 0o644
_TIME = "1700000000.5"
_STORED = "ab/" + "c" * 62
_ROOT = f"/ 0 40755 2 0 0 0 {_TIME} - - -"


def _file(path: str, more: str = "", size: int = 100, digest: str = "-") -> str:
    return f"{path} {size} 100644 1 0 0 0 {_TIME} {_STORED} - {digest}{more}"


def _plain(path: str, mode: str, payload: str = "-", device: int = 0, size: int = 0, uid: int = 0) -> str:
    return f"{path} {size} {mode} 1 {uid} 0 {device} {_TIME} {payload} - -"


_TREES = {
    "empty": [_ROOT],
    "kinds": [
        _ROOT,
        _plain("/!before-the-dots", "10644"),
        _plain("/block", "60600", device=8 << 8 | 1),
        _plain("/null", "20666", device=1 << 8 | 3),
        _plain("/link", "120777", "some/where", size=10),
        _plain("/empty", "100600"),
        _plain("/far-owner", "100600", uid=70000),
        "/inline 5 100644 1 0 0 0 1.0 - hello -",
        "/old 0 40755 2 0 0 0 -5.7 - - -",
        _file("/stub", digest="12" * 32),
        _file("/large", size=5_000_000_000),
    ],
    "hard-link": [
        _ROOT,
        f"/a 0 40755 2 0 0 0 {_TIME} - - -",
        f"/a/one 100 100644 2 0 0 0 {_TIME} {_STORED} - -",
        f"/two 100 @100644 2 0 0 0 {_TIME} /a/one - -",
    ],
    "attributes": [
        _ROOT + " security.selinux=root_t",
        _file("/a", " security.selinux=file_t user.x=1 trusted.overlay.redirect=/etc/shadow"),
        _file("/b", " security.selinux=file_t user.x=1 user.overlay.opaque=y"),
        _file("/c", " security.selinux=other_t user.x=2 user.rather.long.name.of.more.than.sixteen=3"),
        _plain("/acl", "100644")
        + " system.posix_acl_access=\\x02\\x00\\x00\\x00\\x01\\x00\\x06\\x00\\xff\\xff\\xff\\xff"
        "\\x04\\x00\\x04\\x00\\xff\\xff\\xff\\xff\\x20\\x00\\x04\\x00\\xff\\xff\\xff\\xff",
    ],
    "whiteout": [_ROOT, f"/d 0 40755 2 0 0 0 {_TIME} - - -", _plain("/d/gone", "20000")],
    "long-links": [_ROOT, *(_plain(f"/l{size}", "120777", "x" * size, size=size) for size in range(3000, 4090, 109))],
    "tails": [_ROOT, *(_plain(f"/l{size:04}", "120777", "x" * size, size=size) for size in range(1, 700, 3))],
    "large-directories": [
        _ROOT,
        *(_plain(f"/{number:05}{'n' * (number % 200)}", "100644") for number in range(700)),
        f"/sub 0 40755 2 0 0 0 {_TIME} - - -",
        *(_file(f"/sub/{number}", f" user.n={number}") for number in range(3000)),
    ],
}  # fmt: skip
_DIGESTS = {
    "empty": "361584e4225333328f1d3311fb7981ce8215b0a4fbb2197be19ad8a54ff2b1fd",
    "kinds": "dfed61a092fc137d8a2cfcd03e9a96035284d53aa939c58a594da5a48a6eb883",
    "hard-link": "1c58925bd8646684d50aff7db2b9a7637b2438720f6afdf58b6e68f8ea067ab1",
    "attributes": "3d2b678a0a20b2d7c71f7a5172039087b48047c3c829a3015d4b35ebc33a6833",
    "whiteout": "f2dbffd4cfffc0a8ae9ef5fe59a0b0a5b2001d21b16e7a33baef999473f1f7c4",
    "long-links": "af4ce72f5619f79095b85e9ebe4e97ea1aa7bd8bbf9523a314cf5ae08dc9e5cb",
    "tails": "833d13e7616a9cce6394282200121300b7d99d444043ca16c4ce15aa05e5dfda",
    "large-directories": "b053cba996a1efbb065cc58db6720d9647cd04b70c147845c156b83f3b2be15f",
}


@pytest.mark.parametrize("name", _TREES)
def test_an_image_is_the_one_that_composefs_makes(name: str) -> None:
    """Shared and own attributes, ACLs, whiteouts, hard links, ends of data wherever they fall: the same bytes."""
    root, version = read_dump("\n".join(_TREES[name]).encode() + b"\n")

    assert hashlib.sha256(write_image(root, version)).hexdigest() == _DIGESTS[name]


def test_the_order_in_which_a_tree_is_made_is_not_in_its_image() -> None:
    """Directories are sorted by the image alone."""
    names = [b"b", b"a", b"-", b"\xff"]
    trees = [
        Node(stat.S_IFDIR | 0o755, children={name: Node(_FILE, size=3, content=b"abc") for name in order})
        for order in (names, names[::-1])
    ]

    assert write_image(trees[0]) == write_image(trees[1])


@pytest.mark.parametrize(
    ("text", "seed", "value"),
    [(b"", 0, 0x02CC5D05), (b"a", 0, 0x550D7456), (b"abc", 0, 0x32D153FF)],
)
def test_names_are_hashed_as_the_kernel_does(text: bytes, seed: int, value: int) -> None:
    """The published values of XXH32."""
    assert hash_name(text, seed) == value


_BAD = {
    "slash": (b"a/b", Node(_FILE, content=b"")),
    "nul": (b"a\0b", Node(_FILE, content=b"")),
    "dots": (b"..", Node(_FILE, content=b"")),
    "nothing": (b"", Node(_FILE, content=b"")),
    "long name": (b"n" * 256, Node(_FILE, content=b"")),
    "owner": (b"a", Node(_FILE, uid=(1 << 32) - 1, content=b"")),
    "time": (b"a", Node(_FILE, mtime=1 << 95, content=b"")),
    "target": (b"a", Node(stat.S_IFLNK | 0o777, target=b"t" * 4096)),
    "no target": (b"a", Node(stat.S_IFLNK | 0o777)),
    "device": (b"a", Node(stat.S_IFCHR | 0o600, device=(1 << 12, 0))),
    "size": (b"a", Node(_FILE, size=MAX_STUB + 1)),
    "other size": (b"a", Node(_FILE, size=4, content=b"abc")),
    "namespace": (b"a", Node(_FILE, content=b"", xattrs=((b"system.other", b""),))),
    "bare namespace": (b"a", Node(_FILE, content=b"", xattrs=((b"user.", b""),))),
    "long attribute": (b"a", Node(_FILE, content=b"", xattrs=((b"user." + b"n" * 251, b""),))),
    "large value": (b"a", Node(_FILE, content=b"", xattrs=((b"user.a", bytes(65536)),))),
    "many names": (b"a", Node(_FILE, content=b"", xattrs=tuple((b"user.%0200d" % n, b"") for n in range(400)))),
}  # fmt: skip


@pytest.mark.parametrize("case", _BAD)
def test_what_the_kernel_would_not_give_out_again_is_refused(case: str) -> None:
    """A name with a slash, say, would make the whole directory unreadable; the message names the inode."""
    name, node = _BAD[case]
    with pytest.raises(ValueError, match="/"):
        write_image(Node(stat.S_IFDIR | 0o755, children={name: node}))
