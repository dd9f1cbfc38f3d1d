"""Where blobs and tags are kept, as small protocols: a layout, a docker archive, a repository of a registry.

    >>> with layout.open(descriptor) as stream:      # fails if the bytes are not the descriptor's
    ...     while data := stream.read(1 << 20): use(data)
    >>> with layout.stage() as staged:               # a blob whose digest is known only at its end
    ...     staged.write(b"...")
    ...     descriptor = staged.commit("application/vnd.example")

Whoever gives out a blob checks it: callers never see the end of a blob whose digest or size is not the descriptor's.
`read_range` alone gives bytes that nobody has checked; its callers check chunks by their ids. No IO here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt

if TYPE_CHECKING:
    from hashlib import _Hash

    from _typeshed import ReadableBuffer

__all__ = [
    "MANIFEST_LIMIT",
    "BlobSink",
    "BlobSource",
    "BlobStaging",
    "BlobStream",
    "Check",
    "Place",
    "Tags",
    "WritablePlace",
    "check_blob",
]

MANIFEST_LIMIT = 4 << 20
"""The largest manifest in bytes that registries are bound to take (distribution-spec, "Pushing Manifests")."""


class BlobStream(Protocol):
    """A blob being read, from its beginning to its end."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, empty at the end.

        :raises BlobCorrupt: at the end, or beyond it, when size or digest are not the descriptor's
        """

    def close(self) -> None:
        """Let go of it. Closing before the end checks nothing."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BlobSource(Protocol):
    """Blobs can be read from it. All methods may be called from several threads at once."""

    @property
    def name(self) -> str:
        """The place as a user would name it, for messages."""

    @property
    def near(self) -> bool:
        """Whether reading costs next to nothing: a file of this machine, not a server."""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there with this size.

        :raises CasyncError: the place could not be asked
        """

    def open(self, descriptor: Descriptor) -> BlobStream:
        """Read the blob from its beginning.

        :raises BlobMissing: it is not there
        :raises CasyncError: the place could not be read
        """

    def read(self, descriptor: Descriptor, limit: int = MANIFEST_LIMIT) -> bytes:
        """The whole blob, checked.

        :param limit: the most bytes that it may have
        :raises BlobMissing: it is not there
        :raises BlobCorrupt: it has another digest or size
        :raises ImageError: the descriptor's size is over `limit`
        """

    def read_range(self, descriptor: Descriptor, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset` on, unchecked.

        :raises BlobMissing: it is not there
        :raises BlobCorrupt: it ends before
        """


class BlobStaging(Protocol):
    """A blob being written whose digest is not known yet. Leaving the block without `commit` drops it."""

    def write(self, data: ReadableBuffer, /) -> None:
        """Append bytes."""

    @property
    def size(self) -> int:
        """Bytes written so far."""

    def commit(self, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
        """Store the blob; one that is there already is not stored again."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BlobSink(BlobSource, Protocol):
    """Blobs can be written to it. A blob appears whole or not at all."""

    def stage(self) -> BlobStaging:
        """Begin a blob of unknown digest."""

    def put(self, descriptor: Descriptor, data: Iterable[ReadableBuffer]) -> bool:
        """Store a blob of known digest from its pieces, unless it is there. Returns whether it was stored now.

        :raises BlobCorrupt: the pieces are not the descriptor's blob; nothing is stored
        """

    def borrow(self, descriptor: Descriptor, source: BlobSource) -> bool:
        """Take over a blob from `source` in whatever way is cheapest (nothing if it is there; a mount between
        repositories of one registry; a hard link or reflink between layouts; a copy). Returns whether bytes were moved.

        :raises BlobMissing: `source` does not have it
        """


class Tags(Protocol):
    """Manifests by digest and by tag."""

    def resolve(self, reference: str | None) -> Descriptor:
        """The manifest or index that a tag, or a digest (`sha256:…`), names; None for the place's only or default one.

        :raises ImageError: there is none, or several and none was named
        """

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        """A manifest's or index's bytes, checked.

        :raises BlobMissing: it is not there
        :raises BlobCorrupt: it has another digest or size
        """

    def put_manifest(self, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest by its digest; what it names must be there already.

        :raises RemoteError: the registry refused it
        """

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let a tag name a stored manifest, in one step."""

    def tags(self) -> list[str]:
        """The names of all tags, sorted."""


class Place(BlobSource, Protocol):
    """Images can be read from it."""

    def resolve(self, reference: str | None) -> Descriptor:
        """See `Tags.resolve`."""

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        """See `Tags.read_manifest`."""

    def tags(self) -> list[str]:
        """See `Tags.tags`."""

    def referrers(self, subject: BlobDigest) -> Sequence[Descriptor] | None:
        """The manifests that say that they are about another one, as the place lists them; None where it does not."""


class WritablePlace(BlobSink, Tags, Protocol):
    """Images can be read from it and written to it."""

    @property
    def roomy(self) -> bool:
        """Whether more than one image can be there."""

    def referrers(self, subject: BlobDigest) -> Sequence[Descriptor] | None:
        """See `Place.referrers`."""

    def put_beside(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest and let a tag name it, at the latest when the next one is put: it goes with that."""

    def put(self, descriptor: Descriptor, data: Iterable[ReadableBuffer], *, look: bool = True) -> bool:
        """See `BlobSink.put`.

        :param look: whether to ask first if it is there; False saves a request for what surely is not
        """

    def put_tagged(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest and let a tag name it, in one step."""

    def swap_tag(self, name: str, descriptor: Descriptor, expected: Descriptor | None) -> bool:
        """Let a tag name a stored manifest if it still names `expected`.

        :returns: False, and nothing is done, if it names something else by now
        """

    def resolve_or_none(self, reference: str | None) -> Descriptor | None:
        """Like `resolve`; None when there is no such image.

        :raises CasyncError: the place could not be asked
        """

    def assume(self, descriptors: Iterable[Descriptor]) -> None:
        """These blobs are known to be there, since a manifest that is there lists them: nobody needs to ask."""


class Check:
    """Counts and hashes a blob that goes by, and says at the end whether it was the descriptor's."""

    def __init__(self, descriptor: Descriptor, where: str) -> None:
        self._descriptor = descriptor
        self._where = where
        self._hash: _Hash = descriptor.digest.new()
        self.size = 0

    def update(self, data: ReadableBuffer) -> None:
        """Take in the next bytes.

        :raises BlobCorrupt: there are more than the descriptor says
        """
        self._hash.update(data)
        self.size += memoryview(data).nbytes
        if self.size > self._descriptor.size:
            raise BlobCorrupt(
                str(self._descriptor.digest),
                self._where,
                f"it has more than its {self._descriptor.size} bytes",
            )

    def finish(self) -> None:
        """That was all. :raises BlobCorrupt: it was not the descriptor's blob"""
        digest = self._descriptor.digest
        if self.size != self._descriptor.size:
            raise BlobCorrupt(
                str(digest), self._where, f"it has {self.size} bytes, not {self._descriptor.size}"
            )
        found = BlobDigest(digest.algorithm, self._hash.hexdigest())
        if found != digest:
            raise BlobCorrupt(str(digest), self._where, f"its content has the digest {found}")


def check_blob(descriptor: Descriptor, data: ReadableBuffer, where: str) -> None:
    """:raises BlobCorrupt: `data` is not the descriptor's blob"""
    check = Check(descriptor, where)
    check.update(data)
    check.finish()
