"""How far a copy of an image has come."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_oci.images import build, layer, layout_at, noise

from casync_compat.cli import _progress
from casync_compat.cli.oci._moving import Moving, Network
from casync_compat.oci.copy import copy_image
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.progress import Progress, Reporter


@pytest.fixture(autouse=True)
def only_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn by itself, however long a test takes."""
    monkeypatch.setattr(_progress, "_EVERY", 3600.0)


class OnScreen(io.StringIO):
    """Standard error as a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


BLOB = Descriptor("application/octet-stream", BlobDigest.parse("sha256:" + 64 * "0"), 1000)


def test_bytes_count_as_they_move() -> None:
    """What is under way counts before its blob ends; what need not move counts at once; never more than there is."""
    moving = Moving(1)
    moving.plan(3000)
    moving.bytes(400)
    assert moving.done == 400
    moving.blob(BLOB, False)
    assert moving.done == 1400
    moving.bytes(700)  # with a manifest, say, which is no blob
    moving.blob(BLOB, True)
    assert moving.done == 2100
    moving.bytes(5000)
    assert moving.done == 3000


def test_between_registries() -> None:
    """Each byte comes and goes, and is one."""
    moving = Moving(2)
    moving.plan(1000)
    moving.bytes(500)
    moving.bytes(500)
    assert moving.done == 500


def test_what_is_under_way() -> None:
    """Each blob that moves is known by the thread that moves it, until it is there."""
    moving = Moving(1)
    moving.plan(2000)
    moving.begin(BLOB)
    assert moving.parts() == []
    moving.bytes(250)
    assert moving.parts() == [("sha256:000000000000", Progress(250, 1000))]
    other = threading.Thread(target=moving.bytes, args=(500,))  # with nothing that it moves
    other.start()
    other.join()
    moving.bytes(5000)
    assert moving.parts() == [("sha256:000000000000", Progress(1000, 1000))]
    moving.blob(BLOB, True)
    assert moving.parts() == []


@pytest.mark.timeout(20)
def test_asked_while_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told how far the whole has come can ask for the parts there and then."""
    monkeypatch.setattr(Reporter, "due", True)
    moving = Moving(1)
    told: list[object] = []
    moving.start(lambda progress: told.append(moving.parts()))
    moving.plan(2000)
    moving.begin(BLOB)
    moving.bytes(250)
    assert told == [[("sha256:000000000000", Progress(250, 1000))]]


@pytest.mark.timeout(30)
def test_drawn_by_itself_while_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither waits for the other for ever: whoever moves bytes, and what draws the line now and then."""
    monkeypatch.setattr(_progress, "_QUIET", 0)
    monkeypatch.setattr(_progress, "_EVERY", 0.0001)
    monkeypatch.setattr(Reporter, "due", True)
    monkeypatch.setattr(sys, "stderr", terminal := OnScreen())
    moving = Moving(1)
    moving.plan(1000)
    with _progress.ProgressLine("pushing") as line:
        line.parts = moving.parts
        moving.start(line.callback)
        moving.begin(BLOB)
        for _ in range(1000):
            moving.bytes(1)
    assert "pushing  100%" in terminal.getvalue()


def test_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes from registries is shown below the line, also while the work itself waits for it."""
    monkeypatch.setattr(_progress, "_QUIET", 0)
    monkeypatch.setattr("casync_compat.cli.oci._moving._BETWEEN", 0)
    monkeypatch.setattr(sys, "stderr", terminal := OnScreen())
    with _progress.ProgressLine("converting") as line:
        network = Network(line)
        assert network.parts() == []
        network.bytes(1 << 20)
        network.bytes(1 << 20)
        assert "converting  0 B" in terminal.getvalue()
        assert "\n\r  network  2 MiB" in terminal.getvalue()
    shown = terminal.getvalue()
    network.bytes(1 << 20)
    assert terminal.getvalue() == shown


def test_without_registries() -> None:
    """Where nobody tells of bytes, blobs count."""
    moving = Moving(0)
    moving.plan(2000)
    moving.blob(BLOB, True)
    assert moving.done == 1000


def test_what_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A copy tells at first how much there is, and in the end that all is there."""
    monkeypatch.setattr(Reporter, "due", True)
    told: list[Progress] = []
    moving = Moving(0)
    moving.start(told.append)
    with layout_at(tmp_path / "a") as source, layout_at(tmp_path / "b") as target:
        build(source, "app", [layer({"data": noise(100_000)})])
        assert isinstance(source, Layout)
        copy_image(source, "app", target, "app", on_plan=moving.plan, on_blob=moving.blob)
    assert told
    assert {one.total for one in told} == {told[-1].done}
    assert [one.done for one in told] == sorted(one.done for one in told)
