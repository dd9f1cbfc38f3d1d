"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import threading
from pathlib import Path
from random import Random

import pytest

from casync_compat.errors import FileError
from casync_compat.fs import atomic
from casync_compat.fs.atomic import AtomicFile, temporary_name


class StopError(Exception):
    """Ends a block the hard way."""


def write(path: Path, *pieces: bytes, **options: int) -> None:
    with AtomicFile(os.fsencode(path), **options) as out:
        for piece in pieces:
            out.write(piece)


@pytest.fixture(autouse=True)
def usual_umask() -> object:
    old = os.umask(0o022)
    yield
    os.umask(old)


@pytest.fixture(params=["unnamed", "named"])
def temporary_form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On a file system that has files without a name, and on one that has not."""
    if request.param == "named":
        monkeypatch.setattr(atomic, "open_unnamed", lambda directory, flags, mode: None)
    return str(request.param)


pytestmark = pytest.mark.usefixtures("temporary_form")


def test_nothing_is_visible_before_the_end(tmp_path: Path, temporary_form: str) -> None:
    """While the block runs there is nothing, or a hidden temporary file; then there is only the result."""
    path = tmp_path / "out"
    with AtomicFile(os.fsencode(path)) as out:
        out.write(b"first")
        assert not path.exists()
        assert [name[:6] for name in os.listdir(tmp_path)] == (
            [".#out~"] if temporary_form == "named" else []
        )
        out.write(memoryview(b" second"))
    assert os.listdir(tmp_path) == ["out"]
    assert path.read_bytes() == b"first second"


def kill_while_writing(path: Path) -> None:
    """A process that is killed in the middle of it."""
    pid = os.fork()
    if not pid:
        with AtomicFile(os.fsencode(path)) as out:
            out.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("name", ["out", "n" * 255, "\udcff\n", "a~0123456789abcdef"])
def test_the_next_run_takes_away_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary_form: str, name: str
) -> None:
    """Of whatever name; nothing else is touched, also nothing that another process is writing, or casync has left."""
    others = {
        ".#out0123456789abcdef",
        ".#out~0123456789abcde",
        ".#dir~0123456789abcdef",
        "x~0123456789abcdef",
    }
    for other in others - {".#dir~0123456789abcdef"}:
        (tmp_path / other).write_bytes(b"x")
    (tmp_path / ".#dir~0123456789abcdef").mkdir()
    with AtomicFile(os.fsencode(tmp_path / "other")) as other_file:
        kill_while_writing(tmp_path / name)
        kill_while_writing(tmp_path / name)
        assert len(os.listdir(tmp_path)) == len(others) + (3 if temporary_form == "named" else 0)
        monkeypatch.setattr(atomic, "_tidied", set())
        write(tmp_path / "new", b"x")
        other_file.write(b"other")
    assert set(os.listdir(tmp_path)) == {"new", "other", *others}
    assert (tmp_path / "other").read_bytes() == b"other"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM, errno.EXDEV])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_file_that_can_have_no_name_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, old: bytes | None
) -> None:
    """Where links are forbidden the file appears all the same, with the mode that it was to have."""

    def refuse(fd: int, path: bytes) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic, "give_name", refuse)
    if old:
        (tmp_path / "out").write_bytes(old)
        (tmp_path / "out").chmod(0o640)
    write(tmp_path / "out", b"first", b" second")
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"first second"
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == (0o640 if old else 0o644)


def test_an_old_file_stays_until_the_end(tmp_path: Path) -> None:
    """Readers see the old contents or the new, and who has the old file open keeps it."""
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with open(path, "rb") as old:
        with AtomicFile(os.fsencode(path)) as out:
            out.write(b"new")
            assert path.read_bytes() == b"old"
        assert path.read_bytes() == b"new"
        assert old.read() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    """A block that ends by an exception leaves no file and no descriptor, and an old file as it was."""
    before = len(os.listdir("/proc/self/fd"))
    for content in (None, b"old"):
        path = tmp_path / "out"
        if content:
            path.write_bytes(content)
        with pytest.raises(StopError), AtomicFile(os.fsencode(path)) as out:
            out.write(b"new")
            raise StopError
        assert os.listdir(tmp_path) == (["out"] if content else [])
    assert path.read_bytes() == b"old"
    assert len(os.listdir("/proc/self/fd")) == before


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    """The same for exceptions that are none of `Exception`."""
    with pytest.raises(KeyboardInterrupt), AtomicFile(os.fsencode(tmp_path / "out")) as out:
        out.write(b"new")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("mode", "umask"), [(0o666, 0o022), (0o644, 0o077), (0o600, 0), (0o777, 0o027)])
def test_mode(tmp_path: Path, mode: int, umask: int) -> None:
    """A new file has the mode asked for, less the umask."""
    os.umask(umask)
    write(tmp_path / "out", b"x", mode=mode)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode & ~umask


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    """Replacing a file does not open it to others, nor close it."""
    for mode in (0o600, 0o666, 0o755):
        (tmp_path / "out").touch()
        os.chmod(tmp_path / "out", mode)
        write(tmp_path / "out", b"x")
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode


@pytest.mark.root
def test_an_existing_file_keeps_its_owner(tmp_path: Path) -> None:
    """Root replacing somebody's file does not take it from them."""
    (tmp_path / "out").touch()
    os.chown(tmp_path / "out", 1234, 2345)
    write(tmp_path / "out", b"x")
    st = (tmp_path / "out").stat()
    assert (st.st_uid, st.st_gid) == (1234, 2345)


def test_a_symlink_is_followed(tmp_path: Path) -> None:
    """What a symlink points to is written, there, whether it exists or not; the link stays."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/real")
    for content in (b"one", b"two"):
        write(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "elsewhere" / "real").read_bytes() == content
        assert os.listdir(tmp_path / "elsewhere") == ["real"]


def test_names_of_255_bytes(tmp_path: Path) -> None:
    """The temporary name of the longest file name fits too."""
    write(tmp_path / ("n" * 255), b"x")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"
    assert len(temporary_name(b"n" * 255)) == 255
    assert temporary_name(b"x") != temporary_name(b"x")


def test_names_are_bytes(tmp_path: Path) -> None:
    """Names that are not UTF-8 are written as they are."""
    with AtomicFile(os.fsencode(tmp_path) + b"/\xff\n") as out:
        out.write(b"x")
    assert os.listdir(os.fsencode(tmp_path)) == [b"\xff\n"]


def test_relative_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without a directory is beside the process."""
    monkeypatch.chdir(tmp_path)
    with AtomicFile(b"out") as out:
        out.write(b"x")
    assert (tmp_path / "out").read_bytes() == b"x"


# ---- what is no regular file


@pytest.mark.root
def test_a_device_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    """/dev/null stays a device, by its own name, through a symlink and for another node of it."""
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (tmp_path / "link").symlink_to("null")
    for name in (tmp_path / "null", tmp_path / "link", Path("/dev/null")):
        write(name, b"gone")
        with pytest.raises(StopError), AtomicFile(os.fsencode(name)):
            raise StopError
        assert stat.S_ISCHR(name.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "null"]


def test_a_fifo_is_written_to(tmp_path: Path) -> None:
    """A reader at the other end of a fifo gets the bytes, and the fifo stays."""
    os.mkfifo(tmp_path / "fifo")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    write(tmp_path / "fifo", b"through")
    reader.join(10)
    assert got == [b"through"]
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


def test_an_open_pipe_by_its_proc_name(tmp_path: Path) -> None:
    """/dev/stdout and the like name pipes that have no other name; they are written to."""
    inlet, outlet = os.pipe()
    try:
        with AtomicFile(b"/proc/self/fd/%d" % outlet) as out:
            out.write(b"through")
        assert os.read(inlet, 100) == b"through"
    finally:
        os.close(inlet)
        os.close(outlet)


# ---- errors


@pytest.mark.parametrize(
    ("name", "reason"),
    [("dir", "Is a directory"), ("missing/out", "No such file"), ("file/out", "Not a directory")],
)
def test_places_that_cannot_be_written(tmp_path: Path, name: str, reason: str) -> None:
    """The error names the path that was asked for, and nothing is made."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(FileError) as caught:
        write(tmp_path / name, b"x")
    assert caught.value.path == os.fsencode(tmp_path / name)
    assert str(caught.value).endswith(
        f"cannot create: {reason}" + (" or directory" if "such" in reason else "")
    )
    assert sorted(os.listdir(tmp_path)) == ["dir", "file"]
    assert os.listdir(tmp_path / "dir") == []


def test_a_loop_of_symlinks(tmp_path: Path) -> None:
    """A symlink to itself is an error, not a new file."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileError, match="symbolic links"):
        write(tmp_path / "loop", b"x")
    assert os.listdir(tmp_path) == ["loop"]


def test_a_result_that_cannot_be_put_in_place(tmp_path: Path) -> None:
    """When the directory's name is taken by another thing meanwhile, the temporary file goes away."""
    with (
        pytest.raises(FileError, match="cannot write: Is a directory"),
        AtomicFile(os.fsencode(tmp_path / "out")),
    ):
        (tmp_path / "out").mkdir()
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.root
@pytest.mark.parametrize("old", [None, b"old"])
def test_no_descriptor_left_for_the_directory(tmp_path: Path, old: bytes | None) -> None:
    """What fails has not appeared: a directory that cannot be synced is noticed before its file has a name."""
    path = tmp_path / "f"
    if old is not None:
        path.write_bytes(old)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        with pytest.raises(FileError, match="Too many open files"), AtomicFile(os.fsencode(path)) as out:
            out.write(b"new")
            resource.setrlimit(resource.RLIMIT_NOFILE, (64 + len(os.listdir("/proc/self/fd")), before[1]))
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    taken.append(os.open("/", os.O_RDONLY))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in taken:
            os.close(fd)
    assert {name.name: name.read_bytes() for name in tmp_path.iterdir()} == (
        {} if old is None else {"f": old}
    )


def test_a_full_disk() -> None:
    """No space is an error that names the file."""
    with pytest.raises(FileError, match="/dev/full: cannot write: No space left"):
        write(Path("/dev/full"), b"x")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_large_file_is_on_its_way_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is synced in the end is begun meanwhile, each part once; what is written to directly is left alone."""
    begun: list[tuple[int, int]] = []
    real = atomic.start_writing

    def start(fd: int, offset: int, size: int) -> None:
        begun.append((offset, size))
        real(fd, offset, size)

    monkeypatch.setattr(atomic, "start_writing", start)
    piece = Random(1).randbytes(3 << 20)
    write(tmp_path / "out", *[piece] * 9)
    assert (tmp_path / "out").read_bytes() == piece * 9
    assert begun == [(0, 9 << 20), (9 << 20, 9 << 20), (18 << 20, 9 << 20)]
    begun.clear()
    write(Path("/dev/null"), *[piece] * 9)
    assert not begun
