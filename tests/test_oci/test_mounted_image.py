"""An image as a file system: the merged tree is what the kernel is told of, and contents come as they are read."""

from __future__ import annotations

import random
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_oci import rawtar
from test_oci.images import layout_at, noise
from test_oci.opened import BOTH, NESTED, converted, opened, tar
from test_oci.test_browse import CountingPlace

from casync_compat.errors import CasyncError, ChunkCorrupt, ChunkMissing
from casync_compat.ids import ChunkId
from casync_compat.mount.abi import ROOT
from casync_compat.mount.nodes import MountedInode
from casync_compat.oci.image.files import ImageFiles
from casync_compat.oci.image.mounted import MountedImage
from casync_compat.oci.image.severalpacked import SeveralPacked
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.rootfs.metadata import Metadata
from casync_compat.oci.spec.media import PACK_TYPES
from casync_compat.store.cached import ChunkCache
from casync_compat.store.local import LocalStore
from casync_compat.streams.warming import Warming

LARGE = noise(3_000_000)
PARTS = [(70_000, b"a" * 5000), (900_000, noise(20_000, 1)), (1_000_000, b"z")]
FILES = tar(
    rawtar.file(b"large", LARGE),
    rawtar.sparse_10(b"holes", 1_100_000, PARTS),
    *(rawtar.file(b"many/%04d" % number, noise(500, number)) for number in range(300)),
)


def mounted(image: ImageTree, *, strict: bool = False, said: list[str] | None = None) -> MountedImage:
    return MountedImage(image, Metadata(strict=strict, warn=[].append if said is None else said.append))


def find(nodes: MountedImage, path: str) -> MountedInode:
    """An inode by its path, which the kernel is told of on the way."""
    inode = nodes.inode(ROOT)
    for name in path.split("/"):
        found = nodes.lookup(inode.number, name.encode())
        assert found is not None, path
        nodes.told(found)
        inode = found
    return inode


def walk(nodes: MountedImage, top: MountedInode, path: str = "") -> Iterator[tuple[str, MountedInode]]:
    """All names as they are listed, few at a time."""
    start = 0
    while entries := nodes.entries(top.number, start, 7):
        start += len(entries)
        for name, inode in entries:
            nodes.told(inode)
            here = f"{path}{name.decode()}"
            yield here, inode
            if inode.is_dir:
                yield from walk(nodes, inode, f"{here}/")


def contents(nodes: MountedImage, path: str) -> bytes:
    inode = find(nodes, path)
    return b"".join(nodes.read(inode.number, 0, inode.size + 1000))


@BOTH
def test_the_merged_tree(tmp_path: Path, thin: bool) -> None:
    """Whiteouts are gone, hard links are one inode, links beneath symlinks are where they belong."""
    with opened(tmp_path, NESTED, thin, shared=True) as image:
        nodes = mounted(image)
        found = dict(walk(nodes, nodes.inode(ROOT)))
        assert list(found) == sorted(found, key=lambda path: path.encode().split(b"/"))
        assert set(found) == {path.decode() for path, inode in image.tree.walk() if inode is not None}
        assert "etc/old" not in found
        assert found["usr/bin/tool"].number == found["usr/bin/tool2"].number
        assert found["usr/bin/link"].number == found["etc/passwd"].number == found["locked/passwd"].number
        assert stat.S_ISFIFO(found["fifo"].mode)
        assert nodes.readlink(find(nodes, "bin").number) == b"usr/bin"
        assert find(nodes, "bin").is_symlink
        assert nodes.lookup(ROOT, b"etc/old") is None
        sparse = contents(nodes, "etc/sparse")
        assert sparse == bytes(4096) + b"middle" + bytes((1 << 20) - 4102)
        assert contents(nodes, "etc/empty") == b""
        assert contents(nodes, "usr/bin/tool2") == b"\x7fELF" + b"t" * 100_000


def test_numbers_are_the_same_each_time(tmp_path: Path) -> None:
    """So that what remembers inodes goes on where the same image is mounted again."""
    seen = []
    for _ in range(2):
        with opened(tmp_path, NESTED, shared=True) as image:
            nodes = mounted(image)
            seen.append([(path, inode.number) for path, inode in walk(nodes, nodes.inode(ROOT))])
    assert seen[0] == seen[1]


@BOTH
def test_eight_readers_at_once(tmp_path: Path, thin: bool) -> None:
    """Any range of any file is what the layers have there, holes included, whoever reads beside."""
    holes = bytearray(1_100_000)
    for at, data in PARTS:
        holes[at : at + len(data)] = data
    with opened(tmp_path, [FILES], thin, shared=True) as image:
        nodes = mounted(image)
        files = [(find(nodes, "large").number, LARGE), (find(nodes, "holes").number, bytes(holes))]

        def read(seed: int) -> int:
            rng = random.Random(seed)
            for _ in range(60):
                number, data = rng.choice(files)
                offset, size = rng.randrange(len(data) + 10), rng.randrange(1 << rng.randrange(19))
                assert b"".join(nodes.read(number, offset, size)) == data[offset : offset + size]
            return seed

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, range(8))) == list(range(8))


def test_what_is_forgotten_is_there_again(tmp_path: Path) -> None:
    """The kernel may forget an inode and look it up once more; unknown numbers are an error."""
    with opened(tmp_path, NESTED, shared=True) as image:
        nodes = mounted(image)
        number = find(nodes, "etc").number
        nodes.forget(number, 1)
        with pytest.raises(KeyError):
            nodes.inode(number)
        assert find(nodes, "etc").number == number
        nodes.forget(ROOT, 5)
        assert nodes.inode(ROOT).is_dir


def test_attributes_are_those_that_unpack_restores(tmp_path: Path) -> None:
    """Labels are the host's; ACLs are told of only where there are any."""
    records = [rawtar.xattr(b"user.note", b"\0x"), rawtar.xattr(b"security.selinux", b"label\0")]
    acl = [rawtar.xattr(b"system.posix_acl_access", b"\2\0\0\0")]
    with opened(tmp_path / "a", [tar(rawtar.pax(records), rawtar.file(b"f"))], shared=True) as image:
        nodes = mounted(image)
        assert nodes.xattrs(find(nodes, "f").number) == {b"user.note": b"\0x"}
        assert (nodes.with_xattrs, nodes.with_acls) == (True, False)
    with opened(tmp_path / "b", [tar(rawtar.pax(acl), rawtar.file(b"f"))], shared=True) as image:
        assert mounted(image).with_acls
    with opened(tmp_path / "c", NESTED, shared=True) as image:
        assert not mounted(image).with_xattrs


def test_what_linux_cannot_have_is_left_out(tmp_path: Path) -> None:
    """An owner beyond 32 bits and a device of no kernel: told, counted, and with `strict` an error."""
    layer = tar(
        rawtar.pax([(b"uid", b"%d" % (1 << 40))]),
        rawtar.file(b"odd", b"x"),
        rawtar.header(b"dev", 0, b"3", device=(5000, 1)),
        rawtar.header(b"null", 0, b"3", device=(1, 3)),
    )
    said: list[str] = []
    with opened(tmp_path, [layer], shared=True) as image:
        nodes = mounted(image, said=said)
        assert [name for name, _ in walk(nodes, nodes.inode(ROOT))] == ["null", "odd"]
        assert nodes.lookup(ROOT, b"dev") is None
        assert "device nodes" in said[0]
        assert "owners" in said[0]
        with pytest.raises(CasyncError, match="there is no"):
            mounted(image, strict=True)


def test_little_is_fetched_of_an_image_that_is_far_away(tmp_path: Path) -> None:
    """Opening and a whole listing fetch nothing of the packs, a small file one range; the next to it is there then."""
    converted(tmp_path, [FILES])
    place = CountingPlace(layout_at(tmp_path))
    with ImageTree.open(place, "image", where="image", shared=True) as image:
        assert image.far
        nodes = mounted(image)
        assert len(dict(walk(nodes, nodes.inode(ROOT)))) == 303
        assert place.from_packs == []
        assert contents(nodes, "many/0000") == noise(500, 0)
        assert len(place.from_packs) == 1
        assert place.from_packs[0] < 300_000
        assert len(place.asked) < 10
        assert contents(nodes, "many/0001") == noise(500, 1)
        assert len(place.from_packs) == 1
        assert contents(nodes, "large") == LARGE
        assert len(place.from_packs) < 20  # of some 50 chunks


def test_all_is_fetched_meanwhile(tmp_path: Path) -> None:
    """With few requests all chunks come into the cache; whoever mounts the image again asks for none of them."""
    converted(tmp_path / "layout", [FILES, tar(rawtar.file(b"more", noise(9000, 7)))])
    cache = ChunkCache(LocalStore(tmp_path / "chunks"))
    told: list[str] = []
    for most in (20, 0):
        place = CountingPlace(layout_at(tmp_path / "layout"))
        with ImageTree.open(place, "image", where="image", shared=True, cache=cache) as image:
            with Warming(image.fetchers(), cache, told.append, together=1 << 20) as warming:
                assert warming.wait(30)
            before = len(place.from_packs)
            assert (0 < before <= most) if most else before == 0
            nodes = mounted(image)
            assert contents(nodes, "large") == LARGE
            assert contents(nodes, "more") == noise(9000, 7)
            assert len(place.from_packs) == before
    assert told == []
    with opened(tmp_path / "plain", [FILES], thin=False) as image:
        assert list(image.fetchers()) == []
        assert not image.is_converted


def test_ranges_that_are_told_before(tmp_path: Path) -> None:
    """Ranges all over a file that is far away come in fewer requests than they are."""
    converted(tmp_path, [FILES])
    place = CountingPlace(layout_at(tmp_path))
    with ImageTree.open(place, "image", where="image", shared=True) as image:
        files = ImageFiles(image)
        large = files.contents(b"large")
        wanted = [(large, offset, 10) for offset in range(2_900_000, 0, -150_000)]
        files.expect(wanted)
        for _, offset, size in wanted:
            assert large.read_at(offset, size) == LARGE[offset : offset + size]
        assert 0 < len(place.from_packs) < len(wanted)
        assert large.read_at(len(LARGE), 10) == b""


def test_several_chunks_of_packs(tmp_path: Path) -> None:
    """They come in the order asked for, each with its limit, and what is not there is missing."""
    converted(tmp_path, [FILES])
    place = CountingPlace(layout_at(tmp_path))
    descriptor = look_up(place, "image").choose_wrappers(None)[0].descriptor
    with WrappedImage.open(place, descriptor, "image") as image:
        index = image.index(0)
        ids = [index[number].id for number in range(4)]
        wanted = [(index[number].id, index[number].size) for number in range(4)]
        digest = index.digest
        source = SeveralPacked(image.packs, far=True)
        assert [digest.of(data) for data in source.get_many(wanted[::-1], digest)] == ids[::-1]
        assert [digest.of(data) for data in source.begin(wanted[:1], digest)()] == ids[:1]
        assert source.has(ids[0])
        with pytest.raises(ChunkCorrupt, match="limit"):
            source.get_many([(wanted[0][0], 5), wanted[1]], digest)
        with pytest.raises(ChunkMissing):
            source.get_many([wanted[0], (ChunkId(bytes(32)), 5)], digest)
    assert any(kind in PACK_TYPES for kind, _ in place.asked)
