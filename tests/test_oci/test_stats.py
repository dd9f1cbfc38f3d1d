"""`oci stats` counts what images share, whatever form they are in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_oci.images import build, layer, layout_at, noise

from casync_compat.chunker import ChunkSizes
from casync_compat.cli import main
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.stats import measure, table, to_json

SIZES = [ChunkSizes.parse("4K"), ChunkSizes.parse("64K")]
BASE = layer({"big": noise(300_000, 1), "copy": noise(300_000, 1), "small": b"x" * 100})
FIRST = layer({"app": noise(200_000, 2)})
SECOND = layer({"app": noise(200_000, 2)[:100_000] + b"changed" + noise(200_000, 2)[100_000:]})


def test_levels(tmp_path: Path) -> None:
    """A shared layer counts once, a file with a twin once, and a changed file by its changed chunks."""
    layout = layout_at(tmp_path / "images")
    build(layout, "1", [BASE, FIRST])
    build(layout, "2", [BASE, SECOND], "zstd")
    sharing = measure([(layout, "1"), (layout, "2")], SIZES, compressed=True)
    images, layers, files, fine, coarse = sharing.levels()
    assert images.size == 2 * len(BASE) + len(FIRST) + len(SECOND)
    assert layers.size == len(BASE) + len(FIRST) + len(SECOND)
    assert layers.size - files.size == 300_000  # "copy" has the contents of "big"
    assert files.objects == 4
    assert fine.size < min(coarse.size, files.size)
    assert fine.stored is not None
    assert 0 < fine.stored <= fine.size * 1.01
    second = sharing.images[1]
    assert second.new_layers == len(SECOND)
    assert second.new_chunks[0] < 50_000
    assert len(table(sharing)) == 1 + 5 + 2 + 2


def test_converted_images_measure_the_same(tmp_path: Path) -> None:
    """An image and what it was converted to have the same layers, files and chunks."""
    layout = layout_at(tmp_path / "images")
    build(layout, "plain", [BASE, FIRST])
    other = layout_at(tmp_path / "converted")
    convert(layout, "plain", other, "thin", ConvertOptions(thin=True))
    plain = measure([(layout, "plain")], SIZES)
    converted = measure([(other, "thin")], SIZES)
    assert plain.levels() == converted.levels()
    both = measure([(layout, "plain"), (other, "thin")], SIZES)
    assert both.levels()[1:] == plain.levels()[1:]
    assert both.images[1].new_layers == 0


def test_a_layer_that_no_archive_can_hold(tmp_path: Path) -> None:
    """A layer with a name beyond what archives hold is measured as the tar that it is."""
    layout = layout_at(tmp_path / "images")
    build(layout, "odd", [layer({"n" * 300: noise(50_000)})])
    levels = measure([(layout, "odd")], SIZES).levels()
    assert levels[-1].size == levels[0].size


def test_a_lying_config(tmp_path: Path) -> None:
    """A layer that is not the one the config names is refused, not measured."""
    layout = layout_at(tmp_path / "images")
    build(layout, "lie", [FIRST], diff_ids=[SECOND])
    with pytest.raises(ImageError, match="diff id"):
        measure([(layout, "lie")], SIZES)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints a table or JSON of the same numbers, and draws a chart."""
    layout = layout_at(tmp_path / "images")
    build(layout, "1", [BASE, FIRST])
    name, chart = f"oci:{tmp_path}/images:1", tmp_path / "chart.svg"
    assert main(["oci", "stats", "--chunk-size=4K,64K", f"--chart={chart}", "--json", name]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value == to_json(measure([(layout, "1")], SIZES))
    assert chart.read_text().startswith("<svg")
    assert main(["oci", "stats", "--chunk-size=4K", name]) == 0
    assert "chunks 4 KiB" in capsys.readouterr().out
    assert main(["oci", "stats", "--chart=x.gif", name]) == 2
    assert ".svg or .png" in capsys.readouterr().err
