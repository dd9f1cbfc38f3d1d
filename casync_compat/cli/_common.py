"""What several verbs read from their options."""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from casync_compat.batches import batches
from casync_compat.cli._location import (
    default_store,
    is_remote,
    local_path,
    name_of,
    open_input,
    open_source,
    shown_name,
    warn,
)
from casync_compat.cli._parser import WrongWords
from casync_compat.cli._types import parse_boolean
from casync_compat.errors import NotFound, UsageError, naming, show_path
from casync_compat.fs.losses import LeftOutKind, Losses
from casync_compat.fs.owners import IdShift
from casync_compat.fs.standard import StandardOutput
from casync_compat.ids import Digest
from casync_compat.index import digest_bits
from casync_compat.kinds import Kind
from casync_compat.locations import group_members
from casync_compat.store.base import ChunkSource
from casync_compat.streams.assemble import ChunkFetcher
from casync_compat.streams.inputs import Input, kind_of, load_index, path_of
from catar import layouts
from catar.flags import NO_REPLAY_LIMIT, WITH_ALL, parse_flag, select

if TYPE_CHECKING:
    from casync_compat.streams.trees import Tree

__all__ = [
    "INCOMPLETE",
    "archive_errors",
    "feature_flags",
    "id_range",
    "id_shift",
    "input_kind",
    "is_far",
    "is_stream",
    "jobs_at",
    "jobs_for",
    "left_out_json",
    "named_kind",
    "open_tree",
    "output_is_open",
    "replay_mask",
    "shifts",
    "source_for",
    "tell_losses",
    "tree_kind",
    "write_lines",
]

INCOMPLETE = 3
"""Exit status: everything is there but for what was told to be left out."""

_NUMBER = r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*"
_BATCH = 32 << 10
_REMOTE_JOBS = 16
"""Threads that mostly wait for what is far away, each with a batch of chunks under way."""

_INVALID_IDS = (layouts.ID16_INVALID, layouts.ID_INVALID)


def is_stream(argument: str | None) -> bool:
    """Whether an argument stands for standard input or output."""
    return argument is None or argument == "-"


def output_is_open() -> bool:
    """Whether standard output was not closed by whoever started the command (`>&-`)."""
    return fcntl.fcntl(StandardOutput.fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def feature_flags(options: argparse.Namespace, *, default: int = WITH_ALL) -> int:
    """The flag word that `--with`, `--without`, `--exclude-*` and `--digest` ask for."""
    digest = Digest.parse(options.digest)
    return select(
        map(parse_flag, options.with_),
        map(parse_flag, options.without),
        default=default,
        exclude_nodump=options.exclude_nodump,
        exclude_submounts=options.exclude_submounts,
        exclude_file=options.exclude_file,
        digest_bits=digest_bits(digest),
    )


def replay_mask(options: argparse.Namespace) -> int:
    """Which recorded metadata `--with` and `--without` let through; no limit when neither is given."""
    mask = 0
    for name in options.with_:
        mask |= parse_flag(name)
    mask = mask or WITH_ALL
    for name in options.without:
        mask &= ~parse_flag(name)
    return NO_REPLAY_LIMIT if mask == WITH_ALL else mask


def asked_flags(options: argparse.Namespace) -> int:
    """Feature flags that `--with` names one by one; sets of them, as `best`, ask for nothing in particular."""
    flags = 0
    for name in options.with_:
        flag = parse_flag(name)
        flags |= flag if flag.bit_count() == 1 else 0
    return flags


def _number(text: str) -> int | None:
    """A number as C's strtoul reads it: decimal, 0x hexadecimal, 0 octal."""
    if not re.fullmatch(_NUMBER, text):
        return None
    if text[:2].lower() == "0x":
        return int(text, 16)
    return int(text, 8) if text.startswith("0") else int(text)


def _boolean(text: str, option: str) -> bool:
    try:
        return parse_boolean(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{option}={text} is neither a valid id nor yes or no") from error


def id_shift(options: argparse.Namespace) -> IdShift:
    """How `--uid-shift` and `--uid-range` shift ids (casync's defaults: 0 and 65536 once either is given)."""
    enabled = False
    shift, range_ = 0, 0x10000
    for option, text in options.id_shifts:  # in their order: the last one says whether ids are shifted
        number = _number(text)
        if number is None:
            enabled = _boolean(text, option)
        elif option == "--uid-shift" and number < 1 << 32 and number not in _INVALID_IDS:
            shift, enabled = number, True
        elif option == "--uid-range" and 1 <= number <= 1 << 32:
            range_, enabled = number % (1 << 32), True
        else:
            enabled = _boolean(text, option)
    return IdShift(shift, range_, enabled) if enabled else IdShift()


def shifts(options: argparse.Namespace) -> bool:
    """Whether ids are shifted by anything but 0."""
    shift = id_shift(options)
    return shift.enabled and shift.shift != 0


def id_range(options: argparse.Namespace, kind: Kind) -> int:
    """What ids of an archive are taken modulo to see whether they are root's; 0 for no such thing."""
    shift = id_shift(options)
    return shift.range_ if shift.enabled and kind is not Kind.DIRECTORY else 0


def named_kind(options: argparse.Namespace) -> Kind | None:
    """The kind that `--what` names. :raises WrongWords: when there is none of that name"""
    if options.what is None:
        return None
    try:
        return Kind(options.what)
    except ValueError:
        names = ", ".join(kind.value for kind in Kind)
        raise WrongWords(f"unknown kind {options.what!r} for --what; use one of: {names}") from None


def input_kind(options: argparse.Namespace, argument: str | None) -> Kind | None:
    """What kind an input argument is: by `--what`, by being a directory, or by suffix; None when nothing tells.

    Without an argument it is the directory one is in.
    """
    named = named_kind(options)
    if named is not None or argument == "-":
        return named
    if argument is None:
        return Kind.DIRECTORY
    return Kind.of_suffix(name_of(argument)) if is_remote(argument) else kind_of(local_path(argument))


def tree_kind(options: argparse.Namespace, argument: str | None) -> Kind:
    """What kind of tree an input argument is. :raises CasyncError: it is none, or nothing tells"""
    kind = input_kind(options, argument)
    if options.what is not None and kind is not None:
        return kind
    if argument == "-":
        raise WrongWords("what standard input is must be said: --what=archive or --what=archive-index")
    if argument is not None and not is_remote(argument) and not os.path.exists(path := local_path(argument)):
        raise NotFound.at(path)
    if kind is None or not kind.is_tree:
        name = show_path(shown_name(argument)) if argument is not None else "."
        raise UsageError(f"{name}: not a directory, .catar or .caidx file; say what it is with --what")
    return kind


def source_for(options: argparse.Namespace, index: str | None) -> ChunkSource:
    """The stores to read an index's chunks from."""
    store = options.store or default_store(None if is_stream(index) else index)
    return open_source(store, options.extra_store)


def blob_fetcher(options: argparse.Namespace, source: str) -> ChunkFetcher:
    """What gets the chunks of a blob index, a file or standard input."""
    where = None if is_stream(source) else open_input(source)
    store = source_for(options, source)
    return ChunkFetcher(load_index(where, store), store, path_of(where))


def is_far(options: argparse.Namespace, index: str | None) -> bool:
    """Whether any of the stores of an index is not on this machine."""
    store = options.store or default_store(None if is_stream(index) else index)
    stores = [store, *getattr(options, "extra_store", [])]
    return any(map(is_remote, chain.from_iterable(map(group_members, stores))))


def jobs_for(options: argparse.Namespace, index: str | None) -> int | None:
    """How many threads to write chunks with: `--jobs`, or more than there are processors when the store is far away."""
    jobs: int | None = options.jobs
    return _REMOTE_JOBS if jobs is None and is_far(options, index) else jobs


def jobs_at(options: argparse.Namespace, store: str) -> int | None:
    """The same for one store that is known."""
    jobs: int | None = options.jobs
    return _REMOTE_JOBS if jobs is None and is_remote(store) else jobs


def open_tree(
    options: argparse.Namespace, argument: str | None, *, contents: bool = True, losses: Losses | None = None
) -> Tree:
    """Open a verb's input as a tree.

    :param contents: whether payloads will be asked for
    :param losses: told of what of a directory is not read as it was; None fails at the first
    """
    from casync_compat.streams.trees import Tree  # lazily: blobs need nothing of archives

    kind = tree_kind(options, argument)
    where: Input | None
    if kind is Kind.DIRECTORY:
        where = local_path("." if argument is None else argument)
    else:
        where = None if is_stream(argument) else open_input(str(argument))
    return Tree(
        kind,
        where,
        source_for(options, argument) if kind.is_index else None,
        feature_flags=feature_flags(options),
        shift=replace(id_shift(options), for_listing=True),
        jobs=options.jobs,
        contents=contents,
        losses=losses,
    )


def tell_losses(losses: Losses) -> int:
    """Say in one line what was not read as it was. Returns the exit status."""
    text = losses.summary()
    if text is None:
        return 0
    warn(text)
    return INCOMPLETE


def left_out_json(kinds: Iterable[LeftOutKind]) -> list[dict[str, object]]:
    """What ``--json`` has for what was left out."""
    return [{"kind": each.kind, "count": each.count, "first": show_path(each.first)} for each in kinds]


def archive_errors(argument: str | None) -> AbstractContextManager[None]:
    """Errors of the archive format come out naming the file."""
    return naming(None if is_stream(argument) else shown_name(str(argument)))


def write_lines(lines: Iterable[bytes]) -> None:
    """Write lines, or pieces of several, to standard output, many at a time."""
    out = StandardOutput()
    sys.stdout.flush()
    for batch in batches(lines, _BATCH, len):
        out.write(b"".join(batch))
