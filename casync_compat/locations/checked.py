"""Settings of clouds, looked at before obstore gets them, which says little of what is wrong, and nothing of which.

What is looked at is what services can never take: half a login, a key that is none, an URL that is none. Each message
names the variable, option or file; no value is shown that may be secret. Whether a service likes what it is given is
known by asking it, which nobody does here.

    >>> check_region("s3://bucket", "us east")
    Traceback (most recent call last):
    ...
    casync_compat.errors.UsageError: s3://bucket: AWS_REGION is no name of a region: us east
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from casync_compat.errors import FileError, UsageError
from casync_compat.locations.shown import shown

__all__ = [
    "NO_LOGIN",
    "check_account_file",
    "check_authority",
    "check_azure",
    "check_bucket",
    "check_endpoint",
    "check_header",
    "check_region",
    "those_set",
]

NO_LOGIN: Mapping[str, str] = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or say: gcloud auth application-default login",
    "az": "set AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING",
}
"""What is to be done where nobody says who we are, by the first scheme of a cloud."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,221}")
"""Names of buckets and containers: what any of the clouds allows, and ever allowed."""
_REGION = re.compile(r"[A-Za-z0-9-]+")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
"""Azure's names of storage accounts: https://learn.microsoft.com/azure/storage/common/storage-account-overview."""
_HEADER = re.compile(r"[!-~]+")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")

_ACCOUNT_TYPES = ("service_account", "authorized_user")
"""The files of credentials that obstore reads."""


def check_bucket(where: str, bucket: str) -> None:
    """:raises UsageError: no cloud lets a bucket, or a container, have this name"""
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{where}: {bucket} is no name of a bucket")


def check_region(where: str, region: str) -> None:
    """:raises UsageError: no region is named so"""
    if not _REGION.fullmatch(region):
        raise UsageError(f"{where}: AWS_REGION is no name of a region: {region}")


def check_header(where: str, name: str, value: str | None) -> None:
    """:raises UsageError: what is sent as it is has spaces or control characters in it, or non-ASCII ones"""
    if value and not _HEADER.fullmatch(value):
        raise UsageError(f"{where}: {name} has characters in it that no key has, a line break or a space say")


def check_endpoint(where: str, name: str, url: str) -> None:
    """See that an URL says where a service is.

    :param name: the variable, or whatever says it
    :raises UsageError: it has no scheme, or no host
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.netloc.rpartition("@")[2]):
        raise UsageError(f"{where}: {name} must be http://HOST or https://HOST, and is {shown(url)}")


def check_authority(path: str, content: bytes) -> None:
    """:raises UsageError: a file of certificates to trust has none in it"""
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise UsageError(f"{path} has no certificates in it, as PEM has them")


def check_azure(where: str, config: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """See that an account is named, and that its key is one.

    :param config: in obstore's words
    :raises UsageError: not so; the message names the variable
    """
    if config.get("use_emulator"):
        return
    account, key, endpoint = config.get("account_name"), config.get("account_key"), config.get("endpoint")
    if not account:
        raise UsageError(
            f"{where}: no storage account is named; set AZURE_STORAGE_ACCOUNT, or AZURE_STORAGE_CONNECTION_STRING"
        )
    if endpoint is None and not _ACCOUNT.fullmatch(account):
        raise UsageError(
            f"{where}: {account} is no name of a storage account: 3 to 24 letters and digits, in lower case"
        )
    if endpoint is not None:
        name = "BlobEndpoint" if "AZURE_STORAGE_CONNECTION_STRING" in environ else "AZURE_STORAGE_ENDPOINT"
        check_endpoint(where, name, endpoint)
    if key:
        try:
            base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            raise UsageError(
                f"{where}: the key of the account is not base64, as AZURE_STORAGE_KEY, or AccountKey in "
                "AZURE_STORAGE_CONNECTION_STRING, must be"
            ) from None


def check_account_file(where: str, environ: Mapping[str, str]) -> None:
    """See that Google's file of credentials is one that can be used; none need be there but one that is named.

    :raises UsageError: it is not
    :raises FileError: it cannot be read
    """
    named = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    home = environ.get("HOME")
    path = named or (
        os.path.join(home, ".config/gcloud/application_default_credentials.json") if home else None
    )
    if path is None:
        return
    origin = f"{path} (GOOGLE_APPLICATION_CREDENTIALS)" if named else path
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(1 << 20))
    except FileNotFoundError as error:
        if named:
            raise FileError(os.fsencode(origin), "read", error) from error
        return
    except OSError as error:
        raise FileError(os.fsencode(origin), "read", error) from error
    except ValueError:
        raise UsageError(f"{where}: {origin} is not JSON, as Google's credentials are") from None
    kind = found.get("type") if isinstance(found, dict) else None
    if kind not in _ACCOUNT_TYPES:
        raise UsageError(
            f"{where}: {origin} is of no type that can be used here, which are {' and '.join(_ACCOUNT_TYPES)}"
        )
    needed = (
        ("client_email", "private_key", "private_key_id")
        if kind == "service_account"
        else ("client_id", "client_secret", "refresh_token")
    )
    for name in needed:
        if not isinstance(found.get(name), str):
            raise UsageError(f"{where}: {origin} does not say {name}")
    if kind == "service_account" and "PRIVATE KEY-----" not in found["private_key"]:
        raise UsageError(f"{where}: private_key in {origin} is not PEM")


def those_set(environ: Mapping[str, str], prefixes: Iterable[str]) -> str:
    """The names of the variables that begin so and say something, for a message."""
    names = sorted(name for name, value in environ.items() if value and name.startswith(tuple(prefixes)))
    return ", ".join(names)
