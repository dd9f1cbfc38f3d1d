"""One side of a connection: what each may say, by what both said first. Sans-IO, and the same for both roles.

Each side begins with HELLO, which says what it offers and what it wants to do; whoever wants nothing serves. From then
on only what was agreed on may be said (casync `src/caremote.c`, `ca_remote_validate_feature_flags`).

    >>> client = Connection(Terms.PULL_INDEX | Terms.PULL_CHUNKS)
    >>> pipe.write(client.send(client.hello))
    >>> client.receive(pipe.read())
    >>> while (message := client.next_message()) is not None: ...
"""

from __future__ import annotations

from collections.abc import Mapping

from casync_compat.errors import FormatError, UsageError
from casync_compat.ids import ChunkId
from casync_compat.protocol.messages import (
    Abort,
    ArchiveEnd,
    ArchivePart,
    ChunkAbsent,
    ChunkReply,
    ChunkRequest,
    Farewell,
    Hello,
    IndexEnd,
    IndexPart,
    Message,
    MessageReader,
    Terms,
    encode,
)

__all__ = ["Connection"]

_NEEDED: Mapping[Terms, Terms] = {
    Terms.PULL_CHUNKS: Terms.READABLE_STORE,
    Terms.PULL_INDEX: Terms.READABLE_INDEX,
    Terms.PULL_ARCHIVE: Terms.READABLE_ARCHIVE,
    Terms.PUSH_CHUNKS: Terms.WRITABLE_STORE,
    Terms.PUSH_INDEX: Terms.WRITABLE_INDEX,
    Terms.PUSH_INDEX_CHUNKS: Terms.PUSH_INDEX | Terms.PUSH_CHUNKS,
    Terms.PUSH_ARCHIVE: Terms.WRITABLE_ARCHIVE,
}
"""What one side wants, and what the other must offer for it; for the last but one, what it must want itself."""

_OFFERS = {
    Terms.READABLE_STORE: "a store to read",
    Terms.WRITABLE_STORE: "a store to write",
    Terms.READABLE_INDEX: "an index to read",
    Terms.WRITABLE_INDEX: "an index to write",
    Terms.READABLE_ARCHIVE: "an archive to read",
    Terms.WRITABLE_ARCHIVE: "an archive to write",
}

_RULES: Mapping[type[Message], tuple[Terms, Terms]] = {
    IndexPart: (Terms.PUSH_INDEX, Terms.PULL_INDEX),
    IndexEnd: (Terms.PUSH_INDEX, Terms.PULL_INDEX),
    ArchivePart: (Terms.PUSH_ARCHIVE, Terms.PULL_ARCHIVE),
    ArchiveEnd: (Terms.PUSH_ARCHIVE, Terms.PULL_ARCHIVE),
    ChunkRequest: (Terms.PULL_CHUNKS, Terms.PUSH_CHUNKS | Terms.PUSH_INDEX_CHUNKS),
    ChunkReply: (Terms.PUSH_CHUNKS | Terms.PUSH_INDEX_CHUNKS, Terms.PULL_CHUNKS),
    ChunkAbsent: (Terms.PUSH_CHUNKS | Terms.PUSH_INDEX_CHUNKS, Terms.PULL_CHUNKS),
}
"""Who may say it: one who wants any of the first, or whose opposite wants any of the second."""

_PARTS: Mapping[type[Message], type[Message]] = {
    IndexPart: IndexEnd,
    IndexEnd: IndexEnd,
    ArchivePart: ArchiveEnd,
    ArchiveEnd: ArchiveEnd,
}
"""What may not be said any more once the other was."""


def _wants(terms: Terms) -> bool:
    return any(terms & wish for wish in _NEEDED)


def _disagreement(wanting: Terms, offering: Terms) -> str | None:
    """Why one side cannot have what it wants from the other; None when it can."""
    for wish, needed in _NEEDED.items():
        if wish & wanting and wish is Terms.PUSH_INDEX_CHUNKS and needed & ~wanting:
            return "it wants to be asked for chunks of an index that it does not send"
        if wish & wanting and wish is not Terms.PUSH_INDEX_CHUNKS and not needed & offering:
            return f"there is not {_OFFERS[needed]}"
    return None


class Connection:
    """One side of a connection.

    :param terms: what this side offers and wants
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.theirs: Terms | None = None
        """What the other side offers and wants; None until it has said so."""
        self._reader = MessageReader()
        self._sent: set[type[Message]] = set()
        self._received: set[type[Message]] = set()
        self._asked: set[ChunkId] = set()

    @property
    def hello(self) -> Hello:
        """What to send first."""
        return Hello(self.terms)

    @property
    def ended(self) -> bool:
        """Whether nothing more comes: the other side has said so, or the bytes have ended."""
        return self._reader.ended or Farewell in self._received or Abort in self._received

    def send(self, message: Message) -> bytes:
        """The bytes of a message, which are to be sent in this order.

        :raises UsageError: this side may not say that now
        """
        kind = type(message)
        why = _forbidden(message, self._sent, self.terms, self.theirs)
        if why is not None:
            raise UsageError(f"{kind.__name__} cannot be sent: {why}")
        data = encode(message)
        self._sent.add(kind)
        if isinstance(message, ChunkRequest):
            self._asked.update(message.ids)
        return data

    def receive(self, data: bytes) -> None:
        """Add bytes of the other side; none says that there are no more."""
        self._reader.receive(data)

    def next_message(self) -> Message | None:
        """The other side's next message; None when it is not there whole yet, or there is none after the end.

        :raises FormatError: it is malformed, or may not be said now
        """
        message = self._reader.next_message()
        if message is None:
            return None
        kind = type(message)
        if isinstance(message, Hello) and self.theirs is None:
            self._agree(message.terms)
        else:
            why = _forbidden(message, self._received, self.theirs, self.terms)
            if why is not None:
                raise FormatError(f"it sends {kind.__name__} out of turn: {why}")
        if isinstance(message, (ChunkReply, ChunkAbsent)):
            if message.id not in self._asked:
                raise FormatError(f"it sends chunk {message.id}, which nobody asked for")
            self._asked.remove(message.id)
        self._received.add(kind)
        return message

    def _agree(self, theirs: Terms) -> None:
        if not _wants(self.terms) and not _wants(theirs):
            raise FormatError("neither side wants anything")
        if (why := _disagreement(self.terms, theirs)) is not None:
            raise FormatError(f"it does not offer what is wanted: {why}")
        if (why := _disagreement(theirs, self.terms)) is not None:
            raise FormatError(f"it wants what is not offered: {why}")
        self.theirs = theirs


def _forbidden(
    message: Message, said: set[type[Message]], speaker: Terms | None, listener: Terms | None
) -> str | None:
    """Why one side may not say something to the other, after what it `said` before; None when it may."""
    kind = type(message)
    if kind is Hello:
        return "it was said already" if Hello in said else None
    if Farewell in said or Abort in said:
        return "nothing may follow the end"
    if Hello not in said:
        return "HELLO comes first"
    if kind is Abort:
        return None
    if speaker is None or listener is None:
        return "the other side has not said HELLO"
    if kind is Farewell:
        return None
    own, others = _RULES[kind]
    if not (own & speaker or others & listener):
        return "that was not agreed on"
    if _PARTS.get(kind) in said:
        return "it was sent whole already"
    return None
