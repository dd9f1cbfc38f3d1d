"""The store of files: what it gives out is what was asked for, whoever changed what is in it."""

from __future__ import annotations

import itertools
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casync_compat.errors import FileError
from casync_compat.ids import Digest
from casync_compat.oci.rootfs.filecache import FileCache
from casync_compat.oci.rootfs.filestore import FileStore
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.oci.rootfs.metadata import Metadata
from casync_compat.oci.rootfs.shared import Kept
from casync_compat.oci.rootfs.verity import measure, seal

DATA = b"contents " * 1000
CONTENT = Digest.BLAKE3.of(DATA)
FILE = Inode(stat.S_IFREG, 0o640, os.geteuid(), os.getegid(), 1_600_000_000 * 10**9 + 5, size=len(DATA))


@contextmanager
def store_at(path: Path, *, verify: bool = False, days: float = 0) -> Iterator[FileStore]:
    """A store, with what it warns about as an error, some days from now."""
    metadata = Metadata(warn=pytest.fail)

    def now() -> float:
        return time.time() + days * 86400

    with FileStore(bytes(path / "store"), metadata, verify=verify, now=now) as store:
        yield store


def add(store: FileStore, inode: Inode | None, data: bytes = DATA, origin: bytes | None = None) -> Kept:
    return store.add([(0, data)], len(data), inode, origin)


def path_of(tmp_path: Path, kept: Kept) -> Path:
    return tmp_path / "store" / os.fsdecode(kept.name)


def left_under_way(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "store" / "tmp")


IDENTITIES = pytest.mark.parametrize("inode", [None, FILE], ids=["contents", "inode"])


@IDENTITIES
def test_add_and_find(tmp_path: Path, inode: Inode | None) -> None:
    """What was added is found again, now and by whoever opens the store next; contents by their origin."""
    with store_at(tmp_path) as store:
        kept = add(store, inode, origin=b"origin")
        assert kept.content == CONTENT
        assert store.find(CONTENT, inode) == kept
        assert store.known(b"origin") == CONTENT
    with store_at(tmp_path) as store:
        assert store.find(CONTENT, inode) == kept
        assert store.known(b"origin") == CONTENT
        assert store.known(b"other") is None
        assert store.find(bytes(32), inode) is None
        assert store.replaced == 0
    assert path_of(tmp_path, kept).read_bytes() == DATA
    assert left_under_way(tmp_path) == []


@pytest.mark.parametrize("at", range(1, 9))
def test_a_signal_at_any_moment(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the run is told to end, just after any system call on the file, nothing half-made stays."""
    calls = itertools.count(1)

    def interrupted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            result = real(*arguments, **keywords)
            if next(calls) == at:
                raise KeyboardInterrupt
            return result

        return call

    with store_at(tmp_path) as store:
        (tmp_path / "tree").mkdir()
        with monkeypatch.context() as patched:
            for name in ("open", "ftruncate", "fchmod", "link"):
                patched.setattr(os, name, interrupted(getattr(os, name)))
            with suppress(KeyboardInterrupt):
                store.can_share(os.fsencode(tmp_path / "tree"), reflink=False)
                add(store, None)
        assert left_under_way(tmp_path) == []


def test_names_are_digests(tmp_path: Path) -> None:
    """Contents are stored by their blake3, read-only, in directories of two digits."""
    with store_at(tmp_path) as store:
        kept = add(store, None)
    digits = CONTENT.hex()
    assert kept.name.decode() == f"files/{digits[:2]}/{digits[2:]}"
    assert stat.S_IMODE(path_of(tmp_path, kept).stat().st_mode) == 0o400
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700


def test_inode_has_its_metadata(tmp_path: Path) -> None:
    """A file for hard links has mode, owner, time and attributes."""
    inode = replace(FILE, mode=0o4751, xattrs=((b"user.x", b"y"),))
    with store_at(tmp_path) as store:
        kept = add(store, inode)
    status = path_of(tmp_path, kept).stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o4751, FILE.mtime)
    assert os.getxattr(path_of(tmp_path, kept), "user.x") == b"y"


@pytest.mark.parametrize(
    "other",
    [
        replace(FILE, mode=0o644),
        replace(FILE, mtime=FILE.mtime + 1),
        replace(FILE, xattrs=((b"user.x", b""),)),
        pytest.param(replace(FILE, uid=7), marks=pytest.mark.root),
        pytest.param(replace(FILE, gid=7), marks=pytest.mark.root),
    ],
)
def test_other_metadata_is_another_file(tmp_path: Path, other: Inode) -> None:
    """Files that differ in anything that an inode holds do not share one, though they share contents."""
    with store_at(tmp_path) as store:
        one, two = add(store, FILE), add(store, other)
        assert one.name != two.name
        assert store.find(CONTENT, FILE) == one
        found = store.find_content(CONTENT)
        assert found is not None
        assert b"".join(data for _, data in store.pieces(found)) == DATA


def test_second_of_the_same(tmp_path: Path) -> None:
    """Adding what is there already keeps what is there."""
    with store_at(tmp_path) as store:
        inode = path_of(tmp_path, add(store, FILE)).stat().st_ino
        assert path_of(tmp_path, add(store, FILE)).stat().st_ino == inode
    assert left_under_way(tmp_path) == []


# Changes


def tamper_contents(path: Path) -> None:
    path.chmod(0o600)
    with open(path, "r+b") as file:
        file.write(b"C")


def tamper_contents_in_secret(path: Path) -> None:
    """As someone would who sets all but the change time back."""
    status = path.stat()
    tamper_contents(path)
    path.chmod(stat.S_IMODE(status.st_mode))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def tamper_size(path: Path) -> None:
    path.chmod(0o600)
    os.truncate(path, 5)


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def replace_by_directory_entry(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[::-1])


TAMPERINGS = [
    *(tamper_contents, tamper_contents_in_secret, tamper_size),
    *(replace_by_link, replace_by_directory_entry),
]


@IDENTITIES
@pytest.mark.parametrize("tamper", TAMPERINGS)
@pytest.mark.parametrize("keep_cache", [True, False], ids=["cache", "no cache"])
def test_changed_file_is_noticed(
    tmp_path: Path, tamper: object, inode: Inode | None, keep_cache: bool
) -> None:
    """A stored file that was changed, however carefully, is not given out but removed, and can be added anew."""
    with store_at(tmp_path) as store:
        path = path_of(tmp_path, add(store, inode))
    tamper(path)  # type: ignore[operator]
    if not keep_cache:
        (tmp_path / "store" / "cache.sqlite").unlink()
    with store_at(tmp_path) as store:
        assert store.find(CONTENT, inode) is None
        assert store.replaced == 1
        assert not os.path.lexists(path)
        add(store, inode)
        assert store.find(CONTENT, inode) is not None
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("change", ["mode", "time", "attribute"])
def test_changed_metadata_is_noticed(tmp_path: Path, change: str) -> None:
    """So is one whose metadata was changed through a tree that shares it. Its contents are still good to copy."""
    with store_at(tmp_path) as store:
        path = path_of(tmp_path, add(store, FILE))
    if change == "mode":
        path.chmod(0o777)
    elif change == "time":
        os.utime(path, ns=(0, FILE.mtime + 10**9))
    else:
        os.setxattr(path, "user.x", b"y")
    with store_at(tmp_path) as store:
        other = store.find_content(CONTENT)
        assert other is not None
        assert store.find(CONTENT, FILE) is None
        assert not path.exists()


@IDENTITIES
def test_touched_file_is_hashed(tmp_path: Path, inode: Inode | None) -> None:
    """A file whose change time alone differs, because a tree with a link to it was removed, is right and stays."""
    with store_at(tmp_path) as store:
        path = path_of(tmp_path, add(store, inode))
    os.link(path, tmp_path / "link")
    (tmp_path / "link").unlink()
    with store_at(tmp_path) as store:
        assert store.find(CONTENT, inode) is not None
        assert store.replaced == 0


def test_add_over_a_changed_file(tmp_path: Path) -> None:
    """Adding replaces a file of the same name that is not what its name says."""
    with store_at(tmp_path) as store:
        path = path_of(tmp_path, add(store, None))
    tamper_contents(path)
    with store_at(tmp_path) as store:
        add(store, None)
    assert path.read_bytes() == DATA


def test_verify_reads_everything(tmp_path: Path) -> None:
    """With `verify` a change is noticed that no time shows: here the cache itself was made to believe it."""
    with store_at(tmp_path) as store:
        path = path_of(tmp_path, add(store, None))
    tamper_contents_in_secret(path)
    status = path.stat()
    with sqlite3.connect(tmp_path / "store" / "cache.sqlite") as database:
        database.execute("UPDATE files SET ctime = ?", (status.st_ctime_ns,))
    database.close()
    with store_at(tmp_path) as store:
        assert store.find(CONTENT, None) is not None
    with store_at(tmp_path, verify=True) as store:
        assert store.find(CONTENT, None) is None


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 100, None])
def test_cache_may_be_lost(tmp_path: Path, damage: bytes | None) -> None:
    """A cache that is damaged, or a directory, costs a second hashing and nothing else."""
    with store_at(tmp_path) as store:
        add(store, FILE, origin=b"o")
    cache = tmp_path / "store" / "cache.sqlite"
    cache.unlink()
    if damage is None:
        cache.mkdir()
    else:
        cache.write_bytes(damage)
    with store_at(tmp_path) as store:
        assert store.find(CONTENT, FILE) is not None
        assert store.known(b"o") is None


def test_cache_cannot_lead_outside(tmp_path: Path) -> None:
    """A name in the cache that is none of the store's is neither read nor removed."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    with store_at(tmp_path) as store:
        add(store, FILE)
    database = sqlite3.connect(tmp_path / "store" / "cache.sqlite")
    database.execute("UPDATE files SET name = ?", (b"../victim",))
    database.commit()
    database.close()
    with store_at(tmp_path) as store:
        assert store.find_content(CONTENT) is None
    assert victim.read_text() == "mine"


# Giving out


def test_link(tmp_path: Path) -> None:
    """A link is the stored inode; making it does not make the store hash the file again."""
    target = os.open(tmp_path, os.O_RDONLY)
    with store_at(tmp_path) as store:
        kept = add(store, FILE)
        assert store.link_to(kept, target, b"link")
    assert (tmp_path / "link").samefile(path_of(tmp_path, kept))
    with store_at(tmp_path) as store:
        found = store.find(CONTENT, FILE)
        assert found is not None
        assert found.stamp == kept.stamp
    os.close(target)


@pytest.mark.parametrize("tamper", [tamper_contents, tamper_size, replace_by_directory_entry])
def test_change_while_in_use(tmp_path: Path, tamper: object) -> None:
    """A file that is changed between being found and being linked or copied is neither."""
    target = os.open(tmp_path, os.O_RDONLY)
    with store_at(tmp_path) as store, open(tmp_path / "copy", "wb") as copy:
        kept = add(store, FILE)
        tamper(path_of(tmp_path, kept))  # type: ignore[operator]
        with pytest.raises(FileError, match="while it was in use"):
            store.link_to(kept, target, b"link")
        with pytest.raises(FileError, match="while it was in use"):
            store.copy_to(kept, copy.fileno(), share=False)
    assert not (tmp_path / "link").exists()
    assert (tmp_path / "copy").stat().st_size == 0
    os.close(target)


def test_copy_keeps_holes(tmp_path: Path) -> None:
    """Holes are stored as holes, count as zeros in the digest, and are holes in a copy."""
    size = 1 << 20
    with store_at(tmp_path) as store, open(tmp_path / "copy", "wb") as copy:
        kept = store.add([(65536, DATA)], size, None)
        assert kept.content == Digest.BLAKE3.of(bytes(65536) + DATA + bytes(size - 65536 - len(DATA)))
        store.copy_to(kept, copy.fileno(), share=False)
        again = store.add(store.pieces(kept), size, FILE)
        assert again.content == kept.content
    for path in (tmp_path / "copy", path_of(tmp_path, kept), path_of(tmp_path, again)):
        assert path.stat().st_size == size
        assert path.stat().st_blocks * 512 < size // 4


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=300)), max_size=5),
    st.integers(0, 9000),
)
def test_any_pieces(tmp_path: Path, parts: list[tuple[int, bytes]], tail: int) -> None:
    """Whatever pieces contents come in, what is stored is the pieces with zeros between them."""
    pieces, whole = [], b""
    for gap, data in parts:
        pieces.append((len(whole) + gap, data))
        whole += bytes(gap) + data
    whole += bytes(tail)
    with store_at(tmp_path) as store:
        kept = store.add(pieces, len(whole), None)
        assert path_of(tmp_path, kept).read_bytes() == whole
        assert kept.content == Digest.BLAKE3.of(whole)


# Failures


def test_failed_add_leaves_nothing(tmp_path: Path) -> None:
    """When the contents end in an error, nothing is stored and nothing left over."""

    def broken() -> Iterator[tuple[int, bytes]]:
        yield 0, b"half"
        raise ValueError("no more")

    with store_at(tmp_path) as store:
        with pytest.raises(ValueError, match="no more"):
            store.add(broken(), 8, None)
        assert left_under_way(tmp_path) == []
        assert list((tmp_path / "store" / "files").iterdir()) == []


def test_old_leftovers_are_removed(tmp_path: Path) -> None:
    """What a killed process left is taken away a day later, and not while it might be under way, whatever its time."""
    with store_at(tmp_path):
        pass
    for name, time_ in (("old", 0), ("new", 2**31)):
        (tmp_path / "store" / "tmp" / name).touch()
        os.utime(tmp_path / "store" / "tmp" / name, (time_, time_))
    with store_at(tmp_path, days=0.9):
        assert left_under_way(tmp_path) == ["new", "old"]
    with store_at(tmp_path, days=1.1):
        assert left_under_way(tmp_path) == []


def test_two_stores_at_once(tmp_path: Path) -> None:
    """Two processes that store the same file end with one of it."""
    with store_at(tmp_path) as one, store_at(tmp_path) as two:
        first, second = add(one, FILE), add(two, FILE)
        assert first.stamp == second.stamp
    with store_at(tmp_path) as store:
        assert store.find(CONTENT, FILE) is not None
        assert store.replaced == 0


def test_not_a_directory(tmp_path: Path) -> None:
    """A store that is a file is an error that names it."""
    (tmp_path / "store").touch()
    with pytest.raises(FileError, match="store: cannot use as a file store"), store_at(tmp_path):
        pass


def test_unsealed_files_have_no_measure(tmp_path: Path) -> None:
    """Where fs-verity is to be had, a sealed file has a digest and cannot be written; elsewhere it has none."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    fd = os.open(path, os.O_RDONLY)
    assert measure(fd) == b""
    if seal(fd):
        assert measure(fd).startswith(b"1:")
        with pytest.raises(PermissionError):
            os.open(path, os.O_RDWR)
    os.close(fd)


@pytest.mark.parametrize("count", [10, 1000])
def test_all_that_is_known_at_once(tmp_path: Path, count: int) -> None:
    """Who looks for many files finds the same, and what has changed, went or came meanwhile is noticed as ever."""
    origins = [b"%d" % number for number in range(4)]
    with store_at(tmp_path) as store:
        kept = [add(store, None, origin * 100, origin) for origin in origins[:3]]
    with store_at(tmp_path) as store:
        store.expect(count)
        assert [store.known(origin) for origin in origins] == [*(each.content for each in kept), None]
        tamper_contents(path_of(tmp_path, kept[0]))
        path_of(tmp_path, kept[1]).unlink()
        assert [store.find(each.content, None) for each in kept] == [None, None, kept[2]]
        again = add(store, None, origins[0] * 100, origins[0])
        late = add(store, None, origins[3] * 100, origins[3])
        assert store.known(origins[3]) == late.content
        assert store.find(again.content, None) == again
        assert store.find(kept[0].content, None) == again
        assert store.replaced == 1


def test_too_much_to_read_at_once(tmp_path: Path) -> None:
    """A store that has far more than is looked for is asked for each."""
    with FileCache(bytes(tmp_path / "cache.sqlite")) as cache:
        for number in range(3):
            cache.learn(b"%d" % number, bytes(32))
    with FileCache(bytes(tmp_path / "cache.sqlite")) as cache:
        for most in (2, 3):
            cache.read_all(most)
            assert [cache.known(b"%d" % number) for number in (0, 2, 5)] == [bytes(32), bytes(32), None]
