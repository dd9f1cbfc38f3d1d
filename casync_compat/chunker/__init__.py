"""Where a stream is cut into chunks, byte for byte where casync cuts it.

>>> sizes = ChunkSizes.parse("64K")
>>> Chunker(sizes).split(bytes(300_000))
[(0, 262144), (262144, 300000)]
"""

from __future__ import annotations

from casync_compat.chunker.chunker import Chunker
from casync_compat.chunker.params import MAX_CHUNK_SIZE, ChunkSizes, parse_size
from casync_compat.chunker.table import WINDOW_SIZE

__all__ = ["MAX_CHUNK_SIZE", "WINDOW_SIZE", "ChunkSizes", "Chunker", "parse_size"]
