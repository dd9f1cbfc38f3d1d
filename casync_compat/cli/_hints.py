"""What to do about an error, by options: put behind its message, since the library does not know how it is used.

One row an error: its class, when the row applies, and the words. The first row that applies and whose options the verb
has counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from errno import ENOENT
from typing import Any

from casync_compat.errors import AccessDenied, ChunkMissing, FileError
from casync_compat.fs.apply.left_out import PRIVILEGES, Refused
from casync_compat.fs.locks import Locked
from casync_compat.fs.owners import BadShift, IdTooLarge
from casync_compat.ids import DigestUnavailable
from casync_compat.net.http import UntrustedCertificate
from casync_compat.oci.spec.errors import CannotShare, ImageTooLarge, NoSuchPlatform
from casync_compat.store.leases import StoreBusy
from casync_compat.verbs.gc import UnnamedIndexes
from catar.flags import CHATTR, FAT_ATTRS, FeatureFlags, flag_names

__all__ = ["HINTS", "Hint", "hint_for"]

F = FeatureFlags


_PROC = "/proc/self/fd"


def _always(error: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Hint:
    """What may be done about errors of one class.

    :ivar error: the class; its subclasses are meant, too
    :ivar text: what to do, as the end of a sentence, with what separates it; or what gives that for an error
    :ivar when: asked with the error, which has its class's attributes
    """

    error: type[BaseException]
    text: str | Callable[[Any], str]
    when: Callable[[Any], bool] = _always


_WITHOUT = (
    (CHATTR, ("chattr",)),
    (FAT_ATTRS, ("fat-attrs",)),
    # What needs another brings it back: ACLs need owners, a read-only subvolume is one.
    (int(F.UIDS_16BIT | F.UIDS_32BIT | F.USER_NAMES), ("16bit-uids", "32bit-uids", "user-names", "acl")),
    (int(F.SUBVOLUME), ("subvolume", "subvolume-ro")),
)
"""Words of `--without` for what takes more than one flag."""


def _without(error: Refused) -> str:
    """The options that leave out what was refused."""
    if error.features == PRIVILEGES:
        return "; --rootless leaves it out"
    names = next((names for bits, names in _WITHOUT if bits & error.features), None)
    words = " ".join(f"--without={name}" for name in names or flag_names(error.features))
    return f"; {words} leaves it out"


def _wants_credentials(error: AccessDenied) -> bool:
    return error.registry and (error.status == 401 or error.anonymous)


def _wants_login(error: AccessDenied) -> bool:
    return error.status == 401 and not error.registry


def _lacks_proc(error: FileError) -> bool:
    """Whether something that is had through `/proc` only may be what was not found."""
    was_there = error.op.startswith("set ") or os.path.lexists(error.path)
    return error.errno == ENOENT and was_there and not os.path.exists(_PROC)


HINTS: tuple[Hint, ...] = (
    Hint(ChunkMissing, "; add the store that has it with --extra-store"),
    Hint(ChunkMissing, "; add the store that has it with --store"),
    Hint(DigestUnavailable, "; use another --digest= or a Python with OpenSSL 1.1.1"),
    Hint(NoSuchPlatform, "; choose with --platform or --all"),
    Hint(NoSuchPlatform, "; choose with --platform"),
    Hint(
        AccessDenied, ", or give --creds=USER:PASSWORD, or a file in $REGISTRY_AUTH_FILE", _wants_credentials
    ),
    Hint(AccessDenied, ", or name a file of credentials in $REGISTRY_AUTH_FILE", _wants_credentials),
    Hint(AccessDenied, "; a login may stand in the URL, in ~/.netrc or in the configuration", _wants_login),
    Hint(ImageTooLarge, "; allow more with --max-size if you trust it"),
    Hint(CannotShare, ", or use --link=auto"),
    Hint(Locked, "; --undo-immutable=yes clears that"),
    Hint(Refused, _without),
    Hint(BadShift, "; choose a lower --uid-shift"),
    Hint(IdTooLarge, "; use --with=32bit-uids"),
    Hint(UntrustedCertificate, ", or use --insecure"),
    Hint(UntrustedCertificate, ", or give the file as --ca-cert=FILE"),
    Hint(StoreBusy, "; try again, or wait longer with --wait=SECONDS"),
    Hint(UnnamedIndexes, "; name them, too, or give --yes"),
    Hint(FileError, "; /proc is missing, which may be why: mount it", _lacks_proc),
)


_OPTION = re.compile(r"--[a-z][a-z-]*")


def hint_for(error: BaseException, options: Collection[str] | None = None) -> str:
    """What follows an error's message; empty where there is nothing to do by options.

    What it was raised from counts where there is nothing to say about itself.

    :param options: those that the verb has, None for any; what names another one is not said
    """
    each: BaseException | None = error
    seen: set[int] = set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))  # an error that is passed on as it is may be its own cause
        for hint in HINTS:
            if isinstance(each, hint.error) and hint.when(each):
                text = hint.text if isinstance(hint.text, str) else hint.text(each)
                if options is None or all(option in options for option in _OPTION.findall(text)):
                    return text
        each = each.__cause__
    return ""
