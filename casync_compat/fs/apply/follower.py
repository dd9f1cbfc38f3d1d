"""Who takes the steps of a tree, who is told how far they are, and the loop between them. Nothing is written here.

>>> class Counter(Follower):
...     def ended(self, step, path): self.steps += 1
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias

from casync_compat.errors import FormatError
from catar.records import DirectoryEnd, Node
from catar.runs import Run
from catar.walker import TreeStream, Walker

__all__ = ["Follower", "StepWriter", "TreeStep", "apply_tree"]

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


def apply_tree(stream: TreeStream, writer: StepWriter, follower: Follower | None = None) -> None:
    """Have a whole stream written; when that fails, for whatever reason, nothing is left under way.

    :param writer: begun, or told the stream's feature flags here
    :param follower: is told of each step
    :raises FileError: naming the file in the target, and whatever the stream and the follower raise
    """
    follower = follower or Follower()
    steps: Iterator[TreeStep]
    steps = stream.runs() if isinstance(stream, Walker) and not writer.has_hooks else iter(stream)
    try:
        for step in steps:
            follower.begins(step, stream.path)
            if not writer.begun:
                writer.begin(stream.feature_flags)
            if isinstance(step, Run):
                writer.feed_run(step)
            else:
                writer.feed(step, stream.path)
            if writer.wants_payload:
                for piece in stream.payload():
                    writer.write(piece)
                    follower.wrote(step)
            follower.ended(step, stream.path)
        if not writer.begun:
            raise FormatError("the tree is empty", writer.target)
        writer.finish()
    except BaseException as error:
        writer.abort(error)
        raise
