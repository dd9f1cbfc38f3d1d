"""Values of casync's options that verbs read later: whether they can be read at all, before any file is looked at."""

from __future__ import annotations

import argparse

from casync_compat.cli._parser import by_words_alone

__all__ = ["check_values"]


def check_values(options: argparse.Namespace) -> None:
    """See whether verbs will understand what they are told, where the options are casync's, and were given.

    :raises WrongWords: one of the values cannot be read
    """
    with by_words_alone():
        for name in (*options.with_, *options.without):
            from catar.flags import parse_flag

            parse_flag(name)
        if options.chunk_size != "auto":
            from casync_compat.chunker.params import ChunkSizes

            ChunkSizes.parse(options.chunk_size)
        if options.digest != "default":
            from casync_compat.ids import Digest

            Digest.parse(options.digest)
        if options.compression != "default":
            from casync_compat.compression import Compression

            Compression.parse(options.compression)
        if options.id_shifts:
            from casync_compat.cli._common import id_shift

            id_shift(options)
