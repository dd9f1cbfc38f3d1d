"""The table and the tests are the same list: one row a report, one test a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent


def rows() -> list[list[str]]:
    """The cells of every row."""
    lines = [line for line in (HERE / "README.md").read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "id"]


def test_rows_and_tests() -> None:
    """Each id names one test, and each test has one row."""
    tests = [
        node.name.removeprefix("test_")
        for path in HERE.glob("test_*.py")
        if path.name != Path(__file__).name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert sorted(row[0] for row in rows()) == sorted(tests)
    assert len(set(tests)) == len(tests) >= 60


def test_rows_are_whole() -> None:
    """Every row names a project and a number, which its id repeats, and says what was tried and what is right."""
    reports = []
    for row in rows():
        assert len(row) == 5, row
        assert all(row), row
        found = re.fullmatch(r"([\w.-]+/[\w.-]+) (\d+)", row[1])
        assert found, row
        assert row[0].endswith(f"_{found[2]}"), row
        reports.append(row[1])
    assert len(set(reports)) == len(reports)
