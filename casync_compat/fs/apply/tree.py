"""A stream of nodes becomes a tree: what `casync extract` does to a directory.

    >>> apply_tree(walker, TreeWriter(b"/target", None, ApplyOptions(), warn=print))

Nothing outside the target is touched, whatever the archive says and whatever lies in the target already: every entry is
reached by its single name from a descriptor of its directory, and no symlink is followed but the target itself. A file
appears under its name once it is complete; what stood there before is there until then, and a directory that becomes
something else, or the reverse, is removed last. Nothing is fsynced. One exception: in a directory that it has made,
and that admits nobody but its owner until it is complete, `casync_compat.fs.apply.runs` gives files their names at
once, with mode 0200 until they are complete.

Semantics are casync 2's (`src/cadecoder.c`) but for what `fs.apply.restore` lists. One writer, one tree, one thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace as changed

from casync_compat.errors import CasyncError, FileError, FormatError, UsageError
from casync_compat.fs.apply.claims import Claim
from casync_compat.fs.apply.follower import Follower, TreeStep, apply_tree
from casync_compat.fs.apply.placing import Placer
from casync_compat.fs.apply.regular import FileWriter, LinkFinder, PayloadHook
from casync_compat.fs.apply.restore import ApplyOptions, Restorer
from casync_compat.fs.apply.runs import Pool, RunWriter
from casync_compat.fs.apply.sparing import Deleted, Spared, delete
from casync_compat.fs.apply.special import SpecialWriter
from casync_compat.fs.apply.target import Directory, enter, is_subvolume, open_target
from casync_compat.fs.apply.updates import UpdateReader
from casync_compat.fs.apply.uptodate import Tally
from casync_compat.fs.losses import LeftOutKind
from casync_compat.fs.remove import TempNames, remove
from casync_compat.fs.together import FallenTogether, key_of, shown_name
from catar.flags import FeatureFlags
from catar.grammar import MAX_DEPTH, NODE_FEATURES, check_name
from catar.records import DirectoryEnd, Node
from catar.runs import Run, node_of_row
from catar.walker import Known

__all__ = ["ApplyOptions", "Follower", "TreeStep", "TreeWriter", "apply_tree"]

F = FeatureFlags
_SUBVOLUME, _SUBVOLUME_RO = int(F.SUBVOLUME), int(F.SUBVOLUME_RO)
_REG, _DIR = stat.S_IFREG, stat.S_IFDIR


class TreeWriter:
    """Writes a tree below `target`.

    :param target: the directory that becomes the top node; created (one level) when missing, may be a symlink to one
    :param feature_flags: the archive's; None lets `begin` say them later
    :param warn: takes one line of text for the user
    :param name: write the top node, which may then be of any type, as this entry of `target` instead
    :param on_payload: called with the descriptor, the node and its archive path (empty where nodes come in runs) when
        the payload of a new file is complete, before its metadata is restored; to share extents, for example
    :param links: is told of nodes and payloads likewise; what it finds is hard-linked in place of the copy, unless it
        turns out to differ
    :param pool: threads that files of runs are written on; None for the caller's
    :param depth: most calls to have under way there

    Every method raises `FileError` naming the file in the target, and `FormatError` for steps that make no tree. After
    any error, call `abort`.
    """

    def __init__(
        self,
        target: bytes,
        feature_flags: int | None,
        options: ApplyOptions | None = None,
        *,
        warn: Callable[[str], None],
        name: bytes | None = None,
        on_payload: PayloadHook | None = None,
        links: LinkFinder | None = None,
        pool: Pool | None = None,
        depth: int = 1,
    ) -> None:
        reason = check_name(name) if name is not None else None
        if reason:
            raise UsageError(reason)
        self.target = target
        self._options = options or ApplyOptions()
        self._warn = warn
        self._name = name
        self._on_payload = on_payload
        self._links = links
        self._threads = (pool, depth)
        self._temp = TempNames()
        self._together = FallenTogether(warn)
        self._skipping = 0  # open directories that are not written, for want of a name
        self._spared: Spared | None = None
        self.deleted = Deleted(target)
        """What the archive does not have, and is gone."""
        self._stack: list[Directory] = []
        self._started = False
        self._archived = 0
        self._restorer: Restorer
        self._placer: Placer
        self._files: FileWriter
        self._specials: SpecialWriter
        self._runs: RunWriter
        self._updates: UpdateReader
        self.begun = False
        """Whether the feature flags are known."""
        if feature_flags is not None:
            self.begin(feature_flags)

    def begin(self, feature_flags: int) -> None:
        """Say the archive's feature flags, before the first node."""
        if self._links is not None:
            self._links.open(feature_flags)
        self._archived = feature_flags
        self._restorer = Restorer(feature_flags, self._options, self._warn)
        self._placer = Placer(self._restorer, self._options, self._temp, self._together)
        self._files = FileWriter(
            self._placer, self._on_payload, self._links.candidate if self._links is not None else None
        )
        self._specials = SpecialWriter(self._placer)
        self._runs = RunWriter(self._placer, self._end, *self._threads)
        self._updates = UpdateReader(self._placer, self._runs.owners)
        self.begun = True

    # Input

    @property
    def left_out(self) -> tuple[LeftOutKind, ...]:
        """What the archive has and the target cannot hold."""
        return self._restorer.left_out.kinds if self.begun else ()

    @property
    def tally(self) -> Tally:
        """What became of the entries so far."""
        return self._placer.tally if self.begun else Tally()

    @property
    def has_hooks(self) -> bool:
        """Whether somebody is to be told of all files, so that nodes must come one by one."""
        return self._links is not None

    @property
    def wants_payload(self) -> bool:
        """Whether `write` is to be called next."""
        return self._files.busy

    @property
    def _is_complete(self) -> bool:
        open_at_end = 0 if self._name is None else 1
        at_end = len(self._stack) == open_at_end and not self._skipping
        return self._started and not self._files.busy and at_end

    def feed(self, step: Node | DirectoryEnd, path: bytes) -> None:
        """Take the next node, or the end of the innermost directory.

        :param path: the node's path in the archive, for the hooks
        """
        if self._files.busy:
            self._files.finish()  # complains, because the payload is not complete
        stack = self._stack
        if self._started and self._is_complete:
            raise FormatError("something follows the end of the tree", self.target)
        if self._skipping:
            self._skipping += step.is_dir if isinstance(step, Node) else -1
            return
        if type(step) is not Node:
            self._leave()
            return
        if self._links is not None:
            self._links.begin(step)
        if stack:
            parent = stack[-1]
            if parent.names is not None:
                parent.names.add(step.name)
            self._child(parent, step, path)
        else:
            self._top(step, path)

    def leave(self, known: Known) -> bool:
        """Leave a directory alone that is known to be as the archive has it, with all that is in it.

        :returns: whether that can be done; if not, it is to be fed
        """
        if self._files.busy:
            self._files.finish()
        parent, name = self._stack[-1], known.path.rpartition(b"/")[2]
        if self._skipping or parent.fresh or parent.merged is not None or self._name is not None:
            return False
        found = key_of(parent.fd, name)
        if (
            found is None
            or not stat.S_ISDIR(found[1].st_mode)
            or self._placer.first(parent, name) is not None
        ):
            return False
        if parent.names is not None:
            parent.names.add(name)
        self._placer.wrote(parent, name)
        self._placer.tally.unchanged += known.entries
        return True

    def feed_run(self, run: Run) -> None:
        """Take several nodes and ends of directories, with whole payloads. Not with hooks, which want paths.

        The payload of the last one is to be written afterwards when there is more of it to come (`Run.left`).
        """
        assert not self.has_hooks, "hooks are told of single nodes only"
        if self._files.busy:
            self._files.finish()
        count = len(run)
        whole = count - 1 if run.left else count
        at = 0
        while at < count:
            begin = at
            if at < whole and self._stack and not self._skipping:
                if self._on_payload is None and self._runs.takes(self._stack[-1]):
                    at = self._runs.write(run, at, whole, self._stack)
                elif self._updates.takes(self._stack[-1]):
                    at = self._updates.pass_over(run, at, whole, self._stack[-1], self._feed_row)
            if at == begin:
                self._feed_row(run, at, at < whole)
                at += 1

    def _feed_row(self, run: Run, number: int, whole: bool) -> None:
        node = node_of_row(run, number)
        if self._skipping:
            self._skipping += -1 if node is None else node.is_dir
            return
        if node is None:
            self._leave()
            return
        if node.is_dir:
            self._runs.drain()  # it may be that too much is open
        self.feed(node, b"")
        if node.size and whole and self._files.busy:
            begin = node.payload_offset - run.base
            self.write(memoryview(run.buffer)[begin : begin + node.size])

    def write(self, view: memoryview) -> None:
        """Take the next bytes of the current regular file."""
        if not self._files.busy:
            raise FormatError("payload of something that has none", self.target)
        if self._links is not None:
            self._links.update(view)
        self._files.write(view)

    def finish(self) -> None:
        """Check that the tree is complete, and warn about what could not be restored.

        :raises FormatError: when it is not complete
        :raises FileError: when it is, but for what directories, or files in use, were in the way of, and for names that
            fell together
        """
        if self.begun:
            self._runs.drain()
        if not self._is_complete:
            raise FormatError("the tree ends in the middle of a directory or file", self.target)
        self._close()
        self._restorer.finish()
        for warning in self._spared.warnings() if self._spared is not None else ():
            self._warn(warning)
        kept = self._placer.in_the_way
        if kept:
            more = f"; {len(kept) - 1} more like it" if len(kept) > 1 else ""
            why = f"it is a directory with something in it, and nothing is to be deleted{more}"
            raise FileError(kept[0], "replace", why)
        failure = self._together.failure() or (self._spared.failure if self._spared is not None else None)
        if failure is not None:
            raise failure

    def abort(self, error: BaseException | None = None) -> None:
        """Remove what is under way, unless it is kept after this error, and close all. Never raises, may repeat."""
        if self.begun:
            self._runs.abort()
            self._files.abort(error)
            self._specials.abort()
        self._close()

    def _close(self) -> None:
        while self._stack:
            directory = self._stack.pop()
            directory.leave_alone()
            with suppress(OSError):
                directory.close()
            if directory.temp is not None:
                with suppress(CasyncError):  # files in it may be immutable already
                    remove(self._stack[-1].fd, directory.temp, directory.path, undo_immutable=True)

    def _failure(self, path: bytes, error: OSError | ValueError) -> FileError:
        """What the kernel refused, with the file and the operation named."""
        return self._restorer.left_out.failure(path, error)

    # Nodes

    def _top(self, node: Node, path: bytes) -> None:
        if self._name is None and not node.is_dir:
            raise UsageError("only a directory can be written as the target itself")
        itself, undo = node if self._name is None else None, self._options.undo_immutable
        try:
            directory = open_target(self.target, itself, self._restorer, undo_immutable=undo)
        except (OSError, ValueError) as error:
            raise self._failure(self.target, error) from error
        self._started = True
        if not directory.fresh and (self._options.delete or self._options.in_use):
            self._spared = Spared(self.target, self._options.in_use, self._archived)
        self._push(directory)
        if self._name is not None:
            self._child(directory, changed(node, name=self._name), path)

    def _push(self, directory: Directory) -> None:
        self._placer.watch(directory, self._stack[-1] if self._stack else None)
        self._stack.append(directory)
        if directory.merged is not None:
            return
        if directory.fresh or directory.node is None or not self._options.delete:
            return
        if self._spared is None or not self._spared.everything:
            directory.names = set()
            if self._spared is not None:
                self._spared.excluded.enter(directory.fd, directory.path)

    def _child(self, parent: Directory, node: Node, path: bytes) -> None:
        if self._spared is not None and not parent.fresh:
            full = os.path.join(parent.path, node.name)
            if self._spared.refuses(parent.stat, parent.fd, node.name, node.is_dir, full):
                self._skipping = int(node.is_dir)
                return
        kind = node.mode & 0o170000
        needs = NODE_FEATURES[kind]
        if needs and not self._restorer.features & needs:
            self._placer.tally.skipped += 1
            return
        first = self._placer.first(parent, node.name)
        if first is not None or (node.is_dir and self._placer.is_taken(parent, node.name)):
            self._fell(parent, node, first)
            return
        if kind == _REG:
            self._files.start(parent, node, path)
            return
        try:
            if kind == _DIR:
                self._enter(parent, node)
            else:
                self._specials.make(parent, node)
        except (OSError, ValueError) as error:
            raise self._failure(os.path.join(parent.path, node.name), error) from error

    def _enter(self, parent: Directory, node: Node) -> None:
        if len(self._stack) >= MAX_DEPTH + (self._name is not None):
            raise ValueError(f"directories nest deeper than {MAX_DEPTH} levels")
        undo = self._options.undo_immutable
        directory = enter(parent, node, self._restorer, self._temp, undo_immutable=undo)
        if parent.written is not None:
            parent.written.add((directory.stat.st_dev, directory.stat.st_ino), node.name)
        self._push(directory)
        if parent.node is None:  # the target is shared with runs that write other entries of it
            directory.claim = Claim(directory.fd, directory.path, above=False)

    def _fell(self, parent: Directory, node: Node, first: bytes | None = None) -> None:
        """Go on without a node whose name is that of another; of two directories what is in them becomes one."""
        self._skipping = 1 if node.is_dir else 0
        if node.is_dir and len(self._stack) < MAX_DEPTH:
            first = first or shown_name(parent.fd, node.name)
            merged = os.path.join(parent.merged or parent.path, first)
            try:
                directory = enter(
                    parent, node, self._restorer, self._temp, undo_immutable=False, merged=merged
                )
            except (OSError, ValueError):
                pass  # something else, or immutable by now
            else:
                self._skipping = 0
                self._placer.fell(parent, node.name, first, merged=True)
                self._push(directory)
                return
        self._placer.fell(parent, node.name, first)

    def _leave(self) -> None:
        directory = self._stack[-1] if self._stack else None
        if directory is None or directory.node is None:
            raise FormatError("a directory ends that never began", self.target)
        if self._runs.busy:
            if directory.fresh and directory.temp is None:
                self._runs.defer(self._stack.pop())
                return
            self._runs.drain()
        self._end(directory)
        self._stack.pop()

    def _end(self, directory: Directory) -> None:
        """Complete a directory and close it."""
        assert directory.node is not None, "a directory of the archive"
        try:
            if directory.names is not None:
                self._delete_others(directory, directory.names)
            if directory.merged is not None:
                directory.leave_alone()
            else:
                self._complete(directory, directory.node)
        except (OSError, ValueError) as error:
            raise self._failure(directory.path, error) from error
        directory.close()

    def _complete(self, directory: Directory, node: Node) -> None:
        """Restore a directory's metadata and put it into its place."""
        restorer, placer = self._restorer, self._placer
        restorer.left_out.directory, restorer.left_out.name = directory.path, b""
        if self._leave_current(directory, node):
            return
        placer.tally.updated += directory.stood or directory.temp is not None
        restorer.metadata(directory.inode(), node)
        directory.made_writable = False
        if directory.temp is not None:
            placer.put(self._stack[-2], directory.temp, directory.name)
            directory.temp = None
        restorer.flags(directory.fd, node, directory.flags, placer.has_fat(directory))
        directory.unlocked = 0
        if node.flags & _SUBVOLUME and restorer.features & _SUBVOLUME_RO and is_subvolume(directory):
            restorer.subvolume(directory.fd, bool(node.flags & _SUBVOLUME_RO))

    def _leave_current(self, directory: Directory, node: Node) -> bool:
        """Leave a directory alone that was there, and has all that is recorded, also after what was done in it."""
        if not directory.stood or (node.flags & _SUBVOLUME and self._restorer.features & _SUBVOLUME_RO):
            return False
        st, on_fat = os.fstat(directory.fd), self._placer.has_fat(directory)
        if self._placer.current.wrong(directory.fd, st, node, on_fat=on_fat):
            return False
        self._placer.leave(st, node)
        return True

    def _delete_others(self, directory: Directory, names: set[bytes]) -> None:
        """Remove what is in a directory but not in the archive."""
        assert self._spared is not None, "what is not fresh has something spared"
        self._placer.doing("read directory")
        delete(directory.fd, directory.path, names, self._spared, self._remove, directory.written)

    def _remove(self, directory_fd: int, name: bytes, path: bytes) -> None:
        remove(directory_fd, name, path, undo_immutable=self._options.undo_immutable)
        self.deleted.add(path)
