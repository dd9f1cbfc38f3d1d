"""A registry in memory, behind the seam of `casync_compat.net.http`: no socket, no time, and faults on demand.

It keeps to the distribution specification where it does not say otherwise, and is strict where clients must be: wrong
order of upload parts, a wrong digest, missing blobs of a manifest, missing rights are refused.

    >>> fake = FakeRegistry(ranges=False)
    >>> repository = fake.open("a/b")
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, parse_qsl, urlsplit

from casync_compat.net.exchange import Clock
from casync_compat.net.http import Headers, Request, TransportError
from casync_compat.oci.registry.client import RegistryClient, Repository
from casync_compat.oci.spec.reference import Reference

HOST = "registry.test"
STORAGE = "storage.test"
TOKENS = "auth.test"


class FakeClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1_000_000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.time, lambda: self.time, self.sleep, lambda: 1.0)


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    method: str
    url: str
    headers: Mapping[str, str]
    size: int

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class FakeResponse:
    """An answer. With `cut`, the connection breaks after so many bytes."""

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        cut: int | None = None,
        head: bool = False,
    ) -> None:
        self.status = status
        pairs = dict(headers or {})
        pairs.setdefault("Content-Length", str(len(body)))
        self.headers = Headers((name, value) for name, value in pairs.items() if value is not None)
        self._body = b"" if head else body
        self._cut = cut
        self._at = 0
        self.closed = False

    def read(self, size: int, /) -> bytes:
        end = self._at + size
        if self._cut is not None and end > self._cut:
            if self._at >= self._cut:
                raise TransportError("connection reset")
            end = self._cut
        data = self._body[self._at : end]
        self._at += len(data)
        return data

    def close(self) -> None:
        self.closed = True


@dataclass
class Store:
    """One repository's content."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Session:
    """An upload under way."""

    repository: str
    data: bytearray = field(default_factory=bytearray)
    first: int = 0


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def problem(status: int, code: str, message: str = "no", **headers: str) -> FakeResponse:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return FakeResponse(status, {"Content-Type": "application/json", **headers}, body)


@dataclass
class FakeRegistry:
    """The registry. Every field is a fault or a trait, and may be changed while it is used.

    :ivar tls: False: it speaks plain HTTP only
    :ivar trusted: False: its certificate is not
    :ivar ranges: False: Range is ignored
    :ivar whole_length: False: answers with a whole blob do not say how long they are
    :ivar head_digest: whether answers have Docker-Content-Digest
    :ivar relative: whether Locations are relative
    :ivar mount: status of a mount that would be possible
    :ivar redirect: whether blobs are served from another host
    :ivar flipped: digests of blobs (or manifests) served with one bit wrong
    :ivar truncated: digests of blobs that have lost their last byte
    :ivar cuts: at which byte the next downloads break
    :ivar upload_limit: the largest body of an upload's request, otherwise 413
    :ivar upload_faults: what happens to the next requests with upload data: a status, or an exception; half of the
        data has arrived then
    :ivar manifest_limit: the largest manifest, otherwise 413
    :ivar statuses: answers to the next requests, whatever they are; None lets one through
    :ivar extra: headers of every answer
    :ivar auth: None, `basic` or `bearer`
    :ivar page: most tags in one answer
    :ivar etags: whether manifests have them, and conditions are heeded
    :ivar minimum: OCI-Chunk-Min-Length
    :ivar part_status: of an answer to a part
    :ivar part_range: what its Range says: `all` that is there, `first` part for ever, only the part's `length`, the
        `part` itself, one `more` than there is, or `none`
    :ivar last_status: of an answer to the request that ends an upload
    :ivar no_range: status of the answer to a Range, 0 to heed it
    :ivar most_range: the most bytes that an answer to a Range has
    :ivar other_range: whether the answer to a Range has another one
    :ivar no_artifacts: answer to a manifest that is no plain image's: status, code and detail
    :ivar missing: status of the answer for what is not there
    :ivar referrers: whether it lists what refers to a manifest, one a page
    :ivar listing: status of such a list, and of that of tags
    """

    tls: bool = True
    trusted: bool = True
    ranges: bool = True
    whole_length: bool = True
    head_digest: bool = True
    relative: bool = False
    mount: int = 201
    redirect: bool = False
    flipped: set[str] = field(default_factory=set)
    truncated: set[str] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)
    upload_limit: int | None = None
    upload_faults: list[int | TransportError] = field(default_factory=list)
    manifest_limit: int = 4 << 20
    statuses: list[tuple[int, dict[str, str]] | TransportError | None] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)
    auth: str | None = None
    user: str = "joe"
    password: str = "secret"
    identity: str = "identity-token"
    token_post: bool = True
    token_seconds: float | None = 300
    page: int = 1000
    etags: bool = False
    minimum: int = 0
    part_status: int = 202
    part_range: str = "all"
    last_status: int = 201
    no_range: int = 0
    most_range: int = 1 << 60
    other_range: bool = False
    no_artifacts: tuple[int, str, str] | None = None
    missing: int = 404
    referrers: bool = False
    listing: int = 200
    deletes: bool = True

    def __post_init__(self) -> None:
        self.stores: dict[str, Store] = {}
        self.sessions: dict[str, Session] = {}
        self.seen: list[Seen] = []
        self.bodies: list[bytes] = []
        self.tokens: dict[str, tuple[set[str], float]] = {}
        self.time = FakeClock()
        self.warnings: list[str] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.before: Callable[[Seen], None] = lambda seen: None

    # ---- how tests use it

    def client(self, environ: Mapping[str, str] | None = None, *, insecure: bool = False) -> RegistryClient:
        return RegistryClient(
            environ=environ or {},
            insecure=insecure,
            transport=self,
            clock=self.time.clock,
            warn=self.warnings.append,
        )

    def open(
        self,
        name: str = "a/b",
        host: str = HOST,
        *,
        environ: Mapping[str, str] | None = None,
        insecure: bool = False,
        login: bool = False,
    ) -> Repository:
        """A repository through a client of its own."""
        user, password = (self.user, self.password) if login else (None, None)
        return self.client(environ, insecure=insecure).repository(
            Reference("docker", host, name), username=user, password=password
        )

    def store(self, name: str = "a/b") -> Store:
        return self.stores.setdefault(name, Store())

    def asked(self, since: int = 0) -> list[str]:
        """The requests as text, from the one of that number on."""
        return [str(seen) for seen in self.seen[since:]]

    # ---- the seam

    def close(self) -> None:
        pass

    def send(self, request: Request, *, verify: bool) -> FakeResponse:
        parts = urlsplit(request.url)
        if parts.scheme == ("http" if self.tls else "https"):
            raise TransportError("it speaks another language", absent=True)
        if self.tls and not self.trusted and verify:
            raise TransportError("its certificate is not trusted", final=True)
        body = b""
        fault: int | TransportError | None = None
        if request.body is not None:
            is_upload = "/blobs/uploads/" in request.url
            with self._lock:
                fault = self.upload_faults.pop(0) if is_upload and self.upload_faults else None
            pieces = []
            for piece in request.body.pieces():
                pieces.append(bytes(piece))
                if fault is not None and sum(map(len, pieces)) * 2 >= request.body.size:
                    break
            body = b"".join(pieces)
            if fault is not None:
                body = body[: request.body.size // 2]
            else:
                assert len(body) == request.body.size
        seen = Seen(request.method, request.url, dict(request.headers), len(body))
        with self._lock:
            self.seen.append(seen)
            self.bodies.append(body)
        self.before(seen)
        with self._lock:
            return self._answer(seen, body, fault)

    def _answer(self, seen: Seen, body: bytes, fault: int | TransportError | None) -> FakeResponse:
        planned = self.statuses.pop(0) if self.statuses else None
        if isinstance(planned, TransportError):
            raise planned
        if planned is not None:
            return FakeResponse(planned[0], planned[1])
        if seen.host == TOKENS:
            return self._token(seen, body)
        if seen.host == STORAGE:
            assert "Authorization" not in seen.headers, "credentials were sent to another host"
            return self._blob(seen, seen.path.strip("/").rpartition("/")[0], seen.path.rpartition("/")[2])
        refused = self._unauthorized(seen)
        response = refused or self._route(seen, body, fault)
        for name, value in self.extra.items():
            response.headers._values.setdefault(name.lower(), []).append(value)
        return response

    def _route(self, seen: Seen, body: bytes, fault: int | TransportError | None) -> FakeResponse:
        path = seen.path.removeprefix("/v2/")
        if not path:
            return FakeResponse(200, body=b"{}")
        if match := re.fullmatch(r"(.+)/blobs/uploads/([^/]*)", path):
            return self._upload(seen, match[1], match[2], body, fault)
        if match := re.fullmatch(r"(.+)/blobs/(sha\d+:[0-9a-f]+)", path):
            if self.redirect:
                return FakeResponse(307, {"Location": f"https://{STORAGE}/{match[1]}/{match[2]}?signature=x"})
            return self._blob(seen, match[1], match[2])
        if match := re.fullmatch(r"(.+)/manifests/([^/]+)", path):
            return self._manifest(seen, match[1], match[2], body)
        if (match := re.fullmatch(r"(.+)/referrers/([^/]+)", path)) and self.referrers:
            return self._refer(seen, match[1], match[2])
        if match := re.fullmatch(r"(.+)/tags/list", path):
            return self._list(seen, match[1])
        return problem(404, "NOT_FOUND")

    # ---- who may

    def _unauthorized(self, seen: Seen) -> FakeResponse | None:
        if self.auth is None:
            return None
        given = seen.headers.get("Authorization", "")
        if self.auth == "basic":
            if given == self._basic():
                return None
            return problem(
                401, "UNAUTHORIZED", **{"WWW-Authenticate": 'Basic realm="fake, with \\"quotes\\""'}
            )
        path = seen.path.removeprefix("/v2/")
        name = re.split(r"/(?:blobs|manifests|tags|referrers)/", path)[0] if path else ""
        actions = {"GET": ["pull"], "HEAD": ["pull"], "DELETE": ["delete"]}.get(seen.method, ["pull", "push"])
        if "/uploads/" in path:
            actions = ["pull", "push"]
        needed = {f"{name}:{action}" for action in actions} if name else set()
        source = parse_qs(urlsplit(seen.url).query).get("from")
        if source:
            needed.add(f"{source[0]}:pull")
        rights, expires = self.tokens.get(given.removeprefix("Bearer "), (set(), 0.0))
        if given.startswith("Bearer ") and needed <= rights and expires > self.time.time:
            return None
        scope = f',scope="repository:{name}:{",".join(actions)}"' if name else ""
        challenge = f'Bearer realm="https://{TOKENS}/token",service="fake"{scope}'
        return problem(401, "UNAUTHORIZED", **{"WWW-Authenticate": challenge})

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def _token(self, seen: Seen, body: bytes) -> FakeResponse:
        if seen.path != "/token":
            return FakeResponse(404)
        if seen.method == "POST":
            if not self.token_post:
                return FakeResponse(405)
            form = parse_qs(body.decode())
            allowed = form.get("refresh_token") == [self.identity]
            assert form["grant_type"] == ["refresh_token"]
            assert form["service"] == ["fake"]
            scopes = form.get("scope", [""])[0].split()
        else:
            query = parse_qsl(urlsplit(seen.url).query)
            assert ("service", "fake") in query
            scopes = [value for key, value in query if key == "scope"]
            given = seen.headers.get("Authorization")
            identity = base64.b64encode(f":{self.identity}".encode()).decode()
            allowed = given in (self._basic(), f"Basic {identity}")
            if given is not None and not allowed:
                return problem(401, "UNAUTHORIZED")
        rights = set()
        for scope in scopes:
            _, name, actions = scope.split(":")
            # Whoever has no credentials may read.
            rights |= {f"{name}:{action}" for action in actions.split(",") if allowed or action == "pull"}
        token = f"token-{next(self._numbers)}"
        seconds = self.token_seconds
        self.tokens[token] = (rights, self.time.time + (60 if seconds is None else seconds))
        answer = {"token": token} if seconds is None else {"access_token": token, "expires_in": seconds}
        return FakeResponse(200, body=json.dumps(answer).encode())

    # ---- blobs

    def _blob(self, seen: Seen, name: str, key: str) -> FakeResponse:
        data = self.store(name).blobs.get(key)
        if data is None:
            return problem(self.missing, "BLOB_UNKNOWN")
        if key in self.truncated:
            data = data[:-1]
        if key in self.flipped:
            data = bytes([data[0] ^ 1]) + data[1:]
        headers = {"Content-Type": "application/octet-stream"}
        if self.head_digest:
            headers["Docker-Content-Digest"] = key
        if seen.method == "HEAD":
            return FakeResponse(200, headers, data, head=True)
        cut = self.cuts.pop(0) if self.cuts else None
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", seen.headers.get("Range", ""))
        if match and self.no_range:
            return problem(self.no_range, "RANGE")
        if match and self.ranges:
            start = int(match[1]) // 2 if self.other_range else int(match[1])
            end = min(int(match[2]) + 1, len(data), start + self.most_range)
            if start >= len(data):
                return problem(416, "RANGE")
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            return FakeResponse(206, headers, data[start:end], cut=cut)
        if not self.whole_length:
            headers["Content-Length"] = ""
        return FakeResponse(200, headers, data, cut=cut)

    def _location(self, name: str, number: str) -> dict[str, str]:
        path = f"/v2/{name}/blobs/uploads/{number}?_state=a%2Fb"
        return {"Location": path if self.relative else f"{'https' if self.tls else 'http'}://{HOST}{path}"}

    def _upload(
        self, seen: Seen, name: str, number: str, body: bytes, fault: int | TransportError | None
    ) -> FakeResponse:
        query = parse_qs(urlsplit(seen.url).query)
        if not number:
            source = query.get("from")
            if source and query["mount"][0] in self.store(source[0]).blobs and self.mount == 201:
                key = query["mount"][0]
                self.store(name).blobs[key] = self.store(source[0]).blobs[key]
                return FakeResponse(201, {"Location": f"/v2/{name}/blobs/{key}"})
            number = f"s{next(self._numbers)}"
            self.sessions[number] = Session(name)
            headers = self._location(name, number) | ({"Range": "0-0"})
            if self.minimum:
                headers["OCI-Chunk-Min-Length"] = str(self.minimum)
            return FakeResponse(202, headers)
        session = self.sessions.get(number)
        if session is None or session.repository != name:
            return problem(404, "BLOB_UPLOAD_UNKNOWN")
        assert query.get("_state") == ["a/b"], "the query of the location was lost"
        if seen.method == "DELETE":
            del self.sessions[number]
            return FakeResponse(204)
        has = f"0-{max(len(session.data) - 1, 0)}"
        if seen.method == "GET":
            return FakeResponse(204, self._location(name, number) | {"Range": has})
        if self.upload_limit is not None and len(body) > self.upload_limit:
            return problem(413, "SIZE_INVALID", "too large")
        if seen.method == "PATCH":
            start = int(seen.headers["Content-Range"].partition("-")[0])
            if start != len(session.data):
                return FakeResponse(416, self._location(name, number) | {"Range": has})
        session.data += body
        if isinstance(fault, TransportError):
            raise fault
        if fault is not None:
            return problem(fault, "UNKNOWN", "half of it")
        if seen.method == "PATCH":
            session.first = session.first or len(body)
            ranges = {
                "all": f"0-{len(session.data) - 1}",
                "first": f"0-{session.first - 1}",
                "length": f"0-{len(body) - 1}",
                "more": f"0-{len(session.data)}",
                "part": f"{len(session.data) - len(body)}-{len(session.data) - 1}",
            }
            found = {"Range": ranges[self.part_range]} if self.part_range in ranges else {}
            return FakeResponse(self.part_status, self._location(name, number) | found)
        key = query["digest"][0]
        data = bytes(session.data)
        del self.sessions[number]
        if digest(data) != key:
            return problem(400, "DIGEST_INVALID", "it is something else")
        self.store(name).blobs[key] = data
        return FakeResponse(self.last_status, {"Location": f"/v2/{name}/blobs/{key}"})

    # ---- manifests

    def _manifest(self, seen: Seen, name: str, reference: str, body: bytes) -> FakeResponse:
        store = self.store(name)
        key = reference if ":" in reference else store.tags.get(reference, "")
        etag = f'"{key}"' if self.etags and key else None
        if seen.method == "PUT":
            wanted = seen.headers.get("If-Match")
            if self.etags and (
                (wanted is not None and wanted != etag)
                or (seen.headers.get("If-None-Match") == "*" and key in store.manifests)
            ):
                return problem(412, "PRECONDITION")
            return self._put_manifest(store, seen, reference, body)
        if key not in store.manifests:
            return problem(self.missing, "MANIFEST_UNKNOWN")
        if seen.method == "DELETE":
            if not self.deletes:
                return problem(405, "UNSUPPORTED")
            del store.manifests[key]
            store.tags = {tag: to for tag, to in store.tags.items() if to != key}
            return FakeResponse(202)
        media_type, data = store.manifests[key]
        assert media_type in seen.headers["Accept"]
        headers = {"Content-Type": media_type}
        if self.head_digest:
            headers["Docker-Content-Digest"] = key
        if etag:
            headers["ETag"] = etag
        if key in self.flipped:
            data = data.replace(b"2", b"3", 1)
        cut = self.cuts.pop(0) if self.cuts and seen.method == "GET" else None
        return FakeResponse(200, headers, data, head=seen.method == "HEAD", cut=cut)

    def _put_manifest(self, store: Store, seen: Seen, reference: str, body: bytes) -> FakeResponse:
        if len(body) > self.manifest_limit:
            return FakeResponse(413)
        manifest = json.loads(body)
        if self.no_artifacts is not None and "artifactType" in manifest:
            status, code, detail = self.no_artifacts
            errors = [{"code": code, "message": "no", "detail": detail}] if code else []
            return FakeResponse(status, body=json.dumps({"errors": errors}).encode())
        for child in [manifest["config"], *manifest["layers"]] if "config" in manifest else []:
            if child["digest"] not in store.blobs:
                return problem(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
        for child in manifest.get("manifests", []):
            if child["digest"] not in store.manifests:
                return problem(404, "MANIFEST_UNKNOWN")
        key = digest(body)
        if ":" in reference and reference != key:
            return problem(400, "DIGEST_INVALID")
        store.manifests[key] = (seen.headers["Content-Type"], body)
        if ":" not in reference:
            store.tags[reference] = key
        return FakeResponse(201, {"Docker-Content-Digest": key} if self.head_digest else {})

    def _list(self, seen: Seen, name: str) -> FakeResponse:
        if name not in self.stores:
            return problem(404, "NAME_UNKNOWN")
        if self.listing != 200:
            return problem(self.listing, "NO")
        query = parse_qs(urlsplit(seen.url).query)
        names = sorted(self.store(name).tags)
        last = query.get("last", [""])[0]
        rest = [tag for tag in names if tag > last]
        shown = rest[: min(self.page, int(query.get("n", ["1000000"])[0]))]
        headers = {}
        if len(shown) < len(rest):
            headers["Link"] = f'</v2/{name}/tags/list?last={shown[-1]}&n={self.page}>; rel="next"'
        return FakeResponse(200, headers, json.dumps({"name": name, "tags": shown or None}).encode())

    def _refer(self, seen: Seen, name: str, subject: str) -> FakeResponse:
        if self.listing != 200:
            return FakeResponse(self.listing, {"Content-Type": "application/json"}, b"{}")
        found = []
        for key, (kind, body) in sorted(self.store(name).manifests.items()):
            manifest = json.loads(body)
            if (manifest.get("subject") or {}).get("digest") == subject:
                entry = {"mediaType": kind, "digest": key, "size": len(body)}
                found.append({**entry, "artifactType": manifest["artifactType"]})
        at = int(parse_qs(urlsplit(seen.url).query).get("at", ["0"])[0])
        headers = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
        if at + 1 < len(found):
            headers["Link"] = f'</v2/{name}/referrers/{subject}?at={at + 1}>; rel="next"'
        index = {"schemaVersion": 2, "mediaType": headers["Content-Type"], "manifests": found[at : at + 1]}
        return FakeResponse(200, headers, json.dumps(index).encode())
