"""Images that podman (`containers-storage:`) or docker (`docker-daemon:`) keeps, read by way of skopeo or the daemon.

    >>> with KeptImage("containers-storage", "localhost/app:1", os.environ) as copied:
    ...     copied.place.resolve(None)

Their forms are their programs' own business, so that docker's daemon, where it is on this machine, or else skopeo
copies the image to a directory for temporary files first.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping

from casync_compat.closing import Closing
from casync_compat.errors import FileError, UsageError
from casync_compat.oci.places.daemon import daemon_socket, save
from casync_compat.oci.places.docker_archive import DockerArchive
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.spec.errors import ImageError

__all__ = ["KeptImage"]


class KeptImage(Closing):
    """A copy of an image, which goes when this is closed.

    :param transport: `containers-storage` or `docker-daemon`
    :param name: of the image there
    :param environ: for skopeo

    :ivar place: where the copy is, its only image
    :raises UsageError: skopeo is not there, or the daemon cannot be asked
    :raises ImageError: there is no such image
    """

    def __init__(self, transport: str, name: str, environ: Mapping[str, str]) -> None:
        try:
            self._directory = tempfile.TemporaryDirectory(prefix="pycasync-")
        except OSError as error:
            raise FileError(tempfile.gettempdir(), "make a temporary directory", error) from error
        try:
            # What a daemon gives is a docker archive, whose layers are the image's own; storage has manifests.
            path = os.path.join(self._directory.name, "image")
            archive = transport == "docker-daemon"
            daemon = daemon_socket(environ) if archive else None
            target = f"docker-archive:{path}:image:image" if archive else f"oci:{path}:image"
            if daemon is not None:
                _save(daemon, name, path)
            else:
                _copy(f"{transport}:{name}", target, environ)
            self.place = DockerArchive(os.fsencode(path)) if archive else Layout(os.fsencode(path))
        except BaseException:
            self._directory.cleanup()
            raise

    def close(self) -> None:
        """Take the copy away."""
        self.place.close()
        self._directory.cleanup()


def _save(daemon: str, name: str, path: str) -> None:
    try:
        with open(path, "wb") as out:
            save(daemon, name, out)
    except OSError as error:
        raise FileError(path, "fetch an image from docker's daemon to", error) from error


def _copy(source: str, target: str, environ: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(
            ["skopeo", "copy", "--quiet", source, target],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=dict(environ),
        )
    except OSError as error:
        raise UsageError(
            f"{source}: skopeo reads such images, and cannot be run ({error.strerror}); install skopeo, or use "
            "docker save or podman save and docker-archive:"
        ) from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ImageError(
            source, f"skopeo cannot read it: {lines[-1] if lines else f'status {done.returncode}'}"
        )
