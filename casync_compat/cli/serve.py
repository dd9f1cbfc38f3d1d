"""`pycasync serve`."""

from __future__ import annotations

import argparse
import atexit
import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from casync_compat.chunker.params import parse_size
from casync_compat.cli._location import open_chunk_store, open_directory, open_source, warn
from casync_compat.cli._options import NETWORK, add_options
from casync_compat.cli._parser import Parser, by_words_alone
from casync_compat.cli._types import parse_duration
from casync_compat.errors import FileError, UsageError, show_path
from casync_compat.serve.access import NOTHING, Rules
from casync_compat.serve.addresses import Address
from casync_compat.serve.chunks import directories
from casync_compat.serve.inherited import inherited
from casync_compat.serve.log import AccessLog, json_line, text_line
from casync_compat.serve.server import Tls
from casync_compat.serve.settings import Limits, Served, named
from casync_compat.serve.tokens import read_tokens
from casync_compat.verbs.serve import serve_stores

EXAMPLES = (
    ("pycasync serve /srv/default.castr --index-dir=/srv", "chunks and indexes, on 127.0.0.1:8080"),
    ("pycasync serve s3://bucket/store --chunk-cache=/var/cache/chunks --listen=:80", "in front of a bucket"),
    ("pycasync serve os=/srv/os apps=/srv/apps --tokens=/etc/tokens.toml", "two stores, at /os/ and /apps/"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "[NAME=]STORE…",
        "A store without a name is served at / and at /default.castr/, and several are one: the first that has a chunk"
        " gives it. One with a name is at /NAME/. A path with = in it is written ./like=this.",
    )
    parser.add_argument(
        "stores", nargs="*", metavar="[NAME=]STORE", help="chunk stores, each perhaps with a name"
    )
    parser.add_argument(
        "--index-dir", metavar="LOCATION", help="directory of indexes and archives, served at /FILE"
    )
    parser.add_argument(
        "--listen",
        metavar="ADDR:PORT",
        action="append",
        default=[],
        help="where to listen (default: at sockets of systemd's, else at 127.0.0.1:8080); repeatable; port 0 takes one "
        "that is free",
    )
    parser.add_argument(
        "--writable", action="store_true", help="take chunks and indexes that are put, once they are checked"
    )
    parser.add_argument(
        "--authorization",
        metavar="VALUE",
        help="the Authorization field that clients must send; without it $DESYNC_HTTP_AUTH",
    )
    parser.add_argument("--tokens", metavar="FILE", help="tokens and what each may read and write, in TOML")
    parser.add_argument("--cert", metavar="FILE", help="the server's certificate, in PEM: serve over TLS")
    parser.add_argument("--key", metavar="FILE", help="its key, if it is not in the same file")
    parser.add_argument(
        "--client-ca", metavar="FILE", help="take only clients with a certificate of these authorities"
    )
    parser.add_argument(
        "--no-pages",
        action="store_true",
        help="show no pages to people in a browser, only what clients ask for",
    )
    parser.add_argument("--access-log", metavar="FILE", help="a line for each request; - for standard output")
    parser.add_argument(
        "--access-log-format", choices=("text", "json"), default="text", help="text (default) or json"
    )
    parser.add_argument(
        "--max-chunk-size", metavar="BYTES", default="16M", help="of a chunk that is put (default 16M)"
    )
    parser.add_argument(
        "--max-index-size", metavar="BYTES", default="64M", help="of an index that is put (default 64M)"
    )
    parser.add_argument(
        "--client-rate", metavar="N", type=float, help="requests a second that one address may make"
    )
    parser.add_argument(
        "--drain",
        metavar="SECONDS",
        type=parse_duration,
        default=30.0,
        help="that running requests have at the end (default 30)",
    )
    add_options(parser, *NETWORK, "--compression", "--layout", "--dry-run")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    with by_words_alone():
        places = _places(options)
        addresses = [Address.parse(text) for text in options.listen]
        limits = _limits(options)
        tls = _tls(options)
    addresses += inherited(os.environ)
    addresses = addresses or [Address.parse("127.0.0.1:8080")]
    served = _served(options, places)
    _look_for(served)
    log = None if options.dry_run else _log(options)
    if options.dry_run:
        _rules(options)
        names = ", ".join([*served.stores, *(["indexes"] if served.files is not None else [])])
        print(f"Would serve {names} at {' and '.join(map(str, addresses))}.")
        return 0

    def ready(where: Sequence[Address]) -> None:
        scheme = "http" if options.cert is None else "https"
        for address in where:
            unix = address.host.startswith("unix:")
            print(f"Serving at {address if unix else f'{scheme}://{address}/'}", flush=True)

    serve_stores(
        served,
        addresses,
        ready=ready,
        tls=tls,
        limits=limits,
        access=lambda: _rules(options),
        log=log,
        pages=not options.no_pages,
        tell=warn,
        notified=os.environ.get("NOTIFY_SOCKET", ""),
    )
    return _leave()


def _leave() -> int:
    """End the process here and now, with status 0: threads of granian's abort it where Python takes itself down."""
    sys.stdout.flush()
    atexit._run_exitfuncs()
    os._exit(0)


def _places(options: argparse.Namespace) -> dict[str, list[str]]:
    """Locators of stores by the names that they are served under."""
    by_name: dict[str, list[str]] = {}
    for name, where in named(options.stores):
        by_name.setdefault(name, []).append(where)
    if not by_name and options.index_dir is None:
        raise UsageError("there is nothing to serve; name a store, or --index-dir")
    for name, places in by_name.items():
        if name != "default" and len(places) > 1:
            raise UsageError(f"two stores have the name {name}")
        if options.writable and len(places) > 1:
            raise UsageError("--writable takes one store without a name, which is written to")
    return by_name


def _limits(options: argparse.Namespace) -> Limits:
    rate = options.client_rate
    if rate is not None and not 0 < rate < float("inf"):
        raise UsageError("--client-rate is a number of requests above 0")
    sizes = parse_size(options.max_chunk_size), parse_size(options.max_index_size)
    return Limits(chunk=sizes[0], index=sizes[1], rate=rate, drain=options.drain)


def _served(options: argparse.Namespace, by_name: dict[str, list[str]]) -> Served:
    files = None if options.index_dir is None else open_directory(options.index_dir)
    sources = {name: open_source(places[0], places[1:]) for name, places in by_name.items()}
    sinks = {}
    if options.writable:
        sinks = {name: open_chunk_store(places[0], layout=options.layout) for name, places in by_name.items()}
    return Served(sources, files, sinks, options.writable)


def _look_for(served: Served) -> None:
    """Say what is not there, which may come later.

    :raises FileError: a file is where a directory should be
    """
    files = () if served.files is None else served.files.own_paths
    stores = [path for source in served.stores.values() for path in directories(source)]
    for path in dict.fromkeys([*stores, *files]):
        if os.path.isdir(path):
            continue
        if os.path.lexists(path):
            raise FileError(path, "serve", NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
        warn(f"{show_path(path)} is not there; nothing of it can be given until it is")


def _tls(options: argparse.Namespace) -> Tls | None:
    if options.cert is None:
        if options.key is not None or options.client_ca is not None:
            raise UsageError("--key and --client-ca go with --cert")
        return None
    return Tls(options.cert, options.key or options.cert, options.client_ca)


def _rules(options: argparse.Namespace) -> Rules:
    value = options.authorization or os.environ.get("DESYNC_HTTP_AUTH")
    authorization = value.encode() if value else None
    if options.tokens is not None:
        tokens, anybody = read_tokens(options.tokens)
        return Rules(authorization, tokens, anybody)
    return Rules() if authorization is None else replace(Rules(authorization), anybody=NOTHING)


def _log(options: argparse.Namespace) -> AccessLog | None:
    if options.access_log is None:
        return None
    line = json_line if options.access_log_format == "json" else text_line
    if options.access_log == "-":
        return AccessLog(line, lambda text: print(text, flush=True))
    out = open(options.access_log, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - as long as the process
    return AccessLog(line, lambda text: out.write(text + "\n"))
