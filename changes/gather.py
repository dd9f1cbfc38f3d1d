"""Puts the fragments beside this file into CHANGELOG.md: `python changes/gather.py VERSION DATE`.

A fragment is a Markdown file of bullets, in words of the user. Where a section "VERSION (unreleased)" is on top, its
bullets stay, behind those of the fragments, and it gets the date; fragments that were taken are deleted.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def gathered(changelog: str, fragments: list[str], version: str, date: str) -> str:
    """The changelog with the bullets of fragments in the section of a version.

    :raises ValueError: the version has been released, or a fragment is no list
    """
    title, _, rest = changelog.partition("\n")
    for fragment in fragments:
        if not fragment.startswith("* "):
            raise ValueError(f"a fragment begins with '* ', not with {fragment[:20]!r}")
    if re.search(rf"^## {re.escape(version)} \(\d", rest, re.MULTILINE):
        raise ValueError(f"{version} has been released already")
    open_section = f"\n## {version} (unreleased)\n\n"
    old = ""
    if rest.startswith(open_section):
        old, found, after = rest.removeprefix(open_section).partition("\n## ")
        rest = f"\n## {after}" if found else ""
        old = old.strip("\n") + "\n"
    new = "".join(fragment.strip("\n") + "\n" for fragment in fragments)
    return f"{title}\n\n## {version} ({date})\n\n{new}{old}{rest}"


def main(version: str, date: str) -> None:
    """Rewrite CHANGELOG.md and delete the fragments."""
    changelog = HERE.parent / "CHANGELOG.md"
    paths = sorted(path for path in HERE.glob("*.md") if path.name != "README.md")
    changelog.write_text(gathered(changelog.read_text(), [path.read_text() for path in paths], version, date))
    for path in paths:
        path.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
