"""`pycasync oci`: its verbs from the command line, their output and their exit status."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_oci.images import build, build_index, flip, layer, layout_at, noise

from casync_compat.cli import oci

from .conftest import Run

Fails = Callable[..., str]
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FILES = {"etc": None, "etc/hostname": b"box\n", "usr": None, "usr/data": noise(300_000)}


@pytest.fixture
def image(tmp_path: Path) -> str:
    """The id of a small image `oci:images:app`."""
    with layout_at(tmp_path / "images") as layout:
        return str(build(layout, "app", [layer(FILES), layer({"etc/app": b"1"})]).image_id)


# ---- asking for help


@pytest.mark.parametrize("words", ["oci --help", "oci -h", "-v oci --help", "oci --help -v"])
def test_list_of_verbs(ok: Run, words: str) -> None:
    """Without a verb all verbs are listed."""
    text = ok(*words.split()).out.decode()
    for verb in oci.VERBS:
        assert f"  {verb} " in text


@pytest.mark.parametrize("verb", oci.VERBS)
def test_help_of_verbs(ok: Run, verb: str) -> None:
    """Each verb's help has its summary, examples that are themselves right, and how images are named."""
    text = ok("oci", verb, "--help").out.decode()
    assert text.startswith(f"usage: pycasync oci {verb} ")
    assert "docker://HOST/REPOSITORY" in text
    assert f"pycasync oci {verb} " in text.split("examples:")[1]


def test_listed_among_all(ok: Run) -> None:
    """The general help names the group."""
    assert b"  oci " in ok("--help").out


def test_no_verb(fails: Fails) -> None:
    """A missing or mistyped verb is answered with what to do."""
    assert fails("oci") == "no verb given; see `pycasync oci --help`"
    assert fails("oci", "covert") == "unknown verb 'oci covert'; did you mean convert?"
    assert "see `pycasync oci --help`" in fails("oci", "zzzz")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("oci convert", "the following arguments are required: SOURCE, TARGET"),
        ("oci convert --nonsense oci:a oci:b", "--nonsense"),
        ("oci convert a oci:b", "a: an image is named oci:DIRECTORY"),
        ("oci convert oci:a docker-archive:b.tar", "has no room for casync indexes"),
        ("oci convert oci:a oci:b@sha256:" + "0" * 64, "name a tag instead"),
        ("oci convert --platform=x oci:a oci:b", "is not OS/ARCHITECTURE"),
        ("oci convert --platform=linux/amd64 --all oci:a oci:b", "contradict each other"),
        ("oci convert --base=oci:c --no-base oci:a oci:b", "contradict each other"),
        ("oci export oci:a:x oci:a", "that is the converted image itself; name another tag"),
        ("oci convert --digest=md5 oci:a oci:b", "unknown digest 'md5'"),
        ("oci convert oci:a oci:b", "oci:a: there is no image layout here"),
        ("oci convert docker-archive:a oci:b", "a: cannot open: No such file or directory"),
        ("oci gc images", "an image is named"),
        ("oci gc oci:images:app", "write oci:DIRECTORY"),
        ("oci verify oci:a --log-level=loud", "--log-level"),
    ],
)
def test_asked_wrongly(fails: Fails, words: str, says: str) -> None:
    """What cannot be done is one line that says why, and nothing is made."""
    before = set(Path().iterdir())
    assert says in fails(*words.split())
    assert set(Path().iterdir()) == before


# ---- doing it


@pytest.mark.usefixtures("image")
def test_convert_and_list(ok: Run) -> None:
    """A converted image prints its digest; with a store, indexes lie beside it that `list` and `extract` read."""
    digest = ok("oci", "convert", "oci:images:app", "oci:new:app", "--store=app.castr").out.decode()
    assert DIGEST.fullmatch(digest.strip())
    listed = ok("list", "0.caidx", "--store=app.castr").out.decode()
    assert listed.split("\n")[:3] == ["drwxr-xr-x .", "drwxr-xr-x etc", "-rw-r--r-- etc/hostname"]
    ok("extract", "1.caidx", "out", "--store=app.castr")
    assert Path("out/etc/app").read_bytes() == b"1"


def test_there_and_back(ok: Run, image: str) -> None:
    """Options stand anywhere; the image id comes back from a layout and from an archive."""
    ok("oci", "--thin", "convert", "oci:images:app", "--chunk-size", "16K", "oci:new:app")
    assert ok("oci", "export", "oci:new:app", "oci:back:app").out.decode().strip() == image
    assert ok("oci", "export", "oci:new:app", "docker-archive:x.tar:app:1").out.decode().strip() == image
    ok("oci", "convert", "docker-archive:x.tar:app:1", "oci:again", "--thin")
    out = json.loads(ok("oci", "export", "--json", "--rebuild", "oci:again:latest", "oci:last").out)
    assert out["image_ids"] == [image]
    assert (out["original"], out["rebuilt_layers"]) == (True, 2)


@pytest.mark.usefixtures("image")
def test_summaries(ok: Run, run: Run) -> None:
    """--json is one object; -v tells what was new."""
    first = json.loads(ok("oci", "convert", "--json", "oci:images:app", "oci:images:new").out)
    (made,) = first["images"]
    assert made["new_bytes"] == made["pack_bytes"] > 250_000
    assert (made["layers"], made["platform"], made["tars"]) == (2, "linux/amd64", [])
    told = run("oci", "convert", "-v", "oci:images:app", "oci:images:new")
    assert told.status == 0
    assert b"2 layers (2 as in the base)" in told.err
    assert b"0 new of 0 B" in told.err


@pytest.mark.usefixtures("image")
def test_copies(run: Run, ok: Run) -> None:
    """push and pull print nothing where nobody looks on, the digest into a file, and with -v what was moved."""
    digest = ok("oci", "convert", "oci:images:app", "oci:images:app").out.strip()
    for verb in ("push", "pull", "copy"):
        silent = run("oci", verb, "--digestfile=digest", "oci:images:app", f"oci:{verb}:app")
        assert (silent.status, silent.out, silent.err) == (0, b"", b"")
        assert Path("digest").read_bytes() == digest
        Path("digest").unlink()
    copied = run("oci", "push", "-v", "oci:images:app", "oci:other:app")
    assert (copied.status, copied.out) == (0, b"")
    assert copied.err.startswith(digest)
    assert re.search(rb"(\d+) of \1 blobs copied", copied.err)
    assert run("oci", "push", "--digestfile=gone/digest", "oci:images:app", "oci:other:app").status == 1
    again = json.loads(ok("oci", "pull", "--json", "oci:images:app", "oci:other:app").out)
    assert again["moved"] == again["requests"] == 0
    chunks = json.loads(ok("oci", "pull", "--json", "--store=s.castr", "oci:images:app", "oci:third:app").out)
    assert chunks["chunks"] > 3
    ok("oci", "verify", "oci:third:app", "--store=s.castr")


@pytest.mark.usefixtures("image")
def test_an_image_whose_chunks_are_in_packs(ok: Run, image: str) -> None:
    """An image pulled into a packed store is there without where it came from: its tree, and the original."""
    ok("oci", "convert", "--thin", "oci:images:app", "oci:images:app")
    Path("seed").write_bytes(b"so that the store has packs")
    ok("make", "--layout=packs", "--store=s.castr", "seed.caibx", "seed")
    ok("oci", "pull", "--json", "--store=s.castr", "oci:images:app", "oci:third:app")
    assert [path.name for path in Path("s.castr").iterdir()] == [".pycasync"]
    Path("images").rename("gone")
    ok("oci", "verify", "oci:third:app", "--store=s.castr")
    assert ok("oci", "cat", "oci:third:app", "/etc/app", "--store=s.castr").out == b"1"
    assert (
        ok("oci", "export", "--store=s.castr", "oci:third:app", "oci:back:app").out.decode().strip() == image
    )


@pytest.mark.usefixtures("image")
def test_verify(ok: Run, run: Run) -> None:
    """A whole image is all good; what is wrong is listed on standard output, with status 1."""
    ok("oci", "convert", "--thin", "oci:images:app", "oci:new:app")
    assert ok("oci", "verify", "oci:new:app").out.endswith(b"2 layers: all good\n")
    pack = max(Path("new/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    flip(pack, 1000)
    bad = run("oci", "verify", "oci:new:app")
    assert bad.status == 1
    assert pack.name in bad.out.decode()
    assert bad.err.count(b"\n") == 1
    assert b"problems found; checked" in bad.err
    bad = run("oci", "verify", "--json", "oci:new:app")
    assert bad.status == 1
    assert json.loads(bad.out)["problems"]


@pytest.mark.usefixtures("image")
def test_inspect(ok: Run) -> None:
    """A report for people, and one for programs."""
    digest = ok("oci", "convert", "oci:images:app", "oci:images:app").out.decode().strip()
    text = ok("oci", "inspect", "oci:images:app").out.decode()
    assert digest in text
    assert "converted:    sha256:" in text
    assert "plain image:  sha256:" in text
    info = json.loads(ok("oci", "inspect", "--json", "oci:images:app").out)
    assert info["digest"] == digest
    assert len(info["images"][0]["layers"]) == 2


@pytest.mark.usefixtures("image")
def test_repack_and_gc(ok: Run) -> None:
    """What repacking leaves behind is garbage, which a dry run only lists."""
    ok("oci", "convert", "--thin", "oci:images:app", "oci:new:app")
    assert b"1 packs of" in ok("oci", "repack", "oci:new:app").out
    Path("new/blobs/sha256", "0" * 64).write_bytes(b"garbage")
    assert b"Would remove blob sha256:0000" in ok("oci", "gc", "-n", "oci:new").out
    assert ok("oci", "gc", "oci:new").out.startswith(b"Removed 1 blobs of 7 B and 0 temporary files")
    ok("oci", "verify", "oci:new:app")


@pytest.mark.usefixtures("image")
def test_squash(ok: Run, fails: Fails) -> None:
    """Merged layers are one tree, and there is no way back."""
    ok("oci", "convert", "--squash", "--thin", "oci:images:app", "oci:new:app", "--store=s.castr")
    assert b"etc/app" in ok("list", "0.caidx", "--store=s.castr").out
    assert "there is no way back" in fails("oci", "export", "oci:new:app", "oci:x:app")


def test_platforms(ok: Run, fails: Fails, tmp_path: Path) -> None:
    """One platform by name, or all; with a store, each has a directory of its own for its indexes."""
    with layout_at(tmp_path / "images") as layout:
        images = [
            build(layout, None, [layer({"n": n})], architecture=n.decode()) for n in (b"s390x", b"arm64")
        ]
        build_index(layout, "app", list(zip(images, ["linux/s390x", "linux/arm64"], strict=True)))
    ok("oci", "convert", "--all", "--thin", "oci:images:app", "oci:new:app", "--store=s.castr")
    for name in ("linux-s390x", "linux-arm64"):
        assert ok("list", f"{name}/0.caidx", "--store=s.castr").out
    out = ok("oci", "export", "--platform=linux/arm64", "oci:new:app", "oci:back:app").out.decode()
    assert out.strip() == str(images[1].image_id)
    assert "choose with --platform or --all" in fails(
        "oci", "export", "--platform=a/b", "oci:new:app", "oci:x:y"
    )


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("epoch", ["x", "-1", "1e9", "99999999999999"])
def test_source_date_epoch(fails: Fails, monkeypatch: pytest.MonkeyPatch, epoch: str) -> None:
    """A $SOURCE_DATE_EPOCH that is no number of seconds is an error."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    assert "$SOURCE_DATE_EPOCH" in fails("oci", "convert", "oci:images:app", "oci:new:app")


@pytest.mark.usefixtures("image")
def test_times(ok: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With $SOURCE_DATE_EPOCH times in archives are no later than that; the image that comes back has its own."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    ok("oci", "convert", "--thin", "oci:images:app", "oci:new:app")
    ok("oci", "verify", "oci:new:app")
