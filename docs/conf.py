"""The documentation's site, by Sphinx: `python -m sphinx -c docs -W . build/site` from the top of the checkout.

Its source is the checkout itself, so that documents stay where they belong, beside the code, and links between them
are the same ones that work where the code is browsed. The page about the command line is made while building.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

sys.path.insert(0, str(Path(__file__).parent))

import jsonpage
import manual

import casync_compat

project = "pycasync"
author = "the pycasync authors"
copyright = author
version = release = casync_compat.__version__

root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**.md",
    "docs/**.rst",
    "catar/FORMAT.md",
    "casync_compat/**README.md",
    "systemd/README.md",
    "changes/README.md",
    "bench/README.md",
    "bench/reports/*.md",
]
exclude_patterns = [".*", "build", "dist", "tests", "typings", "**/__pycache__", "**/.*"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]  # examples of JSON are abridged

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
autodoc_type_aliases = {"Progress": "Progress"}

html_theme = "furo"
html_title = f"pycasync {release}"
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False


MADE = {"docs/reference/command-line": manual.as_markdown, "docs/reference/json": jsonpage.as_markdown}
"""Pages that have a mark where something is put that is made of tables."""


def _fill_in(app: Sphinx, name: str, content: list[str]) -> None:
    """Put what is made of tables where a page has its mark."""
    if name in MADE:
        content[0] = content[0].replace("<!-- verbs -->", MADE[name]())


def _in_the_checkout(
    app: Sphinx, environment: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """What a link names that is in the checkout and no document is told by its name alone."""
    target = str(node.get("reftarget", ""))
    here = Path(environment.doc2path(str(node.get("refdoc", "")))).parent
    if target and (here / target.partition("#")[0]).exists():
        return content
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _fill_in)
    app.connect("missing-reference", _in_the_checkout)
    return {"parallel_read_safe": True}
