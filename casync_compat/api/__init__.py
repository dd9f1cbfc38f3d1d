"""The library: casync's verbs as functions, and archives and blobs opened to be read.

    >>> import casync_compat as casync
    >>> casync.make("etc.caidx", "etc").entries
    4
    >>> casync.extract("etc.caidx", "copy").entries
    4
    >>> with casync.open_archive("etc.caidx") as tree:
    ...     with tree.open_file("ssh/sshd_config") as file:
    ...         file.readline()
    b'Port 22\\n'

Paths are `str`, `bytes` or `os.PathLike`; paths inside an archive are given the same way and come back as `bytes`,
since archives know no character set. Where an index or a store is asked for, it may also be one that is open already
(`Index`; anything with the methods of `ChunkSource`, to write to also those of `ChunkSink`), or a locator as on the
command line: a `str` such as `oci+https://…`. One that looks like a host and a path (`a:b`) is refused: write `./a:b`,
or give a `Path`. No environment variable is looked at; `open_store(…, environ=os.environ)` opens a store in a registry
that wants a login.

Errors are `CasyncError`. Nothing half-made stays behind, also when a callback raises or Ctrl-C is pressed.
"""

from __future__ import annotations

from casync_compat.api.given import IndexLocation, SinkLocation, SourceLocation
from casync_compat.api.indexes import apply, convert_index, delta, gc, info, open_store
from casync_compat.api.opened import ArchiveTree, BlobFile, InsidePath
from casync_compat.api.reading import cat, digest, list, mtree, open_archive, open_blob, stat
from casync_compat.api.writing import extract, make
from casync_compat.locations import PathType

__all__ = [
    "ArchiveTree",
    "BlobFile",
    "IndexLocation",
    "InsidePath",
    "PathType",
    "SinkLocation",
    "SourceLocation",
    "apply",
    "cat",
    "convert_index",
    "delta",
    "digest",
    "extract",
    "gc",
    "info",
    "list",
    "make",
    "mtree",
    "open_archive",
    "open_blob",
    "open_store",
    "stat",
]
