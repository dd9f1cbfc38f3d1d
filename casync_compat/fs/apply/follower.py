"""Who takes the steps of a tree, and who is told how far they are. Nothing is written here.

>>> class Counter(Follower):
...     def ended(self, step, path): self.steps += 1
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from catar.records import DirectoryEnd, Node
from catar.runs import Run

__all__ = ["Follower", "StepWriter", "TreeStep"]

TreeStep: TypeAlias = Node | DirectoryEnd | Run


class StepWriter(Protocol):
    """What takes the steps: `TreeWriter`, which says what the methods do, or `PreviewWriter`."""

    target: bytes
    begun: bool

    @property
    def has_hooks(self) -> bool: ...
    @property
    def wants_payload(self) -> bool: ...
    def begin(self, feature_flags: int) -> None: ...
    def feed(self, step: Node | DirectoryEnd, path: bytes) -> None: ...
    def feed_run(self, run: Run) -> None: ...
    def write(self, view: memoryview) -> None: ...
    def finish(self) -> None: ...
    def abort(self, error: BaseException | None = None) -> None: ...


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
