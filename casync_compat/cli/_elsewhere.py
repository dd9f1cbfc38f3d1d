"""Verbs that other programs have: what to use here in their place, for who types them.

Only words, looked at when a verb is unknown; what is named is checked by a test, so that nobody is sent astray.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

__all__ = ["ELSEWHERE", "advice"]

ELSEWHERE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "": {
        # desync's
        "tar": ("make",),
        "untar": ("extract",),
        "chop": ("make",),
        "chunk": ("make --dry-run",),
        "cache": ("copy", "delta"),
        "prune": ("gc",),
        "chunk-server": ("serve",),
        "index-server": ("serve",),
        "mount-index": ("mount",),
        "list-chunks": ("dump",),
        "inspect-chunks": ("dump --json", "info"),
        "verify-index": ("verify",),
        "manpage": ("help",),
        # casync's
        "mount": ("mount", "extract"),
        "umount": ("umount", "oci umount"),
        "push": ("push", "make"),
        "pull": ("pull", "extract"),
        # of tools for backups and files
        "backup": ("make",),
        "create": ("make",),
        "archive": ("make",),
        "restore": ("extract",),
        "unpack": ("extract", "oci unpack"),
        "ls": ("list", "oci ls"),
        "check": ("verify",),
        "forget": ("gc",),
        "diff": ("verify", "extract --dry-run"),
        "sync": ("mirror", "make"),
        "clone": ("mirror", "extract"),
        "version": ("--version",),
        "doctor": ("self-check",),
        "stats": ("info", "oci stats"),
    },
    "oci": {
        "copy": ("oci copy", "oci push", "oci pull"),
        "cp": ("oci copy", "oci push", "oci pull"),
        "list": ("oci ls",),
        "extract": ("oci unpack",),
        "make": ("oci convert",),
        "import": ("oci convert",),
        "load": ("oci convert",),
        "save": ("oci export",),
        "prune": ("oci gc",),
        "info": ("oci inspect",),
        "mount": ("oci mount", "oci checkout"),
        "umount": ("oci umount",),
        "check": ("oci verify",),
    },
    "store": {"verify": ("verify",), "gc": ("gc",), "unpack": ("store explode",), "repack": ("store pack",)},
}
"""For each group, a verb of another program, and what comes closest, best first: the first counts that there is."""

_SURE = 0.8
"""How alike two words are, from 0 to 1, when one is the other mistyped rather than another program's."""


def advice(group: str, verb: str, verbs: Mapping[str, tuple[str, ...]]) -> str:
    """What to say to who asked for a verb that there is not.

    :param verbs: those that there are, by group; of the group that is empty, casync's
    """
    own = [*verbs[group], *(() if group else filter(None, verbs))]
    if close := get_close_matches(verb, own, 1, _SURE):
        return f"did you mean {close[0]}?"
    there = {f"{each} {name}".strip() for each, names in verbs.items() for name in names} | {
        "help",
        "--version",
    }
    for row in ELSEWHERE[group].get(verb, ()):
        if row in there or row.rpartition(" --")[0] in there:
            return f"use `pycasync {row}` for that"
    if others := sorted(each for each in there if each.rpartition(" ")[2] == verb):
        return f"did you mean `pycasync {others[0]}`?"
    if close := get_close_matches(verb, own, 1):
        return f"did you mean {close[0]}?"
    return f"see `pycasync {group} --help` for all there are".replace("  ", " ")
