"""Buckets of object stores, opened: `s3://`, desync's `s3+https://`, `gs://` and `az://`.

Credentials are found as the clouds' own tools find them (`aws` for S3), and what is not said here is looked for by
obstore: roles of machines and containers, logins of `gcloud` and `az`. Nothing is asked of a service here.

    >>> open_s3("s3://bucket/some/default.castr", Settings(environ=os.environ))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from casync_compat.errors import FileError, UsageError
from casync_compat.locations.aws import find_access
from casync_compat.locations.checked import (
    NO_LOGIN,
    check_account_file,
    check_authority,
    check_azure,
    check_bucket,
    check_endpoint,
    check_header,
    check_region,
    those_set,
)
from casync_compat.locations.settings import Settings
from casync_compat.store.files import Files
from casync_compat.store.options import StoreOptions

if TYPE_CHECKING:
    from obstore.store import ObjectStore

    from casync_compat.net.exchange import Exchange

__all__ = ["Reach", "open_azure", "open_gcs", "open_s3"]

Reach: TypeAlias = Callable[[str, Settings, StoreOptions], "Exchange"]
"""Gives what makes requests to the server of an URL."""

_RETRIES = 6
_SILENCE = 60.0
"""Seconds without a byte after which a request is given up, where nobody says."""
_LONGEST = timedelta(hours=2)
"""Of one request; obstore's own limit is half a minute, which is little for large objects on slow lines."""
_PATIENCE = timedelta(minutes=3)
_CONNECTING = timedelta(seconds=10)

_VARIABLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "s3": ("s3", ("AWS_", "S3_")),
    "gs": ("gs", ("GOOGLE_", "STORAGE_EMULATOR_HOST")),
    "az": ("az", ("AZURE_",)),
    "abfss": ("az", ("AZURE_",)),
}
"""How schemes begin: the cloud's first one, and how the variables that obstore looks at begin."""

_YES = ("1", "true", "yes", "on")


def open_s3(where: str, settings: Settings, reach: Reach) -> Files:
    """The objects at `s3://BUCKET/PREFIX`, or at `s3+https://HOST/BUCKET/PREFIX?lookup=auto|dns|path`.

    :param reach: for objects that are asked for many at once, by URLs that are signed here
    :raises UsageError: the locator is malformed, obstore is not installed, or there is no such profile
    """
    parts = urlsplit(where)
    options = settings.said_of(where)
    desync = parts.scheme != "s3"
    access = find_access(settings.environ, options)
    if desync:
        bucket, prefix = _bucket_in_path(parts, where)
        endpoint: str | None = f"{parts.scheme[3:]}://{_host(parts, where)}"
        by_name = _is_by_name(parts, where)
    else:
        bucket, prefix = _bucket_as_host(parts, where)
        endpoint = access.endpoint
        by_name = endpoint is None and "." not in bucket  # as certificates of Amazon's want it
    name = f"{parts.scheme}://{_shown(parts)}"
    check_bucket(name, bucket)
    check_region(name, access.region or "us-east-1")
    check_header(name, "the access key", access.key)
    check_header(name, "the session token", access.token)
    if endpoint is not None:
        check_endpoint(name, "the store" if desync else "AWS_ENDPOINT_URL", endpoint)
    if by_name and endpoint is not None:
        scheme, _, host = endpoint.partition("://")
        endpoint = f"{scheme}://{bucket}.{host}"
    config: dict[str, Any] = {
        "region": access.region or "us-east-1",
        "virtual_hosted_style_request": by_name,
        "endpoint": endpoint,
        "access_key_id": access.key,
        "secret_access_key": access.secret,
        "session_token": access.token,
    }
    if not access.key and settings.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() in _YES:
        config["skip_signature"] = True
    authority = options.ca_cert or settings.environ.get("AWS_CA_BUNDLE")
    alike = replace(options, ca_cert=authority, authorization=None, cookie=None, headers=())
    return _opened(
        lambda obstore: obstore.S3Store,
        bucket,
        prefix,
        name,
        config,
        endpoint,
        options,
        authority,
        settings.environ,
        ahead=None if "skip_signature" in config else lambda url: reach(url, settings, alike),
    )


def open_gcs(where: str, settings: Settings) -> Files:
    """The objects at `gs://BUCKET/PREFIX`.

    :raises UsageError: the locator is malformed, or obstore is not installed
    """
    parts = urlsplit(where)
    bucket, prefix = _bucket_as_host(parts, where)
    emulator = settings.environ.get("STORAGE_EMULATOR_HOST")
    config: dict[str, Any] = {}
    name = f"gs://{_shown(parts)}"
    check_bucket(name, bucket)
    if emulator:
        emulator = emulator if "://" in emulator else f"http://{emulator}"
        check_endpoint(name, "STORAGE_EMULATOR_HOST", emulator)
        # obstore's `skip_signature` covers reading only; an account that logs in nowhere covers the rest.
        account = {
            "gcs_base_url": emulator.rstrip("/"),
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        config = {"service_account_key": json.dumps(account)}
    else:
        config["application_credentials"] = settings.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    options = settings.said_of(where)
    return _opened(
        lambda obstore: obstore.GCSStore,
        bucket,
        prefix,
        name,
        config,
        emulator,
        options,
        options.ca_cert,
        settings.environ,
        by_generation=True,
        explain=lambda: None if emulator else check_account_file(name, settings.environ),
    )


def open_azure(where: str, settings: Settings) -> Files:
    """The objects at `az://CONTAINER/PREFIX`, or at `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX`.

    :raises UsageError: the locator or the connection string is malformed, or obstore is not installed
    """
    parts = urlsplit(where)
    user, at, host = parts.netloc.rpartition("@")
    container, prefix = _bucket_as_host(parts._replace(netloc=user if at else host), where)
    config = _azure_config(settings.environ, where)
    if at:
        config["account_name"] = host.partition(".")[0]
    name = f"{parts.scheme}://{_shown(parts)}"
    check_bucket(name, container)
    check_azure(name, config, settings.environ)
    options = settings.said_of(where)
    endpoint = config.get("endpoint")
    return _opened(
        lambda obstore: obstore.AzureStore,
        container,
        prefix,
        name,
        config,
        "http://" if config.get("use_emulator") else endpoint,
        options,
        options.ca_cert,
        settings.environ,
    )


def _azure_config(environ: Mapping[str, str], where: str) -> dict[str, Any]:
    """What `az` knows of an account from the environment, in obstore's words."""
    account = environ.get("AZURE_STORAGE_ACCOUNT") or environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    config: dict[str, Any] = {
        "account_name": account,
        "account_key": environ.get("AZURE_STORAGE_KEY") or environ.get("AZURE_STORAGE_ACCOUNT_KEY"),
        "sas_key": environ.get("AZURE_STORAGE_SAS_TOKEN") or environ.get("AZURE_STORAGE_SAS_KEY"),
        "endpoint": environ.get("AZURE_STORAGE_ENDPOINT") or environ.get("AZURE_STORAGE_SERVICE_ENDPOINT"),
        "use_emulator": environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in _YES or None,
    }
    connection = environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if connection and not (account and (config["account_key"] or config["sas_key"])):
        config.update(_connected(connection, where))
    if config["sas_key"]:
        config["sas_key"] = config["sas_key"].lstrip("?")
    return config


def _connected(connection: str, where: str) -> dict[str, Any]:
    """An account's connection string, as the portal and Azurite show it."""
    said: dict[str, str] = {}
    for field in filter(None, connection.strip().split(";")):
        name, equals, value = field.partition("=")
        if not equals:
            raise UsageError(f"{where}: AZURE_STORAGE_CONNECTION_STRING is malformed")
        said[name.strip().lower()] = value.strip()
    if said.get("usedevelopmentstorage", "").lower() == "true":
        return {"use_emulator": True}
    account, endpoint = said.get("accountname"), said.get("blobendpoint")
    if endpoint is None and account is not None and "endpointsuffix" in said:
        scheme = said.get("defaultendpointsprotocol", "https")
        endpoint = f"{scheme}://{account}.blob.{said['endpointsuffix']}"
    if endpoint is not None and account is None:  # a signature comes with an endpoint alone
        account = urlsplit(endpoint).netloc.partition(".")[0]
    return {
        "account_name": account,
        "account_key": said.get("accountkey"),
        "sas_key": said.get("sharedaccesssignature"),
        "endpoint": endpoint.rstrip("/") if endpoint else None,
    }


def _opened(
    kind: Callable[[Any], Callable[..., ObjectStore]],
    bucket: str,
    prefix: str,
    name: str,
    config: Mapping[str, Any],
    endpoint: str | None,
    options: StoreOptions,
    authority: str | None,
    environ: Mapping[str, str],
    *,
    by_generation: bool = False,
    explain: Callable[[], None] | None = None,
    ahead: Callable[[str], Exchange] | None = None,
) -> Files:
    """A bucket, reached with retries and without.

    :param kind: the class in `obstore.store`
    :param endpoint: the URL of the service, if it is said
    :param authority: a file of certificates to trust beside the system's
    :param environ: what obstore looks at as well
    :param explain: called when obstore does not take what it is given, to say why; it returns if it cannot
    :param ahead: what makes requests by signed URLs, where the service needs nobody to sign
    """
    cloud = next(known for known in _VARIABLES if name.startswith(known))
    try:
        from obstore import exceptions, store

        from casync_compat.store.object import ObjectFiles
        from casync_compat.store.objectlog import LoggedStore
        from casync_compat.store.signed import SignedUrls
    except ImportError:
        raise UsageError("what is in the cloud needs the package obstore; install pycasync[remote]") from None
    client = _client(options, endpoint, authority)
    given = {key: value for key, value in config.items() if value is not None}
    make = kind(store)

    def reached(retries: int) -> ObjectStore:
        backoff = {"init_backoff": timedelta(seconds=options.retry_interval or 0.2)}
        retry = {"max_retries": retries, "retry_timeout": _PATIENCE, "backoff": backoff}
        return make(bucket, config=given, client_options=client, retry_config=retry)

    try:
        often = reached(_RETRIES if options.retries is None else options.retries)
        signed = None
        if ahead is not None and find_spec("pycurl") is not None:
            signed = SignedUrls(cast("store.S3Store", often), ahead)
        bucket_name = f"{name.partition('://')[0]}://{bucket}"
        return ObjectFiles(
            cast("store.ObjectStore", LoggedStore(often, bucket_name)),
            name,
            prefix,
            once=cast("store.ObjectStore", LoggedStore(reached(0), bucket_name)),
            by_generation=by_generation,
            ahead=signed,
            login=NO_LOGIN[_VARIABLES[cloud][0]],
        )
    except (exceptions.BaseError, ValueError, OSError):
        # Its text quotes what was given, keys included.
        if explain is not None:
            explain()
        said = those_set(environ, _VARIABLES[cloud][1]) or "any variable"
        raise UsageError(f"{name}: this cannot be opened with what is set by {said}") from None


def _client(options: StoreOptions, endpoint: str | None, authority: str | None) -> dict[str, Any]:
    """How connections are made, in obstore's words."""
    if options.client_cert:
        raise UsageError("a client certificate cannot be shown to an object store")
    silence = _SILENCE if options.timeout is None else options.timeout
    client: dict[str, Any] = {
        "user_agent": "pycasync",
        "timeout": _LONGEST,
        "connect_timeout": _CONNECTING,
        "allow_http": endpoint is not None and endpoint.startswith("http://"),
    }
    if silence > 0:
        client["read_timeout"] = timedelta(seconds=silence)
    if options.trust_insecure:
        client["allow_invalid_certificates"] = True
    if authority:
        try:
            with open(authority, "rb") as file:
                client["root_certificate"] = file.read()
            check_authority(authority, client["root_certificate"])
        except OSError as error:
            raise FileError(authority, "read", error) from error
    return client


# ---- locators


def _bucket_as_host(parts: SplitResult, where: str) -> tuple[str, str]:
    if not parts.netloc or "@" in parts.netloc or ":" in parts.netloc:
        raise UsageError(f"{where} names no bucket: it must be {parts.scheme}://BUCKET/PREFIX")
    return parts.netloc, _prefix(parts.path, where)


def _bucket_in_path(parts: SplitResult, where: str) -> tuple[str, str]:
    bucket, _, path = parts.path.strip("/").partition("/")
    if not bucket:
        raise UsageError(f"{where} names no bucket: it must be {parts.scheme}://HOST/BUCKET/PREFIX")
    return unquote(bucket), _prefix(path, where)


def _prefix(path: str, where: str) -> str:
    prefix = unquote(path.strip("/"))
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise UsageError(f"{where}: no part of a prefix may be empty, . or ..")
    return prefix


def _host(parts: SplitResult, where: str) -> str:
    if "@" in parts.netloc or not parts.netloc:
        raise UsageError(f"{parts.scheme}: a locator names a host, and no user or password")
    return parts.netloc


def _shown(parts: SplitResult) -> str:
    """A place in messages; queries may hold signatures."""
    return f"{parts.netloc}{parts.path.rstrip('/')}"


def _is_by_name(parts: SplitResult, where: str) -> bool:
    """Whether the bucket is part of the host's name: desync's `lookup`, whose `auto` means that of Amazon alone."""
    lookup = parse_qs(parts.query).get("lookup", ["auto"])[-1]
    if lookup not in ("auto", "dns", "path"):
        raise UsageError(f"{parts.scheme}://{_shown(parts)}: lookup is auto, dns or path, not {lookup}")
    return lookup == "dns" or (lookup == "auto" and (parts.hostname or "").endswith(".amazonaws.com"))
