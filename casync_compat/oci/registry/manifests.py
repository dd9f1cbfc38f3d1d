"""Manifests and tags of one repository of a registry (the protocol `blobs.Tags`).

Manifests are small and wanted again, so the last ones are remembered. A tag is moved in one request, and only to a
manifest that the registry has accepted.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote, urljoin

from casync_compat.errors import AccessDenied, RemoteError, UsageError
from casync_compat.net.exchange import ATTEMPTS
from casync_compat.net.http import BytesBody, TransportError, origin, read_all
from casync_compat.net.traffic import Answer
from casync_compat.oci.registry.endpoint import Access
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT, check_blob
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, parse_json
from casync_compat.oci.spec.errors import ArtifactsRefused, BlobCorrupt, BlobMissing, ImageError
from casync_compat.oci.spec.media import CONFIG_TYPES

__all__ = ["MANIFEST_TYPES", "ManifestStore"]

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_OLD_TYPES = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_KEPT_MANIFESTS = 64
_KEPT_BYTES = 16 << 20
_TAGS_A_PAGE = 1000
_PAGE_LIMIT = 32 << 20
_PAGES = 100_000
_PAGES_OF_REFERRERS = 20
_NEXT = re.compile(r"<([^<>]*)>\s*((?:;\s*[A-Za-z]+\s*=\s*(?:\"[^\"]*\"|[^\s;,]*)\s*)*)")


class ManifestStore:
    """Manifests and tags. May be used from several threads at once.

    :ivar name: `docker://HOST/REPOSITORY`
    :ivar was_read: whether the registry has said of anything here that it is there, or that it is not
    """

    def __init__(self, access: Access) -> None:
        self.name = access.name
        self._access = access
        self._lock = threading.Lock()
        self.was_read = False
        self._lists_referrers = True
        self._manifests: OrderedDict[BlobDigest, bytes] = OrderedDict()

    def resolve(self, reference: str | None) -> Descriptor:
        fetched = self._fetch(reference or "latest")
        if fetched is None:
            raise ImageError(self._manifest_name(reference), "there is no such image")
        return fetched[0]

    def resolve_or_none(self, reference: str | None) -> Descriptor | None:
        """As `resolve`, but None if there is no such tag or manifest."""
        fetched = self._fetch(reference or "latest")
        return fetched[0] if fetched is not None else None

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        with self._lock:
            data = self._manifests.get(descriptor.digest)
        if data is None:
            fetched = self._fetch(str(descriptor.digest))
            if fetched is None:
                raise BlobMissing(str(descriptor.digest), self.name, "a manifest")
            data = fetched[1]
        check_blob(descriptor, data, self.name)
        return data

    def _fetch(self, reference: str) -> tuple[Descriptor, bytes, str | None] | None:
        """A manifest with its descriptor and ETag; None if there is none."""
        where, op = self._manifest_name(reference), f"read manifest {reference}"
        for attempt in range(ATTEMPTS):
            answer = self._access.call("GET", f"manifests/{_name(reference)}", op=op, headers=_ACCEPT)
            self.was_read = self.was_read or answer.status in (200, 404)
            if answer.status == 404:
                answer.drain()
                return None
            if answer.status != 200:
                raise self._access.failed(answer, op)
            try:
                data = read_all(answer, MANIFEST_LIMIT)
                break
            except TransportError as error:
                if attempt == ATTEMPTS - 1:
                    raise RemoteError(self.name, op, error.why) from error
                self._access.exchange.pause(attempt, why=f"{self.name}: cannot {op}: {error.why}")
        if data is None:
            raise ImageError(where, f"the manifest has more than the {MANIFEST_LIMIT} bytes it may have")
        descriptor = self._describe(answer, data, reference, where)
        self._keep(descriptor, data)
        return descriptor, data, answer.headers.get("ETag")

    def _describe(self, answer: Answer, data: bytes, reference: str, where: str) -> Descriptor:
        digest = BlobDigest.of(data)
        said = answer.headers.get("Docker-Content-Digest")
        if ":" in reference:
            wanted = BlobDigest.parse(reference, where)
            found = wanted.new()
            found.update(data)
            digest = BlobDigest(wanted.algorithm, found.hexdigest())
            if digest != wanted:
                raise BlobCorrupt(reference, self.name, f"its content has the digest {digest}")
        elif said is not None and said.startswith("sha256:") and said != str(digest):
            raise BlobCorrupt(said, self.name, f"the manifest's content has the digest {digest}")
        declared = (answer.headers.get("Content-Type") or "").partition(";")[0].strip()
        return Descriptor(_media_type(data, declared, where), digest, len(data))

    def put_manifest(self, descriptor: Descriptor, data: bytes) -> None:
        check_blob(descriptor, data, "the manifest to be stored")
        self._put(str(descriptor.digest), descriptor, data)
        self._keep(descriptor, data)

    def tag(self, name: str, descriptor: Descriptor) -> None:
        self._put(_tag(name), descriptor, self.read_manifest(descriptor))

    def put_tagged(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest and let a tag name it, in one request."""
        check_blob(descriptor, data, "the manifest to be stored")
        self._put(_tag(name), descriptor, data)
        self._keep(descriptor, data)

    put_beside = put_tagged

    def swap_tag(self, name: str, descriptor: Descriptor, expected: Descriptor | None) -> bool:
        """Let a tag name another manifest, if it still names the one that the caller has seen.

        Registries that know ETags decide that themselves; with others another writer can come between two requests.

        :param expected: what the tag named when the caller looked; None: there was no such tag
        :returns: False, and nothing is done, if the tag names something else by now
        """
        data = self.read_manifest(descriptor)
        current = self._fetch(_tag(name))
        if (current[0].digest if current else None) != (expected.digest if expected else None):
            return False
        condition = {"If-Match": current[2]} if current and current[2] else {}
        return self._put(name, descriptor, data, {} if current else {"If-None-Match": "*"}, condition)

    def _put(self, target: str, descriptor: Descriptor, data: bytes, *conditions: Mapping[str, str]) -> bool:
        op = f"store manifest {target}"
        headers = {"Content-Type": descriptor.media_type}
        for condition in conditions:
            headers.update(condition)
        answer = self._access.call(
            "PUT",
            f"manifests/{_name(target)}",
            op=op,
            rights="pull,push",
            headers=headers,
            body=BytesBody(data),
            slow=True,
        )
        if answer.status == 412 and any(conditions):
            answer.drain()
            return False
        if answer.status not in (200, 201, 202, 204):
            error = self._access.failed(answer, op)
            raise _refused(error, data) or error
        said = answer.headers.get("Docker-Content-Digest")
        answer.drain()
        if said is not None and said.startswith("sha256:") and said != str(BlobDigest.of(data)):
            raise RemoteError(self.name, op, f"it stored something else, with the digest {said[:80]}")
        return True

    def delete_manifest(self, descriptor: Descriptor) -> bool:
        """Delete a manifest, and with it every tag that names it. Returns False if it was not there.

        :raises RemoteError: the registry does not allow it
        """
        op = f"delete manifest {descriptor.digest}"
        answer = self._access.call(
            "DELETE", f"manifests/{descriptor.digest}", op=op, rights="pull,push,delete"
        )
        if answer.status not in (200, 202, 404):
            raise self._access.failed(answer, op)
        answer.drain()
        with self._lock:
            self._manifests.pop(descriptor.digest, None)
        return answer.status != 404

    def _keep(self, descriptor: Descriptor, data: bytes) -> None:
        with self._lock:
            self._manifests[descriptor.digest] = data
            self._manifests.move_to_end(descriptor.digest)
            while len(self._manifests) > _KEPT_MANIFESTS or (
                len(self._manifests) > 1 and sum(map(len, self._manifests.values())) > _KEPT_BYTES
            ):
                self._manifests.popitem(last=False)

    def _manifest_name(self, reference: str | None) -> str:
        joint = "@" if reference is not None and ":" in reference else ":"
        return f"{self.name}{joint}{reference or 'latest'}"

    # ---- tags

    def tags(self) -> list[str]:
        return sorted(set(self.iter_tags()))

    def iter_tags(self) -> Iterator[str]:
        """The tags page by page, as the registry orders them.

        :raises RemoteError: they cannot be listed
        """
        op = "list tags"
        target: str | None = f"tags/list?n={_TAGS_A_PAGE}"
        seen: set[str] = set()
        while target is not None:
            seen.add(target)
            answer = self._access.call("GET", target, op=op)
            if answer.status == 404:
                answer.drain()
                return
            if answer.status != 200:
                raise self._access.failed(answer, op)
            try:
                data = read_all(answer, _PAGE_LIMIT)
            except TransportError as error:
                raise RemoteError(self.name, op, error.why) from error
            if data is None:
                raise RemoteError(self.name, op, f"a page of its list has more than {_PAGE_LIMIT} bytes")
            names = parse_json(data, f"{self.name}: list of tags").get("tags") or []
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise RemoteError(self.name, op, "its list of tags is malformed")
            yield from names
            target = self._next_page(answer)
            if target is not None and (target in seen or len(seen) >= _PAGES):
                raise RemoteError(self.name, op, "its list of tags does not end")

    # ---- what is about others

    def referrers(self, subject: BlobDigest) -> Sequence[Descriptor] | None:
        """The manifests about another one that the registry lists; None where it lists none, as older ones do.

        :raises RemoteError: it fails
        """
        if not self._lists_referrers:
            return None
        op = f"list what refers to {subject}"
        target: str | None = f"referrers/{subject}"
        found: list[Descriptor] = []
        for _ in range(_PAGES_OF_REFERRERS):
            if target is None:
                break
            try:
                answer = self._access.call("GET", target, op=op)
            except AccessDenied:
                self._lists_referrers = False
                return None
            if answer.status in (400, 401, 403, 404, 405, 501) or "json" not in (
                answer.headers.get("Content-Type") or ""
            ):
                answer.drain()
                self._lists_referrers = False
                return None
            if answer.status != 200:
                raise self._access.failed(answer, op)
            try:
                data = read_all(answer, MANIFEST_LIMIT)
            except TransportError as error:
                raise RemoteError(self.name, op, error.why) from error
            where = f"{self.name}, referrers of {subject}"
            entries = parse_json(data or b"", where).get("manifests") or []
            if not isinstance(entries, list):
                raise RemoteError(self.name, op, "its list is malformed")
            found += [Descriptor.from_json(entry, where) for entry in entries]
            target = self._next_page(answer)
        return found

    def _next_page(self, answer: Answer) -> str | None:
        """Where the next page is (RFC 8288)."""
        for value in answer.headers.all("Link"):
            for match in _NEXT.finditer(value):
                if re.search(r";\s*rel\s*=\s*\"?next\b", match[2], re.IGNORECASE):
                    try:
                        url: str = urljoin(answer.url, match[1])
                        if origin(url) == origin(answer.url):
                            return url
                    except ValueError:
                        pass
                    raise RemoteError(self.name, "list tags", "the next page is said to be elsewhere")
        return None


_UNKNOWN_TYPE = (400, 405, 406, 415, 422)
_OTHER_FAULTS = re.compile(
    r"\b(MANIFEST_BLOB|BLOB|NAME|DIGEST|SIZE|TAG|QUOTA|TOOMANY|DENIED|UNAUTHORIZED)[A-Z_]*:"
)


def _refused(error: RemoteError, data: bytes) -> ArtifactsRefused | None:
    """The error for a registry that takes plain images only, where that is what its answer to a manifest means.

    There is no code of its own for it: gitlab.com and quay say MANIFEST_INVALID, others 415 and nothing else.
    """
    if error.status not in _UNKNOWN_TYPE or _OTHER_FAULTS.search(error.why):
        return None
    manifest = parse_json(data, "manifest")
    config = manifest.get("config") or {}
    if "manifests" in manifest or (
        "artifactType" not in manifest and config.get("mediaType") in CONFIG_TYPES
    ):
        return None
    why = f"this registry takes no artifacts, which converted images and chunks are, but plain images only: {error.why}"
    return ArtifactsRefused(error.where, error.op, why, error.status)


def _name(reference: str) -> str:
    return quote(reference, safe=":")


def _tag(name: str) -> str:
    if not _TAG.fullmatch(name):
        raise UsageError(f"{name[:150]!r} is no tag (letters, digits, '_', '.', '-', at most 128)")
    return name


def _media_type(data: bytes, declared: str, where: str) -> str:
    """The media type of a manifest: what it says itself, or else what the registry says, which must not differ."""
    if declared in _OLD_TYPES:
        raise ImageError(where, "it is in docker's old format (schema 1); push it again with a current tool")
    manifest = parse_json(data, where)
    own = manifest.get("mediaType")
    if own is not None and not isinstance(own, str):
        raise ImageError(where, "its mediaType is not a string")
    if own:
        if declared in MANIFEST_TYPES and own != declared:
            raise ImageError(where, f"the registry calls it {declared}, but it says it is {own[:150]}")
        return own
    if declared in MANIFEST_TYPES:
        return declared
    # Some servers of files call everything application/json; image-spec says what sets the two apart.
    if isinstance(manifest.get("manifests"), list):
        return MANIFEST_TYPES[1]
    if isinstance(manifest.get("config"), dict):
        return MANIFEST_TYPES[0]
    raise ImageError(
        where, f"it is neither a manifest nor an index (the registry calls it {declared[:150]!r})"
    )
