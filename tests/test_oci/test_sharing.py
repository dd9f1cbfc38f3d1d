"""What images share is counted once, at each level, and drawn as it was counted."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from casync_compat.oci.chart import sharing_svg
from casync_compat.oci.sharing import Level, Sharing


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big", signed=False)[::-1]


def test_two_versions_of_an_image() -> None:
    """A second version that shares its base adds its own layer, of that the new file, and of that the new chunk."""
    sharing = Sharing(["64 KiB"])
    sharing.begin("app:1")
    assert sharing.layer("base", 1000)
    sharing.file(digest(1), 900)
    sharing.metadata(100)
    sharing.chunk(0, digest(11), 1000, 400)
    sharing.begin("app:2")
    assert not sharing.layer("base", 1000)
    assert sharing.layer("new", 500)
    sharing.file(digest(1), 300)  # the same contents again, whatever the size says
    sharing.file(digest(2), 150)
    sharing.metadata(50)
    assert sharing.has_chunk(0, digest(11))
    sharing.chunk(0, digest(11), 400, 200)
    sharing.chunk(0, digest(12), 100, 60)
    assert sharing.levels() == [
        Level("images", 2500, None, 2),
        Level("layers", 1500, None, 2),
        Level("files", 1200, None, 2),
        Level("chunks 64 KiB", 1100, 460, 2),
    ]
    second = sharing.images[1]
    assert (second.size, second.new_layers, second.new_files, second.new_chunks) == (1500, 500, 200, [100])


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50)), max_size=6), max_size=6))
def test_levels_are_what_each_image_adds(images: list[list[tuple[int, int]]]) -> None:
    """The sum of what each image adds is the level as a whole, and no level is larger than everything."""
    sharing = Sharing(["a", "b"])
    for number, layers in enumerate(images):
        sharing.begin(str(number))
        for layer, size in layers:
            if sharing.layer(str(layer), size):
                sharing.file(digest(layer % 3), size)
                sharing.chunk(0, digest(layer % 4), size, None)
                sharing.chunk(1, digest(layer), size, size // 2)
    everything, layers_level, files, first, second = sharing.levels()
    assert everything.size == sum(size for layers in images for _, size in layers)
    assert layers_level.size == sum(image.new_layers for image in sharing.images)
    assert files.size == sum(image.new_files for image in sharing.images)
    assert [first.size, second.size] == [sum(i.new_chunks[n] for i in sharing.images) for n in (0, 1)]
    assert max(level.size for level in sharing.levels()) == everything.size
    assert second.size == layers_level.size  # every layer was a chunk of its own


def test_chart_shows_every_level() -> None:
    """The picture is well-formed, has a bar for each level in proportion, and escapes what names contain."""
    levels = [Level("images", 1 << 30, None, 3), Level("chunks <&>", 1 << 29, 1 << 28, 9)]
    svg = sharing_svg(levels, "a & b")
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{space}text")]
    assert "a & b" in texts
    assert "chunks <&>" in texts
    assert "512 MiB, 50.0 % (zstd 256 MiB)" in texts
    widths = [int(rect.attrib["width"]) for rect in root.iter(f"{space}rect")][1:]
    assert widths[0] == 2 * widths[1] == 4 * widths[2]


def test_chart_of_nothing() -> None:
    """No images make an empty chart, not an error."""
    ElementTree.fromstring(sharing_svg(Sharing([]).levels(), "nothing"))
