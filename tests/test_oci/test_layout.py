"""Layouts: blobs appear whole or not at all, tags move in one step, and what others wrote stays."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_oci.images import blob_file, build, flip, layer, layout_at

from casync_compat.errors import UsageError
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError

DATA = bytes(range(256)) * 9000
BLOB = Descriptor.of("a/b", DATA)
MANIFEST = Descriptor(media.OCI_MANIFEST, BlobDigest.of(b"m"), 1)


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    with layout_at(tmp_path / "layout") as found:
        yield found


def names(layout: Layout) -> set[str]:
    """Every file in a layout."""
    root = Path(os.fsdecode(layout.path))
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """A layout that is not there is not made by looking for something in it."""
    layout = layout_at(tmp_path / "no")
    assert not layout.has(BLOB)
    assert layout.resolve_or_none("x") is None
    with pytest.raises(ImageError, match="there is no image layout here"):
        layout.resolve("x")
    with pytest.raises(BlobMissing):
        layout.open(BLOB)
    assert not (tmp_path / "no").exists()


def test_what_is_written(layout: Layout) -> None:
    """The first blob makes a layout as the specification has it."""
    assert layout.put(BLOB, [DATA[:1000], DATA[1000:]])
    assert names(layout) == {".pycasync.lock", "index.json", "oci-layout", f"blobs/sha256/{BLOB.digest.hex}"}
    root = Path(os.fsdecode(layout.path))
    assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((root / "index.json").read_bytes()) == {"schemaVersion": 2, "manifests": []}


def test_round_trip(layout: Layout) -> None:
    """A blob is read as it was written: whole, in pieces, by range."""
    with layout.stage() as staged:
        staged.write(DATA)
        assert staged.size == len(DATA)
        descriptor = staged.commit("a/b", {"k": "v"})
    assert (descriptor.digest, descriptor.size, descriptor.annotations) == (
        BLOB.digest,
        BLOB.size,
        {"k": "v"},
    )
    assert layout.read(BLOB) == DATA
    assert layout.read_range(BLOB, 100, 50) == DATA[100:150]
    with layout.open(BLOB) as stream:
        assert b"".join(iter(lambda: stream.read(1000), b"")) == DATA
    assert not layout.put(BLOB, [])


def test_staged_and_dropped(layout: Layout) -> None:
    """A blob that is not committed leaves nothing."""
    with layout.stage() as staged:
        staged.write(DATA)
    assert not [name for name in names(layout) if name.endswith(".tmp")]
    assert not layout.has(BLOB)


@pytest.mark.parametrize("pieces", [[DATA[:-1]], [DATA, b"x"], [b"x", DATA[1:]], []])
def test_other_bytes_than_promised(layout: Layout, pieces: list[bytes]) -> None:
    """A blob with another digest or size than its descriptor says is not stored."""
    with pytest.raises(BlobCorrupt):
        layout.put(BLOB, pieces)
    assert not layout.has(BLOB)
    assert not [name for name in names(layout) if name.endswith(".tmp")]


def test_damage_is_noticed(layout: Layout) -> None:
    """A flipped bit is noticed at the end of the blob, a missing byte at once."""
    layout.put(BLOB, [DATA])
    flip(blob_file(layout, BLOB), 77)
    with pytest.raises(BlobCorrupt, match="content has the digest"):
        layout.read(BLOB)
    os.truncate(blob_file(layout, BLOB), len(DATA) - 1)
    assert not layout.has(BLOB)
    with pytest.raises(BlobCorrupt, match="not 2304000"):
        layout.open(BLOB)
    assert layout.put(BLOB, [DATA]), "a blob that is cut short is replaced"
    assert layout.read(BLOB) == DATA


def test_limits(layout: Layout) -> None:
    """Nobody reads a blob into memory that is larger than it may be."""
    layout.put(BLOB, [DATA])
    with pytest.raises(ImageError, match="the limit is 1000"):
        layout.read(BLOB, 1000)
    with pytest.raises(BlobCorrupt, match="ends before"):
        layout.read_range(BLOB, len(DATA) - 10, 11)


def test_tags(layout: Layout) -> None:
    """A tag names what it was given last; others stay."""
    with pytest.raises(ImageError, match="no images in it"):
        layout.put(BLOB, [DATA])
        layout.resolve(None)
    one, two = (build(layout, None, [layer({name: b"x"})]).descriptor for name in ("a", "b"))
    layout.tag("x", one)
    assert layout.resolve(None).digest == one.digest
    layout.tag("y", two)
    layout.tag("x", two)
    assert layout.tags() == ["x", "y"]
    assert layout.resolve("x").digest == two.digest
    layout.tag("x", one)
    assert layout.resolve(str(two.digest)).digest == two.digest
    with pytest.raises(ImageError, match="there are several images in it"):
        layout.resolve(None)
    with pytest.raises(ImageError, match="no image tagged 'z'; there are: x, y"):
        layout.resolve("z")
    layout.retag({"x": None})
    assert layout.tags() == ["y"]
    assert layout.resolve(str(one.digest)).digest == one.digest, "it is there still, if without a tag"
    with pytest.raises(ImageError, match="there is no image sha256:"):
        layout.resolve(str(BlobDigest.of(b"nothing")))


def test_swapping_a_tag(layout: Layout) -> None:
    """A tag moves only if it still names what the caller saw."""
    one, two = (Descriptor(media.OCI_MANIFEST, BlobDigest.of(name), 1) for name in (b"1", b"2"))
    assert not layout.swap_tag("x", one, two)
    assert layout.swap_tag("x", one, None)
    assert not layout.swap_tag("x", two, None)
    assert not layout.swap_tag("x", two, two)
    assert layout.swap_tag("x", two, one)
    assert layout.resolve("x").digest == two.digest


def test_what_others_wrote_stays(layout: Layout) -> None:
    """Entries, members and files that are not ours are kept."""
    layout.tag("x", MANIFEST)
    root = Path(os.fsdecode(layout.path))
    foreign = {"mediaType": "a/b", "digest": str(BLOB.digest), "size": 1.5e3, "odd": [1.5, None]}
    old = json.loads((root / "index.json").read_bytes())
    (root / "index.json").write_text(
        json.dumps({**old, "manifests": [foreign, *old["manifests"]], "more": {"a": 1.5}})
    )
    (root / "notes.txt").write_text("mine")
    layout.tag("x", MANIFEST)
    new = json.loads((root / "index.json").read_bytes())
    assert new["manifests"][0] == foreign
    assert len(new["manifests"]) == 2
    assert new["more"] == {"a": 1.5}
    assert (root / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(("what", "call"), [("makedirs", 2), ("link", 1), ("link", 2), ("open", 1)])
def test_told_to_end_while_a_layout_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, call: int
) -> None:
    """What is no layout yet goes again, so that nothing is left of a push that ended at once."""
    real, calls = getattr(os, what), 0

    def interrupted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    layout = layout_at(tmp_path / "lay")
    monkeypatch.setattr(os, what, interrupted)
    with pytest.raises(KeyboardInterrupt):
        layout.writing()
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    layout.writing()
    layout.close()
    assert (tmp_path / "lay" / "oci-layout").exists()


def test_writers_at_once(tmp_path: Path) -> None:
    """Several writers lose nobody's tags."""

    def work(number: int) -> None:
        with layout_at(tmp_path / "layout") as mine:
            for n in range(5):
                mine.tag(f"{number}-{n}", MANIFEST)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(layout_at(tmp_path / "layout").tags()) == 20


def test_alone(tmp_path: Path) -> None:
    """Who wants to be alone is told that somebody writes, and writers are told apart from readers."""
    writer, other = layout_at(tmp_path / "layout"), layout_at(tmp_path / "layout")
    writer.put(BLOB, [DATA])
    with pytest.raises(UsageError, match="is being written to"), other.alone():
        pass
    writer.close()
    with other.alone():
        assert other.read(BLOB) == DATA


def test_sharing_between_layouts(tmp_path: Path, layout: Layout) -> None:
    """A blob of another layout on the same file system takes no room of its own."""
    other = layout_at(tmp_path / "other")
    other.put(BLOB, [DATA])
    assert layout.borrow(BLOB, other)
    assert not layout.borrow(BLOB, other)
    assert layout.read(BLOB) == DATA
    ours, theirs = (blob_file(one, BLOB).stat() for one in (layout, other))
    assert ours.st_ino == theirs.st_ino or ours.st_nlink == 1  # a hard link, or a reflink
    assert not [name for name in names(layout) if name.endswith(".tmp")]


def test_damage_is_not_shared(tmp_path: Path, layout: Layout) -> None:
    """A damaged blob is not taken over."""
    other = layout_at(tmp_path / "other")
    other.put(BLOB, [DATA])
    flip(blob_file(other, BLOB), 5)
    with pytest.raises(BlobCorrupt):
        layout.borrow(BLOB, other)
    assert not layout.has(BLOB)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"x": "y"}, "has things in it, but no oci-layout file"),
        ({"oci-layout": "{}"}, "version None are not supported"),
        ({"oci-layout": "x"}, "not JSON"),
    ],
)
def test_other_directories(tmp_path: Path, files: dict[str, str], says: str) -> None:
    """A directory that is something else is not written to."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ImageError, match=says):
        layout_at(tmp_path)


def test_a_file(tmp_path: Path) -> None:
    """A file is no layout."""
    (tmp_path / "x").write_text("")
    with pytest.raises(ImageError, match="this is no directory"):
        layout_at(tmp_path / "x")


@pytest.mark.parametrize("text", ["[]", '{"manifests":0}', '{"manifests":[{}]}', '{"manifests":{}}', "x"])
def test_bad_index(layout: Layout, text: str) -> None:
    """An index.json that makes no sense is told."""
    layout.put(BLOB, [DATA])
    (Path(os.fsdecode(layout.path)) / "index.json").write_text(text)
    with pytest.raises(ImageError, match=r"index\.json"):
        layout.resolve("x")


@pytest.mark.parametrize("text", ['{"schemaVersion":2,"manifests":null}', '{"schemaVersion":2}', "{}"])
def test_an_empty_index(layout: Layout, text: str) -> None:
    """A layout just made by `umoci init` has no images, and takes the first one."""
    layout.put(BLOB, [DATA])
    (Path(os.fsdecode(layout.path)) / "index.json").write_text(text)
    assert layout.tags() == []
    assert layout.resolve_or_none("x") is None
    layout.tag("x", BLOB)
    assert layout.resolve("x").digest == BLOB.digest
