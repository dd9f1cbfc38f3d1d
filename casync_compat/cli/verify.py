"""`pycasync verify`."""

from __future__ import annotations

import argparse
import errno
import json
import os
from collections.abc import Callable

from casync_compat.cli._common import jobs_at
from casync_compat.cli._estimate import ChunkEstimate
from casync_compat.cli._location import (
    default_store,
    is_remote,
    local_path,
    name_of,
    open_chunk_store,
    open_input,
    open_source,
)
from casync_compat.cli._options import NETWORK, add_options, add_positional
from casync_compat.cli._parser import Parser, WrongWords
from casync_compat.cli._progress import human_size, progress_line
from casync_compat.errors import FileError, UsageError
from casync_compat.kinds import Kind
from casync_compat.progress import ProgressCallback
from casync_compat.store.chunks import ChunkStore
from casync_compat.streams.inputs import kind_of, load_index
from casync_compat.verbs.verify import (
    Defect,
    Repair,
    VerifyResult,
    verify_against_directory,
    verify_against_file,
    verify_chunks,
    verify_store,
)

EXAMPLES = (
    ("pycasync verify /srv/default.castr", "every chunk of a store"),
    ("pycasync verify home.caidx", "every chunk that an index needs, in its store"),
    ("pycasync verify home.caidx /home", "a directory against an index, without any store"),
    ("pycasync verify disk.caibx /dev/sdb", "a device, or a file"),
    (
        "pycasync verify /srv/default.castr --repair-from=/backup/default.castr --remove",
        "mend what can be mended",
    ),
)

_STORE = "store"


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "STORE|INDEX [FILE|DEVICE|DIRECTORY]",
        "Reads and hashes everything, and prints one line a defect. The exit status is 1 if there is any, mended or"
        " not.",
    )
    add_positional(parser, "checked", "a chunk store, or an index")
    add_positional(parser, "target", "what is compared with the index", "?")
    parser.add_argument(
        "--repair-from",
        metavar="STORE",
        help="replace damaged and missing chunks by good ones from this store",
    )
    parser.add_argument("--remove", action="store_true", help="remove damaged chunks that cannot be replaced")
    add_options(parser, "--store", "--extra-store", *NETWORK, "--what", "--jobs", "--json", "--no-progress")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    with progress_line(options, "verifying") as line:

        def tell(defect: Defect) -> None:
            line.clear()
            print(json.dumps(_to_json(defect)) if options.json else defect)

        with ChunkEstimate(_store_here(options), line.callback) as guess:
            result = _check(options, tell, guess.callback)
    if options.json:
        print(json.dumps(_summary(result)))
    elif not options.quiet:
        print(_sentence(result))
    return 1 if result.defects else 0


def _store_here(options: argparse.Namespace) -> bytes | None:
    """The directory of a store that is verified."""
    name: str = options.checked
    return None if name == "-" or is_remote(name) or not os.path.isdir(path := local_path(name)) else path


def _check(
    options: argparse.Namespace, tell: Callable[[Defect], None], progress: ProgressCallback | None
) -> VerifyResult:
    name: str = options.checked
    repair = None
    if options.repair_from is not None or options.remove:
        if options.dry_run:
            raise WrongWords(
                "with --repair-from or --remove there is no --dry-run; without them verify only reads"
            )
        source = open_source(options.repair_from, ()) if options.repair_from is not None else None
        repair = Repair(source, options.remove)
    if _is_store(options.what, name):
        if options.target is not None:
            raise UsageError("a store is not compared with anything; name an index")
        store = _open(name)
        if not _is_there(name, store):
            raise FileError(os.fsencode(name), "verify", OSError(errno.ENOENT, os.strerror(errno.ENOENT)))
        jobs = jobs_at(options, name)
        return verify_store(store, repair=repair, on_defect=tell, jobs=jobs, progress=progress)
    index = load_index(None if name == "-" else open_input(name))
    if options.target is None:
        where = options.store or default_store(None if name == "-" else name)
        first, *further = options.extra_store or [None]
        return verify_chunks(
            index,
            _open(where),
            others=None if first is None else open_source(first, further),
            repair=repair,
            on_defect=tell,
            jobs=jobs_at(options, where),
            progress=progress,
        )
    if repair is not None:
        raise WrongWords(
            "--repair-from and --remove are about chunks; to mend a file or directory, extract over it"
        )
    target = local_path(options.target)
    if os.path.isdir(target):
        if Kind.of_suffix(os.fsencode(name)) is Kind.BLOB_INDEX or options.what == Kind.BLOB_INDEX.value:
            raise UsageError(f"{name} is the index of a blob, which is compared with a file or device")
        return verify_against_directory(index, target, on_defect=tell, progress=progress)
    return verify_against_file(index, target, on_defect=tell, progress=progress)


def _open(where: str) -> ChunkStore:
    """A store whose chunk files can be looked at."""
    store = open_chunk_store(where)
    if not isinstance(store, ChunkStore):
        raise UsageError(f"{where}: this kind of store cannot be verified")
    return store


def _is_there(name: str, store: ChunkStore) -> bool:
    """Whether there is such a store: a directory, or, where there are none, any file in it."""
    if not is_remote(name):
        return os.path.isdir(local_path(name))
    return next(store.files.list(details=False), None) is not None


def _is_store(what: str | None, name: str) -> bool:
    if what is not None:
        kinds = (_STORE, Kind.ARCHIVE_INDEX.value, Kind.BLOB_INDEX.value)
        if what not in kinds:
            raise WrongWords(f"cannot verify a {what!r}; --what is one of: {', '.join(kinds)}")
        return what == _STORE
    if name == "-":
        return False
    if is_remote(name):
        kind = Kind.of_suffix(name_of(name))
        return kind is None or not kind.is_index
    kind = kind_of(local_path(name))
    return kind is Kind.DIRECTORY or not (
        (kind is not None and kind.is_index)
        or (os.path.exists(os.fsencode(name)) and not os.path.isdir(os.fsencode(name)))
    )


def _to_json(defect: Defect) -> dict[str, object]:
    return {
        "kind": defect.kind,
        "where": defect.where,
        "why": defect.why,
        "chunk": str(defect.id) if defect.id is not None else None,
        "mended": defect.mended or None,
    }


def _summary(result: VerifyResult) -> dict[str, object]:
    return {
        "chunks": result.chunks,
        "size": result.size,
        "defects": result.defects,
        "kinds": dict(sorted(result.kinds.items())),
        "repaired": result.repaired,
        "removed": result.removed,
    }


def _sentence(result: VerifyResult) -> str:
    text = f"{result.chunks} chunks, {human_size(result.size)}: "
    if not result.defects:
        return text + "all good"
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.kinds.items()))
    text += f"{result.defects} defects ({kinds})"
    mended = [f"{n} {word}" for n, word in ((result.repaired, "repaired"), (result.removed, "removed")) if n]
    return text + ("; " + ", ".join(mended) if mended else "")
