"""What an earlier run of `make` learnt about a tree, so that the next one reads only what changed.

`file` keeps it on disk, `snapshot` compares it with the tree, `stream` puts the new archive's stream together of old
chunks and fresh bytes, `splicer` feeds it from a scan, and `archive` decides what to do. The index is the same as
without a cache, always.
"""

from __future__ import annotations
