"""Who signs a request: what `exchange` asks of an authorizer, and the challenges of a server that wants to know.

A registry's token dance, basic and bearer credentials and a signed request are each one class that keeps `Authorizer`.
Nothing is looked up here and nothing is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Authorizer", "Challenge", "Known", "parse_challenges"]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,*\s*({_TOKEN})(?:[ \t]+|$)")
_PARAMETER = re.compile(rf'\s*,?\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*(?=,|$)')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a registry offers.

    :ivar scheme: lower case: `basic` or `bearer`, say
    :ivar parameters: names in lower case
    """

    scheme: str
    parameters: dict[str, str]


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """The challenges in `WWW-Authenticate` fields (RFC 9110, section 11.6.1); what cannot be read ends the field."""
    return [challenge for value in values for challenge in _challenges(value)]


def _challenges(value: str) -> Iterator[Challenge]:
    at = 0
    while match := _SCHEME.match(value, at):
        at = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(value, at):
            at = parameter.end()
            quoted, plain = parameter[2], parameter[3]
            parameters[parameter[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if plain is None else plain
        yield Challenge(match[1].lower(), parameters)


class Authorizer(Protocol):
    """Gives the Authorization field for requests to one server. May be used from several threads at once."""

    def header(self, scopes: frozenset[str]) -> str | None:
        """The field for a request that needs `scopes` (empty where a server has none); None sends none.

        :raises AccessDenied: credentials were refused
        """

    def learn(self, challenges: list[Challenge], scopes: frozenset[str], used: str | None) -> bool:
        """Take in what a 401 asked for. Returns whether it is worth trying again.

        :param used: the Authorization field that was refused
        :raises AccessDenied: credentials were refused
        """


class Known:
    """The same Authorization field for every request.

    :param value: of the field
    """

    def __init__(self, value: str) -> None:
        self._value = value

    def header(self, scopes: frozenset[str]) -> str:
        return self._value

    def learn(self, challenges: list[Challenge], scopes: frozenset[str], used: str | None) -> bool:
        return False
