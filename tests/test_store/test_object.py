"""Files in object stores keep the contract: over obstore's stores in memory and in a directory."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from casync_compat.chunker import ChunkSizes
from casync_compat.compression import Compression, compress
from casync_compat.errors import AccessDenied, RemoteError
from casync_compat.ids import ChunkId
from casync_compat.index import Index, IndexBuilder
from casync_compat.net.http import Fetched, TransportError, Wanted
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import ONLY_HERE, Can, FileChanged, Files
from casync_compat.store.leases import boot_time
from casync_compat.store.packs.mixed import MixedStore, Mixing
from casync_compat.verbs.gc import UnnamedIndexes, collect_garbage
from catar import flags

from .contract import D, PrunableContract, StoreRig
from .contract_files import FilesContract, SwapContract

obstore_store = pytest.importorskip("obstore.store")
from obstore.exceptions import GenericError, PermissionDeniedError  # noqa: E402

from casync_compat.store.object import EVERYTHING, Ahead, ObjectFiles  # noqa: E402
from casync_compat.store.objectlog import LoggedStore  # noqa: E402
from casync_compat.store.signed import SignedUrls  # noqa: E402


class TestInMemory(SwapContract):
    """The contract, over obstore's store in memory."""

    @pytest.fixture
    def files(self) -> Files:
        return ObjectFiles(obstore_store.MemoryStore(), "memory://")


class TestLogged(SwapContract):
    """The same where each request is told."""

    @pytest.fixture
    def files(self) -> Files:
        bucket: Any = LoggedStore(obstore_store.MemoryStore(), "memory:/")
        return ObjectFiles(bucket, "memory://")


def test_what_is_told_of_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Each request is told by method, key, size and time; of a failure its reason, and nothing that may be secret."""
    caplog.set_level("DEBUG", "casync_compat")
    bucket: Any = LoggedStore(obstore_store.MemoryStore(), "s3://bucket")
    files = ObjectFiles(bucket, "s3://bucket/at", "at")
    files.write(b"a", b"content")
    files.write_many([(b"b", b"1"), (b"c", b"22")])
    files.read(b"a", 99)
    files.read_many([(b"a", 99), (b"no", 99)])
    files.read_range(b"a", 2, 3)
    files.stat(b"no")
    files.stat_many([b"a", b"b"])
    list(files.list())
    list(files.list(under=ONLY_HERE))
    files.remove_many(list(files.list()))
    text = "error performing GET https://h/?X-Amz-Signature=geheim, status code: 503"
    failing: Any = LoggedStore(Failing(obstore_store.MemoryStore(), [GenericError(text)]), "s3://bucket")  # type: ignore[arg-type]
    with pytest.raises(RemoteError):
        ObjectFiles(failing, "s3://bucket").write(b"a", b"x")
    said = [re.sub(r", after \d+\.\d{3} s$", "", record.getMessage()) for record in caplog.records]
    for line in (
        "PUT s3://bucket/at/a: 7 bytes",
        "PUT s3://bucket/at/c: 2 bytes",
        "GET s3://bucket/at/a: 7 bytes",
        "GET s3://bucket/at/no: not there",
        "GET s3://bucket/at/a: 3 bytes at 2",
        "HEAD s3://bucket/at/no: not there",
        "HEAD s3://bucket/at/b: 1 bytes",
        "LIST s3://bucket/at: 3 objects",
        "DELETE s3://bucket/at/a and 2 more: done",
        "PUT s3://bucket/a: the service failed (HTTP 503)",
    ):
        assert line in said
    assert "geheim" not in caplog.text


class TestBelowAPrefix(SwapContract):
    """The same, beside objects of others whose keys begin alike."""

    @pytest.fixture
    def files(self) -> Files:
        bucket = obstore_store.MemoryStore()
        for key in ("some/wher", "some/where.x", "some/where", "some/where-else/x"):
            bucket.put(key, b"not ours")
        return ObjectFiles(bucket, "memory://some/where", "some/where")


class TestInADirectory(FilesContract):
    """The same where nothing can be swapped and listings come in no order."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> Files:
        store = obstore_store.LocalStore(tmp_path)
        return ObjectFiles(store, f"file://{tmp_path}", can=EVERYTHING & ~Can.SWAP)


def ahead_of(bucket: Any) -> Ahead:
    """Objects of a bucket, as a web server would answer for them."""

    def answer(key: str, size: int, offset: int | None) -> tuple[int, bytes]:
        try:
            content = bytes(bucket.get(key).bytes())
        except FileNotFoundError:
            return 404, b""
        if offset is None:
            return (200, content) if len(content) <= size else (0, b"")
        return (206, content[offset : offset + size]) if offset < len(content) else (416, b"")

    return lambda wanted: lambda: [answer(*one) for one in wanted]


class TestAskedAhead(FilesContract):
    """The contract, where many objects are asked for by signed URLs."""

    @pytest.fixture
    def files(self) -> Files:
        bucket = obstore_store.MemoryStore()
        return ObjectFiles(bucket, "memory://", "some/where", ahead=ahead_of(bucket))


@pytest.mark.parametrize("status", [0, 301, 403, 500])
def test_answers_that_say_nothing(status: int) -> None:
    """What a signed URL does not give is asked for as ever, which knows whether it is there."""
    bucket = obstore_store.MemoryStore()
    bucket.put("a", b"content")
    files = ObjectFiles(bucket, "memory://", ahead=lambda wanted: lambda: [(status, b"x")] * len(wanted))
    assert files.begin([(b"a", 7), (b"b", 7), (b"a", 6)])() == [b"content", None, None]
    assert files.begin_ranges([(b"a", 3, 4), (b"b", 0, 1), (b"a", 7, 1)])() == [b"tent", None, b""]


class Answering:
    """An Exchange that gives the same answer to all, and remembers what it was asked."""

    def __init__(self, answer: Fetched | TransportError) -> None:
        self.answer = answer
        self.asked: list[Wanted] = []

    def begin(
        self, wanted: Sequence[Wanted], authorizer: None, scopes: object
    ) -> Callable[[], list[Fetched]]:
        assert authorizer is None
        self.asked += wanted
        answer = self.answer
        if isinstance(answer, TransportError):
            raise answer
        return lambda: [answer] * len(wanted)


def signed_by(answer: Fetched | TransportError, **config: str) -> tuple[SignedUrls, Answering]:
    store = obstore_store.S3Store(
        "bucket", endpoint="https://s3.example:9000", region="eu", access_key_id="me", **config
    )
    exchange = Answering(answer)
    return SignedUrls(store, lambda url: exchange), exchange  # type: ignore[arg-type,return-value]


def test_signed_urls() -> None:
    """Objects are asked for at their server, below their bucket, with a signature and without any secret."""
    ahead, exchange = signed_by(Fetched(200, b"it"), secret_access_key="secret")
    assert ahead([("x/a+b", 7, None), ("x/b", 2, 40)])() == [(200, b"it"), (200, b"it")]
    (first, limit, whole), (second, size, offset) = exchange.asked
    assert first.startswith("https://s3.example:9000/bucket/x/a%2Bb?")
    assert "X-Amz-Signature=" in first
    assert second.startswith("https://s3.example:9000/bucket/x/b?")
    assert (limit, whole, size, offset) == (7, None, 2, 40)
    assert "secret" not in first


def test_servers_that_are_not_reached_ahead() -> None:
    """Where connections cannot be made, nothing comes, and nothing is raised: another look will say why."""
    ahead, _ = signed_by(TransportError("no", final=True), secret_access_key="secret")
    assert ahead([("a", 1, None), ("b", 1, None)])() == [(0, b"")] * 2


class TestChunks(PrunableContract):
    """Chunk stores in object stores keep theirs."""

    @pytest.fixture
    def rig(self) -> StoreRig:
        files = ObjectFiles(obstore_store.MemoryStore(), "memory://", "default.castr")
        store = ChunkStore(files)

        def damage(id: ChunkId, raw: bytes) -> None:
            files.write(store.forms(id)[1].name, compress(Compression.ZSTD, raw))

        return StoreRig(store, lambda raw: (store.put(D.of(raw), raw), D.of(raw))[1], damage, store)


class Failing:
    """A bucket whose calls fail a few times; what is written may arrive all the same.

    :param errors: one for each call
    """

    def __init__(self, bucket: Any, errors: list[Exception], *, arrives: bool = False) -> None:
        self.bucket = bucket
        self.errors = errors
        self.arrives = arrives

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.bucket, name)

        def tried(*args: Any, **kwargs: Any) -> Any:
            if not self.errors:
                return call(*args, **kwargs)
            if self.arrives:
                call(*args, **kwargs)
            raise self.errors.pop(0)

        return tried


SECRET = "sig=c2VjcmV0&X-Amz-Signature=abcdef"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            GenericError(f"PUT https://h/b?{SECRET} status code: 503 <Code>SlowDown</Code>"),
            RemoteError,
            "SlowDown",
        ),
        (GenericError(f"GET https://h/b?{SECRET}: kind: Connect, ConnectionRefused"), RemoteError, "refused"),
        (
            GenericError("PUT http://169.254.169.254/latest/api/token"),
            RemoteError,
            "no credentials were found",
        ),
        (
            PermissionDeniedError(f"https://h/b?{SECRET} status code: 403"),
            AccessDenied,
            "access was denied (HTTP 403)",
        ),
        (
            GenericError(f"GET https://h/b?{SECRET} status code: 400 <Code>ExpiredToken</Code>"),
            AccessDenied,
            "the credentials have expired (ExpiredToken) (HTTP 400)",
        ),
        (
            PermissionDeniedError(f"{SECRET} status code: 403 <Code>RequestTimeTooSkewed</Code>"),
            AccessDenied,
            "this machine's clock and the service's do not agree (RequestTimeTooSkewed) (HTTP 403)",
        ),
        (GenericError("hyper::Error(IncompleteMessage)"), RemoteError, "closed the connection"),
        (GenericError("kind: UnexpectedEof, error: IncompleteBody"), RemoteError, "broke off before its end"),
    ],
)
def test_errors(error: Exception, kind: type[RemoteError], said: str) -> None:
    """A failure names place, file and reason, on one line and without what may be secret."""
    bucket = Failing(obstore_store.MemoryStore(), [error] * 9)
    files = ObjectFiles(bucket, "s3://bucket")  # type: ignore[arg-type]
    for call in (
        lambda: files.read(b"a/b", 9),
        lambda: files.stat(b"a/b"),
        lambda: files.write(b"a/b", b"x"),
        lambda: files.pieces(b"a/b"),
    ):
        with pytest.raises(RemoteError) as caught:
            call()
        message = str(caught.value)
        assert type(caught.value) is kind
        assert message.startswith("s3://bucket: cannot ")
        assert "a/b" in message
        assert said in message
        assert "sig" not in message.lower()
        assert "\n" not in message
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "error",
    [
        GenericError("hyper::Error(IncompleteMessage)"),
        PermissionDeniedError("status code: 403 <Code>RequestTimeTooSkewed</Code>"),
        GenericError("status code: 503 <Code>SlowDown</Code>"),
    ],
)
def test_a_range_that_cannot_be_read(error: Exception) -> None:
    """What went wrong is told, and nobody is asked for the size of what nobody answers for."""
    bucket = Failing(obstore_store.MemoryStore(), [error])
    files = ObjectFiles(bucket, "s3://bucket")  # type: ignore[arg-type]
    with pytest.raises(RemoteError, match="cannot read a/b: "):
        files.read_range(b"a/b", 0, 9)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("status code: 403 <Code>ExpiredToken</Code>", "look for a/b: the credentials have expired"),
        ("status code: 500", r"look for a/b: access was denied \(HTTP 403\)"),
        (None, r"look for a/b: access was denied \(HTTP 403\)"),
    ],
)
def test_a_look_that_is_refused(body: str | None, said: str) -> None:
    """The answer to a HEAD gives no reason: that is heard from a request for the first byte, where it has one."""
    errors: list[Exception] = [PermissionDeniedError("status code: 403")]
    bucket = obstore_store.MemoryStore()
    ObjectFiles(bucket, "memory://").write(b"a/b", b"x")
    files = ObjectFiles(Failing(bucket, errors + ([GenericError(body)] if body else [])), "s3://bucket")  # type: ignore[arg-type]
    with pytest.raises(AccessDenied, match=said):
        files.stat(b"a/b")


def test_many_at_once() -> None:
    """Each of many comes back in its place; what is missing or too large does not."""
    files = ObjectFiles(obstore_store.MemoryStore(), "memory://")
    for number in range(100):
        files.write(b"%d" % number, b"%d" % number * 10)
    wanted = [(b"%d" % number, 20) for number in range(100)]
    assert files.read_many([(b"no", 9), *wanted, (b"55", 19)]) == [
        None,
        *(b"%d" % number * 10 for number in range(100)),
        None,
    ]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("casync_compat.store.object.time.sleep", lambda seconds: None)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("arrives", [True, False])
def test_swap_whose_answer_is_lost(arrives: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A conditional write whose answer is lost has succeeded if what it wrote is there, and is tried again if not."""
    caplog.set_level("INFO", "casync_compat")
    bucket = obstore_store.MemoryStore()
    lost = Failing(bucket, [GenericError("kind: Connect")], arrives=arrives)
    files = ObjectFiles(bucket, "memory://", once=lost)  # type: ignore[arg-type]
    version = files.write(b"lock", b"mine", if_absent=True)
    assert "memory://: cannot write lock: it cannot be reached; it is tried again in 0.2 s" in caplog.text
    status = files.stat(b"lock")
    assert status is not None
    assert status.version == version
    lost.errors = [GenericError("status code: 503")]
    files.write(b"lock", b"mine again", if_version=version)
    assert files.read(b"lock", 99) == b"mine again"


@pytest.mark.usefixtures("patient")
def test_swap_that_another_one_won() -> None:
    """One whose answer is lost, and that did not arrive since another one came first, has failed."""
    bucket = obstore_store.MemoryStore()
    lost = Failing(bucket, [GenericError("kind: Connect")])
    files = ObjectFiles(bucket, "memory://", once=lost)  # type: ignore[arg-type]
    bucket.put("lock", b"another's")
    with pytest.raises(FileChanged):
        files.write(b"lock", b"mine", if_absent=True)
    assert files.read(b"lock", 99) == b"another's"


def test_swaps_are_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that stays away is told of, after some patience."""
    pauses: list[float] = []
    monkeypatch.setattr("casync_compat.store.object.time.sleep", pauses.append)
    lost = Failing(obstore_store.MemoryStore(), [GenericError("kind: Connect")] * 99)
    files = ObjectFiles(lost.bucket, "memory://", once=lost)  # type: ignore[arg-type]
    with pytest.raises(RemoteError, match="cannot be reached"):
        files.write(b"lock", b"mine", if_absent=True)
    assert pauses == sorted(pauses)
    assert 3 <= len(pauses) <= 10


def index_of(*raws: bytes) -> Index:
    builder = IndexBuilder(flags.DEFAULT, ChunkSizes())
    for raw in raws:
        builder.append(D.of(raw), len(raw))
    return builder.build()


@pytest.mark.parametrize("late", [True, False])
def test_indexes_beside_a_store_in_a_bucket(late: bool) -> None:
    """A collection spares what an index needs that came since it began, and refuses where an older one would lose."""
    bucket = obstore_store.MemoryStore()
    store = MixedStore(ObjectFiles(bucket, "s3://b/x.castr", "x.castr")).mixed(Mixing())
    store.around = lambda: ObjectFiles(bucket, "s3://b")
    for raw in (b"named", b"unnamed", b"garbage"):
        store.put(D.of(raw), raw)
    beside = ObjectFiles(bucket, "s3://b")
    beside.write(b"unnamed.caibx", index_of(b"unnamed").to_bytes())
    beside.write(b"deeper/garbage.caibx", index_of(b"garbage").to_bytes())
    began = boot_time() + (-100 if late else 100)
    if late:
        assert collect_garbage(store, [index_of(b"named")], began=began).removed == 1
        assert [store.has(D.of(raw)) for raw in (b"named", b"unnamed", b"garbage")] == [True, True, False]
        return
    with pytest.raises(UnnamedIndexes) as caught:
        collect_garbage(store, [index_of(b"named")], began=began)
    assert caught.value.paths == (b"s3://b/unnamed.caibx",)
    assert store.has(D.of(b"garbage"))
    assert collect_garbage(store, [index_of(b"named")], began=began, ignore_unnamed=True).removed == 2


class Counting:
    """A bucket that notes what is removed from it, and which of its calls are made.

    :param refuses: whether it takes no request for several objects
    :param lacks: how many of these requests find that an object in the middle is not there
    """

    def __init__(self, *, refuses: bool = False, lacks: int = 0) -> None:
        self.bucket: Any = obstore_store.MemoryStore()
        self.refuses = refuses
        self.lacks = lacks
        self.calls: list[str] = []
        self.gone: list[int] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self.bucket, name)

    def delete(self, keys: str | list[str]) -> None:
        self.gone.append(1 if isinstance(keys, str) else len(keys))
        if self.refuses and not isinstance(keys, str):
            raise GenericError("status code: 501 <Code>NotImplemented</Code>")
        if self.lacks and not isinstance(keys, str):
            self.lacks -= 1
            self.bucket.delete(keys[:100])
            raise FileNotFoundError("The specified blob does not exist. (code: 404)")
        self.bucket.delete(keys)


@pytest.mark.parametrize("refuses", [False, True])
def test_a_collection_removes_a_thousand_at_once(refuses: bool) -> None:
    """Garbage in a bucket goes by a few requests, each object by its own where the service cannot do better."""
    bucket = Counting(refuses=refuses)
    store = ChunkStore(ObjectFiles(bucket, "s3://b/x.castr", "x.castr"))  # type: ignore[arg-type]
    raws = [b"%d" % n for n in range(2500)]
    stored = sum(store.put(D.of(raw), raw).stored for raw in raws)
    kept = store.stored_size(D.of(raws[7])) or 0
    told: list[ChunkId] = []
    bucket.calls.clear()
    result = collect_garbage(store, [index_of(raws[7])], on_chunk=told.append)
    assert result.removed == len(raws) - 1
    assert result.freed == stored - kept
    assert told == sorted(D.of(raw) for raw in raws if raw != raws[7])
    assert list(store.ids()) == [D.of(raws[7])]
    # The rest is what the lease of a collection costs.
    assert [count for count in bucket.gone if count > 1] == ([1000] if refuses else [1000, 1000, 499])
    assert bucket.calls.count("head") < 20
    assert bucket.calls.count("delete_async") == (2499 if refuses else 0)


def test_an_object_that_has_gone_already_keeps_none_from_going() -> None:
    """Of a request for many Azure refuses the one that is not there; the rest goes, and the next is for many again."""
    bucket = Counting(lacks=1)
    store = ChunkStore(ObjectFiles(bucket, "az://b/x.castr", "x.castr"))  # type: ignore[arg-type]
    raws = [b"%d" % n for n in range(1500)]
    for raw in raws:
        store.put(D.of(raw), raw)
    collect_garbage(store, [index_of(raws[7])])
    assert [count for count in bucket.gone if count > 1] == [1000, 499]
    assert list(store.ids()) == [D.of(raws[7])]
