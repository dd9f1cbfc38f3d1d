"""Directories for tests: trees that are built once and only read, and fresh ones that belong to a single test."""

from __future__ import annotations

from pathlib import Path

import trees
from filesystems import IS_ROOT, FileSystems, lacking


class Forest:
    """The trees of `trees.TREES`, each built when first asked for and then shared; tests only read them."""

    def __init__(self, filesystems: FileSystems) -> None:
        self.filesystems = filesystems
        self._built: dict[tuple[str, str], Path] = {}

    def get(self, name: str, on: str = "any") -> Path:
        """The directory of the tree `name` on a file system of kind `on`."""
        tree = trees.TREES[name]
        if tree.root and not IS_ROOT:
            lacking(f"the tree {name} needs root")
        if (name, on) not in self._built:
            at = self.filesystems.directory(on) / f"tree-{name}"
            at.mkdir()
            tree.build(at)
            self._built[name, on] = at
        return self._built[name, on]

    def close(self) -> None:
        for at in self._built.values():
            trees.remove(at)


class Grounds:
    """Fresh directories for one test, on any file system."""

    def __init__(self, filesystems: FileSystems) -> None:
        self.filesystems = filesystems
        self.made: list[Path] = []
        self._kinds: list[str] = []

    def close(self) -> None:
        """Take away what was made."""
        for at, kind in zip(self.made, self._kinds, strict=True):
            if not self.filesystems.is_renewed(kind):
                trees.remove(at)

    def __call__(self, name: str, on: str = "any") -> Path:
        """A new empty directory called `name` on a file system of kind `on`."""
        at = self.filesystems.directory(on) / f"ground-{name}"
        at.mkdir()
        self.made.append(at)
        self._kinds.append(on)
        return at
