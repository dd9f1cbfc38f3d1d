"""Certificates: whose word is taken for a server's, and what the client shows. Files are read and checked here.

Every file is looked at before the first connection, and by name: libcurl's own error comes late and names none.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

from casync_compat.errors import UsageError
from casync_compat.store.options import StoreOptions

__all__ = ["identity", "trusted"]


def trusted(environ: Mapping[str, str], ca_cert: str | None) -> tuple[bytes, str]:
    """The system's certificates and those that the user trusts besides: as one file's content, and directories.

    :param ca_cert: a file of the user's
    :raises UsageError: the user's cannot be read
    """
    system = ssl.get_default_verify_paths()
    pieces, directories = [], []
    if system.cafile:
        with open(system.cafile, "rb") as file:
            pieces.append(file.read())
    if system.capath:
        directories.append(system.capath)
    for name, extra in (("SSL_CERT_FILE", environ.get("SSL_CERT_FILE")), ("--ca-cert", ca_cert)):
        if extra and extra != system.cafile:
            pieces.append(_certificates(name, extra))
    directory = environ.get("SSL_CERT_DIR")
    if directory and directory != system.capath:
        if not all(os.path.isdir(part) for part in directory.split(":") if part):
            raise UsageError(f"SSL_CERT_DIR: {directory} is no directory of certificates")
        directories.append(directory)
    return b"\n".join(pieces), ":".join(directories)


def _certificates(name: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read()
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{name}: cannot read certificates from {path}: {_reason(error)}") from error
    return content


def identity(options: StoreOptions) -> tuple[str, str]:
    """The files of the certificate that is shown, and of its key, once they are known to be good; empty for none.

    :raises UsageError: they are not
    """
    certificate, key = options.client_cert, options.client_key
    if certificate is None:
        if key is not None:
            raise UsageError(f"there is a client's key, {key}, but no certificate that it belongs to")
        return "", ""
    for path in filter(None, (certificate, key)):
        try:
            open(path, "rb").close()
        except OSError as error:
            raise UsageError(f"the client's certificate or key {path}: {error.strerror}") from error
    try:
        # An empty password, lest OpenSSL ask on the terminal for that of an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        both = certificate if key is None else f"{certificate} with the key {key}"
        raise UsageError(f"the client's certificate {both} cannot be used: {_reason(error)}") from error
    return certificate, key or certificate


def _reason(error: OSError | ValueError) -> str:
    """What is wrong, without the line of OpenSSL's source."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is no such PEM file").lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
