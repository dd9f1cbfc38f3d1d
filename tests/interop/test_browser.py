"""The pages of `serve` in a real Chromium, as a visitor meets them; by keyboard and mouse, and without scripts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

import pytest
from filesystems import lacking
from interop.tools import Tool

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DATA = Random(1).randbytes(600_000)
HOSTILE = "<img src=x onerror=alert(1)>"
_PATIENCE = 20_000
"""Milliseconds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, pycasync: Tool) -> Iterator[str]:
    """A running server of two versions of a tree, and its URL."""
    tmp_path = tmp_path_factory.mktemp("browser")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "data ü.bin").write_bytes(DATA)
    (tree / HOSTILE).write_text("<script>document.title = 'owned'</script>")
    (tree / "page.html").write_text("<script>document.title = 'owned'</script>")
    for name in ("one.caidx", f"{HOSTILE}.caidx"):
        pycasync("make", tmp_path / name, tree)
        (tree / "more").write_bytes(DATA[:300_000])
    command = [*pycasync.command, "serve", tmp_path / "default.castr", f"--index-dir={tmp_path}"]
    with subprocess.Popen([*command, "--listen=127.0.0.1:0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().rpartition(" ")[2].strip()
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        lacking("chromium is not installed; .ci/setup installs it")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("playwright is not installed; .ci/setup installs it")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A window of a browser; everything that its pages complain of is a failure."""
    scripts = getattr(request, "param", True)
    with browser.new_context(java_script_enabled=scripts, accept_downloads=True) as context:
        page = context.new_page()
        page.set_default_timeout(_PATIENCE)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on(
            "requestfailed",
            lambda failed: complaints.append(failed.url) if "/-/file" not in failed.url else None,
        )
        yield page
    assert complaints == []


@pytest.mark.parametrize("visitor", [True, False], indirect=True, ids=["scripts", "no scripts"])
def test_from_the_first_page_to_a_file(visitor: Page, server: str) -> None:
    """Through an index whose name is markup, a directory, to the bytes of a file under its own name; and back."""
    visitor.goto(server)
    assert visitor.title() == "pycasync"
    visitor.get_by_role("link", name=f"{HOSTILE}.caidx").click()
    assert visitor.get_by_role("heading", level=1).inner_text() == f"{HOSTILE}.caidx"
    assert visitor.get_by_role("link", name=HOSTILE, exact=True).is_visible()
    visitor.get_by_role("link", name="sub/").click()
    with visitor.expect_download() as began:
        visitor.get_by_role("link", name="data ü.bin").click()
    assert began.value.suggested_filename == "data ü.bin"
    assert began.value.path().read_bytes() == DATA
    began.value.delete()
    visitor.get_by_role("navigation").get_by_role("link", name="pycasync").click()
    visitor.get_by_role("link", name="What these indexes share").click()
    assert visitor.get_by_role("img", name="What each index shares with the others").bounding_box()
    widths = [
        float(bar.get_attribute("width") or 0) for bar in visitor.locator("rect.shared, rect.own").all()
    ]
    assert len(widths) == 4
    assert max(widths) > 100


def test_a_page_that_was_archived_does_not_run(visitor: Page, server: str) -> None:
    """It is kept as a file, not shown as a page of this server."""
    visitor.goto(f"{server}-/tree?in=one.caidx")
    with visitor.expect_download() as began:
        visitor.get_by_role("link", name="page.html").click()
    assert began.value.suggested_filename == "page.html"
    began.value.delete()
    assert "owned" not in visitor.title()


def test_by_keyboard_and_on_a_phone(visitor: Page, server: str) -> None:
    """The first key leads past what is the same on all pages; on a narrow screen nothing has to be moved sideways."""
    visitor.set_viewport_size({"width": 360, "height": 640})
    visitor.goto(f"{server}-/tree?in=one.caidx")
    visitor.keyboard.press("Tab")
    assert visitor.locator(":focus").inner_text() == "Skip to the content"
    visitor.keyboard.press("Enter")
    assert visitor.evaluate("document.activeElement.id") == "content"
    assert visitor.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visitor.evaluate("document.styleSheets[0].cssRules.length") > 10
