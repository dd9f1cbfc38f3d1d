"""What a client of casync's protocol asks for: by the words after `pull` or `push`, or in `SSH_ORIGINAL_COMMAND`.

sshd runs the `command=` of a key in `authorized_keys` in place of what the client wants to run, which it passes on in
that variable. There it is only read: nothing of it is run, and no option counts but the rate limit, which casync's
client passes on.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from casync_compat.cli._parser import WrongWords, by_words_alone
from casync_compat.errors import UsageError, show_path

__all__ = ["VARIABLE", "Wish", "asked"]

VARIABLE = "SSH_ORIGINAL_COMMAND"
_VERBS = ("pull", "push")
_RATE = "--rate-limit-bps="
_MOST = 64 << 10
_FORMS = "- ARCHIVE INDEX STORE [STORES...], with - for what there is not"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asks for; None for what it does not.

    :ivar verb: "pull" or "push"
    :ivar stores: the first is the one that is written to
    :ivar rate: bytes a second that it wants at most, as it writes them
    """

    verb: str
    archive: str | None
    index: str | None
    stores: tuple[str, ...]
    rate: str | None = None


def asked(verb: str, words: Sequence[str], environ: Mapping[str, str]) -> Wish:
    """What is asked for.

    :param verb: that was started
    :param words: its arguments; none where a key's `command=` has started it
    :raises UsageError: they make no sense
    """
    if words:
        with by_words_alone():
            return _read(verb, words, None)
    command = environ.get(VARIABLE)
    if command is None:
        raise WrongWords(
            f"{verb} is started by a client of casync's protocol, with the arguments {_FORMS}; or by sshd for a key "
            f'with command="pycasync {verb} --root=DIR" in authorized_keys, which leaves them in ${VARIABLE}'
        )
    return _from_command(command)


def _from_command(command: str) -> Wish:
    if len(command) > _MOST:
        raise UsageError("this key is for casync's protocol alone, and the command is too long for that")
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    at = next((number for number, word in enumerate(words) if word in _VERBS and number), None)
    if at is None:
        shown = show_path(command[:60])
        raise UsageError(f"this key is for casync's protocol alone: it runs pull or push, not {shown!r}")
    options = [word for word in words[1:at] if word.startswith("-")]
    rates = [word.removeprefix(_RATE) for word in options if word.startswith(_RATE)]
    if len(rates) < len(options):
        raise UsageError("this key is for casync's protocol alone, and takes no option but a rate limit")
    return _read(words[at], words[at + 1 :], rates[-1] if rates else None)


def _read(verb: str, words: Sequence[str], rate: str | None) -> Wish:
    if len(words) < 4:
        raise UsageError(f"{verb} takes {_FORMS}")
    base, archive, index, *stores = (None if word in ("", "-") else word for word in words)
    if base is not None:
        raise UsageError(f"{verb} knows nothing of directories at this end; write - in place of {base}")
    if archive is not None and index is not None:
        raise UsageError(f"{verb} takes an archive or an index, not both")
    found = tuple(store for store in stores if store is not None)
    if archive is None and index is None and not found:
        raise UsageError(f"{verb} has nothing to do: there is neither archive nor index nor store")
    return Wish(verb, archive, index, found, rate)
