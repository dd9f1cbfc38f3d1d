"""Blobs sent to a registry: in one request, or in several that go on where they were interrupted.

The steps are those of the distribution specification ("Pushing blobs"): POST opens a session and says where it is; a
PUT there with the digest ends it, with all the bytes (blobs up to 64 MiB) or after PATCHes that each bring some. Where
the session is comes anew with every answer and is never built here. After a failure the session is asked how much it
has (GET). A session that comes to nothing is cancelled (DELETE). The blob appears with the last PUT, whole or not at
all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import quote, urlsplit

from casync_compat.errors import AccessDenied, RemoteError
from casync_compat.net.exchange import ATTEMPTS, is_temporary
from casync_compat.net.http import Body, Headers
from casync_compat.net.traffic import Answer
from casync_compat.oci.registry.auth import scope
from casync_compat.oci.registry.endpoint import Access
from casync_compat.oci.registry.uploadcontent import UploadContent
from casync_compat.oci.spec.descriptor import Descriptor

__all__ = ["Uploads"]

MONOLITHIC = 64 << 20
"""Blobs up to this many bytes go in one request; many registries handle that best."""

_CHUNK = 32 << 20
_CAUTIOUS = 8 << 20
_SMALLEST_CHUNK = 1 << 20
_TAKEN = (200, 201, 202, 204)
"""What registries answer to what they took: each of these comes from some, whatever the specification says."""
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})")


class _Interrupted(Exception):
    """The session has to be asked how far it is, or begun anew."""

    def __init__(self, error: RemoteError, headers: Headers | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.headers = headers


class Uploads:
    """Sends blobs to one repository. May be used from several threads at once."""

    def __init__(self, access: Access, exists: Callable[[Descriptor], bool]) -> None:
        self._access = access
        self._exists = exists
        self._whole_limit = MONOLITHIC
        self._chunk = _CHUNK

    def upload(self, content: UploadContent, session: str | None = None) -> None:
        """Store a blob.

        :param session: where a session that is open already is, one that a mount has left
        :raises BlobCorrupt: the content is not the descriptor's; nothing is stored
        :raises RemoteError: it could not be stored
        """
        for attempt in range(ATTEMPTS):
            upload = _Upload(self, content, session)
            session = None
            try:
                upload.run()
                return
            except _Interrupted as stopped:
                upload.cancel()
                # The answer to the last request may have been lost, not the blob.
                if self._exists(content.descriptor):
                    return
                if attempt == ATTEMPTS - 1:
                    raise stopped.error from stopped
                if attempt and content.descriptor.size > _CAUTIOUS:
                    # Twice is no accident: something on the way cuts long requests off.
                    self._whole_limit = min(self._whole_limit, _CAUTIOUS)
                    self._chunk = min(self._chunk, _CAUTIOUS)
                if not self._access.exchange.pause(attempt, stopped.headers, why=str(stopped.error)):
                    raise stopped.error from stopped
            except BaseException:
                upload.cancel()
                raise
        raise AssertionError("the last attempt returns or raises")

    def mount(self, descriptor: Descriptor, source: Access) -> str | None:
        """Take a blob over from another repository of the registry.

        :returns: None if it is here now, else where a session for sending it is (empty: none)
        """
        op = f"mount blob {descriptor.digest}"
        query = f"mount={quote(str(descriptor.digest), safe='')}&from={quote(source.repository, safe='')}"
        try:
            answer = self._access.call(
                "POST",
                f"blobs/uploads/?{query}",
                op=op,
                rights="pull,push",
                also=frozenset({scope(source.repository, "pull")}),
            )
        except AccessDenied:
            return ""
        if answer.status == 201:
            answer.drain()
            return None
        if answer.status == 202:
            location = self._access.location(answer, op)
            answer.drain()
            return location
        # Not allowed there, or not known here: what matters is whether sending it works.
        answer.drain()
        return ""


class _Upload:
    """One session."""

    def __init__(self, owner: Uploads, content: UploadContent, session: str | None) -> None:
        self._owner = owner
        self._access = owner._access
        self._content = content
        self._size = content.descriptor.size
        self._op = f"upload blob {content.descriptor.digest}"
        self._location = session
        self._least = 0

    def run(self) -> None:
        if not self._location:
            self._begin()
        if self._size <= self._owner._whole_limit:
            if self._in_one():
                return
            # Too large in one piece for something on the way: this session may hold a part, so begin another.
            self.cancel()
            self._begin()
        self._in_parts()

    def cancel(self) -> None:
        """Tell the registry that nothing more comes; whether it listens does not matter."""
        location, self._location = self._location, None
        if location:
            with suppress(RemoteError):
                self._call("DELETE", location, repeat=False).drain()

    def _call(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        slow: bool = False,
        repeat: bool = True,
    ) -> Answer:
        return self._access.call(
            method,
            target,
            op=self._op,
            rights="pull,push",
            headers=headers,
            body=body,
            slow=slow,
            repeat=repeat,
        )

    def _begin(self) -> None:
        answer = self._call("POST", "blobs/uploads/")
        if answer.status not in _TAKEN:
            raise self._access.failed(answer, self._op)
        self._moved(answer)
        self._least = answer.headers.number("OCI-Chunk-Min-Length") or 0
        answer.drain()

    def _moved(self, answer: Answer, required: bool = True) -> None:
        if required or answer.headers.get("Location"):
            self._location = self._access.location(answer, self._op)

    def _last(self) -> str:
        """The location with the digest added; what else is in its query stays as it is."""
        assert self._location is not None
        joint = "&" if urlsplit(self._location).query else "?"
        return f"{self._location}{joint}digest={quote(str(self._content.descriptor.digest), safe='')}"

    # ---- all in one

    def _in_one(self) -> bool:
        """Send everything in one request. False if that is too much at once."""
        body = self._content.part(0, self._size)
        answer = self._try("PUT", self._last(), {"Content-Type": "application/octet-stream"}, body, slow=True)
        if answer.status in _TAKEN:
            answer.drain()
            self._location = None
            return True
        if answer.status in (413, 416) and self._size > _SMALLEST_CHUNK:
            answer.drain()
            self._owner._whole_limit = min(self._owner._whole_limit, self._size - 1)
            self._owner._chunk = max(_SMALLEST_CHUNK, min(self._owner._chunk, self._size // 2))
            return False
        raise self._access.failed(answer, self._op)

    def _try(
        self, method: str, target: str, headers: Mapping[str, str], body: Body | None, slow: bool = False
    ) -> Answer:
        """A request that must not simply be sent again. :raises _Interrupted: it may have had a part of its effect"""
        try:
            answer = self._call(method, target, headers, body, slow=slow, repeat=False)
        except RemoteError as error:
            if error.status:
                raise
            raise _Interrupted(error) from error
        if is_temporary(answer.status):
            raise _Interrupted(self._access.failed(answer, self._op), answer.headers)
        return answer

    # ---- in parts

    def _in_parts(self) -> None:
        at, failures = 0, 0
        while True:
            try:
                if at == self._size:
                    self._end()
                    return
                at = self._part(at)
                failures = 0
            except _Interrupted as stopped:
                failures += 1
                if failures >= ATTEMPTS or not self._access.exchange.pause(
                    failures - 1, stopped.headers, why=str(stopped.error)
                ):
                    raise stopped.error from stopped
                at = self._how_far(stopped)

    def _part(self, at: int) -> int:
        """Send the next part; returns how much the registry has then."""
        end = min(self._size, at + max(self._owner._chunk, self._least))
        headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{at}-{end - 1}"}
        assert self._location is not None
        answer = self._try("PATCH", self._location, headers, self._content.part(at, end))
        if answer.status in _TAKEN:
            self._moved(answer, required=False)
            has = _received(answer)
            answer.drain()
            # Amazon ECR names the first part for ever, or only the part just sent, and others count from one; that it
            # took the part, its status says. The digest with which the session ends tells if it was not so.
            return has if has is not None and at < has <= end else end
        if answer.status == 413 and end - at > max(_SMALLEST_CHUNK, self._least):
            self._owner._chunk = max(_SMALLEST_CHUNK, (end - at) // 2)
            raise _Interrupted(self._access.failed(answer, self._op))
        if answer.status == 416:
            raise _Interrupted(self._access.failed(answer, self._op))
        raise self._access.failed(answer, self._op)

    def _how_far(self, stopped: _Interrupted) -> int:
        """Ask the session how much it has. :raises _Interrupted: it is gone"""
        assert self._location is not None
        answer = self._call("GET", self._location)
        if answer.status not in (200, 202, 204):
            answer.drain()
            raise stopped
        self._moved(answer, required=False)
        has = _received(answer) or 0
        answer.drain()
        if has > self._size:
            raise stopped
        return has

    def _end(self) -> None:
        answer = self._try("PUT", self._last(), {}, None, slow=True)
        if answer.status not in _TAKEN:
            raise self._access.failed(answer, self._op)
        answer.drain()
        self._location = None


def _received(answer: Answer) -> int | None:
    """How much a session has, from its Range field; None if there is none."""
    match = _RANGE.fullmatch(answer.headers.get("Range") or "")
    if match is None:
        return None
    # distribution writes 0-0 for an empty session as well as for one with a single byte.
    last = int(match[1])
    return last + 1 if last else 0
