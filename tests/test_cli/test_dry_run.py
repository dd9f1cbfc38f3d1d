"""`--dry-run`: what would be done is said, and nothing is."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from grounds import Grounds
from test_oci.images import build, layer, layout_at

from casync_compat.cli import _verbs, oci

from .conftest import Run

Seen = dict[str, tuple[int, int, int, int, int, bytes]]


def seen(*tops: Path) -> Seen:
    """Everything in some directories: type, mode, inode, times of change, contents."""
    found: Seen = {}
    for top in tops:
        for path in (top, *sorted(top.rglob("*"))):
            st = path.lstat()
            regular = stat.S_ISREG(st.st_mode)
            data = path.read_bytes() if regular else os.readlink(path).encode() if path.is_symlink() else b""
            found[str(path)] = (st.st_mode, st.st_ino, st.st_mtime_ns, st.st_ctime_ns, st.st_size, data)
    return found


def would(text: bytes) -> set[str]:
    """The changes that were said, without what would be fetched, and the last line, which counts them."""
    lines = [line for line in text.decode().splitlines() if not line.startswith("Would fetch ")]
    assert all(line.startswith("Would ") for line in lines)
    return {line.removeprefix("Would ") for line in lines[:-1]}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a bit of everything."""
    tree = tmp_path / "tree"
    (tree / "etc" / "deep").mkdir(parents=True)
    (tree / "etc" / "hosts").write_bytes(b"localhost")
    (tree / "etc" / "deep" / "file").write_bytes(os.urandom(200_000))
    (tree / "link").symlink_to("etc/hosts")
    os.mkfifo(tree / "pipe")
    (tree / "empty").touch()
    return tree


@pytest.fixture
def surroundings(tree: Path, tmp_path: Path, ok: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Indexes, an archive, a store with garbage, images; and the directory for temporary files."""
    ok("make", "a.caidx", tree)
    ok("make", "a.catar", tree)
    (tmp_path / "blob").write_bytes(os.urandom(300_000))
    ok("make", "b.caibx", "blob")
    ok("delta", "a.caidx", "-o", "all.patch")
    ok("make", "gone.caibx", "--chunk-size=1024", "blob")
    (tmp_path / "gone.caibx").unlink()
    shutil.copytree(tree, tmp_path / "out", symlinks=True, copy_function=shutil.copy2, ignore=_fifos)
    (tmp_path / "out" / "extra").touch()
    with layout_at(tmp_path / "images") as layout:
        build(layout, "app", [layer({"etc": None, "etc/file": b"1" * 5000})])
    ok("oci", "convert", "oci:images:app", "oci:images:ours")
    ok("oci", "delta", "oci:images:ours", "-o", "image.patch")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    return tmp_path, Path(os.environ["XDG_CACHE_HOME"])


def _fifos(directory: str, names: list[str]) -> set[str]:
    return {name for name in names if stat.S_ISFIFO(os.lstat(os.path.join(directory, name)).st_mode)}


COMMANDS = [
    "make new.caidx tree",
    "make a.caidx tree",
    "make -c new.caidx tree",
    "make --cache=cache new.caidx tree",
    "make new.caidx tree --store=new.castr",
    "make new.catar tree",
    "make new.caibx blob",
    "make - tree",
    "extract a.caidx new",
    "extract a.caidx out",
    "extract a.catar out",
    "extract a.caidx out --delete=no",
    "extract a.caidx out --undo-immutable=yes --strict --hardlink=yes --seed=tree",
    "extract a.caidx",
    "extract a.caidx out etc",
    "extract b.caibx new",
    "extract b.caibx blob",
    "extract b.caibx -",
    "list a.caidx",
    "mtree a.caidx",
    "stat a.caidx",
    "digest tree",
    "verify default.castr",
    "verify a.caidx",
    "verify a.caidx out",
    "verify default.castr --remove",
    "verify default.castr --repair-from=new.castr",
    "gc a.caidx b.caibx",
    "gc a.caidx",
    "info a.caidx",
    "cat a.caidx etc/hosts",
    "mount a.caidx nowhere --mkdir=no",
    "mkdev b.caibx --socket=missing/socket",
    "dump a.caidx",
    "convert-index a.caidx new.caidx",
    "pull - - a.caidx default.castr",
    "push - - new.caidx new.castr",
    "serve default.castr --index-dir=. --writable",
    "pull - - - default.castr",
    "convert-index --digest=blake3 b.caibx new.caibx --store=new.castr --extra-store=default.castr",
    "mirror . out",
    "mirror --delete . out *.caidx",
    "mirror . new *.catar b.caibx --store=new.castr",
    "copy a.caidx out/a.caidx",
    "copy a.catar new.catar",
    "delta a.caidx b.caibx -o new.patch",
    "apply all.patch new.caidx",
    "config",
    "self-check",
    "completion bash",
    "oci convert oci:images:app oci:images:new",
    "oci export oci:images:ours oci:images:back",
    "oci push oci:images:ours oci:other:ours",
    "oci pull oci:images:ours oci:other:ours",
    "oci copy oci:images:ours oci:other:ours",
    "oci tags oci:images",
    "oci delete oci:images:ours",
    "oci login 127.0.0.1:1 -u joe --password-stdin --authfile=auth.json",
    "oci logout 127.0.0.1:1 --authfile=auth.json",
    "oci delta oci:images:ours -o new.patch",
    "oci apply image.patch oci:images:new",
    "oci ls oci:images:ours",
    "oci cat oci:images:ours etc/file",
    "oci unpack oci:images:ours bundle",
    "oci checkout oci:images:ours new --file-store=files",
    "oci mount oci:images:ours nowhere --using=kernel --file-store=files",
    "oci umount nowhere",
    "oci erofs oci:images:ours -o new.erofs",
    "oci verify oci:images:ours",
    "oci inspect oci:images:ours",
    "oci stats oci:images:ours",
    "oci repack oci:images:ours oci:images:new",
    "oci gc oci:images",
]


def test_all_verbs_are_tried() -> None:
    """Every verb is among them."""
    words = [command.split() for command in COMMANDS]
    assert {each[0] for each in words} == {*_verbs.VERBS, "oci"}
    assert {each[1] for each in words if each[0] == "oci"} == set(oci.VERBS)


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_changes(surroundings: tuple[Path, Path], run: Run, command: str) -> None:
    """With `-n` every verb either leaves all files and directories as they are, or refuses."""
    before = seen(*surroundings)
    result = run(*command.split(), "-n")
    assert seen(*surroundings) == before
    assert b"internal error" not in result.err
    if result.status:
        assert b"dry-run" in result.err or b"-n" in result.err or b"defect" in result.out + result.err, result


def test_extract_to_nowhere(tree: Path, ok: Run) -> None:
    """All of a tree would be created."""
    ok("make", "a.caidx", tree)
    said = ok("extract", "-n", "a.caidx", "new").out
    assert would(said) == {
        f"create {name}"
        for name in ("./", "etc/", "etc/hosts", "etc/deep/", "etc/deep/file", "link", "pipe", "empty")
    }
    assert said.endswith(b"\nWould create 8 entries; 0 stay as they are\n")
    assert not Path("new").exists()


@pytest.mark.parametrize("suffix", ["catar", "caidx", "pipe"])
def test_extract_over_something(tree: Path, ok: Run, suffix: str) -> None:
    """What would be changed, replaced, created and deleted is said, one line each, from a pipe as well."""
    name = "a.catar" if suffix == "pipe" else f"a.{suffix}"
    ok("make", name, tree)
    ok("extract", name, "out")
    out = Path("out")
    (out / "etc" / "hosts").write_bytes(b"LOCALHOST")  # the same size
    os.utime(out / "etc" / "hosts", ns=(0, os.stat(tree / "etc" / "hosts").st_mtime_ns))
    (out / "etc" / "deep").chmod(0o700)
    (out / "link").unlink()
    (out / "link").mkdir()
    (out / "link" / "inner").touch()
    (out / "pipe").unlink()
    (out / "old" / "er").mkdir(parents=True)
    os.utime(out / "etc", ns=(0, os.stat(tree / "etc").st_mtime_ns))
    os.utime(out, ns=(0, os.stat(tree).st_mtime_ns))
    before = seen(out)
    source = {"stdin": Path(name)} if suffix == "pipe" else {}
    words = ["-" if suffix == "pipe" else name, "out"]
    said = ok("extract", "-n", *words, **source).out
    assert seen(out) == before
    assert would(said) == {
        "change etc/hosts",
        "change etc/deep/",
        "replace link",
        "delete link/inner",
        "create pipe",
        "delete old/",
        "delete old/er/",
    }
    told = json.loads(ok("extract", "-n", "--json", *words, **source).out)
    assert told["dry_run"] is True
    assert {f"{each['would']} {each['path']}" for each in told["changes"]} == would(said)
    assert [told[key] for key in ("created", "updated", "unchanged", "deleted")] == [1, 3, 4, 1]


def test_then_it_is_done(tree: Path, run: Run, ok: Run) -> None:
    """After the real run there is nothing left to do."""
    ok("make", "a.caidx", tree)
    shutil.copytree(tree / "etc", "out/etc")
    (Path("out") / "more").touch()
    assert b"Would delete more" in ok("extract", "-n", "a.caidx", "out").out
    assert run("extract", "a.caidx", "out").status == 0
    assert ok("extract", "-n", "a.caidx", "out").out == b"Would change nothing; 8 stay as they are\n"


def test_a_directory_in_the_way(tree: Path, run: Run, ok: Run) -> None:
    """What would stay is an error, as it is of the real run."""
    ok("make", "a.caidx", tree)
    (Path("out") / "link").mkdir(parents=True)
    (Path("out") / "link" / "inner").touch()
    result = run("extract", "-n", "--delete=no", "a.caidx", "out")
    assert result.status == 1
    assert b"out/link: cannot replace" in result.err
    assert b"Would create pipe\n" in result.out
    assert b"Would replace" not in result.out


def test_what_is_refused(tree: Path, run: Run, ok: Run) -> None:
    """A deletion that nobody can have meant is shown, with what the real run says."""
    ok("make", "a.caidx", tree)
    result = run("extract", "-n", "a.caidx")
    assert result.status == 0
    assert b"Would delete tree/\n" in result.out
    assert b"without --dry-run this is refused: no output was given" in result.err
    assert b"in use, and not deleted" in result.err
    assert b"Would delete a.caidx" not in result.out


def test_make(tree: Path, ok: Run) -> None:
    """The file and the new chunks are said, and neither is there; the second time there is nothing new."""
    said = ok("make", "-n", "a.caidx", tree).out.decode()
    assert said.startswith("Would create a.caidx\nWould store ")
    assert sorted(os.listdir()) == ["tree"]
    new = json.loads(ok("make", "-n", "--json", "a.caidx", tree).out)
    real = json.loads(ok("make", "--json", "a.caidx", tree).out)
    assert new["dry_run"] is True
    assert {key: new["chunks"][key] for key in ("total", "new", "reused", "new_bytes")} == {
        key: real["chunks"][key] for key in ("total", "new", "reused", "new_bytes")
    }
    assert (new["digest"], new["size"]) == (real["digest"], real["size"])
    total = real["chunks"]["total"]
    assert ok("make", "-n", "a.caidx", tree).out.decode() == (
        f"Would replace a.caidx\nWould store 0 of {total} chunks, 0 bytes\n"
    )


def test_make_to_where_nothing_can_be(tree: Path, run: Run) -> None:
    """What keeps the file from being made is said as well."""
    for output in ("no/a.caidx", "no/a.catar", "no/a.caibx"):
        source = tree / "etc" / "hosts" if output.endswith("caibx") else tree
        result = run("make", "-n", output, source)
        assert result.status == 1
        assert b"no/a." in result.err
        assert b"No such file" in result.err


def test_a_damaged_chunk_would_be_stored(tree: Path, ok: Run) -> None:
    """A chunk that the real run replaces counts as new."""
    ok("make", "a.caidx", tree)
    chunk = next(Path("default.castr").rglob("*.cacnk"))
    chunk.write_bytes(b"")
    told = json.loads(ok("make", "-n", "--json", "a.caidx", tree).out)
    assert told["chunks"]["new"] == 1
    assert chunk.read_bytes() == b""


def test_a_blob(ok: Run) -> None:
    """A file would be created, changed or left, and a preview fetches no chunk for that."""
    Path("blob").write_bytes(os.urandom(300_000))
    ok("make", "b.caibx", "blob")
    shutil.rmtree("default.castr")
    assert ok("extract", "-n", "b.caibx", "new").out.startswith(b"Would create new\n")
    assert ok("extract", "-n", "b.caibx", "blob").out == b"Would change nothing; 1 stay as they are\n"
    with open("blob", "r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    before = seen(Path())
    time.sleep(0.01)
    assert ok("extract", "-n", "b.caibx", "blob").out.startswith(b"Would change blob\n")
    assert seen(Path()) == before


def test_what_would_be_fetched(ok: Run) -> None:
    """After seeds, and what is in place: as many chunks as the run then fetches."""
    data = os.urandom(600_000)
    Path("blob").write_bytes(data)
    Path("seed").write_bytes(data[:300_000])
    Path("target").write_bytes(data[:100_000] + bytes(300_000) + data[400_000:])
    ok("make", "--chunk-size=4096", "b.caibx", "blob")
    counted = []
    for words in (("new",), ("--seed=seed", "new"), ("-k", "--seed=seed", "target")):
        said = ok("extract", "-n", "b.caibx", *words).out.decode()
        told = json.loads(ok("extract", "-n", "--json", "b.caibx", *words).out)
        assert f"Would fetch {told['fetched']} chunks, {told['fetched_bytes']} bytes\n" in said
        real = json.loads(ok("extract", "--json", "b.caibx", *words).out)
        keys = ("fetched", "fetched_bytes", "from_seeds", "in_place", "in_place_bytes", "chunks")
        assert [told[key] for key in keys] == [real[key] for key in keys]
        counted.append(told["fetched"])
        Path("new").unlink(missing_ok=True)
    assert counted[0] > counted[1] > counted[2] > 0
    assert "fetch" not in ok("extract", "-n", "b.caibx", "target").out.decode()


@pytest.mark.root
def test_names_that_fall_together(tree: Path, run: Run, ok: Run, ground: Grounds) -> None:
    """They are told as far as what is there shows them, and what goes into a directory is said."""
    ok("make", "old.caidx", tree)
    target = ground("out", "nocase") / "out"
    run("extract", "old.caidx", target)
    (tree / "ETC").mkdir()
    (tree / "ETC" / "HOSTS").write_bytes(b"other")
    (tree / "ETC" / "new").write_bytes(b"new")
    (tree / "LINK").mkdir()
    (tree / "LINK" / "lost").touch()
    ok("make", "new.caidx", tree)
    result = run("extract", "-n", "new.caidx", target)
    assert result.status == 1
    told = result.err.decode()
    for one, other in (("ETC", "etc"), ("ETC/hosts", "etc/hosts"), ("LINK", "link")):
        assert f"/{one} and {target}/{other} are one name" in told
    assert b"Would create ETC/new\n" in result.out
    assert sorted(map(str.lower, os.listdir(target))) == ["empty", "etc", "link", "pipe"]
