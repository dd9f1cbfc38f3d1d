"""The manual is that of the program as it is, and every reader of man pages takes it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from types import ModuleType

import pytest
from documents.pasting import ROOT
from filesystems import lacking

from casync_compat.cli._verbs import GROUPS, parser_of, verbs_of

VERBS = [(group, verb) for group in ("", *GROUPS) for verb in verbs_of(group)]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("manual", ROOT / "docs" / "manual.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["manual"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


manual = _load()
PAGES: dict[str, str] = manual.manual()


def test_pages_are_current() -> None:
    """What is in `docs/man` is what the tables say today."""
    there = {path.name: path.read_text() for path in manual.MAN.glob("*.1")}
    stale = sorted(name for name in {*there, *PAGES} if there.get(name) != PAGES.get(name))
    assert not stale, f"run `python docs/manual.py`; it changes {', '.join(stale)}"


def test_groff_has_nothing_to_say() -> None:
    """Each page is set without a warning."""
    if shutil.which("groff") is None:
        lacking("groff is not installed; .ci/setup installs it")
    for name in PAGES:
        command = ["groff", "-ww", "-z", "-man", "-Tutf8", "-K", "utf8", str(manual.MAN / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout + done.stderr == "", name


@pytest.mark.parametrize(("group", "verb"), VERBS)
def test_every_option_is_explained(group: str, verb: str) -> None:
    """A verb's page names each of its options, and the program's page names the verb."""
    title = f"{group} {verb}".strip()
    page = PAGES[f"pycasync-{title.replace(' ', '-')}.1"].replace("\\-", "-")
    shown = re.findall(r"^  (-.*?)(?:  |$)", parser_of(group, verb).format_help(), re.MULTILINE)
    assert shown
    for option in re.findall(r"(?<!\S)--?[a-zA-Z][\w-]*", " ".join(shown)):
        assert re.search(rf"{re.escape(option)}[, \n\\]", page), option
    assert f"\\fB{title}\\fR" in PAGES["pycasync.1"].replace("\\-", "-")


def test_variables_of_the_environment_are_all_there() -> None:
    """Those of ours, casync's and desync's that the program looks at, and no others."""
    told = set(
        re.findall(r"(?:CASYNC|PYCASYNC|DESYNC)_[A-Z_]+", " ".join(name for name, _ in manual.ENVIRONMENT))
    )
    read: set[str] = set()
    for path in (ROOT / "casync_compat").rglob("*.py"):
        read |= set(re.findall(r'"((?:CASYNC|PYCASYNC|DESYNC)_[A-Z_]+)"', path.read_text()))
    assert told == read
