"""Changed archives, indexes, chunks, caches and exclude files against every verb: right, or refused in a line."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from fuzz.targets import TARGETS

from casync_compat.errors import FormatError
from casync_compat.ids import Digest
from casync_compat.index import Index
from casync_compat.store.local import LocalStore

from .mutants import TIMES, changed, fresh, judged, times
from .running import build_tree, everything, run, works

LIMIT = 128 << 20
SIZES = "--chunk-size=64:256:1024"
TOKENS = TARGETS["decoder"].tokens
CATARS = [data for data in TARGETS["decoder"].corpus() if data]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree, an archive and indexes of it in small chunks, and a cache."""
    here = tmp_path_factory.mktemp("mutants") / "here"
    (here / "src").mkdir(parents=True)
    build_tree(here / "src", files=8, size=600)
    (here / "src" / "d0" / "e0" / "f000").chmod(0o4711)
    works("make", "x.catar", "src", cwd=here)
    works("make", "x.caidx", "src", SIZES, "--cache=cache", cwd=here)
    works("make", "x.caibx", "x.catar", SIZES, cwd=here)
    return here


def names_listed(out: bytes) -> set[tuple[str, str]]:
    """Names and types in JSON lines; names that are no text are left out."""
    rows = [json.loads(line) for line in out.splitlines()]
    return {(row["name"], row["type"]) for row in rows if "name" in row and row["name"] != "."}


def names_found(at: Path) -> set[tuple[str, str]]:
    """Names and types below a directory, alike."""
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFBLK: "block",
             stat.S_IFCHR: "char", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}  # fmt: skip
    found = {(str(p.relative_to(at)), kinds[stat.S_IFMT(p.lstat().st_mode)]) for p in at.rglob("*")}
    return {(name, kind) for name, kind in found if name.isprintable()}


READ_ARCHIVE = (
    "list {}", "list --json {}", "mtree {}", "digest --what=archive {}", "digest --what=blob {}",
    "stat {} f", "stat --json {}", "cat {} f", "dump {}", "dump --json {}", "make y.caibx {} --store=y.castr",
)  # fmt: skip


def test_archives(made: Path) -> None:
    """What can be listed can be extracted, and is there then; each verb says what it makes of the rest."""
    bases = [(made / "x.catar").read_bytes(), *CATARS[:: 1 if TIMES > 1 else 4]]
    count = 0
    for number, base in enumerate(bases):
        for data in changed(base, f"archive {number}", 1 if number else 40, others=bases, tokens=TOKENS):
            (made / "m.catar").write_bytes(data)
            verb = READ_ARCHIVE[count % len(READ_ARCHIVE)]
            count += 1
            judged(*verb.format("m.catar").split(), cwd=made)
            out = fresh(made / "out")
            done = judged("extract", "m.catar", "out", cwd=made)
            listed = run("list", "--json", "m.catar", cwd=made)
            if done.status == 0:
                assert listed.status == 0, data
                wanted = {(n, k) for n, k in names_listed(listed.out) if n.isprintable()}
                assert wanted == names_found(out), data


READ_INDEX = (
    "list {}", "mtree {}", "digest {}", "stat {} d0", "info {}", "info --json {}", "cat {} d0/e0/f000", "dump {}",
    "verify {}", "verify --json {} src", "gc --dry-run {}", "convert-index {} y.caidx --store=default.castr",
    "extract {} out --seed=src", "make --cache=cache {} src --chunk-size=64:256:1024",
)  # fmt: skip


def test_archive_indexes(made: Path) -> None:
    """An index that was changed gives the tree, or is refused; nothing is taken from the store for it."""
    base = (made / "x.caidx").read_bytes()
    chunks = sorted((made / "default.castr").rglob("*.cacnk"))
    wanted = everything(made / "src")
    for number, data in enumerate(changed(base, "caidx", 60, tokens=TARGETS["index"].tokens)):
        (made / "m.caidx").write_bytes(data)
        verb = READ_INDEX[number % len(READ_INDEX)]
        fresh(made / "out")
        judged(*verb.format("m.caidx").split(), cwd=made, quiet=verb.startswith("verify"))
        (made / "m.caidx").write_bytes(data)
        out = fresh(made / "out")
        if judged("extract", "m.caidx", "out", cwd=made).status == 0:
            assert everything(out) == wanted
    assert set(chunks) <= set((made / "default.castr").rglob("*.cacnk"))


def test_blob_indexes(made: Path) -> None:
    """What is written is what the rows say, chunk for chunk."""
    base = (made / "x.caibx").read_bytes()
    store = LocalStore(os.fsencode(made / "default.castr"))
    for number, data in enumerate(changed(base, "caibx", 45, tokens=TARGETS["index"].tokens)):
        (made / "m.caibx").write_bytes(data)
        verb = ("digest {}", "cat {}", "verify {}", "verify {} x.catar", "info {}", "dump {}")[number % 6]
        judged(*verb.format("m.caibx").split(), cwd=made, quiet=verb.startswith("verify"))
        out = fresh(made / "blob")
        done = judged("extract", "m.caibx", "blob", cwd=made)
        assert out.exists() == (done.status == 0)
        if done.status == 0:
            index = Index.parse(data)
            assert out.read_bytes() == b"".join(store.get(id_, index.digest, LIMIT) for id_ in index.ids())


def test_chunks(made: Path) -> None:
    """A changed chunk is never used: the tree is right, or the run fails, and making it again mends the store."""
    wanted = everything(made / "src")
    used = [str(id_) for id_ in Index.parse((made / "x.caidx").read_bytes()).ids()]
    chunks = [made / "default.castr" / id_[:4] / f"{id_}.cacnk" for id_ in used]
    verbs = (
        "list x.caidx", "mtree x.caidx", "digest x.caidx", "digest x.caibx", "cat x.caibx", "verify x.caidx",
        "verify --what=store default.castr", "verify x.caibx --remove", "extract x.caibx blob",
        "convert-index x.caidx y.caidx --digest=sha256", "gc x.caidx x.caibx", "dump {}",
        "make y.caidx src --chunk-size=64:256:1024 --verify-reused",
    )  # fmt: skip
    for number in range(times(45)):
        chunk = chunks[number * 7 % len(chunks)]
        right = chunk.read_bytes()
        others = [other.read_bytes() for other in chunks[:5]]
        data = next(changed(right, f"chunk {number}", 1, others=others))
        chunk.unlink()
        chunk.write_bytes(data)
        verb = verbs[number % len(verbs)].format(chunk)
        fresh(made / "blob")
        done = judged(*verb.split(), cwd=made, quiet=verb.startswith("verify"))
        if done.status == 0 and "blob" in verb:
            assert (made / "blob").read_bytes() == (made / "x.catar").read_bytes()
        if not verb.startswith(("verify x.caibx --remove", "make")):
            out = fresh(made / "out")
            if judged("extract", "x.caidx", "out", cwd=made).status == 0:
                assert everything(out) == wanted
        chunk.unlink(missing_ok=True)
        chunk.parent.mkdir(exist_ok=True)  # a removed chunk may have been the last one in it
        chunk.write_bytes(right)


def test_caches(made: Path) -> None:
    """A cache that was changed is not believed: the index is the right one."""
    (cache,) = (made / "cache").iterdir()
    right = cache.read_bytes()
    for data in changed(right, "cache", 30):
        cache.write_bytes(data)
        done = judged("make", "y.caidx", "src", SIZES, "--cache=cache", cwd=made)
        if done.status == 0:
            assert (made / "y.caidx").read_bytes() == (made / "x.caidx").read_bytes()
        judged("dump", cache, cwd=made)


def test_exclude_files(made: Path) -> None:
    """Whatever the rules are, the archive is made and whole, or they are refused."""
    tree = made / "excluding"
    shutil.copytree(made / "src", tree, symlinks=True)
    for base in TARGETS["caexclude"].corpus():
        for data in changed(base, "caexclude", 4, tokens=TARGETS["caexclude"].tokens):
            (tree / ".caexclude").write_bytes(data)
            if judged("make", "e.catar", tree, cwd=made).status == 0:
                works("list", "e.catar", cwd=made)
            judged("list", tree, cwd=made)


def test_digests_of_changed_archives_do_not_lie(made: Path) -> None:
    """The digest of an archive that is taken is that of its bytes."""
    base = (made / "x.catar").read_bytes()
    for data in changed(base, "digest", 15, tokens=TOKENS):
        (made / "m.catar").write_bytes(data)
        done = judged("digest", "--what=archive", "m.catar", cwd=made)
        if done.status == 0:
            assert done.out.decode().strip() == str(Digest.SHA512_256.of(data))


def test_what_is_refused_by_one_is_refused_by_all(made: Path) -> None:
    """An index that cannot be parsed is used by no verb."""
    base = (made / "x.caidx").read_bytes()
    for data in changed(base, "refused", 10, tokens=TARGETS["index"].tokens):
        try:
            Index.parse(data)
        except FormatError:
            (made / "m.caidx").write_bytes(data)
            for verb in (
                "list m.caidx",
                "info m.caidx",
                "gc -n m.caidx",
                "extract m.caidx out",
                "verify m.caidx",
            ):
                assert judged(*verb.split(), cwd=made, quiet=True).status == 1
