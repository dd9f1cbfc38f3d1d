"""Requests made to last: redirects, second attempts, credentials where they belong, and what has moved.

    >>> exchange.send(Request("GET", url), authorizer, scopes, op="read a manifest", where="…")

Rules, and where they are from:

* Authorization goes to the registry's own origin and nowhere else; a redirect to another one is followed without it
  (distribution-spec, "Redirects"). No redirect leads from https to http.
* 408, 425, 429, 500, 502, 503, 504 and broken connections are tried again when the request can be repeated, after a
  pause that doubles, or that the server asks for in Retry-After. Other statuses are the caller's to judge.
* 401 is answered once for each request; 403 is final.
* `Warning: 299` is shown to the user, each text once (distribution-spec, "Warnings").
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

from casync_compat.errors import RemoteError
from casync_compat.logs import Log
from casync_compat.net.authorizer import Authorizer, parse_challenges
from casync_compat.net.http import (
    Fetched,
    Fetching,
    Headers,
    Origin,
    Request,
    Transport,
    TransportError,
    Wanted,
    origin,
)
from casync_compat.net.patience import rest
from casync_compat.net.traffic import Answer, CountedBody, Meter, Traffic
from casync_compat.shown import shown
from casync_compat.store.options import NOTHING_SAID, StoreOptions

__all__ = ["ATTEMPTS", "Clock", "Exchange", "is_temporary"]

_LOG = Log(__name__)
ATTEMPTS = 6
_REDIRECTS = 10
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_AT_ONCE = 2
"""Attempts after which connections that broke are made anew without a pause, while others bring something."""
_LONGEST_ASKED = 300.0
"""A server that asks for a longer pause than this many seconds gets an error instead."""

_WARNINGS = 20
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_WARNING = re.compile(r'299\s+\S+\s+"((?:[^"\\]|\\.)*)"')


def is_temporary(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in _TEMPORARY


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, for tests to replace. `jitter` gives numbers from 0 to 1."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = rest
    jitter: Callable[[], float] = random.random


class Exchange:
    """Sends requests. May be used from several threads at once.

    :param insecure: whether certificates are not checked, and redirects may leave TLS
    :param options: how often and after what pause requests are repeated, and fields that go with those to the origin
        that is asked
    :param warn: told the registry's warnings
    :param on_bytes: told of bytes moved, from whichever thread moves them
    """

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        *,
        insecure: bool = False,
        options: StoreOptions = NOTHING_SAID,
        warn: Callable[[str], None] | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self.insecure = insecure or options.trust_insecure
        self.attempts = ATTEMPTS if options.retries is None else 1 + max(0, options.retries)
        first = _FIRST_PAUSE if options.retry_interval is None else max(0.0, options.retry_interval)
        self._first_pause = first
        self._at_home = dict(options.headers)
        if options.cookie is not None:
            self._at_home["Cookie"] = options.cookie
        self._warn = warn
        self._warned: set[str] = set()
        self._warn_lock = threading.Lock()
        self._meter = Meter(on_bytes)
        self._reached: set[Origin] = set()

    @property
    def traffic(self) -> Traffic:
        """What has moved so far."""
        return self._meter.traffic

    def send(
        self,
        request: Request,
        authorizer: Authorizer | None,
        scopes: frozenset[str],
        *,
        op: str,
        where: str,
        repeat: bool = True,
    ) -> Answer:
        """The answer, whatever its status, once it is not worth asking again.

        :param authorizer: of the registry whose origin `request.url` has; None sends no credentials
        :param repeat: whether a request that failed half-way may be sent again
        :raises RemoteError: there is none
        :raises AccessDenied: no token could be had
        """
        answered = False
        attempt = 0
        while True:
            used = authorizer.header(scopes) if authorizer is not None else None
            try:
                answer = self.once(request, used)
            except TransportError as error:
                if not repeat or attempt == self.attempts - 1 or not self._may_pass(error, request):
                    raise RemoteError(where, op, error.why) from error
                self.pause(attempt, why=f"{request.method} {shown(request.url)}: {error.why}")
                attempt += 1
                continue
            if answer.status == 401 and authorizer is not None and answer.at_home and not answered:
                answered = True
                if _introduced(authorizer, answer, scopes, used):
                    continue
            if not repeat or attempt == self.attempts - 1 or not is_temporary(answer.status):
                return answer
            why = f"{request.method} {shown(request.url)}: status {answer.status}"
            if not self.pause(attempt, answer.headers, why=why):
                return answer
            answer.drain()
            attempt += 1

    def _may_pass(self, error: TransportError, request: Request) -> bool:
        # Nobody there on first contact is a mistyped name; later it is a server that is being restarted.
        stranger = error.absent and _origin(request.url) not in self._reached
        return not (error.final or stranger)

    def once(self, request: Request, authorization: str | None) -> Answer:
        """One attempt, redirects followed.

        :raises TransportError: no answer, or a redirect that is not followed
        """
        if request.body is not None:
            request = replace(request, body=CountedBody(request.body, self._meter))
        url, home = request.url, _origin(request.url)
        for _ in range(_REDIRECTS):
            here = _origin(url)
            if request.secret and here != home:
                raise TransportError("it redirects elsewhere what is not for everybody", final=True)
            headers = dict(request.headers)
            if here == home:
                headers |= self._at_home
                if authorization is not None:
                    headers["Authorization"] = authorization
            else:
                headers.pop("Authorization", None)
            self._meter.add(requests=1)
            begin = self._clock.monotonic()
            response = self._transport.send(
                replace(request, url=url, headers=headers), verify=not self.insecure
            )
            self._reached.add(here)
            took = self._clock.monotonic() - begin
            _LOG.debug("%s %s: status %d after %.3f s", request.method, shown(url), response.status, took)
            answer = Answer(response, url, here == home, self._meter)
            self._show_warnings(response.headers)
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or location is None:
                return answer
            answer.drain()
            if request.method not in ("GET", "HEAD") and response.status not in (307, 308):
                raise TransportError(
                    f"it redirects a {request.method} with status {response.status}", final=True
                )
            target = _joined(url, location)
            if here[0] == "https" and _origin(target)[0] != "https" and not self.insecure:
                raise TransportError("it redirects from https to http, which is not followed", final=True)
            url = target
        raise TransportError(f"it redirects more than {_REDIRECTS} times", final=True)

    def begin(
        self, wanted: Sequence[Wanted], authorizer: Authorizer | None, scopes: frozenset[str]
    ) -> Callable[[], list[Fetched]]:
        """Small files of one origin, many at once. What failed for a while is asked for again, all of it together.

        Redirects and questions for credentials are left to `send`.

        :param authorizer: of the server that they are on
        :returns: at once; what it returns waits for the answers, and tries again
        :raises AccessDenied: no token could be had
        :raises TransportError: the URL has no origin
        """
        transport = self._transport
        if not isinstance(transport, Fetching):
            return lambda: [Fetched(0, b"")] * len(wanted)

        def ask(some: Sequence[Wanted]) -> Callable[[], list[Fetched]]:
            used = authorizer.header(scopes) if authorizer is not None else None
            headers = self._at_home if used is None else {**self._at_home, "Authorization": used}
            return transport.begin(some, headers, verify=not self.insecure)

        first = ask(wanted)
        return lambda: self._insist(wanted, first, ask)

    def _insist(
        self,
        wanted: Sequence[Wanted],
        answers: Callable[[], list[Fetched]],
        ask: Callable[[Sequence[Wanted]], Callable[[], list[Fetched]]],
    ) -> list[Fetched]:
        """What was asked for, and asked for again where that may help."""
        found = [Fetched(0, b"")] * len(wanted)
        left = list(range(len(wanted)))
        futile = 0
        # A server that gives others what they want is alive: then what failed is tried more often, but not for ever.
        for attempt in range(2 * self.attempts):
            before = self._meter.traffic.bytes_down
            got = answers()
            self._meter.add(requests=len(got), down=sum(len(one.content) for one in got))
            if any(one.status for one in got):
                self._reached.add(_origin(wanted[0].url))
            if not attempt and all(one.status == 200 for one in got):
                return got
            for number, one in zip(left, got, strict=True):
                found[number] = one
            left = [number for number in left if self._is_passing(found[number], wanted[number].url)]
            alive = self._meter.traffic.bytes_down > before
            futile = 1 if alive else futile + 1
            if not left or futile >= self.attempts:
                break
            asked = max(found[number].wait for number in left) or None
            why = f"{len(left)} of {len(wanted)} files from {shown(wanted[0].url)} on"
            # Nobody asked for rest where connections broke and others were of use.
            at_once = alive and attempt < _AT_ONCE and all(found[number].error is not None for number in left)
            if at_once:
                _LOG.info("%s; attempt %d comes at once", why, attempt + 2)
            elif not self.pause(attempt, asked=asked, why=why):
                break
            answers = ask([wanted[number] for number in left])
        return found

    def _is_passing(self, one: Fetched, url: str) -> bool:
        """Whether another attempt may succeed."""
        if one.error is not None:
            return not (one.error.final or (one.error.absent and _origin(url) not in self._reached))
        return is_temporary(one.status)

    def pause(
        self, attempt: int, headers: Headers | None = None, asked: float | None = None, *, why: str
    ) -> bool:
        """Wait before attempt `attempt + 2`. False, at once, if the server asks for more patience than there is.

        :param headers: of the answer that failed
        :param asked: the seconds that it asks for, instead of `headers`
        :param why: what failed, and by what, for those who listen
        """
        if headers is not None:
            asked = self._asked(headers)
        if asked is not None and asked > _LONGEST_ASKED:
            return False
        longest = min(_LONGEST_PAUSE, self._first_pause * 2 ** min(attempt, 30))
        pause = longest * (0.5 + self._clock.jitter() / 2)
        # Jitter is added to what was asked for, so that clients turned away together do not come back together.
        pause = pause if asked is None else asked + pause / 4
        _LOG.info("%s; attempt %d comes in %.1f s", why, attempt + 2, pause)
        self._clock.sleep(pause)
        return True

    def _asked(self, headers: Headers) -> float | None:
        text = headers.get("Retry-After")
        if text is None:
            return None
        if text.isascii() and text.isdigit():
            return float(text[:12])
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._clock.now())
        except (ValueError, TypeError, OverflowError):
            return None

    def _show_warnings(self, headers: Headers) -> None:
        for value in headers.all("Warning"):
            for match in _WARNING.finditer(value):
                text = "".join(c if c.isprintable() else " " for c in re.sub(r"\\(.)", r"\1", match[1]))[:500]
                with self._warn_lock:
                    known = text in self._warned or len(self._warned) >= _WARNINGS
                    self._warned.add(text)
                if not known and self._warn is not None:
                    self._warn(text)


def _introduced(authorizer: Authorizer, answer: Answer, scopes: frozenset[str], used: str | None) -> bool:
    """Take in what a 401 asks for. Returns whether the request is worth sending again; the answer is closed then."""
    try:
        again = authorizer.learn(parse_challenges(answer.headers.all("WWW-Authenticate")), scopes, used)
    except BaseException:
        answer.close()
        raise
    if again:
        answer.drain()
    return again


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise TransportError(
            f"it redirects to an address that cannot be used: {error}", final=True
        ) from error


def _origin(url: str) -> Origin:
    try:
        return origin(url)
    except ValueError as error:
        raise TransportError(
            f"it redirects to an address that cannot be used: {error}", final=True
        ) from error
