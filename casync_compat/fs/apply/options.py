"""What the user decides about writing a tree. How it is then done is not said here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from casync_compat.fs.owners import IdShift
from catar.flags import NO_REPLAY_LIMIT

__all__ = ["ApplyOptions"]


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """How a tree is written.

    :ivar mask: feature flags to restore at most (`--with`, `--without`)
    :ivar delete: remove what is in a directory but not in the archive, and directories with something in them that
        are to become something else
    :ivar punch_holes: leave holes where 4 KiB of payload are zero
    :ivar undo_immutable: clear immutable and append-only flags that are in the way
    :ivar shift: how stored owner ids become ids on disk
    :ivar in_use: files and directories that are read meanwhile, and therefore neither deleted nor replaced
    :ivar strict: fail at the first attribute or entry that the target cannot hold, rather than leave it out
    :ivar compare: what tells that a file is there already: its contents, or only size, time, mode and owner
    :ivar named: feature flags that were asked for by name (`--with`), so that what belongs to another kind of file
        system counts as missing, too
    :ivar keeps: asked, when a run breaks off, whether a large file under way is worth keeping, hidden beside its place,
        for the next run; None keeps none
    """

    mask: int = NO_REPLAY_LIMIT
    delete: bool = True
    punch_holes: bool = True
    undo_immutable: bool = False
    shift: IdShift = field(default_factory=IdShift)
    in_use: tuple[bytes, ...] = ()
    strict: bool = False
    named: int = 0
    compare: Literal["content", "metadata"] = "content"
    keeps: Callable[[BaseException], bool] | None = None
