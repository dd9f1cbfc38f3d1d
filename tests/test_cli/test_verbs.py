"""The verbs from the command line: what they print where, and what they leave."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run

Fails = Callable[..., str]
HEX = re.compile(rb"[0-9a-f]{64}\n")


def snapshot(at: Path) -> dict[str, object]:
    """Everything below a directory: contents, targets and times."""
    found: dict[str, object] = {}
    for path in sorted(at.rglob("*")):
        st = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(at))] = (stat.filemode(st.st_mode), st.st_mtime_ns, content)
    return found


@pytest.fixture
def archive(ok: Run, tree: Path) -> Path:
    ok("make", "x.catar", tree)
    return Path("x.catar")


@pytest.fixture
def index(ok: Run, tree: Path) -> Path:
    ok("make", "x.caidx", tree)
    return Path("x.caidx")


@pytest.fixture
def blob(ok: Run, tree: Path) -> Path:
    ok("make", "x.caibx", tree / "sub" / "data")
    return Path("x.caibx")


# ---- make


@pytest.mark.parametrize("output", ["x.catar", "x.caidx"])
def test_make_and_extract(ok: Run, tree: Path, output: str) -> None:
    """A tree that is made and extracted is the same; make prints the digest and nothing else."""
    assert HEX.fullmatch(ok("make", output, tree).out)
    assert ok("extract", output, "out").out == b""
    assert snapshot(Path("out")) == snapshot(tree)
    assert sorted(os.listdir()) == sorted(
        {output, "out", "tree"} | ({"default.castr"} if "idx" in output else set())
    )


def test_make_and_extract_a_blob(ok: Run, tree: Path, blob: Path) -> None:
    """The same for a blob."""
    ok("extract", blob, "out")
    assert Path("out").read_bytes() == (tree / "sub" / "data").read_bytes()


@pytest.mark.parametrize(("what", "suffix"), [("archive", "catar"), ("archive-index", "caidx")])
def test_make_with_what(ok: Run, tree: Path, what: str, suffix: str) -> None:
    """--what makes the kind of output whatever it is called."""
    ok("make", f"right.{suffix}", tree)
    ok("make", f"--what={what}", "plain", tree)
    assert Path("plain").read_bytes() == Path(f"right.{suffix}").read_bytes()


def test_make_of_here(ok: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an input the current directory is archived, and never the output inside it."""
    monkeypatch.chdir(tree)
    ok("make", "x.catar")
    ok("make", "x.caidx")
    listed = ok("list", "x.catar").out
    assert b"hello" in listed
    assert b"x.catar" not in listed
    assert b"castr" not in ok("list", "x.caidx").out
    assert b".caidx" not in ok("list", "x.caidx").out


@pytest.mark.parametrize("source", ["tree", "file"])
def test_make_to_standard_output(run: Run, ok: Run, tree: Path, source: str) -> None:
    """With `-`, or nothing, the bytes go to standard output and the digest to standard error."""
    Path("file").write_bytes(b"blob" * 1000)
    output = "x.catar" if source == "tree" else "x.caibx"
    digest = ok("make", output, source).out
    result = run("make", "-", source)
    assert result.status == 0
    assert result.out == Path(output).read_bytes()
    assert result.err == digest


def test_make_from_standard_input(ok: Run, tree: Path, blob: Path) -> None:
    """A blob may come from standard input."""
    ok("make", "y.caibx", "-", stdin=tree / "sub" / "data")
    ok("make", "z.caibx", stdin=tree / "sub" / "data")
    assert blob.read_bytes() == Path("y.caibx").read_bytes() == Path("z.caibx").read_bytes()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("out tree", "out: the file to make must end in .catar, .caidx or .caibx, or use --what"),
        (".catar tree", ".catar: the file to make must end in"),
        ("x.catar missing", "missing: cannot open: No such file or directory"),
        ("x.catar tree/hello", "tree/hello: cannot archive: it is not a directory"),
        ("x.caidx tree/hello", "tree/hello: cannot archive: it is not a directory"),
        ("x.caibx tree", "tree: cannot read: it is a directory; a tree makes a .caidx or .catar"),
        ("x.caibx missing", "missing: cannot open: No such file or directory"),
        ("no/x.catar tree", "no/x.catar: cannot create: No such file or directory"),
        ("tree tree --what=archive", "tree: cannot create: Is a directory"),
        ("x.catar tree --what=directory", "--what=directory cannot be made"),
        ("x.catar tree --what=blob", "--what=blob cannot be made"),
        ("x.catar tree --with=nonsense", "unknown feature flag 'nonsense'"),
        ("x.catar tree --digest=md5", "md5"),
        ("x.caidx tree --compression=rar", "rar"),
        ("x.caidx tree --chunk-size=0", "0"),
        ("x.caidx tree --chunk-size=4", "48"),
        ("x.caidx tree --chunk-size=64k", "64k"),
        ("x.caidx tree --store=tree/hello", "tree/hello"),
        ("x.caidx tree --store=no/such", "no/such"),
        ("x.caidx tree --store=http://127.0.0.1:1/", "http://127.0.0.1:1: cannot look"),
        ("foo://h/x.caidx tree", "nothing here can read foo://"),
        ("x.catar tree --uid-shift=maybe", "--uid-shift=maybe"),
    ],
)
def test_make_that_cannot_be(fails: Fails, tree: Path, words: str, says: str) -> None:
    """Each is one line that names what is wrong, and no file appears."""
    assert says in fails("make", *words.split())
    assert set(os.listdir()) <= {"tree", "default.castr"}
    assert sorted(os.listdir("tree")) == ["hello", "sub"]


def test_a_failed_make_keeps_the_old_file(fails: Fails, ok: Run, tree: Path) -> None:
    """An output that was there stays as it was."""
    ok("make", "x.catar", tree)
    before = Path("x.catar").read_bytes()
    (tree / ".caexclude").write_text("..\n")
    assert ".caexclude" in fails("make", "x.catar", tree)
    assert Path("x.catar").read_bytes() == before
    assert sorted(os.listdir()) == ["tree", "x.catar"]


def test_make_verbose(run: Run, tree: Path) -> None:
    """-v says on standard error what casync says there."""
    result = run("make", "-v", "x.caidx", tree)
    assert HEX.fullmatch(result.out)
    for line in (rb"Selected chunk sizes: min=16384..avg=65536..max=262144", rb"Archive size: \d+B",
                 rb"Number of chunks: \d+", rb"Reused \(non-cached\) chunks: 0 \(0%\)"):  # fmt: skip
        assert re.search(line, result.err), line


def test_stream_digest_can_be_left_out(ok: Run, tree: Path) -> None:
    """Without it nothing is printed, and the output is the same."""
    ok("make", "x.caidx", tree)
    assert ok("make", "y.caidx", tree, "--stream-digest=no").out == b""
    assert Path("x.caidx").read_bytes() == Path("y.caidx").read_bytes()


# ---- extract


def test_extract_from_standard_input(ok: Run, tree: Path, archive: Path, index: Path, blob: Path) -> None:
    """An archive or index may come from standard input; what it is, is told or guessed from the output."""
    ok("extract", "-", "out", "--what=archive", stdin=archive)
    assert snapshot(Path("out")) == snapshot(tree)
    os.mkdir("out2")
    ok("extract", "-", "out2", stdin=archive)
    assert snapshot(Path("out2")) == snapshot(tree)
    ok("extract", "-", "out3", "--what=archive-index", stdin=index)
    assert snapshot(Path("out3")) == snapshot(tree)
    ok("extract", "-", "out4", "--what=blob-index", stdin=blob)
    assert Path("out4").read_bytes() == (tree / "sub" / "data").read_bytes()


def test_extract_a_blob_to_standard_output(ok: Run, tree: Path, blob: Path) -> None:
    """Standard output gets a blob's bytes, and only them."""
    assert ok("extract", blob, "-").out == (tree / "sub" / "data").read_bytes()
    assert ok("cat", blob).out == (tree / "sub" / "data").read_bytes()


def test_extract_a_part(ok: Run, tree: Path, archive: Path, index: Path) -> None:
    """A path inside becomes the name that it ends in."""
    os.mkdir("out")
    for source in (archive, index):
        ok("extract", source, "out", "sub/data")
        assert Path("out/data").read_bytes() == (tree / "sub" / "data").read_bytes()
        ok("extract", source, "out", "/sub/")
        assert snapshot(Path("out/sub")) == snapshot(tree / "sub")


@pytest.mark.parametrize("delete", [True, False])
def test_extract_over_a_directory(run: Run, archive: Path, delete: bool) -> None:
    """What is not in the archive goes, and is announced, unless --delete=no."""
    os.mkdir("out")
    Path("out/old").touch()
    done = run("extract", archive, "out", f"--delete={'yes' if delete else 'no'}")
    assert done.status == 0
    assert Path("out/old").exists() != delete
    says = b"pycasync: deleted 1 entry that the archive does not have: old\n"
    assert done.err == (says if delete else b"")


def test_extract_says_what_it_deleted(run: Run, archive: Path) -> None:
    """How many entries went, directories with all that was in them as one, and the first three names."""
    for name in ("a", "b/inner", "c", "d", "sub/e"):
        (Path("out") / name).mkdir(parents=True)
    done = run("extract", archive, "out")
    assert done.status == 0
    found = re.fullmatch(
        rb"pycasync: deleted 5 entries that the archive does not have: (.*), \.\.\.\n", done.err
    )
    assert found is not None
    names = found[1].split(b", ")
    assert len(names) == 3
    assert set(names) <= {b"a", b"b", b"c", b"d", b"sub/e"}


@pytest.mark.parametrize("suffix", ["catar", "caidx"])
def test_extract_from_within(run: Run, ok: Run, tree: Path, suffix: str) -> None:
    """What is read from survives, with a warning, although it lies in the target and is not in the archive."""
    os.mkdir("deep")
    source = f"deep/x.{suffix}"
    ok("make", source, tree)
    before = snapshot(Path("deep"))
    Path("deep/other").touch()
    done = run("extract", source, ".")
    assert done.status == 0
    assert b"warning: in use, and not deleted: " in done.err
    assert snapshot(Path("deep")).keys() == before.keys()
    assert (Path() / "sub").is_dir()
    assert not tree.exists()


@pytest.mark.parametrize("suffix", ["catar", "caidx"])
def test_extract_without_output_over_something(run: Run, ok: Run, tree: Path, suffix: str) -> None:
    """Nobody means to empty the directory that they happen to stand in, unless they say so."""
    ok("make", f"x.{suffix}", tree)
    before = snapshot(Path())
    done = run("extract", f"x.{suffix}")
    assert done.status == 1
    assert b"no output was given, and the current directory is not empty" in done.err
    assert b"--delete=yes" in done.err
    assert snapshot(Path()) == before
    assert run("extract", f"x.{suffix}", "--delete=no").status == 0
    assert tree.is_dir()
    assert run("extract", f"x.{suffix}", "--delete=yes").status == 0
    assert not tree.exists()


def test_extract_without_output(ok: Run, archive: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory has nothing to lose."""
    os.mkdir("empty")
    expected = snapshot(tree)
    monkeypatch.chdir("empty")
    ok("extract", Path("..") / archive)
    assert snapshot(Path()) == expected


@pytest.mark.parametrize("name", ["/", "/usr/..", "root"])
def test_extract_over_everything(run: Run, archive: Path, name: str) -> None:
    """The root of the system is not emptied of what an archive does not have, whatever it is called."""
    os.symlink("/", "root")
    Path("broken.catar").write_bytes(b"nothing that could be extracted, if this should ever fail")
    done = run("extract", "broken.catar", name)
    assert done.status == 1
    assert b"extracting over / would delete whatever is not in the archive" in done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("x.catar - ", "a tree cannot be extracted to standard output"),
        ("x.caidx -", "a tree cannot be extracted to standard output"),
        ("tree out", "tree: not a .catar, .caidx or .caibx file; say what it is with --what"),
        ("missing.catar out", "missing.catar: cannot open: No such file or directory"),
        ("missing.caidx out", "missing.caidx: cannot read: No such file or directory"),
        ("missing.caibx out", "missing.caibx: cannot read: No such file or directory"),
        ("x.catar out nowhere", "x.catar: no such path in the archive: nowhere"),
        ("x.caidx out sub/nowhere", "x.caidx: no such path in the archive: sub/nowhere"),
        ("x.caibx out inside", "a blob has no paths inside"),
        ("x.catar no/out", "no/out: cannot create"),
        ("x.catar x.caidx", "x.caidx: cannot open directory: Not a directory"),
        ("x.caibx tree", "tree: cannot create: Is a directory"),
        (
            "x.caidx out --store=nowhere",
            "is missing from nowhere; add the store that has it with --extra-store",
        ),
        ("x.catar out --what=archive-index", "not an index file"),
        ("x.caidx out --what=archive", "x.caidx"),
        ("tree out --what=archive", "tree: cannot read: it is a directory"),
    ],
)
def test_extract_that_cannot_be(
    fails: Fails, tree: Path, archive: Path, index: Path, blob: Path, words: str, says: str
) -> None:
    """Each is one line that names what is wrong; nothing that was there is lost."""
    before = snapshot(tree), {path: path.read_bytes() for path in (archive, index, blob)}
    assert says in fails("extract", *words.split())
    assert (snapshot(tree), {path: path.read_bytes() for path in (archive, index, blob)}) == before
    assert [name for name in os.listdir() if name.startswith(".#")] == []


# ---- list, mtree, stat


def test_list(ok: Run, tree: Path, archive: Path, index: Path) -> None:
    """The same lines from a directory, an archive, an index and standard input."""
    expected = b"drwxr-xr-x .\n-rw-r--r-- hello\ndrwxr-xr-x sub\n-rw-r----- sub/data\nlrwxrwxrwx sub/link\n"
    for source in (tree, archive, index):
        assert ok("list", source).out == expected
    assert ok("list", "-", "--what=archive", stdin=archive).out == expected
    assert ok("list", "-", "--what=archive-index", stdin=index).out == expected
    assert ok("list", archive, "sub").out == b"".join(expected.splitlines(True)[2:])
    assert ok("list", archive, "--recursive=no").out == b"".join(expected.splitlines(True)[:3])


def test_mtree(ok: Run, tree: Path, archive: Path) -> None:
    """A line a node, with sizes, times and digests; the same from the directory and from the archive."""
    lines = ok("mtree", archive).out.splitlines()
    assert lines == ok("mtree", tree).out.splitlines()
    assert lines[1].startswith(b"hello type=file mode=0644 size=12 ")
    assert b" time=1500000000.123456789 " in lines[1]
    assert re.search(rb" sha512256digest=[0-9a-f]{64}$", lines[1])


@pytest.mark.parametrize("verb", ["list", "mtree", "stat", "digest"])
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("missing", "missing"),
        ("missing.catar", "missing.catar: cannot open: No such file or directory"),
        ("x.catar nowhere", "x.catar: no such path in the archive: nowhere"),
        ("x.catar hello/inside", "x.catar: "),
        ("tree sub", "only looked up in archives"),
    ],
)
def test_reading_what_is_not_there(fails: Fails, archive: Path, verb: str, words: str, says: str) -> None:
    """Files and paths inside that do not exist are named."""
    assert says in fails(verb, *words.split())


# ---- digest


def test_digests(ok: Run, tree: Path, archive: Path, index: Path, blob: Path) -> None:
    """Of the directory, its archive and its index it is one; of parts it is that of the part."""
    whole = ok("make", "y.catar", tree).out
    for words in (("tree",), (archive,), (index,), ("tree", "--what=directory")):
        assert ok("digest", *words).out == whole
    assert ok("digest", archive, "sub").out == ok("digest", tree / "sub").out
    data = ok("digest", tree / "sub" / "data").out
    assert ok("digest", archive, "sub/data").out == data
    assert ok("digest", blob).out == data
    assert ok("digest", "-", stdin=tree / "sub" / "data").out == data
    assert ok("digest", tree / "sub" / "data", "--digest=sha256").out != data
    assert ok("digest", archive, "--what=blob").out == whole


# ---- gc, info, cat


def test_gc(ok: Run, tree: Path, index: Path) -> None:
    """Chunks that no index names go; a dry run only counts them."""
    (tree / "hello").write_bytes(b"changed")
    ok("make", "new.caidx", tree)
    count = len(list(Path("default.castr").rglob("*.cacnk")))
    index.unlink()
    dry = ok("gc", "-n", "new.caidx").out
    found = re.fullmatch(rb"Would remove (\d+) chunks, (\d+) chunks remaining\.\n", dry)
    assert found
    assert len(list(Path("default.castr").rglob("*.cacnk"))) == count
    assert re.fullmatch(
        rb"Removed %b chunks, \d+ directories, %b chunks remaining\.\nFreed [\d.]+ [KM]?i?B\.\n"
        % found.groups(),
        ok("gc", "new.caidx").out,
    )
    assert len(list(Path("default.castr").rglob("*.cacnk"))) == int(found[2]) == count - int(found[1])
    ok("extract", "new.caidx", "out")
    assert re.search(
        rb"Removed 0 chunks, 0 directories, \d+ chunks remaining\.\n", ok("gc", "-v", "new.caidx").out
    )


@pytest.mark.parametrize("defect", ["", "cut", "empty", "fifo", "dangling", "named elsewhere"])
def test_gc_spares_indexes_that_nobody_named(
    run: Run, ok: Run, fails: Fails, tree: Path, index: Path, defect: str
) -> None:
    """A blob index beside the store, or what may be one, loses nothing by `gc *.caidx`, unless --yes is given."""
    blob = tree / "blob"
    blob.write_bytes(bytes(range(256)) * 4000)
    ok("make", "disk.caibx", blob)
    ok("gc", index, "disk.caibx")
    disk = Path("disk.caibx")
    if defect == "cut":
        disk.write_bytes(disk.read_bytes()[:-1])
    elif defect == "empty":
        disk.write_bytes(b"")
    elif defect in ("fifo", "dangling"):
        disk.unlink()
        os.mkfifo(disk) if defect == "fifo" else disk.symlink_to("gone")
    elif defect == "named elsewhere":
        Path("a link").symlink_to("default.castr")
    store = ("--store=a link",) if defect == "named elsewhere" else ()
    before = sorted(Path("default.castr").rglob("*.cacnk"))
    message = fails("gc", index, *store)
    assert "disk.caibx" in message
    assert "--yes" in message
    assert sorted(Path("default.castr").rglob("*.cacnk")) == before
    dry = run("gc", "-n", index, *store)
    assert dry.status == 0
    assert b"disk.caibx" in dry.err
    assert b"Would remove " in dry.out
    assert sorted(Path("default.castr").rglob("*.cacnk")) == before
    time.sleep(0.05)  # an index that is as old as the run would count as named
    assert b"Removed 0 chunks" not in ok("gc", "--yes", index, *store).out
    assert len(list(Path("default.castr").rglob("*.cacnk"))) < len(before)
    ok("gc", index, *store)  # nothing more to remove: no index is in danger


def test_gc_does_not_mind_indexes_that_lose_nothing(ok: Run, tree: Path, index: Path) -> None:
    """One of other chunks, a copy of a named one, and those in other directories do not stop it."""
    ok("make", "other.caidx", "--store=other.castr", tree / "sub")
    Path("copy.caidx").write_bytes(index.read_bytes())
    Path("below").mkdir()
    (tree / "hello").write_bytes(b"changed")
    ok("make", "below/new.caidx", "--store=default.castr", tree)
    assert b"Removed 0 " not in ok("gc", index).out
    ok("extract", "copy.caidx", "out")


def test_gc_with_an_index_that_cannot_be_read(fails: Fails, index: Path) -> None:
    """One bad index stops it before a single chunk is removed."""
    before = sorted(Path("default.castr").rglob("*.cacnk"))
    Path("bad.caidx").write_bytes(index.read_bytes()[:-1])
    assert "bad.caidx" in fails("gc", index, "bad.caidx")
    assert "missing.caidx" in fails("gc", index, "missing.caidx")
    assert sorted(Path("default.castr").rglob("*.cacnk")) == before


def test_info(ok: Run, index: Path) -> None:
    """A short report: digest, sizes, counts, and how many chunks the store has."""
    text = ok("info", index).out.decode()
    assert re.search(r"^digest: +sha512-256$", text, re.M)
    assert re.search(r"^chunk sizes: +16384:65536:262144$", text, re.M)
    found = re.search(r"^in the store: (\d+) of (\d+) unique chunks$", text, re.M)
    assert found
    assert found[1] == found[2]


def test_cat(ok: Run, tree: Path, archive: Path, index: Path) -> None:
    """One file of an archive comes out as it is."""
    for source in (archive, index):
        assert ok("cat", source, "hello").out == b"hello world\n"
        assert ok("cat", source, "sub/data").out == (tree / "sub" / "data").read_bytes()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("x.catar", "say which file: pycasync cat INPUT PATH"),
        ("x.catar sub", "sub"),
        ("x.catar nowhere", "nowhere"),
        ("x.caibx inside", "a blob has no paths inside"),
        ("tree hello", "looking up a path needs an archive file or an index"),
        ("missing.caibx", "missing.caibx: cannot read: No such file"),
    ],
)
def test_cat_that_cannot_be(fails: Fails, archive: Path, blob: Path, words: str, says: str) -> None:
    """Each is one line, and nothing is written."""
    assert says in fails("cat", *words.split())


# ---- JSON


def test_json_of_make(run: Run, ok: Run, tree: Path) -> None:
    """The summary of make: what was written, its digest and what became of the chunks."""
    whole = json.loads(ok("make", "--json", "x.caidx", tree).out)
    assert set(whole) == {"output", "kind", "digest", "size", "entries", "left_out", "excluded", "chunks"}
    assert (whole["output"], whole["kind"], whole["entries"]) == ("x.caidx", "archive-index", 5)
    assert set(whole["chunks"]) == {"total", "new", "reused", "new_bytes", "stored_bytes"}
    assert whole["chunks"]["new"] == whole["chunks"]["total"] - whole["chunks"]["reused"]
    again = json.loads(ok("make", "--json", "x.caidx", tree).out)
    assert again["digest"] == whole["digest"]
    assert again["chunks"]["reused"] == again["chunks"]["total"] == whole["chunks"]["total"]
    plain = json.loads(ok("make", "--json", "x.catar", tree).out)
    assert (plain["digest"], "chunks" in plain) == (whole["digest"], False)
    assert plain["size"] == Path("x.catar").stat().st_size
    piped = run("make", "--json", "-", tree)
    assert json.loads(piped.err)["output"] == "-"
    assert piped.out == Path("x.catar").read_bytes()


def test_json_of_digest(ok: Run, tree: Path, archive: Path) -> None:
    """Digest, algorithm and what was digested."""
    found = json.loads(ok("digest", "--json", archive).out)
    assert found == {
        "digest": ok("digest", tree).out.decode().strip(),
        "algorithm": "sha512-256",
        "kind": "archive",
    }
    sha = json.loads(ok("digest", "--json", "--digest=sha256", tree).out)
    assert (sha["algorithm"], sha["kind"]) == ("sha256", "directory")


def test_json_of_info(ok: Run, index: Path) -> None:
    """Every number of the report, as numbers."""
    about: dict[str, Any] = json.loads(ok("info", "--json", index).out)
    assert about["digest"] == "sha512-256"
    assert about["chunks"] >= about["unique"] > 0
    assert about["in_store"] == about["unique"]
    assert about["size"] >= about["unique_size"] > 0


def test_json_of_list(ok: Run, tree: Path, archive: Path, index: Path) -> None:
    """An object a line, the same from every source; a name that is not text is kept under another key, in base64."""
    with open(os.fsencode(tree) + b"/\xff", "wb"):
        pass
    ok("make", archive, tree)
    ok("make", index, tree)
    found = []
    for source in (archive, index, tree):
        lines = [json.loads(line) for line in ok("list", "--json", source).out.splitlines()]
        for line in lines:
            del line["offset"]  # a directory has none
        found.append(lines)
    assert found[0] == found[1] == found[2]
    assert [line["type"] for line in lines] == ["dir", "file", "dir", "file", "link", "file"]
    assert [line.get("name") for line in lines] == [".", "hello", "sub", "sub/data", "sub/link", None]
    assert lines[5]["name_base64"] == "/w=="
    assert (lines[1]["size"], lines[1]["mode"]) == (12, "0644")
    assert lines[1]["mtime_ns"] == 1_500_000_000_123_456_789
    assert lines[4]["target"] == "../hello"
    assert len(ok("list", "--json", "--recursive=no", archive).out.splitlines()) == 4


def test_json_of_stat(ok: Run, tree: Path, archive: Path) -> None:
    """One object with all that is recorded."""
    about = json.loads(ok("stat", "--json", archive, "sub/data").out)
    assert (about["name"], about["type"], about["size"]) == ("sub/data", "file", 256_000)
    assert about["digest"] == ok("digest", archive, "sub/data").out.decode().strip()
    top = json.loads(ok("stat", "--json", archive).out)
    assert top["type"] == "dir"


def test_make_mends_the_store(run: Run, ok: Run, tree: Path, index: Path) -> None:
    """Chunks that are empty, cut or something else are stored again by the next make, also with a cache."""
    ok("make", "--cache=caches", "cached.caidx", tree)
    for damage in (b"", b"nonsense", None):
        for words in ((), ("--cache=caches",)):
            for path in Path("default.castr").rglob("*.cacnk"):
                good = path.read_bytes()
                path.chmod(0o644)
                path.write_bytes(good[:-1] if damage is None else damage)
            assert run("verify", index).status == 1
            ok("make", *words, "again.caidx", tree)
            ok("verify", index)


def test_make_verify_reused(fails: Fails, ok: Run, tree: Path, index: Path) -> None:
    """Damage inside a chunk is named with its file, and mended when make is told to read what is there."""
    largest = max(Path("default.castr").rglob("*.cacnk"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.chmod(0o644)
    largest.write_bytes(content)
    assert str(largest) in fails("digest", index)
    ok("make", "--verify-reused", "again.caidx", tree)
    ok("verify", index)


def test_seeds_on_the_command_line(ok: Run, run: Run, tmp_path: Path) -> None:
    """An index and its file behind a colon are no host and path; what files were cut into is remembered."""
    (tmp_path / "old").write_bytes(bytes(range(256)) * 2000)
    ok("make", "old.caibx", "old")
    os.rename("old", "moved")
    os.rename("default.castr", "away.castr")
    for seed in ("old.caibx:moved", "./old.caibx:./moved", "moved"):
        told = json.loads(ok("extract", "--json", f"--seed={seed}", "old.caibx", "new").out)
        assert (told["fetched"], told["from_seeds"]) == (0, told["chunks"])
        os.unlink("new")
    assert len(os.listdir(Path(os.environ["XDG_CACHE_HOME"]) / "pycasync" / "seeds")) == 1
    assert b"not used as a seed" in run("extract", "--seed=old.caibx", "old.caibx", "new").err
