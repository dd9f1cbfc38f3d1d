"""Places of files that are not on this machine, by scheme: each one row, opened by a function of its own.

A new transport is a class of `store.files.Files` in `store/` and a row here; stores, indexes and archives in it come
with that. Modules of transports are imported when they are needed: their libraries are optional, and take time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from casync_compat.locations.settings import Settings
from casync_compat.store.files import Files

if TYPE_CHECKING:
    from casync_compat.net.exchange import Exchange

__all__ = ["PLACES", "exchange_for", "open_files"]


def _web(where: str, settings: Settings) -> Files:
    from casync_compat.store.http import HttpFiles

    return HttpFiles(where, exchange_for(settings))


def _s3(where: str, settings: Settings) -> Files:
    from casync_compat.locations.clouds import open_s3

    return open_s3(where, settings)


def _gcs(where: str, settings: Settings) -> Files:
    from casync_compat.locations.clouds import open_gcs

    return open_gcs(where, settings)


def _azure(where: str, settings: Settings) -> Files:
    from casync_compat.locations.clouds import open_azure

    return open_azure(where, settings)


PLACES: Mapping[str, Callable[[str, Settings], Files]] = {
    "https": _web,
    "http": _web,
    "s3": _s3,
    "s3+https": _s3,
    "s3+http": _s3,
    "gs": _gcs,
    "az": _azure,
    "azure": _azure,
    "abfss": _azure,
}
"""What opens a directory, by the scheme of its locator."""


def open_files(where: str, settings: Settings) -> Files:
    """The place of files at the locator of a directory.

    :raises KeyError: no row has its scheme; `forms.in_files` says so beforehand
    :raises UsageError: the locator is malformed, or the library for it is not installed
    """
    return PLACES[where.partition("://")[0]](where, settings)


def exchange_for(settings: Settings) -> Exchange:
    """What makes HTTP requests, one for all that is opened with the same settings."""
    shared = settings.shared
    if shared.exchange is None:
        from casync_compat.net.exchange import Clock, Exchange
        from casync_compat.net.transport import CurlTransport

        transport = CurlTransport(settings.environ, "pycasync")
        shared.exchange = Exchange(
            transport, Clock(), warn=lambda text: settings.warn(f"the server says: {text}")
        )
    return shared.exchange
