"""Names of images turned into the places where they are: layouts, archives, repositories of registries.

    >>> with Places(environ=os.environ) as places:
    ...     place = places.readable(parse_reference("oci:images:debian"))

This is the one module that knows every kind of place; all others know the protocols below.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.errors import UsageError
from casync_compat.oci.places.docker_archive import DockerArchive
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.oci_archive import OciArchive
from casync_compat.oci.spec.blobs import Place, WritablePlace
from casync_compat.oci.spec.reference import Reference

if TYPE_CHECKING:
    from casync_compat.oci.registry.client import RegistryClient

__all__ = ["DEFAULT_TAG", "Places"]

DEFAULT_TAG = "latest"
_ARCHIVES: dict[str, type[DockerArchive] | type[OciArchive]] = {
    "docker-archive": DockerArchive,
    "oci-archive": OciArchive,
}


class Places(Closing):
    """Opens places, and closes them. Registries share one client, so that connections and tokens are shared.

    :param environ: where credentials are looked for
    :param insecure: plain HTTP, and TLS that is not verified, are good enough
    :param warn: told the warnings that registries send
    :param on_bytes: told the bytes of each piece moved to or from registries, from any thread
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        insecure: bool = False,
        username: str | None = None,
        password: str | None = None,
        warn: Callable[[str], None] | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self._environ = environ
        self._insecure = insecure
        self._credentials = (username, password)
        self._warn = warn
        self._on_bytes = on_bytes
        self._client: RegistryClient | None = None
        self._opened: list[Closing] = []
        self._writable: dict[tuple[str, str, str], WritablePlace] = {}

    def close(self) -> None:
        """Close everything that was opened."""
        self._writable.clear()
        while self._opened:
            self._opened.pop().close()
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def readable(self, reference: Reference) -> Place:
        """Where the image is.

        :raises ImageError: it is not what its name says
        :raises FileError: it cannot be read
        """
        if reference.transport in _ARCHIVES:
            archive = _ARCHIVES[reference.transport](os.fsencode(reference.place))
            self._opened.append(archive)
            return archive
        return self.writable(reference)

    def writable(self, reference: Reference) -> WritablePlace:
        """Where an image is to go; the same object for the same place, so that nothing is copied onto itself.

        :raises UsageError: nothing can be written there
        """
        key = (reference.transport, reference.place, reference.repository)
        if key not in self._writable:
            self._writable[key] = self._open(reference)
        return self._writable[key]

    def _open(self, reference: Reference) -> WritablePlace:
        if reference.transport == "oci":
            layout = Layout(os.fsencode(reference.place))
            self._opened.append(layout)
            return layout
        if reference.transport == "oci-archive":
            raise UsageError(f"{reference}: archives of layouts are read, not written; use oci: or docker://")
        if reference.transport != "docker":
            raise UsageError(
                f"{reference}: a docker archive has no room for casync indexes; use oci: or docker://"
            )
        return self.client.repository(reference, username=self._credentials[0], password=self._credentials[1])

    @property
    def client(self) -> RegistryClient:
        """The client that all registries are asked with."""
        if self._client is None:
            from casync_compat.oci.registry.client import RegistryClient  # lazily: it needs pycurl, an extra

            self._client = RegistryClient(
                environ=self._environ, insecure=self._insecure, warn=self._warn, on_bytes=self._on_bytes
            )
        return self._client

    @property
    def traffic(self) -> tuple[int, int, int]:
        """Requests, bytes sent and bytes received so far."""
        if self._client is None:
            return (0, 0, 0)
        traffic = self._client.traffic
        return (traffic.requests, traffic.bytes_up, traffic.bytes_down)
