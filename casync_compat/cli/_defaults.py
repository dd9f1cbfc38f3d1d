"""What options are where a command line does not say: by `[defaults]` of `config.toml`.

A table `[defaults.make]` is of one verb, and counts for more than `[defaults]` itself, of which a verb takes what it
has. What the environment says counts for more than either.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping

from casync_compat.cli._location import CONFIGURATION, warn
from casync_compat.cli._options import TAKES_VALUE
from casync_compat.cli._parser import Parser
from casync_compat.cli._verbs import GROUPS, parser_of, verbs_of
from casync_compat.errors import UsageError
from casync_compat.locations.configuration import Said

__all__ = ["VARIABLES", "defaults_of", "did_you_mean", "set_defaults"]

_SURE = 0.7
"""How much alike words must be, by `difflib`."""

VARIABLES = {"store": "CASYNC_STORE", "verbose": "CASYNC_VERBOSE", "log-level": "CASYNC_LOG_LEVEL"}
"""Variables that say what an option is where the command line does not."""


def defaults_of(title: str, environ: Mapping[str, str] = os.environ) -> list[Said]:
    """What is configured for a verb, `oci push` say; first what is said of all verbs.

    :raises FileError: the file cannot be read
    :raises UsageError: it is malformed
    """
    said = CONFIGURATION.defaults()
    for verb, all_ in said.items() if title != "config" else ():  # which looks at everything
        _check(verb, all_)
    found = {one.name: one for verb in ("", title) for one in said.get(verb, ())}
    return [one for name, one in found.items() if not environ.get(VARIABLES.get(name, ""))]


def _check(verb: str, defaults: Iterable[Said]) -> None:
    """Warn of what nobody asks for.

    What a verb of its own makes of its options is seen when it is run. An option in `[defaults]` may be of any verb;
    all are looked at only where its name is much like one of casync's, since making their parsers takes time.
    """
    names = [(group, name, f"{group} {name}".strip()) for group in ("", *GROUPS) for name in verbs_of(group)]
    if verb:
        if verb not in (titles := [title for _, _, title in names]):
            warn(f"{next(iter(defaults)).origin}: there is no verb {verb}{did_you_mean(verb, titles)}")
        return
    for one in defaults:
        flag = f"--{one.name}"
        if flag not in TAKES_VALUE and (meant := did_you_mean(flag, TAKES_VALUE)):
            if any(flag in parser_of(group, name).takes_value for group, name, _ in names):
                continue
            warn(f"{one.origin}: no verb has an option {flag}{meant}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question for the word that was meant, if one is near."""
    from difflib import get_close_matches  # lazily: most words are known

    near = get_close_matches(word, list(known), 1, _SURE)
    return f"; did you mean {near[0]}?" if near else ""


def set_defaults(parser: Parser, title: str, defaults: Iterable[Said]) -> None:
    """Let a verb's parser have them.

    :raises UsageError: the verb has no such option, though the table is its own; or it takes no such value
    """
    own = {one.origin for one in CONFIGURATION.defaults().get(title, ())}
    for one in defaults:
        action = parser.option(f"--{one.name}")
        if action is not None:
            parser.set_defaults(**{action.dest: _value(parser, action, one)})
        elif one.origin in own:
            meant = did_you_mean(f"--{one.name}", parser.takes_value)
            raise UsageError(f"{one.origin}: {title} has no option --{one.name}{meant}")


def _value(parser: Parser, action: argparse.Action, one: Said) -> object:
    if action.nargs == 0:
        if not isinstance(one.value, bool):
            raise UsageError(f"{one.origin}: --{one.name} takes no value; write true or false")
        return one.value
    texts = (("no", "yes")[one.value],) if isinstance(one.value, bool) else one.value
    try:
        values = [parser.value_of(action, text) for text in texts]
    except argparse.ArgumentError as error:
        raise UsageError(f"{one.origin}: {one.name}: {error.message}") from error
    if isinstance(action.default, list):
        return values
    if len(values) != 1:
        raise UsageError(f"{one.origin}: --{one.name} takes one value")
    return values[0]
