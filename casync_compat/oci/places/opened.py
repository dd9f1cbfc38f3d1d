"""Names of images turned into the places where they are: layouts, directories, archives, repositories of registries.

    >>> with Places(environ=os.environ) as places:
    ...     place = places.readable(parse_reference("oci:images:debian"))

This is the one module that knows every kind of place; all others know the protocols below.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.errors import UsageError
from casync_compat.oci.places.bydaemon import KeptImage
from casync_compat.oci.places.directory import ImageDirectory
from casync_compat.oci.places.docker_archive import DockerArchive
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.new_archive import NewOciArchive
from casync_compat.oci.places.oci_archive import OciArchive
from casync_compat.oci.spec.blobs import Place, WritablePlace
from casync_compat.oci.spec.reference import LOCAL, Reference

if TYPE_CHECKING:
    from casync_compat.oci.registry.client import RegistryClient

__all__ = ["DEFAULT_TAG", "Login", "Places"]

DEFAULT_TAG = "latest"
_ARCHIVES: dict[str, type[DockerArchive] | type[OciArchive]] = {
    "docker-archive": DockerArchive,
    "oci-archive": OciArchive,
}
_FILES: dict[str, type[Layout] | type[ImageDirectory] | type[NewOciArchive]] = {
    "oci": Layout,
    "dir": ImageDirectory,
    "oci-archive": NewOciArchive,
}


@dataclass(frozen=True, slots=True)
class Login:
    """How registries are reached.

    :ivar insecure: plain HTTP, and TLS that is not verified, are good enough
    :ivar username: with `password`, in place of what files and helpers have
    :ivar auth_file: a file of credentials that is asked before all others
    """

    insecure: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    auth_file: str | None = None


class Places(Closing):
    """Opens places, and closes them. Registries share one client, so that connections and tokens are shared.

    :param environ: where credentials are looked for
    :param login: for registries
    :param source: the same for those that are only read; None: `login`
    :param warn: told the warnings that registries send
    :param on_bytes: told the bytes of each piece moved to or from registries, from any thread
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        login: Login | None = None,
        source: Login | None = None,
        warn: Callable[[str], None] | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self._environ = environ
        self._login = login or Login()
        self._source = source or self._login
        self._warn = warn
        self._on_bytes = on_bytes
        self._clients: dict[tuple[bool, str | None], RegistryClient] = {}
        self._opened: list[Closing] = []
        self._writable: dict[tuple[str, str, str, Login], WritablePlace] = {}

    def close(self) -> None:
        """Close everything that was opened."""
        self._writable.clear()
        while self._opened:
            self._opened.pop().close()
        while self._clients:
            self._clients.popitem()[1].close()

    def readable(self, reference: Reference) -> Place:
        """Where the image is.

        :raises ImageError: it is not what its name says
        :raises FileError: it cannot be read
        """
        if reference.transport in _ARCHIVES:
            archive = _ARCHIVES[reference.transport](os.fsencode(reference.place))
            self._opened.append(archive)
            return archive
        if reference.transport in LOCAL:
            copied = KeptImage(reference.transport, reference.place, self._environ)
            self._opened.append(copied)
            return copied.place
        return self._shared(reference, self._source)

    def writable(self, reference: Reference, *, change: bool = False) -> WritablePlace:
        """Where an image is to go; the same object for the same place, so that nothing is copied onto itself.

        :param change: what is there is to be changed, not replaced
        :raises UsageError: nothing can be written there
        """
        if change and reference.transport == "oci-archive":
            raise UsageError(
                f"{reference}: archives are written anew, not changed; copy the image to a layout (oci:), and use that"
            )
        return self._shared(reference, self._login)

    def _shared(self, reference: Reference, login: Login) -> WritablePlace:
        login = login if reference.transport == "docker" else Login()
        key = (reference.transport, reference.place, reference.repository, login)
        if key not in self._writable:
            self._writable[key] = self._open(reference, login)
        return self._writable[key]

    def _open(self, reference: Reference, login: Login) -> WritablePlace:
        if reference.transport in _FILES:
            place = _FILES[reference.transport](os.fsencode(reference.place))
            self._opened.append(place)
            return place
        if reference.transport in LOCAL:
            raise UsageError(
                f"{reference}: what podman and docker keep is read here, not written; export to docker-archive:, and "
                "podman load or docker load it"
            )
        if reference.transport != "docker":
            raise UsageError(
                f"{reference}: a docker archive has no room for casync indexes; use oci:, oci-archive: or docker://"
            )
        return self.client(login).repository(reference, username=login.username, password=login.password)

    def client(self, login: Login | None = None) -> RegistryClient:
        """The client that registries are asked with."""
        login = login or self._login
        key = (login.insecure, login.auth_file)
        if key not in self._clients:
            from casync_compat.oci.registry.client import RegistryClient  # lazily: it needs pycurl, an extra

            named = {} if login.auth_file is None else {"REGISTRY_AUTH_FILE": login.auth_file}
            self._clients[key] = RegistryClient(
                environ={**self._environ, **named},
                insecure=login.insecure,
                warn=self._warn,
                on_bytes=self._on_bytes,
            )
        return self._clients[key]

    @property
    def traffic(self) -> tuple[int, int, int]:
        """Requests, bytes sent and bytes received so far."""
        each = [client.traffic for client in self._clients.values()]
        return (
            sum(one.requests for one in each),
            sum(one.bytes_up for one in each),
            sum(one.bytes_down for one in each),
        )
