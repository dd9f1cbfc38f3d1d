"""Names of chunk files, whatever their form: which a chunk may have, and which chunk a name is about. No IO.

| form | name |
| --- | --- |
| plain | ``<first 4 hex digits of the id>/<64 hex digits>`` |
| compressed (zstd, xz, gzip) | the same and ``.cacnk`` |
| either, encrypted | the same and ``.<algorithm>-<8 hex digits of the key's id>`` |

Encrypted files are those of `store.encrypted`, which gives them the other names; here they are what is encrypted with
a key that nobody gave.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from casync_compat.errors import UsageError, show_path
from casync_compat.ids import ChunkId
from casync_compat.store.chunkfiles import ChunkFile

__all__ = ["ChunkNames", "key_ids"]

_FORM = (
    rb"(?:([0-9a-f]{4})/)?(([0-9a-f]{4})[0-9a-f]{60})(%s)?(\.(?:xchacha20-poly1305|aes-256-gcm)-[0-9a-f]{8})?"
)


class ChunkNames:
    """Names in one store.

    :param suffix: of compressed chunks
    :param flat: whether names have no directory in front
    :ivar locked: what encrypted files that were seen end in
    :raises UsageError: `suffix` cannot be used
    """

    def __init__(self, suffix: bytes, *, flat: bool) -> None:
        if not suffix or b"/" in suffix or b"\0" in suffix or suffix.endswith(b".tmp"):
            raise UsageError(f"{show_path(suffix) or 'nothing'} cannot be the suffix of compressed chunks")
        self.suffix = suffix
        self.flat = flat
        self.locked: set[bytes] = set()
        self._form: re.Pattern[bytes] | None = None

    @property
    def under(self) -> re.Pattern[bytes]:
        """The names of directories that chunks are in; patterns are made when a store is listed, since most are not."""
        return re.compile(b"" if self.flat else rb"[0-9a-f]{4}")

    def of(self, id: ChunkId) -> tuple[bytes, bytes]:
        """The names of the plain form and of the compressed one."""
        plain = id.hex().encode("ascii")
        if not self.flat:
            plain = plain[:4] + b"/" + plain
        return plain, plain + self.suffix

    def read(self, name: bytes) -> ChunkFile | None:
        """The chunk file of a name; None for other files, and for what is encrypted with a key that nobody gave."""
        found = self._match(name)
        if found is None or found[5]:
            return None
        id = ChunkId.from_hex(found[2].decode("ascii"))
        return ChunkFile(name, id, found[4] is not None, self._placed(found))

    def locked_for(self, id: ChunkId, names: Iterable[bytes]) -> set[bytes]:
        """What those of these files end in that are the chunk, encrypted."""
        found = (self._match(name) for name in names)
        return {
            match[5] for match in found if match is not None and match[5] and match[2] == id.hex().encode()
        }

    def id_of(self, name: bytes) -> ChunkId | None:
        """The chunk of a file that lies where it belongs, encrypted or not; None for other files."""
        found = self._match(name)
        return (
            ChunkId.from_hex(found[2].decode("ascii")) if found is not None and self._placed(found) else None
        )

    def ids_of(self, names: Iterable[bytes]) -> Iterator[ChunkId]:
        """The ids of the chunks of files that lie where they belong, each once, if the names ascend."""
        last = None
        for name in names:
            id = self.id_of(name)
            # The forms of a chunk follow one another, perhaps with strangers between them.
            if id is not None and id != last:
                last = id
                yield id

    def _placed(self, found: re.Match[bytes]) -> bool:
        return found[1] is None if self.flat else found[1] == found[3]

    def _match(self, name: bytes) -> re.Match[bytes] | None:
        if self._form is None:
            self._form = re.compile(_FORM % re.escape(self.suffix))
        found = self._form.fullmatch(name)
        if found is not None and found[5]:
            self.locked.add(found[5])
        return found

    def unread(self) -> str | None:
        """What to say of files that were seen and cannot be read; None where there are none."""
        if not self.locked:
            return None
        return f"chunks encrypted with the key {key_ids(self.locked)} cannot be read: it was not given"

    def forms(self, id: ChunkId) -> tuple[ChunkFile, ChunkFile]:
        """The files that a chunk may be in, whether there or not: the plain form and the compressed one."""
        plain, packed = self.of(id)
        return ChunkFile(plain, id, False, True), ChunkFile(packed, id, True, True)

    def all_of(self, id: ChunkId) -> list[bytes]:
        """Every name that a chunk may have here, with the keys that were seen."""
        names = self.of(id)
        return [*names, *(name + suffix for suffix in sorted(self.locked) for name in names)]


def key_ids(locked: set[bytes]) -> str:
    """The keys that files are encrypted with, for a message."""
    return ", ".join(suffix[1:].decode("ascii") for suffix in sorted(locked))
