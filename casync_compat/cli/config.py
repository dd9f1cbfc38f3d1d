"""`pycasync config`: what is configured, and where each value is from."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from casync_compat.cli._defaults import did_you_mean
from casync_compat.cli._location import CONFIGURATION, shown_name, warn
from casync_compat.cli._options import add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.cli._verbs import GROUPS, parser_of, verbs_of
from casync_compat.errors import show_path
from casync_compat.locations.configfiles import SECRETS
from casync_compat.locations.configuration import Said
from casync_compat.locations.shown import without_login

EXAMPLES = (
    ("pycasync config", "files, defaults of options, variables"),
    ("pycasync config s3://bucket/chunks", "and what is said of a store"),
)

_HIDDEN = "(hidden)"
_VARIABLES = (
    *("CASYNC_STORE", "CASYNC_LOG_LEVEL", "CASYNC_VERBOSE", "CASYNC_COMPRESSED_CHUNK_SUFFIX"),
    *(
        "CASYNC_SSH_PATH",
        "CASYNC_REMOTE_PATH",
        "CASYNC_PROTOCOL_PATH",
        "PYCASYNC_CONFIG",
        "SOURCE_DATE_EPOCH",
    ),
    *("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "http_proxy", "https_proxy", "no_proxy", "S3_REGION", "AWS_PROFILE"),
)
_SECRET_VARIABLES = (
    *("DESYNC_HTTP_AUTH", "DESYNC_ENCRYPTION_KEY", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "[STORE]",
        "The text is one that config.toml may have; what each value is from stands behind it. Secrets are not shown. "
        "The command line counts for most, then the environment, config.toml, desync's config.json.",
    )
    add_positional(parser, "store", "a chunk store or a directory of indexes", "?")
    add_options(parser, "--json", but="--store")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    where: str | None = options.store
    tables = {"": CONFIGURATION.generally()}
    for verb, defaults in CONFIGURATION.defaults().items():
        tables[_table("defaults", verb)] = defaults
        _check(verb, defaults)
    if where is not None:
        tables[_table("stores", os.fsdecode(shown_name(where)))] = CONFIGURATION.said_of(where)
    environment = dict(_environment())
    if options.json:
        print(json.dumps(_to_json(tables, environment)))
        return 0
    for path, there in CONFIGURATION.paths():
        print(f"# {show_path(path)}{'' if there else ' is not there'}")
    for table, all_ in tables.items():
        if table:
            print(f"\n[{table}]")
        for one in all_:
            name = one.name.replace("_", "-")
            print(f"{name} = {json.dumps(_shown(one), ensure_ascii=False)}  # {one.origin}")
    if environment:
        print("\n# environment")
    for name, value in environment.items():
        print(f"# {name}={value}")
    sys.stdout.flush()
    return 0


def _table(kind: str, name: str) -> str:
    """The head of a table."""
    bare = name.replace("-", "").isalnum() and name.isascii()
    return kind if not name else f"{kind}.{name if bare else json.dumps(name, ensure_ascii=False)}"


def _check(verb: str, defaults: Iterable[Said]) -> None:
    """Warn of what nobody asks for."""
    titles = [(group, name, f"{group} {name}".strip()) for group in ("", *GROUPS) for name in verbs_of(group)]
    meant = [(group, name) for group, name, title in titles if verb in ("", title)]
    if not meant:
        near = did_you_mean(verb, [title for _, _, title in titles])
        warn(f"{next(iter(defaults)).origin}: there is no verb {verb}{near}")
        return
    known = {flag for group, name in meant for flag in parser_of(group, name).takes_value}
    for one in defaults:
        if f"--{one.name}" not in known:
            near = did_you_mean(f"--{one.name}", known)
            warn(f"{one.origin}: {verb or 'no verb'} has {'no' if verb else 'an'} option --{one.name}{near}")


def _shown(one: Said) -> Any:
    """A value as it may be seen."""
    if one.name in SECRETS:
        return _HIDDEN
    if isinstance(one.value, tuple):
        texts = [without_login(str(each)) for each in one.value]
        return texts[0] if len(texts) == 1 else texts
    return without_login(one.value) if isinstance(one.value, str) else one.value


def _environment() -> Iterator[tuple[str, str]]:
    for name in (*_VARIABLES, *_SECRET_VARIABLES):
        if value := os.environ.get(name):
            yield name, _HIDDEN if name in _SECRET_VARIABLES else show_path(without_login(value))


def _to_json(tables: dict[str, list[Said]], environment: dict[str, str]) -> dict[str, object]:
    return {
        "files": [{"path": show_path(path), "there": there} for path, there in CONFIGURATION.paths()],
        "settings": [
            {"table": table, "name": one.name.replace("_", "-"), "value": _shown(one), "origin": one.origin}
            for table, all_ in tables.items()
            for one in all_
        ],
        "environment": environment,
    }
