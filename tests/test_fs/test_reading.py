"""Runs of files read to their place in the archive: the same archive, and the same errors, as file by file."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import inodes
import pytest
import trees
import xattr
from grounds import Grounds

from casync_compat.errors import CasyncError, FileError
from casync_compat.fs import names as _python_names
from casync_compat.fs import system as _python
from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan import runs as reading
from casync_compat.fs.scan import scanner as scan
from casync_compat.fs.scan.runs import FileRun
from casync_compat.fs.scan.scanner import Scanner
from catar import flags
from catar.encoder import Encoder
from catar.filling import Owners
from catar.flags import DEFAULT, NAMED_SETS, FeatureFlags
from catar.records import DirectoryEnd, Node

native = pytest.importorskip("casync_compat.fs._system", reason="built without a C compiler")
native_names = pytest.importorskip("casync_compat.fs._names", reason="built without a C compiler")
NAMES = {native: native_names, _python: _python_names}
"""What lists names, beside each of the readers."""

F = FeatureFlags
BEST = flags.select([NAMED_SETS["best"]])
LARGE = 300_000


@pytest.fixture(params=["native", "python"], autouse=True)
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Every test runs with the native reader and with its Python twin."""
    module: ModuleType = {"native": native, "python": _python}[request.param]
    for name in ("read_files", "open_directory"):
        monkeypatch.setattr(scan, name, getattr(module, name))
    monkeypatch.setattr(scan, "list_names", NAMES[module].list_names)
    monkeypatch.setattr(reading, "read_run", module.read_run)
    return module


class Archive:
    """An archive that is being made of a directory.

    :ivar in_runs: how many nodes came in runs
    """

    def __init__(self, at: Path, word: int = DEFAULT, **options: object) -> None:
        self.scanner = Scanner(os.fsencode(at), word, **options)  # type: ignore[arg-type]
        self.out = bytearray()
        self.in_runs = 0
        self._encoder = Encoder(word)

    def make(self, room: int = 0, on_step: Callable[[bytes], object] = lambda path: None) -> bytes:
        """The whole archive.

        :param room: bytes of the buffer that runs are read to; 0 for no runs
        :param on_step: called with the path of each step
        """
        before = set(os.listdir("/proc/self/fd"))
        try:
            with self.scanner:
                if room:
                    self.scanner.runs_into(lambda: memoryview(bytearray(room)))
                for step in self.scanner.steps():
                    self._take(step)
                    on_step(self.scanner.path)
        finally:
            assert len(os.listdir("/proc/self/fd")) == len(before)
        return bytes(self.out)

    def _take(self, step: Node | DirectoryEnd | FileRun) -> None:
        encoder = self._encoder
        if isinstance(step, FileRun):
            end = encoder.fill(step.room, 0, step.names, step.rows, step.owners)
            self.out += step.room[:end]
            self.in_runs += len(step)
        elif isinstance(step, Node):
            self.out += encoder.begin(step)
            for piece in self.scanner.payload():
                self.out += piece
                encoder.advance(len(piece))
        else:
            self.out += encoder.end_directory()


def same_both_ways(at: Path, word: int = DEFAULT, room: int = 1 << 20, **options: object) -> int:
    """Whether the archive with runs is that without. Returns how many nodes came in runs."""
    archive = Archive(at, word, **options)
    try:
        expected: bytes | str = Archive(at, word, **options).make()
    except CasyncError as error:
        expected = str(error)
    try:
        made: bytes | str = archive.make(room)
    except CasyncError as error:
        made = str(error)
    assert made == expected
    return archive.in_runs


@pytest.mark.root
@pytest.mark.parametrize(
    "word", [DEFAULT, BEST, flags.select([NAMED_SETS["unix"]])], ids=["default", "best", "unix"]
)
@pytest.mark.parametrize(
    "tree", [tree for tree in trees.TREES.values() if not tree.large], ids=lambda tree: tree.name
)
def test_trees(ground: Grounds, tree: trees.Tree, word: int) -> None:
    """Whatever is in a tree, its archive does not depend on runs; where archiving fails, neither does the message."""
    at = ground("tree", tree.on[0])
    tree.build(at)
    same_both_ways(at, word)


def fill(at: Path, count: int = 40) -> None:
    """Files of all small sizes, among them a large one, links and a directory."""
    for i in range(count):
        (at / f"{i:03}").write_bytes(b"x" * (i * 37))
    (at / "010-large").write_bytes(bytes(LARGE))
    (at / "020-link").symlink_to("target" * 9)
    (at / "030-dir").mkdir()
    (at / "030-dir" / "x").write_bytes(b"inside")
    os.mkfifo(at / "031-fifo")


def test_ordinary_files_come_in_runs(tmp_path: Path) -> None:
    """Files and symlinks do; a file larger than the room, directories and fifos do not."""
    fill(tmp_path)
    assert same_both_ways(tmp_path) == 40 + 3
    assert same_both_ways(tmp_path, room=LARGE // 2) == 40 + 2


@pytest.mark.parametrize("room", [1, 100, 114 + 3, 500, 5000, 20_000])
def test_little_room(tmp_path: Path, room: int) -> None:
    """However little room is handed out, the archive is the same."""
    fill(tmp_path)
    same_both_ways(tmp_path, room=room)


@pytest.mark.parametrize("missing", [F.SYMLINKS, F.PERMISSIONS, F.USER_NAMES])
def test_other_flags(tmp_path: Path, missing: FeatureFlags) -> None:
    """Without symlinks none are taken; where modes are not stored whole there are no runs."""
    fill(tmp_path)
    for mode in (0o400, 0o4755):
        (tmp_path / f"{mode:o}").touch()
        os.chmod(tmp_path / f"{mode:o}", mode)
    word = flags.select(
        default=int((F.PERMISSIONS | F.SYMLINKS | F.USER_NAMES | F.SEC_TIME | F.FIFOS) & ~missing)
    )
    assert bool(same_both_ways(tmp_path, word)) == (missing != F.PERMISSIONS)


def test_files_with_attributes(tmp_path: Path, ground: Grounds) -> None:
    """A file with an extended attribute stands between runs, whole."""
    at = ground("attributes")
    fill(at)
    for name in ("000", "015", "016", "039", "010-large"):
        xattr.set(os.fsencode(at / name), b"user.x", b"y")
    assert same_both_ways(at, BEST) == 43 - 5


@pytest.mark.root
def test_flags_and_nodump(ground: Grounds) -> None:
    """Files with chattr flags are stored with them, or left out."""
    at = ground("flags", "ext4")
    fill(at)
    inodes.set_flags(at / "003", inodes.NODUMP)
    inodes.set_flags(at / "030-dir", inodes.NODUMP)
    assert same_both_ways(at, BEST) == 43 - 2
    assert same_both_ways(at, flags.select([NAMED_SETS["best"]], exclude_nodump=False)) == 43 - 1


@pytest.mark.root
def test_many_owners(tmp_path: Path) -> None:
    """Owners beyond those that are kept in mind come and go; each file has its own."""
    for i in range(100):
        (tmp_path / f"{i:03}").write_bytes(b"x")
        os.chown(tmp_path / f"{i:03}", 1000 + i % 50, 2000 + i % 3)
    same_both_ways(tmp_path)
    same_both_ways(tmp_path, shift=IdShift(1000, 0x10000, True))
    assert same_both_ways(tmp_path, flags.select([NAMED_SETS["unix"]])) < 100


@pytest.mark.root
def test_an_impossible_owner(tmp_path: Path) -> None:
    """The message is that of the file, wherever in a run it would have been."""
    fill(tmp_path, 5)
    os.chown(tmp_path / "003", 0xFFFF, 0)
    same_both_ways(tmp_path)
    with pytest.raises(FileError, match="003: cannot archive: owner id 65535"):
        Archive(tmp_path).make(1 << 20)


def test_skipped_files(tmp_path: Path) -> None:
    """Files given as `skip` are not in any run."""
    fill(tmp_path)
    found = [os.stat(tmp_path / name) for name in ("000", "010-large", "022", "030-dir")]
    skip = [(st.st_dev, st.st_ino) for st in found]
    assert same_both_ways(tmp_path, skip=skip) == 43 - 4


def test_exclude_rules(tmp_path: Path) -> None:
    """There are no runs where rules must be asked."""
    fill(tmp_path)
    (tmp_path / ".caexclude").write_text("*5\n")
    (tmp_path / "x.caexclude").touch()
    assert same_both_ways(tmp_path) == 0
    (tmp_path / ".caexclude").unlink()
    assert same_both_ways(tmp_path) == 44


def test_a_million_files_are_not_one_run(tmp_path: Path) -> None:
    """A run has an end, so that progress is shown and memory bounded."""
    for i in range(1500):
        (tmp_path / f"{i:05}").touch()
    lengths = []
    with Scanner(os.fsencode(tmp_path), DEFAULT) as found:
        found.runs_into(lambda: memoryview(bytearray(1 << 20)))
        lengths += [len(step) for step in found.steps() if isinstance(step, FileRun)]
    assert sum(lengths) == 1500
    assert max(lengths) <= 1024


# ---- what changes meanwhile


@pytest.mark.parametrize("new", ["file", "directory", "fifo", "symlink", "nothing"])
@pytest.mark.parametrize("old", ["file", "symlink"])
def test_replaced_after_its_name_was_read(tmp_path: Path, old: str, new: str) -> None:
    """What took the place of a file is stored as what it is; what is gone is an error that names it."""
    makers: dict[str, Callable[[Path], object]] = {
        "file": lambda path: path.write_bytes(b"new"),
        "directory": lambda path: path.mkdir(),
        "fifo": lambda path: os.mkfifo(path),
        "symlink": lambda path: path.symlink_to("/etc"),
        "nothing": lambda path: None,
    }

    def build(at: Path) -> Callable[[bytes], None]:
        (at / "a").mkdir(parents=True)
        makers[old](at / "b")
        (at / "c").touch()

        def replace(path: bytes) -> None:
            if path == b"a" and not (at / "moved").exists():
                (at / "b").rename(tmp_path / f"away-{at.name}")
                makers[new](at / "b")
                with suppress(FileNotFoundError):
                    os.utime(at / "b", ns=(1, 1), follow_symlinks=False)
                os.utime(at, ns=(1, 1))

        return replace

    made = []
    for name, room in (("one", 0), ("two", 1 << 20)):
        replace = build(tmp_path / name)
        for path in (tmp_path / name, tmp_path / name / "a", tmp_path / name / "c"):
            os.utime(path, ns=(1, 1))
        try:
            made.append(Archive(tmp_path / name).make(room, once(replace)))
        except FileError as error:
            assert new == "nothing"
            made.append(str(error).replace(f"/{name}/", "/").encode())
    assert made[0] == made[1]


def once(call: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Only the first step with path `a`: the directory, before anything of what follows was looked at."""
    seen = []

    def step(path: bytes) -> None:
        if path == b"a" and not seen:
            seen.append(path)
            call(path)

    return step


def test_leaving_early_closes_everything(tmp_path: Path) -> None:
    """Whoever stops at a run leaves nothing open, the file behind it neither."""
    fill(tmp_path)
    before = os.listdir("/proc/self/fd")
    with Scanner(os.fsencode(tmp_path), DEFAULT) as found:
        found.runs_into(lambda: memoryview(bytearray(LARGE // 2)))
        assert any(isinstance(step, FileRun) for step in found.steps())
    assert len(os.listdir("/proc/self/fd")) == len(before)


# ---- the calls themselves, which both twins answer alike


def read(
    module: ModuleType, at: Path, room: int, wanted: int, owners: Owners, **options: int
) -> tuple[object, ...]:
    """What `read_run` says of a whole directory, and what it has left in the room."""
    fd = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listing = NAMES[module].list_names(fd)
        buffer = bytearray(room)
        device = options.get("device", os.fstat(fd).st_dev)
        skip = struct.pack("=Q", options["skip"]) if "skip" in options else b""
        offset = options.get("offset", 0)
        most = options.get("most", 1000)
        found_names, rows, behind, odd = module.read_run(
            fd, listing, offset, most, wanted, device, 0, skip, buffer, Owners.HEAD, owners.gaps
        )
        if odd is not None and odd[0] >= 0:
            os.close(odd[0])
            odd = ("open", *odd[1:])
        ends = [row[5] + row[4] for row in struct.iter_unpack("=6Q", rows)]
        return listing, found_names, rows, behind, odd, bytes(buffer[: max(ends, default=0)])
    finally:
        os.close(fd)


def root_owners() -> Owners:
    owners = Owners(DEFAULT)
    owners.add(os.getuid(), os.getgid(), 0, 0, b"user", None)
    return owners


@pytest.mark.parametrize("room", [0, 200, 5000, 1 << 20])
@pytest.mark.parametrize("wanted", [0, _python.WANT_LINKS, _python.WANT_LINKS | _python.WANT_LABELS, 7])
def test_twins_agree(tmp_path: Path, room: int, wanted: int) -> None:
    """Names, rows, contents and what is left to the caller, from every offset that is one."""
    fill(tmp_path)
    owners = root_owners()
    listing = read(native, tmp_path, 0, 0, owners)[0]
    assert isinstance(listing, bytes)
    for offset in [0, *(i + 1 for i, byte in enumerate(listing) if not byte)]:
        for options in ({}, {"most": 1}, {"device": 1}):
            found = [
                read(m, tmp_path, room, wanted, owners, offset=offset, **options) for m in (native, _python)
            ]
            assert found[0] == found[1]


def test_what_is_left_to_the_caller(tmp_path: Path, twin: ModuleType) -> None:
    """A file of another owner or device, one to be skipped, and one that does not fit is opened, not read."""
    (tmp_path / "f").write_bytes(b"12345")
    st = os.stat(tmp_path / "f")
    owners = root_owners()
    whole = Owners.HEAD + 1 + len(owners.rows[0][4]) + 5
    assert read(twin, tmp_path, whole, 0, owners)[4] is None
    for room, table, options in (
        (whole - 1, owners, {}),
        (whole, Owners(DEFAULT), {}),
        (whole, owners, {"device": st.st_dev + 1}),
        (whole, owners, {"skip": st.st_ino}),
    ):
        odd = read(twin, tmp_path, room, 0, table, **options)[4]
        assert isinstance(odd, tuple)
        assert odd[:3] == ("open", 0, st.st_mode)
        assert odd[5] == 5
        assert odd[13] == -1
    assert read(twin, tmp_path, Owners.HEAD, 0, owners)[1:5] == (b"", b"", 0, None)


def test_a_file_shorter_than_it_says(twin: ModuleType) -> None:
    """It is left to the caller with what was read, as one that shrank: sysfs says 4096 of every file."""
    at = Path("/sys/kernel")
    if not (at / "uevent_seqnum").exists():
        pytest.skip("no sysfs here")
    fd = os.open(at, os.O_RDONLY)
    try:
        device = os.fstat(fd).st_dev
        owners = Owners(DEFAULT)
        owners.add(0, 0, 0, 0, None, None)
        listing = b"fuevent_seqnum\0"
        *_, odd = twin.read_run(
            fd, listing, 0, 9, 0, device, 0, b"", bytearray(9999), Owners.HEAD, owners.gaps
        )
    finally:
        os.close(fd)
    assert odd is not None
    os.close(odd[0])
    assert odd[5] == 4096
    assert 0 < odd[13] < 4096


def test_listing(tmp_path: Path, twin: ModuleType) -> None:
    """Names come sorted as bytes, each after the letter of its type."""
    fill(tmp_path, 3)
    top = os.fsencode(tmp_path)
    for name in (b"\xff", b"\x01", b"new\nline", b".hidden", b"n" * 255):
        with open(top + b"/" + name, "wb"):
            pass
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        found = NAMES[twin].list_names(fd)
        assert NAMES[twin].list_names(fd) == found
    finally:
        os.close(fd)
    marked = found.split(b"\0")[:-1]
    assert [name[1:] for name in marked] == sorted(os.listdir(top))
    kinds = {b"f": stat.S_IFREG, b"d": stat.S_IFDIR, b"l": stat.S_IFLNK, b"o": stat.S_IFIFO}
    for name in marked:
        assert stat.S_IFMT(os.lstat(top + b"/" + name[1:]).st_mode) == kinds[name[:1]]


def test_listing_what_is_no_directory(tmp_path: Path, twin: ModuleType) -> None:
    """An OSError, as from any system call."""
    (tmp_path / "f").touch()
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        with pytest.raises(NotADirectoryError):
            NAMES[twin].list_names(fd)
    finally:
        os.close(fd)


def test_opening_a_directory(tmp_path: Path, twin: ModuleType) -> None:
    """The row of a directory is its own; what is none, or not there, has an error number and no descriptor."""
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "f").touch()
    (tmp_path / "l").symlink_to("d")
    parent = os.open(tmp_path, os.O_RDONLY)
    try:
        row = twin.open_directory(parent, b"d", 7)
        st = os.fstat(row[0])
        os.close(row[0])
        assert row[1:9] == (
            0,
            st.st_mode,
            st.st_uid,
            st.st_gid,
            st.st_size,
            st.st_mtime_ns,
            st.st_dev,
            st.st_ino,
        )
        for name in (b"f", b"l", b"missing"):
            row = twin.open_directory(parent, name, 7)
            assert row[0] == -1
            assert row[1] > 0
    finally:
        os.close(parent)


def test_mounts(tmp_path: Path) -> None:
    """Something mounted lies on another mount, what is beside it does not; both ways to ask say the same."""
    if not os.path.ismount("/proc"):
        pytest.skip("nothing is mounted on /proc")
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    (tmp_path / "link").symlink_to("/proc")
    here = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for ask in (_python.mount_by_proc, native.mount_of):
            top = ask(root, b"")
            assert top >= 0
            assert ask(root, b"proc") != top
            assert ask(here, b"link") == ask(here, b"")
            with pytest.raises(FileNotFoundError):
                ask(root, b"missing")
    finally:
        os.close(root)
        os.close(here)
