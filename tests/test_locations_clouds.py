"""Locators of buckets: which service, which bucket, who asks. Nothing is sent."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from casync_compat.errors import CasyncError, FileError, UsageError
from casync_compat.locations import Settings, default_store, open_store
from casync_compat.locations.aws import AwsAccess, find_access
from casync_compat.locations.forms import split_url
from casync_compat.locations.remote import PLACES, open_files
from casync_compat.store.options import StoreOptions

obstore_store = pytest.importorskip("obstore.store")

KEYS = {"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "SECRET"}
NOTHING = StoreOptions()
EMULATED = json.dumps(
    {
        "gcs_base_url": "http://127.0.0.1:4443",
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
)
"""An account that obstore logs in nowhere with."""


# ---- who asks


def access(options: StoreOptions = NOTHING, **environ: str) -> AwsAccess:
    return find_access(environ, options)


def test_environment() -> None:
    """AWS's variables are known, and desync's, which win as they do there; keys are never mixed."""
    amazon = {**KEYS, "AWS_SESSION_TOKEN": "TOKEN", "AWS_DEFAULT_REGION": "eu-west-1"}
    desync = {"S3_ACCESS_KEY": "K2", "S3_SECRET_KEY": "S2", "S3_REGION": "there"}
    assert access(**amazon) == AwsAccess("KEY", "SECRET", "TOKEN", "eu-west-1")
    assert access(**desync) == AwsAccess("K2", "S2", None, "there")
    assert access(**amazon, **desync) == AwsAccess("K2", "S2", None, "there")
    assert access(**amazon, AWS_REGION="us-west-2", AWS_ENDPOINT_URL="http://h").region == "us-west-2"
    both = access(AWS_ENDPOINT_URL="http://general", AWS_ENDPOINT_URL_S3="http://s3")
    assert both.endpoint == "http://s3"
    assert access() == AwsAccess()


@pytest.fixture
def home(tmp_path: Path) -> str:
    """A home directory with AWS's files."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = D\naws_secret_access_key = DS%x\n"
        "[work]\naws_access_key_id=W\naws_secret_access_key=WS\naws_session_token=WT\n"
    )
    (tmp_path / ".aws" / "config").write_text(
        "[default]\nregion = eu-north-1\n"
        "[profile work]\nregion = ap-south-1\nendpoint_url = https://s3.work\ns3 =\n  max_queue_size = 5\n"
        "[profile process]\ncredential_process = /bin/print-keys\n"
    )
    return str(tmp_path)


def test_profiles(home: str) -> None:
    """Profiles are read from both files; variables with keys win over them, and fill in nothing of another's."""
    assert access(HOME=home) == AwsAccess("D", "DS%x", None, "eu-north-1")
    assert access(HOME=home, AWS_PROFILE="work") == AwsAccess(
        "W", "WS", "WT", "ap-south-1", "https://s3.work"
    )
    assert access(HOME=home, AWS_PROFILE="work", **KEYS) == AwsAccess(
        "KEY", "SECRET", None, "ap-south-1", "https://s3.work"
    )
    moved = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "/dev/null"}
    assert access(HOME=home, **moved) == AwsAccess("D", "DS%x")


def test_profile_of_a_store(home: str) -> None:
    """What is said of the very store comes before what is said of all."""
    options = StoreOptions(profile="work")
    assert access(options, HOME=home, AWS_PROFILE="default") == AwsAccess(
        "W", "WS", "WT", "ap-south-1", "https://s3.work"
    )
    own = StoreOptions(access_key="O", secret_key="OS", region="r")
    assert access(own, HOME=home, **KEYS) == AwsAccess("O", "OS", None, "r")


def test_profiles_that_cannot_be_used(home: str, tmp_path: Path) -> None:
    """One that is not there, or needs AWS's tools, is told of, and what helps; lines of a bad file are not shown."""
    with pytest.raises(UsageError, match="no AWS profile other"):
        access(HOME=home, AWS_PROFILE="other")
    with pytest.raises(UsageError, match="export-credentials --profile process"):
        access(HOME=home, AWS_PROFILE="process")
    assert access(HOME=home, AWS_PROFILE="process", **KEYS).key == "KEY"
    bad = tmp_path / "bad"
    bad.write_text("aws_secret_access_key = hidden\n")
    with pytest.raises(UsageError) as caught:
        access(AWS_SHARED_CREDENTIALS_FILE=str(bad))
    assert "hidden" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(FileError):
        access(AWS_SHARED_CREDENTIALS_FILE=str(tmp_path))


def test_secrets_are_not_shown() -> None:
    """Neither who asks nor what is said of a store shows a key."""
    shown = repr(access(**KEYS)) + repr(
        StoreOptions(access_key="KEY", secret_key="SECRET", session_token="KEY")
    )
    assert "KEY" not in shown
    assert "SECRET" not in shown


# ---- which bucket


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What obstore's classes are called with."""
    calls: list[dict[str, Any]] = []
    for kind in ("S3Store", "GCSStore", "AzureStore"):

        def make(bucket: str, kind: str = kind, **given: Any) -> Any:
            calls.append(
                {"kind": kind, "bucket": bucket, **given["config"], "client": given["client_options"]}
            )
            return obstore_store.MemoryStore()

        monkeypatch.setattr(obstore_store, kind, make)
    return calls


@pytest.mark.parametrize(
    ("locator", "environ", "expected"),
    [
        (
            "s3://bucket/a/b.castr",
            KEYS,
            {"bucket": "bucket", "region": "us-east-1", "access_key_id": "KEY", "virtual_hosted_style_request": True},
        ),
        ("s3://buck.et/a", KEYS, {"bucket": "buck.et", "virtual_hosted_style_request": False}),
        (
            "s3://bucket/a",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"},
            {"endpoint": "http://127.0.0.1:9000", "virtual_hosted_style_request": False},
        ),
        ("s3://bucket/a", {"AWS_EC2_METADATA_DISABLED": "true"}, {"skip_signature": True}),
        (
            "s3+http://host:9000/bucket/a/b",
            KEYS,
            {"endpoint": "http://host:9000", "bucket": "bucket", "virtual_hosted_style_request": False},
        ),
        (
            "s3+https://host/bucket/a?lookup=dns",
            KEYS,
            {"endpoint": "https://bucket.host", "virtual_hosted_style_request": True},
        ),
        (
            "s3+https://s3.eu-west-1.amazonaws.com/bucket",
            {},
            {"endpoint": "https://bucket.s3.eu-west-1.amazonaws.com", "virtual_hosted_style_request": True},
        ),
        (
            "s3+https://s3.amazonaws.com/bucket?lookup=path",
            {},
            {"endpoint": "https://s3.amazonaws.com", "virtual_hosted_style_request": False},
        ),
        ("gs://bucket/a", {"GOOGLE_APPLICATION_CREDENTIALS": "/k"}, {"application_credentials": "/k"}),
        (
            "gs://bucket/a",
            {"STORAGE_EMULATOR_HOST": "127.0.0.1:4443"},
            {"service_account_key": EMULATED},
        ),
        (
            "az://box/a",
            {"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": "a2V5"},
            {"bucket": "box", "account_name": "acc", "account_key": "a2V5"},
        ),
        ("az://box/a", {"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_SAS_TOKEN": "?sv=1"}, {"sas_key": "sv=1"}),
        (
            "azure://box/a",
            {
                "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=https;AccountName=acc;"
                "AccountKey=a2V5PT0=;EndpointSuffix=core.windows.net"
            },
            {"account_name": "acc", "account_key": "a2V5PT0=", "endpoint": "https://acc.blob.core.windows.net"},
        ),
        ("az://box", {"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"}, {"use_emulator": True}),
        ("abfss://box@acc.dfs.core.windows.net/a", {}, {"bucket": "box", "account_name": "acc"}),
    ],
)  # fmt: skip
def test_locators(
    made: list[dict[str, Any]], locator: str, environ: dict[str, str], expected: dict[str, Any]
) -> None:
    """Each form of locator, and what is known from the environment, lead to one bucket of one service."""
    store = open_store(locator, Settings(environ=environ))
    assert store.name == locator.partition("?")[0]
    assert made
    for call in made:
        assert {key: call.get(key) for key in expected} == expected
        plain = str(call.get("endpoint")).startswith("http://") or "STORAGE_EMULATOR_HOST" in environ
        assert call["client"]["allow_http"] is (plain or bool(call.get("use_emulator")))


@pytest.mark.parametrize(
    "locator",
    [
        "s3:///a",
        "s3://bucket/a//b",
        "s3://bucket/a/../b",
        "s3+http://host",
        "s3+http://user:hidden@host/bucket",
        "s3://key:hidden@bucket/a",
        "s3+https://host/bucket?lookup=other",
        "gs://",
    ],
)
def test_malformed(made: list[dict[str, Any]], locator: str) -> None:
    """What names no bucket, or more than that, is refused."""
    with pytest.raises(CasyncError):
        open_store(locator, Settings())
    assert not made


def test_default_store() -> None:
    """Chunks lie beside the index, reached in the same way."""
    assert default_store("s3://bucket/a/x.caidx", Settings()) == "s3://bucket/a/default.castr"
    there = default_store("s3+http://host/bucket/x.caidx?lookup=path", Settings())
    assert there == "s3+http://host/bucket/default.castr?lookup=path"


def test_bad_settings_are_not_quoted() -> None:
    """What obstore says of settings that it does not like holds them."""
    environ = {"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": "hidden, and no base64"}
    with pytest.raises(UsageError) as caught:
        open_store("az://box/a", Settings(environ=environ))
    assert "hidden" not in "".join(traceback.format_exception(caught.value))


ACCOUNT = {"AZURE_STORAGE_ACCOUNT": "acc"}


@pytest.mark.parametrize(
    ("locator", "environ", "said"),
    [
        ("az://box/a", {}, "set AZURE_STORAGE_ACCOUNT"),
        ("az://box/a", {"AZURE_STORAGE_KEY": "a2V5"}, "set AZURE_STORAGE_ACCOUNT"),
        ("az://box/a", {**ACCOUNT, "AZURE_STORAGE_KEY": "hidden!"}, "AZURE_STORAGE_KEY"),
        ("az://box/a", {**ACCOUNT, "AZURE_STORAGE_ENDPOINT": "host"}, "AZURE_STORAGE_ENDPOINT must be http"),
        ("az://box/a", {"AZURE_STORAGE_ACCOUNT": "a/b"}, "a/b is no name of a storage account"),
        ("az://b%20x/a", ACCOUNT, "b%20x is no name of a bucket"),
        (
            "az://box/a",
            {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=acc;AccountKey=a2V5;BlobEndpoint=h:1"},
            "BlobEndpoint must be http",
        ),
        ("gs://b/a", {"STORAGE_EMULATOR_HOST": "http://a b"}, "STORAGE_EMULATOR_HOST must be http"),
        ("gs://b/a", {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such"}, "/no/such .GOOGLE_APPLICATION_CREDENTIALS."),
        ("s3://b/a", {"AWS_ACCESS_KEY_ID": "hidden"}, "AWS_SECRET_ACCESS_KEY is not"),
        ("s3://b/a", {"AWS_SECRET_ACCESS_KEY": "hidden"}, "AWS_ACCESS_KEY_ID is not"),
        ("s3://b/a", {"S3_ACCESS_KEY": "hidden"}, "S3_SECRET_KEY is not"),
        ("s3://b/a", {**KEYS, "AWS_ENDPOINT_URL": "h:1"}, "AWS_ENDPOINT_URL must be http"),
        ("s3://b/a", {**KEYS, "AWS_REGION": "us east"}, "AWS_REGION is no name of a region"),
        ("s3://b/a", {**KEYS, "AWS_ACCESS_KEY_ID": "hidden\n"}, "the access key has characters"),
        ("s3://b/a", {**KEYS, "AWS_CA_BUNDLE": "/dev/null"}, "/dev/null has no certificates"),
        ("s3+http://h h/b/a", KEYS, "the store must be http"),
    ],
)  # fmt: skip
def test_wrong_settings(locator: str, environ: dict[str, str], said: str) -> None:
    """The message names the variable that is missing or wrong, and nothing that is secret."""
    with pytest.raises(CasyncError, match=said) as caught:
        open_files(locator, Settings(environ=environ))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hidden", "is not JSON"),
        (b"{}", "no type that can be used"),
        (b'{"type": "external_account"}', "no type that can be used"),
        (b'{"type": "service_account", "client_email": "a@b"}', "does not say private_key"),
        (
            b'{"type": "service_account", "client_email": "a@b", "private_key": "hidden", "private_key_id": "1"}',
            "private_key in .* is not PEM",
        ),
    ],
)
def test_wrong_accounts(tmp_path: Path, content: bytes, said: str) -> None:
    """A file of Google's credentials that cannot be used is named, and what is wrong in it."""
    path = tmp_path / "account.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        open_files("gs://b/a", Settings(environ={"GOOGLE_APPLICATION_CREDENTIALS": str(path)}))
    message = str(caught.value)
    assert str(path) in message
    assert "hidden" not in message.replace(str(path), "")


def test_no_host() -> None:
    """A locator without a host or bucket is told of as one, whatever its scheme."""
    for scheme in PLACES:
        with pytest.raises(CasyncError, match="names no"):
            split_url(f"{scheme}:///x.caidx")


def test_options(made: list[dict[str, Any]], tmp_path: Path) -> None:
    """What is said of a store reaches the client."""
    authority = tmp_path / "ca.pem"
    authority.write_bytes(b"-----BEGIN CERTIFICATE-----")
    options = StoreOptions(timeout=5, ca_cert=str(authority), trust_insecure=True)
    open_store("s3://bucket/a", Settings(options=lambda where: options))
    client = made[0]["client"]
    assert client["read_timeout"].total_seconds() == 5
    assert client["root_certificate"] == authority.read_bytes()
    assert client["allow_invalid_certificates"] is True
    with pytest.raises(UsageError, match="client certificate"):
        open_store("s3://b", Settings(options=lambda where: StoreOptions(client_cert="x", client_key="y")))
