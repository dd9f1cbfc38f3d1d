"""`pycasync oci logout`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._parser import by_words_alone
from casync_compat.cli.oci._common import display, warn
from casync_compat.cli.oci._options import add_login
from casync_compat.errors import UsageError
from casync_compat.oci.registry.authfile import forget_login, login_file
from casync_compat.oci.registry.credentials import Credentials
from casync_compat.oci.spec.reference import parse_registry

EXAMPLES = (("pycasync oci logout registry.example.org", "what podman and skopeo have there is gone, too"),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_login(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    with by_words_alone():
        host = parse_registry(options.registry)
    path = options.authfile or login_file(os.environ)
    if not forget_login(path, host):
        raise UsageError(f"{display(path)}: there is no login at {host}")
    print(f"Login at {host} taken out of {display(path)}")
    left = Credentials(os.environ).find(host, "") if options.authfile is None else None
    if left is not None:
        warn(f"there is another login at {host} in {display(left.source)}, which is used from now on")
    return 0
