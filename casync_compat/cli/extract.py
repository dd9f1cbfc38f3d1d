"""`pycasync extract`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace

from casync_compat.cli._common import (
    INCOMPLETE,
    archive_errors,
    asked_flags,
    id_shift,
    input_kind,
    is_far,
    is_stream,
    left_out_json,
    replay_mask,
    source_for,
)
from casync_compat.cli._location import cache_home, local_path, open_input, shown_name, warn
from casync_compat.cli._options import (
    READING,
    RESTORING_STATUS,
    STORE_HELP,
    TREES,
    add_options,
    add_positional,
)
from casync_compat.cli._parser import Parser
from casync_compat.cli._preview import Preview, tell_fetched
from casync_compat.cli._progress import ProgressLine, counted, human_size, progress_line
from casync_compat.errors import CasyncError, UsageError, show_path
from casync_compat.fs.apply.options import ApplyOptions
from casync_compat.kinds import Kind
from casync_compat.streams.extraction import ExtractOptions, ExtractResult
from casync_compat.streams.seedfiles import split_seed

EXAMPLES = (
    ("pycasync extract etc.caidx /tmp/etc", "the whole tree; what is not in it is removed"),
    ("pycasync extract --delete=no etc.caidx /tmp/etc", "keep what is not in it"),
    ("pycasync extract -n etc.caidx /tmp/etc", "say what would change, and change nothing"),
    ("pycasync extract etc.caidx . ssh/sshd_config", "one file, as ./sshd_config"),
    ("pycasync extract --seed=old.img new.caibx new.img", "take from old.img what has not changed"),
)

_INPUTS = (Kind.ARCHIVE, Kind.ARCHIVE_INDEX, Kind.BLOB_INDEX)


def _input_kind(options: argparse.Namespace, source: str | None, output: str | None) -> Kind:
    kind = input_kind(options, source)
    if options.what is None and is_stream(source):
        is_tree = output is None or (output != "-" and os.path.isdir(local_path(output)))
        kind = Kind.ARCHIVE if is_tree else Kind.BLOB_INDEX
    if kind not in _INPUTS:
        name = "standard input" if source is None else show_path(shown_name(source))
        raise UsageError(f"{name}: not a .catar, .caidx or .caibx file; say what it is with --what")
    return kind


def _seed(text: str) -> bytes:
    """The path of a seed; of an index with the file that it describes, both."""
    pair = split_seed(os.fsencode(text))
    if pair is None or os.path.lexists(text):
        return local_path(text)
    return b":".join(local_path(os.fsdecode(each)) for each in pair)


def _is_image(text: str) -> bool:
    return text.startswith(("oci:", "dir:", "oci-archive:"))


def _with_images(chosen: ExtractOptions, seeds: Iterable[str], stack: ExitStack) -> ExtractOptions:
    """The options, with seeds that are images, until the stack is closed."""
    for text in filter(_is_image, seeds):
        from casync_compat.oci.image.packseeds import PackSeeds  # lazily, as is all that knows images

        try:
            image = stack.enter_context(PackSeeds(text))
        except CasyncError as error:
            warn(f"{text} is not used as a seed: {error}")
            continue
        apply = replace(chosen.apply, in_use=(*chosen.apply.in_use, image.path))
        chosen = replace(chosen, apply=apply, seed_sources=(*chosen.seed_sources, *image.sources))
    return chosen


def _extract_options(options: argparse.Namespace, source: str | None) -> ExtractOptions:
    home = cache_home()
    return ExtractOptions(
        apply=ApplyOptions(
            mask=replay_mask(options),
            delete=options.delete is not False,
            punch_holes=options.punch_holes,
            undo_immutable=options.undo_immutable,
            shift=id_shift(options),
            strict=options.strict,
            named=asked_flags(options),
            compare=options.compare,
            in_use=_caches(options),
        ),
        seeds=tuple(_seed(text) for text in options.seed if not _is_image(text)),
        seed_cache=home and os.path.join(home, b"seeds"),
        seed_output=options.seed_output,
        reflink=options.reflink,
        hardlink=options.hardlink,
        jobs=options.jobs,
        in_place=options.in_place,
        resume=is_far(options, source),
    )


def _caches(options: argparse.Namespace) -> tuple[bytes, ...]:
    """The cache that was named, which extracting has no use for, and which is not to be deleted either."""
    home = cache_home() if options.cache_auto else None
    return tuple(path for path in (options.cache and local_path(options.cache), home) if path)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("[INPUT] [OUTPUT] [PATH INSIDE]", f"{STORE_HELP} {RESTORING_STATUS}")
    add_positional(parser, "input", "input: .catar, .caidx or .caibx; - or nothing: standard input", "?")
    add_positional(parser, "output", "output; default .", "?")
    add_positional(parser, "inside", "path inside the archive", "?")
    add_options(
        parser,
        *READING,
        *TREES,
        "--uid-shift",
        "--uid-range",
        "--seed",
        "--seed-output",
        "--in-place",
        "--reflink",
        "--hardlink",
        "--punch-holes",
        "--delete",
        "--compare",
        "--undo-immutable",
        "--strict",
        "--dry-run",
        "--json",
        "--jobs",
        "--no-progress",
    )


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    with ExitStack() as stack:
        return _extract(options, _with_images(_extract_options(options, options.input), options.seed, stack))


def _extract(options: argparse.Namespace, chosen: ExtractOptions) -> int:
    source, output, inside = options.input, options.output, options.inside
    kind = _input_kind(options, source, output)
    if is_stream(source) and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError(
            "no input is given, and standard input is a terminal; "
            "name what to extract, as in `pycasync extract x.caidx DIRECTORY`"
        )
    where = None if is_stream(source) else open_input(str(source))
    preview = Preview(options.json) if options.dry_run else None
    if preview is not None:
        chosen = replace(chosen, on_change=preview)
    with archive_errors(source), progress_line(options, "extracting", fetched="fetched") as line:
        tell = line.above(warn)

        def on_node(name: bytes) -> None:
            print("Extracting", show_path(name) or "./", file=sys.stderr)

        if kind is Kind.BLOB_INDEX:
            if inside:
                raise UsageError("a blob has no paths inside")
            from casync_compat.verbs.extract_blob import extract_blob  # lazily, as what trees need below

            to = None if is_stream(output) else local_path(str(output))
            result = extract_blob(
                where, to, source_for(options, source), options=chosen, warn=tell, progress=line.callback
            )
        else:
            if output == "-":
                raise UsageError(
                    "a tree cannot be extracted to standard output; use `pycasync cat` for one file"
                )
            from casync_compat.verbs.extract import extract_archive

            target = local_path(output or ".")
            if options.delete is None and not inside:
                try:
                    _check_meant(target, output is not None)
                except UsageError as error:
                    if preview is None:
                        raise
                    tell(f"without --dry-run this is refused: {error}")
            result = extract_archive(
                kind,
                where,
                target,
                source_for(options, source) if kind.is_index else None,
                inside=os.fsencode(inside or ""),
                options=chosen,
                warn=tell,
                on_node=on_node if options.verbose else None,
                progress=line.callback,
            )
        if preview is None:
            _tell_extracted(line, source, result)
    if preview is not None:
        if kind is Kind.BLOB_INDEX and is_stream(output):
            tell_fetched(result, sys.stderr)
            print(f"Would write {result.size} bytes to standard output", file=sys.stderr)
        else:
            preview.tell(result, _summary(result))
        return 0
    if result.deleted and not options.quiet:
        from casync_compat.fs.apply.sparing import deleted_text  # lazily, with all that writes trees

        print(f"pycasync: {deleted_text(result.deleted, result.deleted_first)}", file=sys.stderr)
    if options.verbose:
        _report(result)
    if options.json:
        print(json.dumps(_summary(result)), file=sys.stderr if output == "-" else sys.stdout)
    return INCOMPLETE if result.left_out else 0


def _tell_extracted(line: ProgressLine, source: str | None, result: ExtractResult) -> None:
    name = "standard input" if source is None or is_stream(source) else show_path(shown_name(source))
    new = ""
    if result.chunks:
        fetched = f"{result.fetched} of {counted(result.chunks, 'chunk')} fetched"
        new = f"{fetched}: {human_size(result.fetched_bytes)}"
    entries = counted(result.entries, "entry", "entries") if result.entries else ""
    line.tell(f"extracted {name}: {human_size(result.size)}", entries, new)


def _check_meant(target: bytes, said: bool) -> None:
    """Refuse to delete where nobody can have meant it.

    :param said: whether the target was given
    :raises UsageError: saying how to mean it
    """
    how = "--delete=yes removes what is not in the archive, --delete=no keeps it"
    if os.path.realpath(target) == b"/":
        raise UsageError(f"extracting over / would delete whatever is not in the archive; {how}")
    if said:
        return
    try:
        with os.scandir(target) as entries:
            empty = next(entries, None) is None
    except OSError:
        return
    if not empty:
        raise UsageError(
            f"no output was given, and the current directory is not empty; give it as . or say: {how}"
        )


def _summary(result: ExtractResult) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "entries": result.entries,
        "size": result.size,
        "chunks": result.chunks,
        "fetched": result.fetched,
        "fetched_bytes": result.fetched_bytes,
        "in_place": result.in_place,
        "in_place_bytes": result.in_place_bytes,
        "from_seeds": result.from_seeds,
        "seed_bytes": result.seed_bytes,
        "shared": result.shared,
        "created": result.created,
        "updated": result.updated,
        "unchanged": result.unchanged,
        "removed": result.deleted,
        "deleted": result.deleted,
        "left_out": left_out_json(result.left_out),
    }


def _report(result: ExtractResult) -> None:
    if result.chunks:
        print(f"Chunk requests fulfilled from local store: {result.fetched}", file=sys.stderr)
        print(f"Chunk requests fulfilled from local seed: {result.from_seeds}", file=sys.stderr)
        print(f"Bytes used from local seed: {result.seed_bytes}B", file=sys.stderr)
        if result.in_place:
            print(f"Chunks in place: {result.in_place}, {result.in_place_bytes}B", file=sys.stderr)
    if result.entries:
        counts = f"created: {result.created}, updated: {result.updated}, unchanged: {result.unchanged}"
        print(f"Entries {counts}", file=sys.stderr)
    print(f"Bytes shared with seeds through reflinks: {result.shared}B", file=sys.stderr)
