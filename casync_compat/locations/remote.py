"""Places of files that are not on this machine, by scheme: each one row, opened by a function of its own.

A new transport is a class of `store.files.Files` in `store/` and a row here; stores, indexes and archives in it come
with that. Modules of transports are imported when they are needed: their libraries are optional, and take time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from casync_compat.errors import UsageError
from casync_compat.locations.settings import Settings
from casync_compat.locations.shown import shown
from casync_compat.store.files import Files
from casync_compat.store.options import StoreOptions

if TYPE_CHECKING:
    from casync_compat.net.exchange import Exchange

__all__ = ["BUCKETS", "PLACES", "exchange_for", "open_files"]


def _web(where: str, settings: Settings) -> Files:
    from casync_compat.locations.credentials import reached
    from casync_compat.net.authorizer import Known
    from casync_compat.store.http import HttpFiles

    options = reached(where, settings)
    authorizer = None if options.authorization is None else Known(options.authorization)
    return HttpFiles(where, exchange_for(where, settings, options), authorizer)


def _s3(where: str, settings: Settings) -> Files:
    from casync_compat.locations.clouds import open_s3

    return open_s3(where, settings, exchange_for)


def _gcs(where: str, settings: Settings) -> Files:
    from casync_compat.locations.clouds import open_gcs

    return open_gcs(where, settings)


def _azure(where: str, settings: Settings) -> Files:
    from casync_compat.locations.clouds import open_azure

    return open_azure(where, settings)


def _sftp(where: str, settings: Settings) -> Files:
    from casync_compat.locations.peers import open_sftp

    return open_sftp(where, settings)


PLACES: Mapping[str, Callable[[str, Settings], Files]] = {
    "https": _web,
    "http": _web,
    "s3": _s3,
    "s3+https": _s3,
    "s3+http": _s3,
    "gs": _gcs,
    "sftp": _sftp,
    "az": _azure,
    "azure": _azure,
    "abfss": _azure,
}
"""What opens a directory, by the scheme of its locator."""

BUCKETS = frozenset({"s3", "gs", "az", "azure", "abfss"})
"""Schemes of places where a store that begins anew has packs, since each object costs a request. Not `s3+http` and
`s3+https`, which are desync's own: who writes them wants chunks that desync finds."""


def open_files(where: str, settings: Settings) -> Files:
    """The place of files at the locator of a directory.

    :raises KeyError: no row has its scheme; `forms.in_files` says so beforehand
    :raises UsageError: the locator is malformed, or the library for it is not installed
    """
    return PLACES[where.partition("://")[0]](where, settings)


def exchange_for(where: str, settings: Settings, options: StoreOptions) -> Exchange:
    """What makes HTTP requests: one for all at an origin that is reached alike; all share a loop.

    :param where: an URL
    :raises UsageError: it has no host, or pycurl is not installed
    """
    from casync_compat.net.exchange import Clock, Exchange
    from casync_compat.net.http import origin
    from casync_compat.net.transport import CurlTransport

    try:
        home = origin(where)
    except ValueError as error:
        raise UsageError(f"{shown(where)} cannot be reached: {error}") from error
    shared = settings.shared
    exchange = shared.exchanges.get((home, options))
    if exchange is None:
        transport = CurlTransport(
            settings.environ, "pycasync", options, home=home, loop=shared.loop, limiter=settings.limiter
        )
        shared.loop = transport.loop
        exchange = shared.exchanges[home, options] = Exchange(
            transport, Clock(), options=options, warn=lambda text: settings.warn(f"the server says: {text}")
        )
    return exchange
