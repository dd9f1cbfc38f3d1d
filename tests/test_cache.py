"""`make` with a cache: the index is the one without, whatever happened in between; and little is read."""

from __future__ import annotations

import gc
import os
import pwd
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casync_compat.cache.file import CacheFile, CacheKey
from casync_compat.chunker import ChunkSizes
from casync_compat.compression import Compression, compress
from casync_compat.errors import FormatError, UsageError
from casync_compat.fs.identity import KEEPS_CHANGE_TIMES
from casync_compat.fs.inode_flags import fs_magic
from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan import reusing
from casync_compat.index import Index
from casync_compat.store.local import LocalStore
from casync_compat.store.memory import MemoryStore
from casync_compat.verbs.make import MakeOptions, MakeResult, make_archive_index
from casync_compat.verbs.verify import verify_chunks
from catar import flags

SIZES = ChunkSizes(256, 1024, 4096)
TICK = 0.015
"""Seconds that are more than a tick of the kernel's clock."""


class Making:
    """One tree, one store and one cache, made again and again and compared with runs that have no cache."""

    def __init__(self, place: Path) -> None:
        self.tree = place / "tree"
        self.store = LocalStore(os.fsencode(place / "with.castr"))
        self.cache = place / "cache"
        self.warnings: list[str] = []
        self._plain = MemoryStore()

    def __call__(self, *, output: Path | None = None, **options: Any) -> MakeResult:
        """Make with the cache and without it, and be sure that it is all the same."""
        options = {"sizes": SIZES, "jobs": 2, **options}
        out = os.fsencode(output or self.tree.with_name("x.caidx"))
        made = make_archive_index(
            out,
            os.fsencode(self.tree),
            self.store,
            MakeOptions(cache=os.fsencode(self.cache), **{"skip": [self.store.path], **options}),
            warn=self.warnings.append,
        )
        expected = make_archive_index(
            os.fsencode(self.tree.with_name("y.caidx")),
            os.fsencode(self.tree),
            self._plain,
            MakeOptions(**{"skip": [self.store.path, out, os.fsencode(self.cache)], **options}),
        )
        assert made.index == expected.index
        assert made.size == expected.size
        assert made.entries == expected.entries
        assert made.digest is None
        assert made.index is not None
        assert Path(os.fsdecode(out)).read_bytes() == made.index.to_bytes()
        assert all(self.store.has(id_) for id_ in set(made.index.ids()))
        assert made.chunks is not None
        assert made.chunks.total == len(made.index)
        return made

    @property
    def files(self) -> list[Path]:
        return sorted(self.cache.iterdir())


def reads(made: MakeResult) -> int:
    """Chunks of a run that had to be looked at."""
    assert made.chunks is not None
    assert made.cached is not None
    return made.chunks.total - made.cached


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe everything at once, although it has only just changed."""
    monkeypatch.setattr(reusing, "SETTLED", -3600 * 10**9)


def build(place: Path) -> None:
    """A tree with many chunks, several directories deep."""
    tree = place / "tree"
    tree.mkdir()
    numbers = random.Random(4)
    for name in ("a", "b", "b/c", "b/c/d", "e", "empty"):
        (tree / name).mkdir()
    for directory in ("", "a", "b", "b/c", "b/c/d", "e"):
        for number in range(8):
            data = numbers.randbytes(numbers.choice([0, 10, 700, 5000]))
            (tree / directory / f"file{number}").write_bytes(data)
    (tree / "large").write_bytes(numbers.randbytes(200_000))
    (tree / "zeros").write_bytes(bytes(30_000))
    (tree / "b/link").symlink_to("c")
    os.mkfifo(tree / "b/fifo")


@pytest.fixture
def making(tmp_path: Path) -> Iterator[Making]:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        if fs_magic(fd) not in KEEPS_CHANGE_TIMES:
            pytest.skip("needs a temporary directory on a file system whose change times are believed")
    finally:
        os.close(fd)
    build(tmp_path)
    making = Making(tmp_path)
    yield making
    making.store.close()


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """However a run ends: no temporary file, no descriptor, no thread."""
    gc.collect()  # what earlier tests left open is not closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
    assert [t.name for t in threading.enumerate() if t.name.startswith(("worker", "sequence"))] == []
    assert not list(tmp_path.rglob(".#*"))


# ---- nothing changed


def test_nothing_changed(making: Making, settled: None) -> None:
    """The second run looks at no chunk, and leaves the cache as it is."""
    assert reads(making()) > 100
    before = making.files[0].stat().st_ino
    assert reads(making()) == 0
    assert making.files[0].stat().st_ino == before
    assert making.warnings == []


@pytest.mark.parametrize(
    "name", sorted(n for n, t in trees.TREES.items() if not t.large and not n.startswith("random"))
)
def test_every_kind_of_tree(name: str, tmp_path: Path, settled: None) -> None:
    """All that other tests archive, twice."""
    tree = trees.TREES[name]
    if tree.on != ("any",) or tree.refused or (tree.root and os.geteuid()):
        pytest.skip("needs another file system, or cannot be archived")
    (tmp_path / "tree").mkdir()
    tree.build(tmp_path / "tree")
    try:
        making = Making(tmp_path)
        making()
        making()
        (tmp_path / "tree" / "zzz new").write_bytes(b"new")
        making()
        assert making.warnings == []
    finally:
        trees.remove(tmp_path / "tree")


def test_only_the_top_directory(tmp_path: Path, settled: None) -> None:
    """A tree of nothing, and changes of the top directory itself."""
    (tmp_path / "tree").mkdir()
    making = Making(tmp_path)
    making()
    assert reads(making()) == 0
    time.sleep(TICK)
    making.tree.chmod(0o700)
    assert reads(making()) > 0
    assert reads(making()) == 0


# ---- something changed


def test_little_is_read_for_a_little_change(making: Making, settled: None) -> None:
    """One file that grows by a byte: the chunks around it and the tables of its parents are made anew."""
    total = reads(making())
    time.sleep(TICK)
    with (making.tree / "b" / "c" / "file3").open("ab") as file:
        file.write(b"!")
    assert 0 < reads(making()) < total // 5
    assert reads(making()) == 0


def test_other_files_are_not_opened(making: Making, settled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is unchanged is not even opened, whether its directory has changed or not."""
    making()
    time.sleep(TICK)
    (making.tree / "b" / "file3").write_bytes(b"changed")
    opened: list[bytes] = []
    real = os.open

    def spy(path: Any, *arguments: Any, **options: Any) -> int:
        opened.append(os.path.basename(os.fsencode(path)))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", spy)
    options: dict[str, Any] = {
        "sizes": SIZES,
        "skip": [making.store.path],
        "cache": os.fsencode(making.cache),
    }
    make_archive_index(
        os.fsencode(making.tree.with_name("z.caidx")),
        os.fsencode(making.tree),
        making.store,
        MakeOptions(**options),
    )
    monkeypatch.undo()
    assert b"file3" in opened
    assert not {b"large", b"file1", b"file2", b"zeros", b"fifo"} & set(opened)


Edit = Callable[[Path, random.Random], None]


def _files(tree: Path) -> list[Path]:
    return sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())


def _directories(tree: Path) -> list[Path]:
    return [tree, *sorted(path for path in tree.rglob("*") if path.is_dir() and not path.is_symlink())]


def write(tree: Path, numbers: random.Random) -> None:
    path = numbers.choice(_files(tree))
    path.write_bytes(numbers.randbytes(numbers.choice([0, 1, 900, 20_000])))


def rewrite_with_times_set_back(tree: Path, numbers: random.Random) -> None:
    path = numbers.choice(_files(tree))
    before = path.stat()
    path.write_bytes(numbers.randbytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def create(tree: Path, numbers: random.Random) -> None:
    path = numbers.choice(_directories(tree)) / f"new{numbers.randrange(1000)}"
    path.write_bytes(numbers.randbytes(numbers.choice([0, 3000])))


def delete(tree: Path, numbers: random.Random) -> None:
    files = _files(tree)
    if len(files) > 1:
        numbers.choice(files).unlink()


def truncate(tree: Path, numbers: random.Random) -> None:
    path = numbers.choice(_files(tree))
    os.truncate(path, numbers.randrange(path.stat().st_size + 1))


def rename(tree: Path, numbers: random.Random) -> None:
    path = numbers.choice(_files(tree))
    path.rename(numbers.choice(_directories(tree)) / f"moved{numbers.randrange(1000)}")


def exchange(tree: Path, numbers: random.Random) -> None:
    one, other = numbers.choice(_files(tree)), numbers.choice(_files(tree))
    aside = tree / "aside"
    one.rename(aside)
    if other != one:
        other.rename(one)
    aside.rename(other)


def move_directory(tree: Path, numbers: random.Random) -> None:
    target = tree / f"directory{numbers.randrange(1000)}"
    directories = _directories(tree)[1:]
    if directories and not target.exists():
        numbers.choice(directories).rename(target)


def remove_directory(tree: Path, numbers: random.Random) -> None:
    directories = _directories(tree)[1:]
    if len(directories) > 3:
        shutil.rmtree(numbers.choice(directories))


def make_directory(tree: Path, numbers: random.Random) -> None:
    (numbers.choice(_directories(tree)) / f"made{numbers.randrange(1000)}").mkdir(exist_ok=True)


def change_mode(tree: Path, numbers: random.Random) -> None:
    numbers.choice([*_files(tree), *_directories(tree)]).chmod(numbers.choice([0o700, 0o755, 0o711]))


def change_times(tree: Path, numbers: random.Random) -> None:
    os.utime(numbers.choice([*_files(tree), *_directories(tree)]), ns=(0, numbers.randrange(1 << 60)))


def set_attribute(tree: Path, numbers: random.Random) -> None:
    os.setxattr(numbers.choice([*_files(tree), *_directories(tree)]), "user.x", numbers.randbytes(9))


def turn_into_directory(tree: Path, numbers: random.Random) -> None:
    files = _files(tree)
    if len(files) > 1:
        path = numbers.choice(files)
        path.unlink()
        path.mkdir()


def relink(tree: Path, numbers: random.Random) -> None:
    path = tree / "a link"
    path.unlink(missing_ok=True)
    path.symlink_to("x" * numbers.randrange(1, 50))


EDITS: list[Edit] = [
    *(write, rewrite_with_times_set_back, create, delete, truncate, rename, exchange, move_directory),
    *(
        remove_directory,
        make_directory,
        change_mode,
        change_times,
        set_attribute,
        turn_into_directory,
        relink,
    ),
]


@pytest.mark.parametrize("believe", [TICK, 2.0], ids=["after a tick", "after two seconds"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rounds=st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from(EDITS), st.integers(0, 2**32)), max_size=4), st.booleans()
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_edits(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    believe: float,
    rounds: list[tuple[list[tuple[Edit, int]], bool]],
) -> None:
    """After edits of every kind, at once or after a while: the same index as without a cache."""
    place = tmp_path_factory.mktemp("edits")
    build(place)
    making = Making(place)
    with monkeypatch.context() as patch:
        patch.setattr(reusing, "SETTLED", int(believe * 10**9))
        making()
        for edits, wait in rounds:
            if wait:
                time.sleep(2 * TICK)
            for edit, seed in edits:
                edit(making.tree, random.Random(seed))
            making()
    assert making.warnings == []
    shutil.rmtree(place)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_each_edit_of_a_settled_tree(making: Making, settled: None, edit: Edit) -> None:
    """Each kind of edit in a tree that is otherwise believed to be unchanged."""
    making()
    for seed in range(3):
        time.sleep(TICK)
        edit(making.tree, random.Random(seed))
        making()
    making()


def test_a_change_within_the_clocks_grain(making: Making) -> None:
    """A file that is overwritten right after it was read, and made to look as before, is read again."""
    path = making.tree / "a" / "file0"
    for number in range(30):
        path.write_bytes(b"%20d" % number)
        os.utime(path, ns=(0, 12345))
        making()


def test_changes_while_it_runs(making: Making, settled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes after it was looked at is noticed by the next run."""
    making()
    time.sleep(TICK)
    path = making.tree / "a" / "file1"
    path.write_bytes(b"first")
    real = reusing.ReusingScanner._fill

    def fill(self: Any, directory: Any) -> bytes:
        listing = real(self, directory)
        if directory.path == b"a":
            time.sleep(TICK)
            path.write_bytes(b"second")
        return listing

    with monkeypatch.context() as patch:
        patch.setattr(reusing.ReusingScanner, "_fill", fill)
        options: dict[str, Any] = {"sizes": SIZES, "skip": [making.store.path]}
        make_archive_index(
            os.fsencode(making.tree.with_name("z.caidx")),
            os.fsencode(making.tree),
            making.store,
            MakeOptions(cache=os.fsencode(making.cache), **options),
        )
    time.sleep(TICK)
    path.write_bytes(b"thirds")
    making()
    assert reads(making()) == 0


# ---- what is left out


def test_exclude_rules(making: Making, settled: None) -> None:
    """Rules that come, change and go, also where they stand outside the tree behind a symlink."""
    making()
    time.sleep(TICK)
    rules = making.tree.with_name("rules")
    rules.write_text("file1\n")
    (making.tree / "b" / ".caexclude").symlink_to("../../rules")
    making()
    making()
    rules.write_text("file2\nc\n")
    making()
    rules.write_text("")
    making()
    (making.tree / "b" / ".caexclude").unlink()
    time.sleep(TICK)
    making()
    assert reads(making()) == 0


def test_outputs_in_the_tree(making: Making, settled: None) -> None:
    """Index, store and cache are left out as ever, and come in when they are no longer such."""
    tree = making.tree
    # Writing into the tree changes the times of its directory, so that no two runs are alike but for those.
    timeless: dict[str, Any] = {"feature_flags": int(flags.DEFAULT & ~flags.FeatureFlags.NSEC_TIME)}
    making.store = LocalStore(os.fsencode(tree / "inner.castr"))
    making.cache = tree / "inner-cache"
    for _ in range(3):
        time.sleep(TICK)
        made = making(output=tree / "inner.caidx", **timeless)
    without = made.entries
    making.store = LocalStore(os.fsencode(tree.with_name("outer.castr")))
    making.cache = tree.with_name("outer-cache")
    for _ in range(2):
        assert making(**timeless).entries > without + 3
    assert reads(making(**timeless)) == 0


def test_a_file_becomes_an_output(making: Making, settled: None) -> None:
    """A store that was archived before is left out when it is used."""
    making.store.put(next(iter(ids_of(making))), b"x")
    inner = making.tree / "inner.castr"
    inner.mkdir()
    time.sleep(TICK)
    making()
    assert reads(making()) == 0
    shutil.copytree(os.fsdecode(making.store.path), inner, dirs_exist_ok=True)
    time.sleep(TICK)
    making()
    making.store = LocalStore(os.fsencode(inner))
    making()


def ids_of(making: Making) -> set[Any]:
    made = making()
    assert made.index is not None
    return set(made.index.ids())


@pytest.mark.parametrize("submounts", [False, True])
def test_submounts(making: Making, settled: None, submounts: bool) -> None:
    """Where mount points are left out nothing is believed; the index is right all the same."""
    word = flags.DEFAULT | (flags.FeatureFlags.EXCLUDE_SUBMOUNTS if submounts else 0)
    making(feature_flags=word)
    assert (reads(making(feature_flags=word)) > 0) == submounts


# ---- options, names, stores


def test_options_have_caches_of_their_own(making: Making, settled: None) -> None:
    """Flags, chunk sizes, shift and digest: no cache serves another's run, and none spoils another."""
    default = int(flags.DEFAULT)
    every: list[dict[str, Any]] = [
        {},
        {"sizes": ChunkSizes(512, 2048, 8192)},
        {"sizes": ChunkSizes(1000, 1000, 1000)},
        {"feature_flags": flags.select(default=flags.NAMED_SETS["unix"])},
        {"feature_flags": default & ~int(flags.FeatureFlags.SHA512_256)},
        {"shift": IdShift(0, 1 << 16, True)},
    ]
    for options in every:
        assert reads(making(**options)) > 0
    for options in every:
        assert reads(making(**options)) == 0
    assert len(making.files) == len(every)


def test_another_tree_has_another_cache(making: Making, settled: None) -> None:
    """A copy elsewhere is not taken for the tree, and a symlink to the tree is."""
    making()
    elsewhere = making.tree.with_name("elsewhere")
    shutil.copytree(making.tree, elsewhere, symlinks=True, ignore=shutil.ignore_patterns("fifo"))
    making.tree = elsewhere
    assert reads(making()) > 0
    elsewhere.with_name("link").symlink_to("elsewhere")
    making.tree = elsewhere.with_name("link")
    assert reads(making()) == 0


def test_a_tree_put_in_the_place_of_another(making: Making, settled: None) -> None:
    """Same path, same names, another tree."""
    making()
    other = making.tree.with_name("other")
    shutil.copytree(making.tree, other, symlinks=True, ignore=shutil.ignore_patterns("fifo"))
    (other / "a" / "file1").write_bytes(b"other")
    making.tree.rename(making.tree.with_name("gone"))
    other.rename(making.tree)
    making()
    assert reads(making()) == 0


def test_users_that_get_another_name(making: Making, settled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are stored too, and change without any file changing."""
    if os.geteuid() == 0:
        os.chown(making.tree / "a", 4711, 0)
    names = {"name": "first"}

    def getpwuid(uid: int) -> Any:
        return type("Entry", (), {"pw_name": names["name"]})

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    making()
    assert reads(making()) == 0
    names["name"] = "second"
    making()
    assert reads(making()) == 0


def test_chunks_that_are_gone_are_made_again(making: Making, settled: None) -> None:
    """The store may be emptied, or lose a chunk, or be another."""
    made = making()
    assert made.index is not None
    making.store.remove(made.index[7].id)
    making()
    shutil.rmtree(os.fsdecode(making.store.path))
    making()
    making.store = LocalStore(os.fsencode(making.tree.with_name("other.castr")))
    making()
    assert reads(making()) == 0


def damage_chunks(making: Making, index: Index, content: bytes) -> None:
    for chunk in index:
        name = str(chunk.id)
        path = Path(os.fsdecode(making.store.path)) / name[:4] / f"{name}.cacnk"
        path.chmod(0o644)
        path.write_bytes(content)


def test_chunks_that_are_damaged(making: Making, settled: None) -> None:
    """Old bytes are only taken from chunks that are right: otherwise everything is read, and a warning says why."""
    made = making()
    assert made.index is not None
    time.sleep(TICK)
    (making.tree / "large").write_bytes(b"!" + (making.tree / "large").read_bytes())
    damage_chunks(making, made.index, compress(Compression.ZSTD, b"a whole frame of another chunk"))
    making()
    assert len(making.warnings) == 1
    assert making.warnings[0].endswith("; everything is read again")


def test_chunks_that_are_no_longer_whole(making: Making, settled: None) -> None:
    """Chunks that are visibly damaged count as missing: they are stored anew, and the archive is whole again."""
    made = making()
    assert made.index is not None
    time.sleep(TICK)
    damage_chunks(making, made.index, b"damaged")
    again = making()
    assert again.index is not None
    assert again.index.to_bytes() == made.index.to_bytes()
    assert verify_chunks(again.index, making.store).defects == 0


def test_chunks_that_came_later_are_synced(making: Making, settled: None) -> None:
    """A chunk that somebody put again since the last sync is made durable; one that was there before is not again."""

    class Counting(LocalStore):
        syncs = 0

        def sync(self) -> None:
            self.syncs += self._found_unsynced
            super().sync()

    made = making()
    assert made.index is not None
    for later, expected in ((0, 1), (3600, 0), (-3600, 1)):
        moment = time.time_ns() + later * 10**9
        os.utime(making.files[0], ns=(moment, moment))
        making.store = Counting(making.store.path)
        making()
        assert making.store.syncs == expected
        assert abs(making.files[0].stat().st_mtime_ns - time.time_ns()) < 60 * 10**9


def test_a_store_that_cannot_tell_what_it_has(making: Making) -> None:
    """Is refused before anything is read."""

    class Blind:
        def put(self, id: Any, data: Any) -> Any:
            raise AssertionError("nothing is to be put")

        def sync(self) -> None:
            raise AssertionError("nothing is to be synced")

    with pytest.raises(UsageError, match="cannot be used with a cache"):
        make_archive_index(
            os.fsencode(making.tree.with_name("z.caidx")),
            os.fsencode(making.tree),
            Blind(),
            MakeOptions(cache=os.fsencode(making.cache)),
        )


# ---- the file


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut short": cut_short,
    "one byte short": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "a bit in the header": lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    "a bit in a size": lambda data: data[:48] + bytes([data[48] ^ 1]) + data[49:],
    "a bit in an identity": lambda data: data[:300] + bytes([data[300] ^ 1]) + data[301:],
    "a bit at the end": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "another format": lambda data: b"another cache 11" + data[16:],
    "not a cache": lambda data: b"hello world" * 100,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_cache(making: Making, settled: None, how: str) -> None:
    """One line of warning that names the file, the index as ever, and a good cache afterwards."""
    making()
    path = making.files[0]
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    assert reads(making()) > 0
    assert len(making.warnings) == 1
    assert making.warnings[0].startswith(str(path))
    assert "\n" not in making.warnings[0]
    assert reads(making()) == 0
    assert len(making.warnings) == 1


def test_a_cache_of_something_else(making: Making, settled: None) -> None:
    """A cache that was copied over another is not believed."""
    making()
    ours = making.files[0]
    making(sizes=ChunkSizes(512, 2048, 8192))
    other = next(path for path in making.files if path != ours)
    ours.write_bytes(other.read_bytes())
    assert reads(making()) > 0
    assert len(making.warnings) == 1


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400))
def test_no_bytes_are_taken_for_a_cache(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever stands in the file: a cache of that key, or a clear error."""
    path = tmp_path_factory.mktemp("bytes") / "x.cache"
    path.write_bytes(b"pycasync cache 1" + data)
    key = CacheKey.of(b"/", flags.DEFAULT, SIZES, IdShift())
    with pytest.raises(FormatError):
        CacheFile.load(os.fsencode(path), key)
    path.unlink()
    assert CacheFile.load(os.fsencode(path), key) is None


def test_a_failing_run_leaves_the_old_cache(making: Making, settled: None) -> None:
    """A run that fails leaves neither index nor half a cache."""
    making()
    before = making.files[0].read_bytes()
    time.sleep(TICK)
    (making.tree / "a" / "file1").write_bytes(b"changed")
    (making.tree / "zz").mkdir()
    (making.tree / "zz" / ".caexclude").mkdir()  # cannot be read as rules
    with pytest.raises(Exception, match="exclude rules"):
        making()
    assert [path.read_bytes() for path in making.files] == [before]
    (making.tree / "zz" / ".caexclude").rmdir()
    making()


def test_nobody_else_reads_it(making: Making) -> None:
    """Names in a tree may be secret: the cache is for its owner only."""
    making()
    assert making.files[0].stat().st_mode & 0o777 == 0o600
    fresh = making.tree.with_name("deep") / "er" / "cache"
    making.cache = fresh
    making()
    assert fresh.stat().st_mode & 0o077 == 0
