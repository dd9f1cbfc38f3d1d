"""LocalStore keeps the contract in every format, and holds its own against what is found in directories."""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib.util
import os
import re
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from casync_compat.compression import Compression, compress
from casync_compat.errors import ChunkCorrupt, ChunkMissing, FileError, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store import local
from casync_compat.store.local import LocalStore

from .contract import LIMIT, D, PrunableContract, StoreRig, text

FIXTURES = Path(__file__).parent.parent / "fixtures"


def files_of(store: LocalStore) -> list[str]:
    """Paths of all files of a store, relative to it."""
    root = Path(os.fsdecode(store.path))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def path_of(store: LocalStore, id: ChunkId, suffix: str = ".cacnk") -> Path:
    """Where a chunk is stored."""
    return Path(os.fsdecode(store.path), str(id)[:4], str(id) + suffix)


def plant(store: LocalStore, id: ChunkId, content: bytes, suffix: str = ".cacnk") -> Path:
    """Write a chunk file without asking the store."""
    path = path_of(store, id, suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store that writes zstd, not made yet."""
    return LocalStore(os.fsencode(tmp_path / "default.castr"))


class TestLocalStore(PrunableContract):
    """The contract, over a directory, in every format."""

    @pytest.fixture(params=list(Compression), ids=lambda kind: kind.value)
    def rig(self, request: pytest.FixtureRequest, tmp_path: Path) -> StoreRig:
        kind: Compression = request.param
        store = LocalStore(os.fsencode(tmp_path / "default.castr"), compression=kind)

        def fill(raw: bytes) -> ChunkId:
            store.put(D.of(raw), raw)
            return D.of(raw)

        def damage(id: ChunkId, raw: bytes) -> None:
            if kind is Compression.NONE:
                plant(store, id, raw, "")
            else:
                plant(store, id, compress(kind, raw))

        return StoreRig(store, fill, damage, store)


class TestSeveralAtOnce:
    """`get_many` gives what `get` gives."""

    @pytest.mark.parametrize("kind", [Compression.ZSTD, Compression.NONE])
    @pytest.mark.parametrize("count", [0, 1, 30])
    def test_in_the_order_asked_for(self, tmp_path: Path, kind: Compression, count: int) -> None:
        """Chunks of all sizes, some of them twice, in either form."""
        store = LocalStore(os.fsencode(tmp_path / "s"))
        raws = [text(1 + 977 * i, i) for i in range(count)] * 2
        for i, raw in enumerate(raws):
            LocalStore(store.path, compression=kind if i % 3 else Compression.GZIP).put(D.of(raw), raw)
        assert store.get_many([(D.of(raw), len(raw)) for raw in raws], D) == raws

    def test_one_is_missing(self, store: LocalStore) -> None:
        """It is named."""
        store.put(D.of(b"x"), b"x")
        with pytest.raises(ChunkMissing) as caught:
            store.get_many([(D.of(b"x"), 9), (D.of(b"y"), 9), (D.of(b"x"), 9)], D)
        assert caught.value.id == D.of(b"y")

    @pytest.mark.parametrize(
        "content", [compress(Compression.ZSTD, b"z"), b"junk", compress(Compression.ZSTD, bytes(99))]
    )
    def test_one_is_damaged(self, store: LocalStore, content: bytes) -> None:
        """It is named, unless there is another form that is whole."""
        raws = [b"%d" % i * 500 for i in range(12)]
        for raw in raws:
            store.put(D.of(raw), raw)
        bad = raws[7]
        plant(store, D.of(bad), content)
        wanted = [(D.of(raw), 1000) for raw in raws]
        with pytest.raises(ChunkCorrupt) as caught:
            store.get_many(wanted, D)
        assert caught.value.id == D.of(bad)
        plant(store, D.of(bad), bad, "")
        assert store.get_many(wanted, D) == raws


class TestLayout:
    """What is on the disk."""

    @pytest.mark.parametrize("kind", list(Compression), ids=lambda kind: kind.value)
    def test_name(self, tmp_path: Path, kind: Compression) -> None:
        """Four digits, 64 digits, and the suffix when compressed; nothing else is left behind."""
        store = LocalStore(os.fsencode(tmp_path / "s"), compression=kind)
        id = D.of(b"hello\n")
        put = store.put(id, b"hello\n")
        suffix = "" if kind is Compression.NONE else ".cacnk"
        assert files_of(store) == [f"7f3f/{id}{suffix}"]
        assert path_of(store, id, suffix).stat().st_size == put.stored

    def test_modes(self, store: LocalStore) -> None:
        """Chunks are read-only, directories are as the umask wants them, as with casync 2."""
        before = os.umask(0o022)
        try:
            store.put(D.of(b"x"), b"x")
        finally:
            os.umask(before)
        path = path_of(store, D.of(b"x"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
        assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o755

    def test_umask(self, store: LocalStore) -> None:
        """A private umask makes a private store."""
        before = os.umask(0o077)
        try:
            store.put(D.of(b"x"), b"x")
        finally:
            os.umask(before)
        path = path_of(store, D.of(b"x"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700

    def test_other_suffix(self, tmp_path: Path) -> None:
        """With casync's older suffix .xz, chunks are written, read, listed and removed under that one only."""
        path = os.fsencode(tmp_path / "s")
        old = LocalStore(path, compression=Compression.XZ, suffix=b".xz")
        id = D.of(b"x")
        old.put(id, b"x")
        assert files_of(old) == [f"{str(id)[:4]}/{id}.xz"]
        assert old.get(id, D, LIMIT) == b"x"
        assert not LocalStore(path).has(id)
        assert list(LocalStore(path).ids()) == []
        assert list(old.ids()) == [id]
        assert old.remove(id) > 0

    @pytest.mark.parametrize("suffix", [b"", b"/x", b".\0", b".tmp"])
    def test_unusable_suffix(self, suffix: bytes) -> None:
        """A suffix that would collide with plain chunks, directories or temporary files is refused."""
        with pytest.raises(UsageError):
            LocalStore(b"/s", suffix=suffix)

    @pytest.mark.parametrize("path", [b"", b"a\0b"])
    def test_unusable_path(self, path: bytes) -> None:
        """An empty path would be the root of the system."""
        with pytest.raises(UsageError):
            LocalStore(path)

    def test_bytes_path(self, tmp_path: Path) -> None:
        """The path may have bytes that are no text, and a slash at its end; the name can always be printed."""
        store = LocalStore(os.fsencode(tmp_path) + b"/st\xffre\n.castr/")
        store.put(D.of(b"x"), b"x")
        assert LocalStore(os.fsencode(tmp_path) + b"/st\xffre\n.castr").get(D.of(b"x"), D, LIMIT) == b"x"
        assert store.name.endswith("st\\xffre\\n.castr/")


class TestCasyncStores:
    """Stores that casync 2 wrote (vector V13) can be read."""

    def test_fixture_is_its_generator(self) -> None:
        """The files checked in are what make_v13.py says."""
        spec = importlib.util.spec_from_file_location("make_v13", FIXTURES / "make_v13.py")
        assert spec is not None
        assert spec.loader is not None
        make_v13 = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(make_v13)
        found = {
            str(path.relative_to(FIXTURES / "v13")): path.read_bytes()
            for path in (FIXTURES / "v13").rglob("*")
            if path.is_file()
        }
        assert found == make_v13.files()

    @pytest.mark.parametrize("kind", ["zstd", "xz", "gzip"])
    @pytest.mark.parametrize("ours", list(Compression), ids=lambda kind: kind.value)
    def test_read(self, kind: str, ours: Compression) -> None:
        """Whatever we write ourselves, the format of a chunk is found from the chunk."""
        store = LocalStore(os.fsencode(FIXTURES / "v13" / f"{kind}.castr"), compression=ours)
        (id,) = store.ids()
        assert id == D.of(b"hello\n")
        assert store.get(id, D, LIMIT) == b"hello\n"
        assert not store.put(id, b"hello\n").new


class TestMixedStores:
    """Several formats in one store."""

    def test_all_formats_side_by_side(self, tmp_path: Path) -> None:
        """Each chunk is read whatever wrote it, and listed once."""
        path = os.fsencode(tmp_path / "s")
        ids = []
        for kind in Compression:
            raw = kind.value.encode()
            LocalStore(path, compression=kind).put(D.of(raw), raw)
            ids.append(D.of(raw))
        store = LocalStore(path)
        assert [store.get(id, D, LIMIT) for id in ids] == [b"zstd", b"xz", b"gzip", b"none"]
        assert list(store.ids()) == sorted(ids)

    def test_no_second_form(self, tmp_path: Path) -> None:
        """A chunk that is there in one form is not stored in the other."""
        path = os.fsencode(tmp_path / "s")
        packed, plain = LocalStore(path), LocalStore(path, compression=Compression.NONE)
        packed.put(D.of(b"x"), b"x")
        plain.put(D.of(b"y"), b"y")
        assert not plain.put(D.of(b"x"), b"x").new
        assert not packed.put(D.of(b"y"), b"y").new
        assert len(files_of(packed)) == 2

    def test_both_forms_are_one_chunk(self, store: LocalStore) -> None:
        """A chunk in both forms is listed once, and removed in both."""
        id = D.of(b"x" * 100)
        plant(store, id, b"x" * 100, "")
        frame = compress(Compression.ZSTD, b"x" * 100)
        plant(store, id, frame)
        assert list(store.ids()) == [id]
        assert store.remove(id) == 100 + len(frame)
        assert files_of(store) == []

    def test_plain_form_first(self, store: LocalStore) -> None:
        """The plain file costs no decompression, so the compressed one is not even looked at."""
        id = D.of(b"x")
        plant(store, id, b"x", "")
        plant(store, id, b"not a frame")
        assert store.get(id, D, LIMIT) == b"x"

    @pytest.mark.parametrize("plain", [b"y", b"", b"x" * 2000])
    def test_bad_plain_form_is_mended_by_the_other(self, store: LocalStore, plain: bytes) -> None:
        """A plain file that is damaged, empty or too large does not hide a good compressed one."""
        id = D.of(b"x")
        plant(store, id, plain, "")
        plant(store, id, compress(Compression.ZSTD, b"x"))
        assert store.get(id, D, 1000) == b"x"

    def test_plain_name_is_never_decompressed(self, store: LocalStore) -> None:
        """A chunk whose raw bytes are a zstd frame comes back as that frame, from either form."""
        raw = compress(Compression.ZSTD, b"inner")
        plant(store, D.of(raw), raw, "")
        assert store.get(D.of(raw), D, LIMIT) == raw
        path_of(store, D.of(raw), "").unlink()
        store.put(D.of(raw), raw)
        assert store.get(D.of(raw), D, LIMIT) == raw


FRAME = compress(Compression.ZSTD, b"x")


class TestDamage:
    """Chunk files that are not what they should be."""

    @pytest.mark.parametrize(
        "content",
        [
            b"x",
            FRAME[:-1],
            FRAME + b"\0",
            FRAME * 2,
            compress(Compression.XZ, b"x")[:-1],
            compress(Compression.GZIP, b"x") + b"\0",
            compress(Compression.ZSTD, b""),
            b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little") + b"\x03\x00\x10A",
            compress(Compression.ZSTD, bytes(100 * LIMIT)),
        ],
        ids=["raw", "short", "long", "twice", "xz-short", "gzip-long", "nothing", "declares-1TiB", "bomb"],
    )
    def test_corrupt(self, store: LocalStore, content: bytes) -> None:
        """Each is ChunkCorrupt, in one line that names the store and the chunk."""
        id = D.of(b"x")
        plant(store, id, content)
        with pytest.raises(ChunkCorrupt) as caught:
            store.get(id, D, LIMIT)
        message = str(caught.value)
        assert str(id) in message
        assert store.name in message
        assert "\n" not in message

    @pytest.mark.parametrize("suffix", ["", ".cacnk"])
    def test_huge_file_is_not_read(self, store: LocalStore, suffix: str) -> None:
        """A file of a terabyte (sparse) is refused by its size."""
        path = plant(store, D.of(b"x"), b"x", suffix)
        os.truncate(path, 1 << 40)
        with pytest.raises(ChunkCorrupt, match="1099511627776 bytes"):
            store.get(D.of(b"x"), D, LIMIT)

    @pytest.mark.parametrize("suffix", ["", ".cacnk"])
    def test_empty_file_is_missing_and_replaced(self, store: LocalStore, suffix: str) -> None:
        """What a loss of power leaves is not a chunk, and the next put makes it one."""
        id = D.of(b"x")
        plant(store, id, b"", suffix)
        assert not store.has(id)
        with pytest.raises(ChunkMissing):
            store.get(id, D, LIMIT)
        assert store.put(id, b"x").new
        assert store.get(id, D, LIMIT) == b"x"

    @pytest.mark.parametrize("suffix", ["", ".cacnk"])
    def test_symlink_is_missing(self, store: LocalStore, suffix: str, tmp_path: Path) -> None:
        """Links are not followed, even to a good chunk, and not written through."""
        id = D.of(b"x")
        (tmp_path / "elsewhere").write_bytes(FRAME if suffix else b"x")
        path = plant(store, id, b"", suffix)
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
        assert not store.has(id)
        assert list(store.ids()) == []
        with pytest.raises(ChunkMissing):
            store.get(id, D, LIMIT)
        assert store.put(id, b"x").new
        assert store.get(id, D, LIMIT) == b"x"
        assert (tmp_path / "elsewhere").read_bytes() == (FRAME if suffix else b"x")

    @pytest.mark.timeout(10)
    @pytest.mark.parametrize("kind", ["fifo", "directory", "socket"])
    def test_other_inodes_are_missing(self, store: LocalStore, kind: str) -> None:
        """A FIFO, directory or socket in a chunk's place is no chunk, and reading it does not hang."""
        id = D.of(b"x")
        path = plant(store, id, b"")
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        else:
            os.mknod(path, stat.S_IFSOCK | 0o600)
        assert not store.has(id)
        assert list(store.ids()) == []
        with pytest.raises(ChunkMissing):
            store.get(id, D, LIMIT)
        assert store.remove(id) == 0
        assert os.path.lexists(path)

    def test_directory_in_the_way(self, store: LocalStore) -> None:
        """A put that cannot rename fails, and leaves no temporary file."""
        id = D.of(b"x")
        path_of(store, id).mkdir(parents=True)
        with pytest.raises(FileError) as caught:
            store.put(id, b"x")
        assert caught.value.errno == errno.EISDIR
        assert files_of(store) == []


class TestForeignFiles:
    """What is not a chunk is neither listed nor touched."""

    @pytest.mark.parametrize(
        "name",
        [
            "README",
            "7f3f.cacnk",
            "{id}.cacnk",
            "{id}",
            "7f3f/README.cacnk",
            "7f3f/{id}.cacnk~",
            "7f3f/{id}.xz",
            "7f3f/{id}.cacnk.cacnk",
            "7f3f/{upper}.cacnk",
            "7f3f/{id}0.cacnk",
            "7f3f/.tmp-cacnk123456",
            "7f3f/{id}.0011223344556677.tmp",
            "7f3f/{id}.cacnk.0011223344556677.tmp",
            "7f3e/{id}.cacnk",
            "7F3F/{id}.cacnk",
            "7f3/{id}.cacnk",
            "sub/7f3f/{id}.cacnk",
            "7f3f/sub/{id}.cacnk",
            "7f3f/{id}.cacnk\n",
            "../{id}.cacnk",
        ],
    )
    def test_not_listed(self, store: LocalStore, name: str) -> None:
        """Only `<4 hex>/<64 hex>` with matching digits and our suffix is a chunk."""
        id = D.of(b"hello\n")
        store.put(D.of(b"other"), b"other")
        path = Path(os.fsdecode(store.path), name.format(id=id, upper=str(id).upper()))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious")
        assert list(store.ids()) == [D.of(b"other")]
        assert not store.has(id)
        assert store.remove(id) == 0
        assert path.read_bytes() == b"precious"

    def test_linked_sub_directory_is_not_walked(self, store: LocalStore, tmp_path: Path) -> None:
        """Listing, and so gc, stays inside the store."""
        outside = LocalStore(os.fsencode(tmp_path / "outside"))
        outside.put(D.of(b"x"), b"x")
        store.put(D.of(b"other"), b"other")
        sub = str(D.of(b"x"))[:4]
        Path(os.fsdecode(store.path), sub).symlink_to(tmp_path / "outside" / sub)
        assert list(store.ids()) == [D.of(b"other")]

    def test_stale_temps(self, store: LocalStore) -> None:
        """Leftovers of ours, casync's and desync's are found; chunks, foreign files and links are not."""
        id = D.of(b"hello\n")
        store.put(id, b"hello\n")
        sub = path_of(store, id).parent
        stale = [f"{id}.0011223344556677.tmp", f"{id}.cacnk.89abcdef.tmp", ".tmp-cacnk123456"]
        for name in [*stale, "notes.tmp", ".tmp-other", f"{id}.tmp~"]:
            (sub / name).write_bytes(b"x")
        (sub / f"{id}.ffffffffffffffff.tmp").symlink_to("/etc/passwd")
        (sub.parent / ".tmp-cacnk1").write_bytes(b"x")
        found = list(store.files.leftovers(re.compile(rb"[0-9a-f]{4}")))
        assert found == sorted(os.fsencode(sub / name) for name in stale)


class TestDirectories:
    """Making, missing and removing directories."""

    def test_absent_store(self, store: LocalStore) -> None:
        """A store that is not there has no chunks; asking does not make it."""
        assert not store.has(D.of(b"x"))
        with pytest.raises(ChunkMissing):
            store.get(D.of(b"x"), D, LIMIT)
        assert list(store.ids()) == []
        assert list(store.files.leftovers(re.compile(rb"[0-9a-f]{4}"))) == []
        assert store.remove(D.of(b"x")) == 0
        store.sync()
        assert not os.path.exists(store.path)

    def test_only_the_last_component_is_made(self, tmp_path: Path) -> None:
        """A mistyped path does not grow a tree."""
        store = LocalStore(os.fsencode(tmp_path / "no" / "such.castr"))
        with pytest.raises(FileError) as caught:
            store.put(D.of(b"x"), b"x")
        assert caught.value.errno == errno.ENOENT
        assert list(tmp_path.iterdir()) == []

    def test_a_file_is_not_a_store(self, tmp_path: Path) -> None:
        """Every use of a file as a store says so."""
        (tmp_path / "f").write_bytes(b"")
        store = LocalStore(os.fsencode(tmp_path / "f"))
        id = D.of(b"x")
        for use in (
            lambda: store.get(id, D, LIMIT),
            lambda: store.has(id),
            lambda: store.put(id, b"x"),
            lambda: store.remove(id),
            lambda: list(store.ids()),
            lambda: list(store.files.leftovers(re.compile(rb"[0-9a-f]{4}"))),
        ):
            with pytest.raises(FileError, match="cannot use as a chunk store: it is not a directory"):
                use()

    def test_emptied_directories_go(self, store: LocalStore) -> None:
        """The last chunk of a sub directory takes the sub directory with it."""
        id = D.of(b"x")
        store.put(id, b"x")
        store.put(D.of(b"y"), b"y")
        store.remove(id)
        assert not path_of(store, id).parent.exists()
        assert path_of(store, D.of(b"y")).exists()

    def test_directories_gone_since_the_last_put(self, store: LocalStore) -> None:
        """A store that somebody removed meanwhile is made again."""
        store.put(D.of(b"x"), b"x")
        shutil.rmtree(os.fsdecode(store.path))
        assert store.put(D.of(b"x"), b"x").new
        assert store.get(D.of(b"x"), D, LIMIT) == b"x"

    def test_closed_store_is_usable(self, store: LocalStore) -> None:
        """close lets go of the descriptor; putting and syncing go on."""
        store.put(D.of(b"x"), b"x")
        store.close()
        store.sync()
        store.put(D.of(b"y"), b"y")
        store.sync()
        store.close()
        store.close()
        assert store.get(D.of(b"y"), D, LIMIT) == b"y"

    def test_no_descriptor_leaks(self, tmp_path: Path) -> None:
        """Neither use nor errors leave files open, once the store is gone."""
        gc.collect()  # stores of earlier tests, which tracebacks keep
        before = len(os.listdir("/proc/self/fd"))
        for n in range(20):
            store = LocalStore(os.fsencode(tmp_path / str(n)))
            store.put(D.of(b"x"), b"x")
            store.get(D.of(b"x"), D, LIMIT)
            plant(store, D.of(b"y"), b"")
            plant(store, D.of(b"z"), b"damage")
            for id, error in ((D.of(b"y"), ChunkMissing), (D.of(b"z"), ChunkCorrupt)):
                with pytest.raises(error):
                    store.get(id, D, LIMIT)
            del store
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that every user can reach, unlike tmp_path."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's privilege to ignore modes."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class TestSystemErrors:
    """Errors of the operating system become FileError, and leave nothing behind."""

    def test_unwritable_store(self, open_dir: Path) -> None:
        """Without permission the error names the store."""
        open_dir.chmod(0o555)
        store = LocalStore(os.fsencode(open_dir))
        with (
            unprivileged(),
            pytest.raises(FileError, match="cannot store a chunk: Permission denied") as caught,
        ):
            store.put(D.of(b"x"), b"x")
        assert caught.value.path == store.path
        assert list(open_dir.iterdir()) == []

    def test_unreadable_chunk(self, open_dir: Path) -> None:
        """A chunk that may not be read is an error, not a missing chunk."""
        store = LocalStore(os.fsencode(open_dir))
        store.put(D.of(b"x"), b"x")
        path_of(store, D.of(b"x")).chmod(0)
        with unprivileged():
            assert store.has(D.of(b"x"))
            with pytest.raises(FileError, match="Permission denied"):
                store.get(D.of(b"x"), D, LIMIT)

    def test_error_after_the_temporary_file(self, open_dir: Path) -> None:
        """When a put fails half-way, here because the store itself cannot be opened, its temporary file goes."""
        store = LocalStore(os.fsencode(open_dir))
        sub = path_of(store, D.of(b"x")).parent
        sub.mkdir()
        sub.chmod(0o777)
        open_dir.chmod(0o311)
        with unprivileged(), pytest.raises(FileError, match="Permission denied"):
            store.put(D.of(b"x"), b"x")
        open_dir.chmod(0o755)
        assert files_of(store) == []

    def test_chunks_of_others_are_synced_too(self, store: LocalStore, tmp_path: Path) -> None:
        """A chunk found in the store may never have been synced, so relying on it makes sync go to the disk."""
        store.put(D.of(b"x"), b"x")
        second = LocalStore(store.path)
        assert not second.put(D.of(b"x"), b"x").new
        os.rename(store.path, tmp_path / "away")
        with pytest.raises(FileError, match="cannot make the stored chunks durable"):
            second.sync()

    def test_failed_sync_stays_failed(self, store: LocalStore) -> None:
        """The kernel reports lost writes once. A store that lost some never says again that all is well."""
        store.put(D.of(b"x"), b"x")
        assert store.files._root_fd is not None
        unusable = os.open("/", os.O_PATH)
        os.dup2(unusable, store.files._root_fd)  # syncfs(2) on this one fails with EBADF
        os.close(unusable)
        for _ in range(2):
            with pytest.raises(FileError, match="cannot make the stored chunks durable"):
                store.sync()
        store.close()
        store.put(D.of(b"y"), b"y")
        with pytest.raises(FileError):
            store.sync()

    @pytest.mark.root
    def test_full_disk(self, tmp_path: Path) -> None:
        """A full disk is a FileError that names the store; no partial chunk stays, and what was stored is good."""
        libc = ctypes.CDLL(None, use_errno=True)
        target = os.fsencode(tmp_path)
        assert libc.mount(b"tmpfs", target, b"tmpfs", 0, b"size=256k") == 0, os.strerror(ctypes.get_errno())
        try:
            store = LocalStore(target + b"/s", compression=Compression.NONE)
            stored = []
            with pytest.raises(FileError, match="s: cannot store a chunk: No space left on device"):
                for n in range(10):
                    store.put(D.of(text(50_000, n)), text(50_000, n))
                    stored.append(D.of(text(50_000, n)))
            assert 1 <= len(stored) < 6
            assert list(store.ids()) == sorted(stored)
            assert len(files_of(store)) == len(stored)
            assert all(store.get(id, D, LIMIT) for id in stored)
            store.sync()
            store.close()
        finally:
            assert libc.umount(target) == 0, os.strerror(ctypes.get_errno())


@pytest.mark.parametrize("digest", list(Digest), ids=lambda digest: digest.value)
def test_every_digest(store: LocalStore, digest: Digest) -> None:
    """The store does not care which digest made the ids."""
    id = digest.of(b"x")
    store.put(id, b"x")
    assert store.get(id, digest, LIMIT) == b"x"


class TestFilesWithoutANameYet:
    """Chunks have no name until they are complete; where that cannot be, a temporary one."""

    def kill_while_writing(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that is killed when the bytes are down, and the name is not."""
        pid = os.fork()
        if not pid:
            files = store.files
            monkeypatch.setattr(files, "_name", lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
            store.put(D.of(b"x"), b"x")
            os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])

    def test_a_killed_writer_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is no file of any name, and the next one writes the chunk."""
        store = LocalStore(tmp_path / "s.castr")
        self.kill_while_writing(store, monkeypatch)
        assert [p for p in (tmp_path / "s.castr").rglob("*") if p.is_file()] == []
        assert store.put(D.of(b"x"), b"x").new
        assert store.get(D.of(b"x"), D, LIMIT) == b"x"

    @pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EISDIR])
    def test_a_file_system_without_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """NFS and the like are written to as ever, and asked once."""
        asked: list[bytes] = []
        real = os.open

        def without(path: bytes, flags: int, *arguments: int, **options: int) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                asked.append(path)
                raise OSError(number, os.strerror(number))
            return real(path, flags, *arguments, **options)

        monkeypatch.setattr(os, "open", without)
        store = LocalStore(tmp_path / "s.castr")
        (tmp_path / "s.castr").mkdir()
        for raw in (b"a" * 100, b"b" * 100):
            id_ = D.of(raw)
            store.put(id_, raw)
            assert store.get(id_, D, LIMIT) == raw
        assert not list((tmp_path / "s.castr").rglob("*.tmp"))
        assert len(asked) < 3

    @pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM, errno.EACCES])
    def test_names_that_cannot_be_given(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """Without /proc, or where links are forbidden, the chunk is there all the same."""

        def refuse(fd: int, path: bytes) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(local, "give_name", refuse)
        store = LocalStore(tmp_path / "s.castr")
        store.put(D.of(b"x"), b"x")
        assert store.get(D.of(b"x"), D, LIMIT) == b"x"
        assert not list((tmp_path / "s.castr").rglob("*.tmp"))
