"""Scanning a directory: what is stored, in which order, and what stops the run."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import inodes
import pytest
from grounds import Grounds

from casync_compat.cli._hints import hint_for
from casync_compat.errors import FileError, FormatError
from casync_compat.fs import names as _python_names
from casync_compat.fs import system as _python
from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan import scanner as scan
from casync_compat.fs.scan.scanner import Scanner
from catar import flags
from catar.flags import NAMED_SETS, FeatureFlags
from catar.grammar import MAX_DEPTH
from catar.records import DirectoryEnd, Node

F = FeatureFlags
PLAIN = flags.select(default=int(F.SYMLINKS | F.DEVICE_NODES | F.FIFOS | F.SOCKETS), digest_bits=0)
"""All types of file, and nothing about them."""
SMALL, LARGE = 1000, 3 << 20
"""A file that the native reader takes whole, and one that it leaves to be streamed."""


@pytest.fixture(params=["native", "python"], autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with the native reader of small files and with its Python twin."""
    native = pytest.importorskip("casync_compat.fs._system", reason="built without a C compiler")
    twin = {"native": native, "python": _python}[request.param]
    for name in ("read_files", "open_directory"):
        monkeypatch.setattr(scan, name, getattr(twin, name))
    if request.param == "python":
        monkeypatch.setattr(scan, "list_names", _python_names.list_names)


def open_files() -> set[str]:
    """The descriptors that this process holds."""
    return set(os.listdir("/proc/self/fd"))


@contextmanager
def nothing_stays_open() -> Iterator[None]:
    """Every descriptor that the block opens must be closed at its end."""
    before = open_files()
    yield
    assert len(open_files()) == len(before)


def scanner(at: Path | bytes, feature_flags: int = PLAIN, **options: object) -> Scanner:
    return Scanner(os.fsencode(at), feature_flags, **options)  # type: ignore[arg-type]


def names(at: Path | bytes, feature_flags: int = PLAIN, **options: object) -> list[bytes]:
    """The paths that are stored, in order; payloads are read."""
    out = []
    with nothing_stays_open(), scanner(at, feature_flags, **options) as found:
        for step in found:
            if isinstance(step, Node):
                out.append(found.path)
                assert sum(map(len, found.payload())) == step.size
    return out


def contents(at: Path, feature_flags: int = PLAIN) -> dict[bytes, bytes]:
    """The payload of every regular file."""
    out = {}
    with scanner(at, feature_flags) as found:
        for step in found:
            if isinstance(step, Node) and step.is_regular:
                out[found.path] = b"".join(map(bytes, found.payload()))
    return out


def fails(at: Path, feature_flags: int = PLAIN, **options: object) -> FileError | FormatError:
    """The error of a scan that must fail; nothing may stay open after it."""
    with (
        nothing_stays_open(),
        scanner(at, feature_flags, **options) as found,
        pytest.raises((FileError, FormatError)) as e,
    ):
        for _ in found:
            for _ in found.payload():
                pass
    return e.value


# ---- shape and order


def test_an_empty_directory(tmp_path: Path) -> None:
    """The top directory has no name, and ends."""
    with scanner(tmp_path) as found:
        first, last = found
    assert isinstance(first, Node)
    assert first.name == b""
    assert first.is_dir
    assert isinstance(last, DirectoryEnd)


def test_order_is_that_of_bytes(tmp_path: Path) -> None:
    """Children come sorted by their bytes, whatever their type, directories with their contents before the next."""
    top = os.fsencode(tmp_path)
    for name in (b"a", b"a-b", b"a.b", b"B", b"\xff", b"\x01", b"a\nb", b"z"):
        with open(top + b"/" + name, "wb"):
            pass
    for name in (b"aa", b"a0"):
        os.mkdir(top + b"/" + name)
        with open(top + b"/" + name + b"/x", "wb"):
            pass
    os.symlink("x", top + b"/ab")
    assert names(tmp_path) == [
        b"", b"\x01", b"B", b"a", b"a\nb", b"a-b", b"a.b", b"a0", b"a0/x", b"aa", b"aa/x", b"ab", b"z", b"\xff",
    ]  # fmt: skip


def test_names_are_bytes(tmp_path: Path) -> None:
    """Invalid UTF-8, line breaks and names of 255 bytes come as they are."""
    odd = sorted([b"\xff\xfe", b"a\nb", b" ", b"-rf", b"n" * 255, b"\xe2\x82", b"..."])
    for name in odd:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(name)
    assert contents(tmp_path) == {name: name for name in odd}


def test_ends_match_beginnings(tmp_path: Path) -> None:
    """Every directory that begins ends, with the path that it had."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    with scanner(tmp_path) as found:
        seen = [("+" if isinstance(step, Node) else "-", found.path) for step in found]
    assert seen == [
        ("+", b""), ("+", b"a"), ("+", b"a/b"), ("-", b"a/b"), ("-", b"a"), ("+", b"c"), ("-", b"c"), ("-", b""),
    ]  # fmt: skip


def test_contents(tmp_path: Path) -> None:
    """Small files, large files, empty and sparse ones: their bytes come out, however many there are."""
    files = {b"empty": b"", b"large": Random(1).randbytes(LARGE), b"hole": bytes(100_000)}
    files |= {b"small%03d" % i: b"%d" % i * i for i in range(300)}
    for name, data in files.items():
        (tmp_path / os.fsdecode(name)).write_bytes(data)
    assert contents(tmp_path) == files
    assert names(tmp_path) == [b"", *sorted(files)]


def test_payloads_may_be_left(tmp_path: Path) -> None:
    """A payload that is not asked for, or only in part, does not disturb what follows."""
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_bytes(name.encode() * (LARGE if name in "bd" else SMALL))
    with nothing_stays_open(), scanner(tmp_path) as found:
        for step in found:
            if found.path in (b"a", b"b"):
                next(found.payload())
            elif found.path == b"d" and isinstance(step, Node):
                assert b"".join(map(bytes, found.payload())) == b"d" * LARGE


def test_payload_can_be_read_into_a_buffer(tmp_path: Path) -> None:
    """`payload_into` fills what it is given and says 0 at the end; `take_ready` gives what is in memory, once."""
    (tmp_path / "a").write_bytes(b"a" * SMALL)
    (tmp_path / "b").write_bytes(b"b" * LARGE)
    with scanner(tmp_path) as found:
        for step in found:
            if not isinstance(step, Node) or not step.is_regular:
                continue
            buffer = memoryview(bytearray(600))
            assert found.payload_into(buffer) == 600
            assert bytes(buffer) == found.path * 600
            rest = found.take_ready()
            while count := found.payload_into(buffer):
                assert rest is None
                assert bytes(buffer[:count]) == found.path * count
            assert found.take_ready() is None


def test_a_tree_without_contents(tmp_path: Path) -> None:
    """When no payload will be asked for, none is read: even files that are not readable as data have their size."""
    (tmp_path / "a").write_bytes(b"x" * SMALL)
    with scanner(tmp_path, contents=False) as found:
        assert [step.size for step in found if isinstance(step, Node)] == [0, SMALL]


def test_the_root_may_be_a_symlink(tmp_path: Path) -> None:
    """The directory itself is followed; below it nothing is."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").touch()
    (tmp_path / "link").symlink_to("real")
    assert names(tmp_path / "link") == [b"", b"x"]
    assert names(tmp_path) == [b"", b"link", b"real", b"real/x"]


def test_root_that_is_no_directory(tmp_path: Path) -> None:
    """A root that is missing, or a file, is an error that names it."""
    (tmp_path / "file").touch()
    for name, reason in (("file", "Not a directory"), ("missing", "No such file")):
        error = fails(tmp_path / name)
        assert error.path == os.fsencode(tmp_path / name)
        assert reason in str(error)


# ---- types of file


def build_types(at: Path) -> dict[str, int]:
    """One file of each type that needs no privilege."""
    (at / "file").touch()
    (at / "dir").mkdir()
    (at / "link").symlink_to("no\nwhere")
    os.mkfifo(at / "fifo")
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        here = os.open(at, os.O_DIRECTORY)
        bound.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    kinds = {"dir": stat.S_IFDIR, "fifo": stat.S_IFIFO, "file": stat.S_IFREG, "link": stat.S_IFLNK}
    return kinds | {"socket": stat.S_IFSOCK}


def test_types(tmp_path: Path) -> None:
    """Each type is stored as what it is; a fifo is never opened, and so never waited for."""
    kinds = build_types(tmp_path)
    with scanner(tmp_path) as found:
        got = {os.fsdecode(n.name): stat.S_IFMT(n.mode) for n in found if isinstance(n, Node) and n.name}
    assert got == kinds
    with scanner(tmp_path) as found:
        assert [n.target for n in found if isinstance(n, Node) and n.name == b"link"] == [b"no\nwhere"]


@pytest.mark.parametrize(
    ("flag", "gone"),
    [(F.SYMLINKS, b"link"), (F.FIFOS, b"fifo"), (F.SOCKETS, b"socket"), (F.DEVICE_NODES, b"")],
)
def test_types_without_their_flag_are_left_out(tmp_path: Path, flag: FeatureFlags, gone: bytes) -> None:
    """A type whose flag is missing is passed over silently; files and directories always stay."""
    build_types(tmp_path)
    everything = [b"", b"dir", b"fifo", b"file", b"link", b"socket"]
    assert names(tmp_path, PLAIN & ~flag) == [name for name in everything if name != gone or not name]
    assert names(tmp_path, flags.select(default=0)) == [b"", b"dir", b"file"]


@pytest.mark.root
def test_devices(tmp_path: Path) -> None:
    """Device nodes carry both numbers, and vanish without device-nodes."""
    os.mknod(tmp_path / "c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(tmp_path / "b", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
    with scanner(tmp_path) as found:
        assert [n.device for n in found if isinstance(n, Node) and n.name] == [(259, 70000), (1, 3)]
    assert names(tmp_path, PLAIN & ~F.DEVICE_NODES) == [b""]


# ---- what is left out


def test_exclude_files(tmp_path: Path) -> None:
    """Rules of every `.caexclude` on the way hold, and the file itself is stored like any other."""
    (tmp_path / "sub").mkdir()
    for name in ("a.o", "a.c", "sub/b.o", "sub/keep.o"):
        (tmp_path / name).touch()
    (tmp_path / ".caexclude").write_text("*.o\n")
    (tmp_path / "sub" / ".caexclude").write_text("!keep.o\n")
    kept = [b"", b".caexclude", b"a.c", b"sub", b"sub/.caexclude", b"sub/keep.o"]
    assert names(tmp_path, PLAIN | F.EXCLUDE_FILE) == kept


def test_exclude_file_no_means_it(tmp_path: Path) -> None:
    """Without EXCLUDE_FILE the rules are not read, let alone obeyed."""
    (tmp_path / "a.o").touch()
    (tmp_path / ".caexclude").write_text("*\n/\n")
    assert names(tmp_path, PLAIN & ~F.EXCLUDE_FILE) == [b"", b".caexclude", b"a.o"]


def test_exclude_file_as_symlink(tmp_path: Path) -> None:
    """A `.caexclude` that is a symlink is followed, as casync does, out of the tree too."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.o").touch()
    (tmp_path / "rules").write_text("*.o")
    (tree / ".caexclude").symlink_to("../rules")
    assert names(tree) == [b"", b".caexclude"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.write_bytes(b"#" * (16 << 20) + b"#"), "larger than 16777216 bytes"),
    ],
    ids=["directory", "dangling", "fifo", "too large"],
)
def test_exclude_file_that_cannot_be_read(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    """Rules that cannot be read stop the run, naming their file; they are not taken for none."""
    make(tmp_path / ".caexclude")
    error = fails(tmp_path)
    assert error.path == os.fsencode(tmp_path / ".caexclude")
    assert reason in str(error)


def test_exclude_file_of_the_largest_size(tmp_path: Path) -> None:
    """A file that is larger than a line may be is still read."""
    (tmp_path / "x").touch()
    (tmp_path / ".caexclude").write_bytes(b"x".rjust(1 << 18, b"\n"))
    assert names(tmp_path) == [b"", b".caexclude"]


def test_bad_rules_name_their_file(tmp_path: Path) -> None:
    """A rule that names no path stops the run with file and offset."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".caexclude").write_text("ok\n..\n")
    with nothing_stays_open(), scanner(tmp_path) as found, pytest.raises(FormatError) as caught:
        list(found)
    assert (caught.value.path, caught.value.offset) == (os.fsencode(tmp_path / "d" / ".caexclude"), 3)


@pytest.mark.root
def test_what_is_excluded_cannot_stop_the_run(tmp_path: Path) -> None:
    """An owner that no archive can hold does not matter on a file that is left out."""
    (tmp_path / "bad").touch()
    os.chown(tmp_path / "bad", 65535, 0)
    assert "bad: cannot archive: owner id 65535" in str(fails(tmp_path, flags.DEFAULT))
    (tmp_path / ".caexclude").write_text("bad")
    assert names(tmp_path, flags.DEFAULT) == [b"", b".caexclude"]


@pytest.mark.root
def test_nodump(ground: Grounds) -> None:
    """Files and whole directories with the chattr `d` flag are left out if EXCLUDE_NODUMP says so; never the root."""
    at = ground("nodump")
    (at / "dir").mkdir()
    for name in ("dir/x", "a", "b"):
        (at / name).write_text(name)
    os.chown(at / "a", 65535, 0)  # nothing about a file that is left out is an error
    for name in ("dir", "a", "."):
        inodes.set_flags(at / name, inodes.NODUMP)
    owners = int(F.UIDS_32BIT)
    assert names(at, flags.select(default=owners)) == [b"", b"b"]
    os.chown(at / "a", 0, 0)
    with_all = flags.select(default=owners, exclude_nodump=False)
    assert names(at, with_all) == [b"", b"a", b"b", b"dir", b"dir/x"]


@pytest.mark.root
def test_submounts(ground: Grounds) -> None:
    """What is mounted inside is left out with EXCLUDE_SUBMOUNTS, mount points and bind-mounted files too."""
    at = ground("submounts")
    ground.filesystems.directory("tmpfs")
    (at / "file").touch()
    (at / "fifo").touch()
    (at / "dir").mkdir()
    (at / "x").touch()
    other = ground("mounted", "tmpfs")
    (other / "file").touch()
    os.mkfifo(other / "fifo")
    run = ground.filesystems._run
    for what, where in (("file", at / "file"), ("fifo", at / "fifo"), ("", at / "dir")):
        run("mount", "--bind", str(other / what), str(where))
    try:
        assert names(at) == [b"", b"dir", b"dir/fifo", b"dir/file", b"fifo", b"file", b"x"]
        assert names(at, PLAIN | F.EXCLUDE_SUBMOUNTS) == [b"", b"x"]
    finally:
        for where in (at / "file", at / "fifo", at / "dir"):
            run("umount", str(where))


def test_skipped_files(tmp_path: Path) -> None:
    """Files given as `skip` are left out: small ones, large ones and directories."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x").touch()
    (tmp_path / "small").write_bytes(b"s")
    (tmp_path / "large").write_bytes(bytes(LARGE))
    (tmp_path / "stays").touch()
    skip = [(st.st_dev, st.st_ino) for st in (os.stat(tmp_path / n) for n in ("store", "small", "large"))]
    assert names(tmp_path, skip=skip) == [b"", b"stays"]


def test_virtual_file_systems_are_empty() -> None:
    """A directory on procfs or the like is stored empty."""
    assert names(b"/proc") == [b""]


# ---- what cannot be stored


def nest(at: Path, levels: int) -> bytes:
    """Directories inside one another; the path of the innermost."""
    path = os.fsencode(at)
    for _ in range(levels):
        path += b"/d"
        os.mkdir(path)
    return path


def test_deepest_tree(tmp_path: Path) -> None:
    """64 nodes on one path, the root among them, are stored."""
    nest(tmp_path, MAX_DEPTH - 1)
    assert len(names(tmp_path)) == MAX_DEPTH


def test_a_tree_that_is_too_deep(tmp_path: Path) -> None:
    """One level more is refused, naming the directory."""
    innermost = nest(tmp_path, MAX_DEPTH)
    error = fails(tmp_path)
    assert error.path == innermost
    assert "deeper than 64" in str(error)


@pytest.mark.root
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_owners_that_do_not_fit(tmp_path: Path, size: int) -> None:
    """Ids beyond 16bit-uids, below the shift, or invalid once shifted: each error names the file and the way out."""
    (tmp_path / "f").write_bytes(bytes(size))
    path = os.fsencode(tmp_path / "f")
    unix = flags.select([NAMED_SETS["unix"]])
    os.chown(tmp_path / "f", 70000, 0)
    error = fails(tmp_path, unix)
    assert error.path == path
    assert "70000 does not fit 16bit-uids" in str(error)
    assert "--with=32bit-uids" in hint_for(error)
    os.chown(tmp_path, 100, 100)
    os.chown(tmp_path / "f", 100, 99)
    error = fails(tmp_path, flags.DEFAULT, shift=IdShift(100, 0x10000, True))
    assert error.path == path
    assert "99 is below the shift of 100" in str(error)
    os.chown(tmp_path / "f", 100 + 65535, 100)
    error = fails(tmp_path, flags.DEFAULT, shift=IdShift(100, 0x10000, True))
    assert error.path == path
    assert "becomes 65535 when shifted" in str(error)


@pytest.mark.root
def test_shifted_owners(tmp_path: Path) -> None:
    """Ids are stored less the shift, modulo the range."""
    os.chown(tmp_path, 100_000, 165_536)
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 100_005, 100_006)
    with scanner(tmp_path, flags.DEFAULT, shift=IdShift(100_000, 0x10000, True)) as found:
        assert [(n.uid, n.gid) for n in found if isinstance(n, Node)] == [(0, 0), (5, 6)]


@pytest.mark.root
def test_root_directory_with_an_impossible_owner(tmp_path: Path) -> None:
    """It is named, and nothing stays open."""
    os.chown(tmp_path, 65535, 0)
    assert fails(tmp_path, flags.DEFAULT).path == os.fsencode(tmp_path)


@pytest.mark.root
@pytest.mark.parametrize("name", ["file", "dir"])
def test_unreadable(tmp_path: Path, name: str) -> None:
    """A file or directory that may not be read stops the run, naming it: nothing is left out in silence."""
    for above in (tmp_path, *tmp_path.parents[:3]):  # with pytest-xdist there is one more
        os.chmod(above, stat.S_IMODE(above.stat().st_mode) | 0o055)
    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    os.chmod(tmp_path / name, 0)
    os.seteuid(65534)
    try:
        error = fails(tmp_path)
    finally:
        os.seteuid(0)
    assert error.path == os.fsencode(tmp_path / name)
    assert "Permission denied" in str(error)


# ---- files that change under the reader's hands

Change = Callable[[Path], object]


def _grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def _edit(path: Path) -> None:
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_grow, "changed while being read"),
        (_edit, "changed while being read"),
        (lambda path: os.truncate(path, 2 << 20), "shrank by 1048576 bytes"),
        (lambda path: os.truncate(path, 0), "shrank by"),
    ],
    ids=["grows", "is edited", "shrinks", "is emptied"],
)
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, change: Change, says: str) -> None:
    """Growing, shrinking and changing in place are found out, and the error names the file."""
    path = tmp_path / "file"
    path.write_bytes(bytes(LARGE))
    with nothing_stays_open(), scanner(tmp_path) as found, pytest.raises(FileError) as caught:
        for step in found:
            if isinstance(step, Node) and step.is_regular:
                pieces = found.payload()
                next(pieces)
                change(path)
                for _ in pieces:
                    pass
    assert caught.value.path == os.fsencode(path)
    assert says in str(caught.value)


def test_a_file_that_is_deleted_while_it_is_read(tmp_path: Path) -> None:
    """What is open stays readable: a file that is unlinked meanwhile is stored whole."""
    (tmp_path / "file").write_bytes(b"x" * LARGE)
    total = 0
    with scanner(tmp_path) as found:
        for step in found:
            if isinstance(step, Node) and step.is_regular:
                for piece in found.payload():
                    (tmp_path / "file").unlink(missing_ok=True)
                    total += len(piece)
    assert total == LARGE


REPLACEMENTS: dict[str, tuple[Change, int]] = {
    "file": (lambda path: path.touch(), stat.S_IFREG),
    "directory": (lambda path: path.mkdir(), stat.S_IFDIR),
    "fifo": (lambda path: os.mkfifo(path), stat.S_IFIFO),
    "symlink": (lambda path: path.symlink_to("/etc"), stat.S_IFLNK),
    "socket": (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), stat.S_IFSOCK),
}


@pytest.mark.parametrize("new", REPLACEMENTS)
@pytest.mark.parametrize("old", REPLACEMENTS)
def test_replaced_after_its_name_was_read(tmp_path: Path, old: str, new: str) -> None:
    """What took the place of a file between listing and opening is stored as what it is; no link is followed."""
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    path = tree / "b"
    REPLACEMENTS[old][0](path)
    kinds = []
    with nothing_stays_open(), scanner(tree) as found:
        for step in found:
            if found.path == b"a" and isinstance(
                step, Node
            ):  # the names have been read, and "b" was not touched
                path.rename(tmp_path / "away")
                REPLACEMENTS[new][0](path)
            if found.path == b"b" and isinstance(step, Node):
                kinds.append(stat.S_IFMT(step.mode))
    assert kinds == [REPLACEMENTS[new][1]]


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_vanished_after_its_name_was_read(tmp_path: Path, kind: str) -> None:
    """A file that is gone when its turn comes is an error that names it."""
    (tmp_path / "a").mkdir()
    REPLACEMENTS[kind][0](tmp_path / "b")
    with nothing_stays_open(), scanner(tmp_path) as found, pytest.raises(FileError) as caught:
        for _ in found:
            if found.path == b"a" and os.path.lexists(tmp_path / "b"):
                (tmp_path / "b").rmdir() if kind == "directory" else (tmp_path / "b").unlink()
    assert caught.value.path == os.fsencode(tmp_path / "b")
    assert "No such file" in str(caught.value)


# ---- descriptors


def test_leaving_early_closes_everything(tmp_path: Path) -> None:
    """An iteration that is left, inside a payload too, holds nothing."""
    nest(tmp_path, 5)
    (tmp_path / "d" / "large").write_bytes(bytes(LARGE))
    for i in range(20):
        (tmp_path / "d" / f"small{i}").write_bytes(b"x")
    for stop in (b"d/d/d", b"d/large", b"d/small3"):
        with nothing_stays_open(), scanner(tmp_path) as found:
            for step in found:
                if found.path == stop:
                    if isinstance(step, Node) and step.size:
                        next(found.payload())
                    break


@pytest.mark.root
def test_few_descriptors_are_enough(ground: Grounds) -> None:
    """A run over many files with attributes does not need a descriptor for each."""
    import resource

    import xattr

    at = ground("descriptors")
    for i in range(200):
        (at / f"{i:03}").write_bytes(b"x")
        xattr.set(os.fsencode(at / f"{i:03}"), b"user.x", b"y")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, open_files()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
    try:
        found = names(at, flags.select(default=int(F.XATTRS)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(found) == 201
