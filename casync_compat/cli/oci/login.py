"""`pycasync oci login`."""

from __future__ import annotations

import argparse
import os
import sys

from casync_compat.cli._parser import WrongWords, by_words_alone
from casync_compat.cli.oci._common import display, password_for, warn
from casync_compat.cli.oci._options import add_login
from casync_compat.oci.places.opened import Login, Places
from casync_compat.oci.registry.authfile import keep_login, login_file
from casync_compat.oci.spec.reference import parse_registry

EXAMPLES = (
    ("pycasync oci login -u joe registry.example.org", "asks for the password"),
    ("pass show host | pycasync oci login -u joe --password-stdin ghcr.io", "for scripts"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.description = (
        f"{parser.description} The registry is asked first whether it takes the login; nothing is written if not. The "
        "file is for its owner alone (mode 0600); what else is in it stays. A file of docker's may be named, too."
    )
    add_login(parser)
    parser.add_argument("-u", "--username", metavar="USER", help="who to be; asked for on a terminal")
    parser.add_argument("--password-stdin", action="store_true", help="the password is on standard input")
    parser.add_argument(
        "--insecure", action="store_true", help="plain HTTP and unverified TLS are good enough"
    )
    parser.add_argument(
        "--tls-verify",
        metavar="true|false",
        choices=("true", "false"),
        help="false is --insecure, as other tools say it",
    )


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    with by_words_alone():
        host = parse_registry(options.registry)
    if options.insecure and options.tls_verify == "true":
        raise WrongWords("--insecure and --tls-verify=true contradict each other")
    username = options.username if options.username is not None else _username(options)
    if not username or ":" in username:
        raise WrongWords(f"{username!r} is no user name: it is not empty and has no colon")
    path = options.authfile or login_file(os.environ)
    password = password_for(options, username)
    if not password:
        raise WrongWords("the password is empty")
    login = Login(options.insecure or options.tls_verify == "false")
    with Places(environ=os.environ, login=login, warn=warn) as places:
        checked = places.client().check_login(host, username, password)
    keep_login(path, host, username, password)
    if not checked:
        warn(f"{host} lets everybody in at its door; whether this login is right is not known")
    print(f"Login at {host} kept in {display(path)}")
    return 0


def _username(options: argparse.Namespace) -> str:
    if not options.password_stdin and sys.stdin is not None and sys.stdin.isatty():
        print("User name: ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().rstrip("\r\n")
    raise WrongWords("no user name; say -u USER")
