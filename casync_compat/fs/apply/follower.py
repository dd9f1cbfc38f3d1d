"""Who is told how far a tree is written. Nothing is written here.

>>> class Counter(Follower):
...     def ended(self, step, path): self.steps += 1
"""

from __future__ import annotations

from typing import TypeAlias

from catar.records import DirectoryEnd, Node
from catar.runs import Run

__all__ = ["Follower", "TreeStep"]

TreeStep: TypeAlias = Node | DirectoryEnd | Run


class Follower:
    """Is told how far a tree is written; does nothing with it, and is there to be overridden."""

    def begins(self, step: TreeStep, path: bytes) -> None:
        """A step is about to be written.

        :param path: of the node or finished directory; for a run, of the directory in which its first row stands
        """

    def wrote(self, step: TreeStep) -> None:
        """A piece of the payload of a single node was written."""

    def ended(self, step: TreeStep, path: bytes) -> None:
        """A step was written, payload included."""
