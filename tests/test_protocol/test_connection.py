"""What the two sides of a connection may say to each other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from casync_compat.errors import FormatError, UsageError
from casync_compat.ids import ChunkId
from casync_compat.protocol import (
    Abort,
    ArchiveEnd,
    ArchivePart,
    ChunkAbsent,
    ChunkReply,
    ChunkRequest,
    Connection,
    Farewell,
    Hello,
    IndexEnd,
    IndexPart,
    Message,
    Terms,
    encode,
)

T = Terms
A, B = ChunkId(b"a" * 32), ChunkId(b"b" * 32)

PULL = T.PULL_INDEX | T.PULL_CHUNKS, T.READABLE_INDEX | T.READABLE_STORE
PULL_ARCHIVE = T.PULL_ARCHIVE, T.READABLE_ARCHIVE
PUSH = T.PUSH_INDEX | T.PUSH_INDEX_CHUNKS | T.PUSH_CHUNKS, T.WRITABLE_INDEX | T.WRITABLE_STORE
PUSH_ARCHIVE = T.PUSH_ARCHIVE, T.WRITABLE_ARCHIVE

FLOWS: dict[str, tuple[tuple[Terms, Terms], list[tuple[str, Message]]]] = {
    "pull": (
        PULL,
        [
            ("server", IndexPart(b"x")),
            ("client", ChunkRequest((A, B), urgent=True)),
            ("server", IndexPart(b"y")),
            ("server", ChunkAbsent(B)),
            ("server", IndexEnd()),
            ("server", ChunkReply(A, b"a", compressed=False)),
            ("client", Farewell()),
        ],
    ),
    "pull an archive": (
        PULL_ARCHIVE,
        [("server", ArchivePart(b"x")), ("server", ArchiveEnd()), ("client", Farewell())],
    ),
    "push": (
        PUSH,
        [
            ("client", IndexPart(b"x")),
            ("server", ChunkRequest((A,))),
            ("client", IndexEnd()),
            ("client", ChunkReply(A, b"a", compressed=True)),
            ("server", Farewell()),
        ],
    ),
    "push an archive": (
        PUSH_ARCHIVE,
        [("client", ArchivePart(b"x")), ("client", ArchiveEnd()), ("server", Farewell())],
    ),
    "give up": (PULL, [("server", Abort(2, b"no such thing"))]),
}


def greeted(terms: tuple[Terms, Terms]) -> tuple[Connection, Connection]:
    """A client and a server that have said HELLO."""
    client, server = map(Connection, terms)
    for one, other in ((client, server), (server, client)):
        other.receive(one.send(one.hello))
        assert other.next_message() == one.hello
    return client, server


def connection(mine: Terms, theirs: Terms, received: Sequence[Message] = ()) -> Connection:
    """One side, as the other has said these things."""
    one = Connection(mine)
    one.send(one.hello)
    one.receive(b"".join(map(encode, (Hello(theirs), *received))))
    for _ in range(1 + len(received)):
        one.next_message()
    return one


@pytest.mark.parametrize(("terms", "said"), FLOWS.values(), ids=FLOWS)
def test_flows(terms: tuple[Terms, Terms], said: list[tuple[str, Message]]) -> None:
    """What casync's two sides say to each other can be said, and arrives."""
    client, server = greeted(terms)
    for who, message in said:
        one, other = (client, server) if who == "client" else (server, client)
        other.receive(one.send(message))
        assert other.next_message() == message
    assert client.ended or server.ended


@pytest.mark.parametrize(
    ("mine", "theirs", "message"),
    [
        (T.PULL_INDEX, T.READABLE_INDEX | T.READABLE_STORE, ChunkReply(A, b"a", compressed=False)),
        (T.PULL_CHUNKS, T.READABLE_INDEX | T.READABLE_STORE, IndexPart(b"x")),
        (*PULL, ArchivePart(b"x")),
        (*PULL, ArchiveEnd()),
        (*PULL, ChunkRequest((A,))),
        (*PUSH, IndexPart(b"x")),
        (*PUSH, ChunkAbsent(A)),
        (*PUSH_ARCHIVE, ChunkRequest((A,))),
        (*PULL, Hello(PULL[1])),
    ],
)
def test_what_was_not_agreed_on_is_refused(mine: Terms, theirs: Terms, message: Message) -> None:
    """A server cannot make a client take, or give, what it did not come for."""
    one = connection(mine, theirs)
    one.receive(encode(message))
    with pytest.raises(FormatError, match="out of turn"):
        one.next_message()


@pytest.mark.parametrize(
    "messages",
    [
        [IndexEnd(), IndexPart(b"x")],
        [IndexEnd(), IndexEnd()],
        [Farewell(), IndexPart(b"x")],
        [Abort(0, b""), Farewell()],
    ],
    ids=str,
)
def test_nothing_follows_the_end(messages: list[Message]) -> None:
    """What was ended is not gone on with."""
    one = connection(*PULL, messages[:-1])
    one.receive(encode(messages[-1]))
    with pytest.raises(FormatError, match="out of turn"):
        one.next_message()


def test_chunks_come_when_asked_for() -> None:
    """A chunk that nobody asked for is refused, and so is one that came already."""
    for asked in ((), (A,)):
        one = connection(*PULL)
        if asked:
            one.send(ChunkRequest(asked))
            one.receive(encode(ChunkReply(A, b"a", compressed=False)))
            assert one.next_message() is not None
        one.receive(encode(ChunkReply(A, b"a", compressed=False)))
        with pytest.raises(FormatError, match="which nobody asked for"):
            one.next_message()


def test_hello_comes_first() -> None:
    """Whoever says anything else first is refused, and this side does not say it either."""
    one = Connection(T.PULL_INDEX)
    one.receive(encode(IndexPart(b"x")))
    with pytest.raises(FormatError, match="HELLO comes first"):
        one.next_message()
    with pytest.raises(UsageError, match="HELLO comes first"):
        one.send(Farewell())


@pytest.mark.parametrize(
    ("mine", "theirs", "why"),
    [
        (T.PULL_INDEX, T.READABLE_STORE, "there is not an index to read"),
        (T.PULL_CHUNKS, T.READABLE_INDEX, "there is not a store to read"),
        (PUSH[0], T.WRITABLE_STORE, "there is not an index to write"),
        (T.PUSH_ARCHIVE, T.READABLE_ARCHIVE, "there is not an archive to write"),
        (T.READABLE_STORE, T.PUSH_ARCHIVE, "it wants what is not offered"),
        (T.WRITABLE_INDEX, T.PUSH_INDEX | T.PUSH_INDEX_CHUNKS, "of an index that it does not send"),
        (T.READABLE_STORE, T.READABLE_STORE, "neither side wants anything"),
    ],
)
def test_who_cannot_agree(mine: Terms, theirs: Terms, why: str) -> None:
    """What one side wants and the other has not is found out by the first message."""
    one = Connection(mine)
    one.send(one.hello)
    one.receive(encode(Hello(theirs)))
    with pytest.raises(FormatError, match=why):
        one.next_message()


def test_this_side_keeps_the_rules() -> None:
    """What the other side would refuse is not sent."""
    one = connection(*PULL)
    for message in (IndexPart(b"x"), ChunkReply(A, b"a", compressed=False), one.hello):
        with pytest.raises(UsageError, match="cannot be sent"):
            one.send(message)
    one.send(Farewell())
    with pytest.raises(UsageError, match="nothing may follow the end"):
        one.send(ChunkRequest((A,)))
