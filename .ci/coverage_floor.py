"""Combines what `coverage` measured and fails if a package has less than its share of lines and branches covered.

A package is a directory with modules, its sub-packages not counted in; a floor for the whole would let a small package
go without tests.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import PurePath

from coverage.cmdline import main as coverage

FLOOR = 85.0
"""Per cent of lines and branches together, in every package."""
REPORT = ".venv/coverage/report.json"


def main() -> int:
    """Print a line a package, and below it the files that pull it down; 1 if one is below the floor."""
    if coverage(["combine", "--quiet"]) or coverage(["json", "--quiet", "--ignore-errors", "-o", REPORT]):
        return 1
    with open(REPORT) as file:
        files = json.load(file)["files"]
    packages: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for path, found in files.items():
        parts = PurePath(path).parts
        if "site-packages" not in parts:  # a test's own copy of the sources
            continue
        inside = parts[len(parts) - parts[::-1].index("site-packages") :]
        summary = found["summary"]
        covered = summary["covered_lines"] + summary["covered_branches"]
        whole = summary["num_statements"] + summary["num_branches"]
        packages[".".join(inside[:-1])].append((inside[-1], covered, whole))
    low = False
    for package, modules in sorted(packages.items()):
        share = _share(sum(module[1] for module in modules), sum(module[2] for module in modules))
        print(f"{share:6.1f} %  {package}")
        if share < FLOOR:
            low = True
            for name, covered, all_of_it in sorted(modules, key=lambda module: module[1] - module[2])[:10]:
                print(f"{_share(covered, all_of_it):14.1f} %  {name}")
    if low:
        print(f"the floor is {FLOOR} % a package", file=sys.stderr)
    return int(low)


def _share(covered: int, all_of_it: int) -> float:
    return 100.0 * covered / all_of_it if all_of_it else 100.0


sys.exit(main())
