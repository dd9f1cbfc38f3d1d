"""What several verbs of `pycasync oci` read from their options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from casync_compat.cli import _log
from casync_compat.cli._location import open_chunk_store
from casync_compat.cli._parser import WrongWords, by_words_alone
from casync_compat.cli._progress import ProgressLine, counted, human_size, progress_line
from casync_compat.cli.oci._moving import Network
from casync_compat.oci.places.opened import DEFAULT_TAG, Login, Places
from casync_compat.oci.spec.descriptor import BlobDigest, Platform
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.reference import Reference, parse_reference
from casync_compat.store.base import Store

__all__ = [
    "at_work",
    "chunk_store",
    "display",
    "logins",
    "opened",
    "password_for",
    "platform_of",
    "references",
    "tag_for",
    "tell_traffic",
    "tell_unfit",
    "traffic_of",
    "warn",
]


def platform_of(options: argparse.Namespace) -> Platform | None:
    """What `--platform` says. :raises WrongWords: it is no platform, or contradicts --all"""
    if options.platform is None:
        return None
    if getattr(options, "all", False):
        raise WrongWords("--platform and --all contradict each other")
    try:
        return Platform.parse(options.platform)
    except ImageError as error:
        raise WrongWords(f"--{error}") from error


def warn(text: str) -> None:
    """Say a warning on standard error, with what others wrote in it made harmless."""
    _log.warn(display(text))


@contextmanager
def opened(options: argparse.Namespace, on_bytes: Callable[[int], None] | None = None) -> Iterator[Places]:
    """What opens places, with the options for registries.

    :param on_bytes: told of bytes that move to and from registries, from any thread
    :raises WrongWords: options contradict each other, or a password is missing
    """
    login, source = logins(options)
    with Places(environ=os.environ, login=login, source=source, warn=warn, on_bytes=on_bytes) as places:
        yield places


@contextmanager
def at_work(options: argparse.Namespace, what: str) -> Iterator[tuple[Places, ProgressLine]]:
    """What opens places, as `opened`, and the line of progress, below which stands what moves to and from registries.

    :param what: verb of the work
    """
    with progress_line(options, what) as line:
        network = Network(line)
        with opened(options, network.bytes if line.callback is not None else None) as places:
            yield places, line


def logins(options: argparse.Namespace) -> tuple[Login, Login]:
    """How registries are reached that are written to, and those that are only read.

    :raises WrongWords: options contradict each other, or a password is missing
    """
    if options.password_stdin and not any(
        getattr(options, name, None) for name in ("creds", "src_creds", "dest_creds")
    ):
        raise WrongWords("--password-stdin goes with --creds=USER")
    asked: dict[str, str] = {}  # nobody is asked twice
    return _login(options, "dest", asked), _login(options, "src", asked)


def _login(options: argparse.Namespace, side: str, asked: dict[str, str]) -> Login:
    def given(name: str) -> str | None:
        own: str | None = getattr(options, f"{side}_{name}", None)
        return own if own is not None else getattr(options, name)

    verify = given("tls_verify")
    if options.insecure and verify == "true":
        raise WrongWords("--insecure and --tls-verify=true contradict each other")
    creds, auth_file = given("creds"), given("authfile")
    if creds is None:
        return Login(options.insecure or verify == "false", auth_file=auth_file)
    username, colon, password = creds.partition(":")
    if not colon:
        if username not in asked:
            asked[username] = password_for(options, username, "say --creds=USER:PASSWORD, or")
        password = asked[username]
    return Login(options.insecure or verify == "false", username, password, auth_file)


def password_for(options: argparse.Namespace, username: str, otherwise: str = "say") -> str:
    """The password that belongs to a name: from standard input, or whoever sits there.

    :param otherwise: what else there is to say, for the message
    :raises WrongWords: there is none
    """
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if sys.stdin is not None and sys.stdin.isatty():
        import getpass

        return getpass.getpass(f"Password for {display(username)}: ")
    raise WrongWords(f"no password for {username!r}; {otherwise} --password-stdin and pipe it in")


def display(text: str) -> str:
    """Text that came from outside, without control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def references(*texts: str) -> list[Reference]:
    """Names of images taken apart, all before anything is opened."""
    with by_words_alone():
        return [parse_reference(text) for text in texts]


def tag_for(target: Reference, source: Reference) -> str:
    """The tag to write: the target's, or else the source's, or else `latest`.

    :raises WrongWords: the target names a digest
    """
    if target.digest is not None:
        raise WrongWords(f"{target}: what is written gets its digest by what it is; name a tag instead")
    if target.tag is not None:
        return target.tag
    kinds = {source.transport, target.transport}
    if source.tag is not None and (len(kinds) == 1 or kinds == {"oci-archive", "oci"}):
        return source.tag
    return DEFAULT_TAG


def chunk_store(options: argparse.Namespace) -> Store | None:
    """The store that `--store` names."""
    return open_chunk_store(options.store) if options.store is not None else None


def tell_unfit(target: str, subjects: Sequence[BlobDigest]) -> None:
    """Warn of signatures and the like that were taken along, but are about what an image no longer leads to."""
    for subject in subjects:
        warn(
            f"what is attached to {subject} (signatures, attestations) does not hold for {target}; it is kept there, "
            "and holds again for the image when that is given back to the bit"
        )


def tell_traffic(places: Places) -> None:
    """Say on standard error how much registries were asked for, if they were."""
    if text := traffic_of(places):
        print(text, file=sys.stderr)


def traffic_of(places: Places) -> str:
    """How much registries were asked for; empty if they were not."""
    requests, up, down = places.traffic
    if not requests:
        return ""
    return f"{counted(requests, 'request')}, {human_size(up)} sent, {human_size(down)} received"
