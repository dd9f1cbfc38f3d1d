"""Who may read and write what: credentials of a request become a `Grant`. No IO; `tokens` reads the file.

Without rules everybody may read everything, and write where the server takes writes. With any rule, whoever shows
nothing may do what the rules give to anybody, which is nothing unless they say so.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

__all__ = ["EVERYTHING", "NOTHING", "Grant", "Rules"]

_ALL = "*"


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do: names of stores, `default` for those without, and `indexes`; `*` is everything.

    :ivar known: whether it is given to somebody in particular
    """

    read: frozenset[str] = frozenset()
    write: frozenset[str] = frozenset()
    known: bool = False

    def may_read(self, name: str) -> bool:
        """Whether chunks of a store, or the files, may be read."""
        return name in self.read or _ALL in self.read

    def may_write(self, name: str) -> bool:
        """Whether they may be put."""
        return name in self.write or _ALL in self.write


NOTHING = Grant()
EVERYTHING = Grant(frozenset({_ALL}), frozenset({_ALL}))


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules.

    :ivar authorization: the whole value of the Authorization field that may do everything, as desync's
        ``--authorization``; None for none
    :ivar tokens: what tokens may do, by the hexadecimal sha256 of each
    :ivar anybody: what may be done without credentials
    """

    authorization: bytes | None = field(default=None, repr=False)
    tokens: Mapping[str, Grant] = field(default_factory=dict, repr=False)
    anybody: Grant = EVERYTHING

    @property
    def is_open(self) -> bool:
        """Whether nobody need show anything."""
        return self.authorization is None and not self.tokens and self.anybody is EVERYTHING

    def grant(self, shown: bytes | None) -> Grant | None:
        """What whoever shows this may do; None where it is nothing that is known.

        :param shown: the value of the Authorization field; None where there is none. A token is a bearer's, or the
            password of a user whose name does not matter, as clients can write it into an URL
        """
        if self.is_open:
            return EVERYTHING
        if shown is None:
            return self.anybody
        if self.authorization is not None and hmac.compare_digest(shown, self.authorization):
            return Grant(EVERYTHING.read, EVERYTHING.write, known=True)
        token = _token(shown)
        return None if token is None else self.tokens.get(sha256(token).hexdigest())


def _token(shown: bytes) -> bytes | None:
    scheme, _, value = shown.partition(b" ")
    value = value.strip()
    if scheme.lower() == b"bearer":
        return value
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(value, validate=True).partition(b":")[2]
    except binascii.Error:
        return None
