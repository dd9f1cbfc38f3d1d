"""README's figures are those of the reports that it links to."""

from __future__ import annotations

import re

import pytest
from documents.pasting import ROOT

ROW = re.compile(r"\| (?P<job>[^|]+) \| (?P<figures>[\d. ]*\|[\d. ]*) \|(?P<link>[^|]*)\|")
LINK = re.compile(r"\]\((bench/reports/\w+\.md)\)")


def rows() -> list[tuple[str, list[str], str]]:
    """Jobs, what was measured of each, and the report: the one of the row above where none is named."""
    found: list[tuple[str, list[str], str]] = []
    report = ""
    for line in (ROOT / "README.md").read_text().splitlines():
        row = ROW.fullmatch(line)
        if row is None:
            continue
        link = LINK.search(row["link"])
        report = link[1] if link is not None else report
        found.append((row["job"], re.findall(r"[\d.]+", row["figures"]), report))
    return found


def test_there_are_figures() -> None:
    """The table is found, and each row of it says something."""
    assert len(rows()) > 5
    assert all(figures and report for _, figures, report in rows())


@pytest.mark.parametrize(("job", "figures", "report"), rows(), ids=[job for job, _, _ in rows()])
def test_figures_are_in_the_report(job: str, figures: list[str], report: str) -> None:
    """Whoever follows the link finds them there."""
    text = (ROOT / report).read_text()
    missing = [
        figure for figure in figures if re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.]*\d)", text) is None
    ]
    assert not missing, f"{job}: {report} does not have {missing}"
