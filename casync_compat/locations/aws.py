"""Who we are towards S3, found as AWS's own tools find it: environment variables, then the files in `~/.aws`.

desync's variables are known as well. What these say nothing of - roles of machines, containers and web identities - is
left to obstore. Processes and logins that would have to be started are not: they are told of by name. Nothing is sent.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from casync_compat.errors import FileError, UsageError
from casync_compat.store.options import StoreOptions

__all__ = ["AwsAccess", "find_access"]

_STARTED = (
    "credential_process",
    "sso_session",
    "sso_start_url",
    "sso_account_id",
    "role_arn",
    "login_session",
)
"""What a profile may have in place of a key, and that AWS's tools resolve."""


@dataclass(frozen=True, slots=True)
class AwsAccess:
    """What a request to S3 is signed with, and where it goes; None where nobody says.

    :ivar endpoint: the URL of a service other than Amazon's
    """

    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    region: str | None = None
    endpoint: str | None = None


def find_access(environ: Mapping[str, str], options: StoreOptions) -> AwsAccess:
    """Who we are: what is said of the very store, else desync's variables, AWS's, and a profile.

    :param options: what is said of the store
    :raises UsageError: there is no such profile, or it needs AWS's tools, or half of a key is all there is
    :raises FileError: a file cannot be read
    """
    desync = AwsAccess(
        environ.get("S3_ACCESS_KEY"),
        environ.get("S3_SECRET_KEY"),
        environ.get("S3_SESSION_TOKEN"),
        environ.get("S3_REGION"),
    )
    said = AwsAccess(options.access_key, options.secret_key, options.session_token, options.region)
    amazon = AwsAccess(
        environ.get("AWS_ACCESS_KEY_ID"),
        environ.get("AWS_SECRET_ACCESS_KEY"),
        environ.get("AWS_SESSION_TOKEN"),
        environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"),
        environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL"),
    )
    found = _joined(_joined(said, desync), amazon)
    found = _joined(found, _of_profile(environ, options, needed=not (found.key and found.secret)))
    for access, key, secret in (
        (desync, "S3_ACCESS_KEY", "S3_SECRET_KEY"),
        (amazon, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        (said, "access-key", "secret-key"),
    ):
        if not (found.key and found.secret) and bool(access.key) != bool(access.secret):
            there, missing = (key, secret) if access.key else (secret, key)
            raise UsageError(f"{there} is set, and {missing} is not; both are needed")
    return found


def _joined(first: AwsAccess, second: AwsAccess) -> AwsAccess:
    """What `first` says, and `second` of the rest; key, secret and token belong together."""
    found = first
    if not (first.key and first.secret):
        found = replace(found, key=second.key, secret=second.secret, token=second.token)
    return replace(
        found,
        region=first.region or second.region or None,
        endpoint=first.endpoint or second.endpoint or None,
    )


def _of_profile(environ: Mapping[str, str], options: StoreOptions, *, needed: bool) -> AwsAccess:
    """What the files say of the profile that is asked for.

    :param needed: whether a key is
    """
    asked = options.profile or environ.get("AWS_PROFILE")
    profile = asked or environ.get("AWS_DEFAULT_PROFILE") or "default"
    home = environ.get("HOME", "")
    keys = options.credentials_file or environ.get("AWS_SHARED_CREDENTIALS_FILE")
    sections = [
        *_sections(_expanded(keys, home) or _at_home(home, "credentials"), profile),
        *_sections(
            _expanded(environ.get("AWS_CONFIG_FILE"), home) or _at_home(home, "config"),
            f"profile {profile}",
            *(["default"] if profile == "default" else []),
        ),
    ]
    if asked and not sections:
        raise UsageError(f"there is no AWS profile {asked}")
    found = AwsAccess()
    for values in sections:
        found = _joined(
            found,
            AwsAccess(
                values.get("aws_access_key_id"),
                values.get("aws_secret_access_key"),
                values.get("aws_session_token"),
                values.get("region"),
                values.get("endpoint_url"),
            ),
        )
    if needed and bool(found.key) != bool(found.secret):
        there, missing = ("aws_access_key_id", "aws_secret_access_key")[:: 1 if found.key else -1]
        raise UsageError(f"the AWS profile {profile} has {there}, and no {missing}; both are needed")
    if needed and not found.key:
        for kind in (name for values in sections for name in _STARTED if name in values):
            raise UsageError(
                f"the AWS profile {profile} needs AWS's own tools ({kind}); say first: "
                f'eval "$(aws configure export-credentials --profile {profile} --format env)"'
            )
    return found


def _expanded(path: str | None, home: str) -> str | None:
    return os.path.join(home, path[2:]) if path and path.startswith("~/") else path


def _at_home(home: str, name: str) -> str | None:
    return os.path.join(home, ".aws", name) if home else None


def _sections(path: str | None, *names: str) -> Iterator[Mapping[str, str]]:
    """The sections of these names in a file; none where there is no such file."""
    if path is None:
        return
    parser = configparser.ConfigParser(interpolation=None, strict=False, default_section="\0")
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileError(os.fsencode(path), "read", error) from error
    except (configparser.Error, UnicodeDecodeError):
        raise UsageError(f"{path} is no file of AWS profiles") from None  # the error quotes lines of it
    for name in names:
        if parser.has_section(name):
            yield dict(parser[name])
