"""The binary formats of casync_compat, declared: indexes, caches, packed stores, images' parts, messages of processes.

As with archives, which `catar.schema` declares, programs do not interpret these declarations: `python -m catar.derive
casync_compat.schema` reads layouts off them, into `_layouts.py` for Python and `_layouts.h` for C; only `dump` does.
Fields and limits of indexes (.caidx, .caibx) and of messages are those of casync 2. The formats of images are ours, and
`casync_compat/oci/README.md` explains them; so are those of packed stores, in `casync_compat/store/packs/README.md`.
"""

from __future__ import annotations

from construct import (
    Bytes,
    Const,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
    Struct,
    VarInt,
    ZigZag,
)

from catar.schema import NUL_STRING, RAW, UINT64_MAX, Declared, RecordRow

__all__ = [
    "CACHE_DIRECTORY",
    "CACHE_HEADER",
    "CACHE_IDENTITY",
    "COMPOSEFS_HEADER",
    "DECLARED",
    "EROFS_COMPACT",
    "EROFS_DIRENT",
    "EROFS_EXTENDED",
    "EROFS_SUPERBLOCK",
    "EROFS_XATTR",
    "EROFS_XATTR_BODY",
    "INDEX_HEADER",
    "INDEX_ITEM",
    "INDEX_TAIL",
    "MAX_CHUNK_SIZE",
    "MESSAGES",
    "PACK_INDEX_CHUNK",
    "PACK_INDEX_HEADER",
    "PACK_INDEX_PACK",
    "PACK_TABLE_FOOTER",
    "PACK_TABLE_FRAME",
    "PACK_TABLE_ROW",
    "RECIPE_FRAME",
    "RECIPE_HEAD",
    "RECIPE_OFFSET",
    "RECIPE_SPLICE",
    "SEGMENT_HEADER",
    "STORE_HEAD",
    "STORE_HEAD_REMOVED",
    "STORE_HEAD_SEGMENT",
    "STORE_HEAD_TAIL",
]

MAX_CHUNK_SIZE = 128 * 1024 * 1024
"""No chunk is larger (casync `src/cachunk.h`, `CA_CHUNK_SIZE_LIMIT_MAX`), in bytes."""
CHUNK_ID_SIZE = 32

# Index files: INDEX record, TABLE record (items, then a tail that looks like one more item).

INDEX_TYPE = 0x96824D9C7B129FF9
TABLE_TYPE = 0xE75B9E112F17417D
TABLE_TAIL_MARKER = 0x4B4F050E5549ECD1
_INDEX_SIZE = 6 * Int64ul.sizeof()
"""Of the INDEX record, and so the offset of the TABLE record."""

INDEX_HEADER = Struct(
    "index_size" / Const(_INDEX_SIZE, Int64ul),
    "index_type" / Const(INDEX_TYPE, Int64ul),
    "feature_flags" / Int64ul,
    "chunk_size_min" / Int64ul,
    "chunk_size_avg" / Int64ul,
    "chunk_size_max" / Int64ul,
    "table_size" / Const(UINT64_MAX, Int64ul),
    "table_type" / Const(TABLE_TYPE, Int64ul),
)
"""The INDEX record and the head of TABLE, whose size field is always UINT64_MAX; its true size stands in the tail."""

INDEX_ITEM = Struct("end" / Int64ul, "id" / Bytes(CHUNK_ID_SIZE))
"""`end` is the offset of the first byte after the chunk; the first chunk starts at 0."""

INDEX_TAIL = Struct(
    "zero1" / Const(0, Int64ul),
    "zero2" / Const(0, Int64ul),
    "index_offset" / Const(_INDEX_SIZE, Int64ul),
    "table_size" / Int64ul,
    "marker" / Const(TABLE_TAIL_MARKER, Int64ul),
)
"""`table_size` is that of TABLE, its head and this tail included. An `end` of 0 cannot occur in an item, so the tail
cannot be mistaken."""

# Pack indexes: a header, the packs in the manifest's order, the chunks by rising id. And the table that a pack ends in.

MAX_PACKS = 1000
"""Packs of an image. Every one is a descriptor of its manifest, and tools are slow beyond a few hundred."""
MAX_PACK_CHUNKS = 1 << 23
"""Chunks of an image: half a terabyte of them at the default size, in an index of 376 MiB."""
MAX_STORED_SIZE = MAX_CHUNK_SIZE + MAX_CHUNK_SIZE // 8 + (64 << 10)
"""Of the largest chunk that compression only made larger, in bytes."""

PACK_INDEX_HEADER = Struct(
    "magic"
    / Const(b"\x89PCIDX\r\n"),  # as PNG's: shows when it went through something that changes line ends
    "version" / Const(1, Int32ul),
    "packs" / Int32ul,
    "chunks" / Int32ul,
    "zero" / Const(0, Int32ul),
)
PACK_INDEX_PACK = Struct("sha256" / Bytes(32), "size" / Int64ul)
PACK_INDEX_CHUNK = Struct(
    "id" / Bytes(CHUNK_ID_SIZE),
    "pack" / Int16ul,
    "stored_size" / Int32ul,
    "raw_size" / Int32ul,
    "offset_low" / Int32ul,
    "offset_high" / Int8ul,
)
"""`offset` in the pack has 40 bits, the low 32 first."""

PACK_TABLE_FRAME = Struct("frame_magic" / Const(0x184D2A5A, Int32ul), "frame_size" / Int32ul)
"""A frame that zstd decoders pass over: one of the sixteen of RFC 8878 section 3.1.2; not one that seekable zstd (…5E)
or zstd:chunked (…50) use."""
PACK_TABLE_ROW = Struct("id" / Bytes(CHUNK_ID_SIZE), "stored_size" / Int32ul, "raw_size" / Int32ul)
PACK_TABLE_FOOTER = Struct(
    "chunks" / Int32ul, "version" / Const(1, Int32ul), "magic" / Const(b"\x89PCPAK\r\n")
)

# Packed stores: segments of their index (a header, then rows as those of pack indexes), and the head that names them.

MAX_STORE_PACK = 256 << 20
"""Bytes of a pack in a store: it is full at 16 MiB, and its last chunk may be of the largest."""
MAX_SEGMENT_CHUNKS = 1 << 20
"""Chunks in a segment, which has at most `MAX_PACKS` packs besides: 48 MiB at most."""
MAX_STORE_CHUNKS = 1 << 25
"""Chunks in all segments of a store: two terabytes of them at the default size, in 1.5 GiB of index."""
MAX_SEGMENTS = 4096
MAX_REMOVED_PACKS = 1 << 16
"""Packs that are remembered until they may go."""

SEGMENT_HEADER = Struct(
    "magic" / Const(b"\x89PCSEG\r\n"),
    "version" / Const(1, Int32ul),
    "packs" / Int32ul,
    "chunks" / Int32ul,
    "zero" / Const(0, Int32ul),
    "generation" / Int64ul,
)
"""`generation` is that of the head it was written for, so that no segment is ever written twice: one that has gone
does not come back under its name."""
STORE_HEAD = Struct(
    "magic" / Const(b"\x89PCHED\r\n"),
    "version" / Const(1, Int32ul),
    "segments" / Int32ul,
    "removed" / Int32ul,
    "collections" / Int32ul,
    "generation" / Int64ul,
)
"""`collections` is how often chunks were taken out of the index, so that a writer sees whether what it relied on may
have gone."""
STORE_HEAD_SEGMENT = Struct("sha256" / Bytes(32), "size" / Int64ul, "packs" / Int32ul, "chunks" / Int32ul)
STORE_HEAD_REMOVED = Struct("sha256" / Bytes(32), "size" / Int64ul, "moment" / Int64ul)
"""`moment` at which the pack was taken out of the index, in seconds since 1970."""
STORE_HEAD_TAIL = Struct("checksum" / Bytes(32))
"""SHA-256 of all that is before it."""

# Recipes: a head, a zstd frame with the lists of frame sizes, splices and offsets, and frames of literals.

RECIPE_LITERAL_FRAME = 1 << 20
"""Bytes of literals in a frame of their own, decompressed."""
RECIPE_TAR_MAX = 1 << 44
RECIPE_CATAR_MAX = 1 << 62
RECIPE_LITERALS_MAX = 1 << 32
"""The most bytes that a recipe holds itself: headers of some five million members."""
RECIPE_LIST_MAX = 256 << 20
"""Bytes of the lists, decompressed; four million members need some 50 MiB."""
RECIPE_LITERAL, RECIPE_COPY, RECIPE_ZEROS = range(3)
"""Kinds of splices: bytes of the recipe itself, bytes of the catar, zeros."""

RECIPE_HEAD = Struct(
    "frame_magic"
    / Const(0x184D2A5C, Int32ul),  # passed over by zstd, so that the whole blob stays a zstd stream
    "frame_size" / Const(88, Int32ul),
    "magic" / Const(b"tarcatar"),
    "version" / Const(1, Int32ul),
    "literal_frame" / Const(RECIPE_LITERAL_FRAME, Int32ul),
    "tar_size" / Int64ul,
    "catar_size" / Int64ul,
    "sha256" / Bytes(32),
    "literals" / Int64ul,
    "splices" / Int64ul,
    "list_size" / Int32ul,
    "frames" / Int32ul,
)
"""`sha256` is that of the tar; `literals` are bytes in all; `splices` is their number; `list_size` that of the lists,
compressed; `frames` the number of literal frames."""
RECIPE_FRAME = Struct("stored_size" / Int32ul)
RECIPE_SPLICE = Struct("length_and_kind" / VarInt)
"""Length shifted left by two, and the kind."""
RECIPE_OFFSET = Struct("distance" / ZigZag)
"""Of a COPY: from where the one before ends in the catar, to where it begins."""

# Caches of `make`: a header, records of directories, the items of an index, a description as JSON.

CACHE_HEADER = Struct(
    "magic" / Const(b"pycasync cache 1"),
    "checksum" / Bytes(32),
    "directories_size" / Int64ul,
    "table_size" / Int64ul,
    "description_size" / Int64ul,
)
"""`checksum` is BLAKE2b of all that follows the header, and of the three sizes behind it."""
CACHE_DIRECTORY = Struct(
    "path_size" / Int32ul, "entries" / Int32ul, "names_size" / Int32ul, "complete" / Int32ul
)
"""The path follows; the name of each entry with a NUL; the identity of each; where each begins in the archive, and
where the last ends, 64 bits each, counted from where the directory begins."""
CACHE_IDENTITY = Struct(
    "device" / Int64ul,
    "inode" / Int64ul,
    "special_device" / Int64ul,
    "size" / Int64ul,
    "mtime" / Int64ul,
    "ctime" / Int64ul,
    "mode" / Int32ul,
    "uid" / Int32ul,
    "gid" / Int32ul,
    "zero" / Int32ul,
)
"""In the machine's byte order, in truth, since a cache never leaves its machine. Zeros for what was not there."""

# EROFS, the kernel's file system for reading only (Linux fs/erofs/erofs_fs.h), as composefs writes it (version 1 of its
# format). Numbers are little-endian, blocks have 4096 bytes. `oci.erofs.image` says what goes where.

EROFS_BLOCK = 4096
EROFS_SUPERBLOCK_AT = 1024
EROFS_SLOT = 32
"""Inodes begin at multiples of this, and are known by it: their number is their offset divided by it."""
EROFS_HOLE = 0xFFFFFFFF
"""The number of a block that is all zeros and nowhere."""
EROFS_XATTR_SEED = 0x25BBE08F
"""Of the hashes in the name filter of extended attributes."""
EROFS_PLAIN, EROFS_INLINE, EROFS_CHUNKS = 0, 2, 4
"""Where an inode's data is: in blocks, its end behind the inode, in chunks that are each somewhere."""

COMPOSEFS_HEADER = Struct(
    "magic" / Const(0xD078629A, Int32ul),
    "version" / Const(1, Int32ul),
    "flags" / Int32ul,
    "composefs_version" / Int32ul,
    "unused" / Bytes(16),
)
"""At the file's beginning, which EROFS leaves free. `flags` is 1 where an inode has an ACL; `composefs_version` is 1
where one is a whiteout of the tree's own."""
EROFS_SUPERBLOCK = Struct(
    "magic" / Const(0xE0F5E1E2, Int32ul),
    "checksum" / Int32ul,
    "feature_compat" / Const(2 | 4, Int32ul),  # times of modification; name filters
    "block_bits" / Const(12, Int8ul),
    "ext_slots" / Int8ul,
    "root" / Int16ul,
    "inodes" / Int64ul,
    "epoch" / Int64sl,
    "epoch_nanoseconds" / Int32ul,
    "blocks" / Int32ul,
    "meta_block" / Int32ul,
    "xattr_block" / Int32ul,
    "uuid" / Bytes(16),
    "volume" / Bytes(16),
    "feature_incompat" / Int32ul,
    "rest" / Bytes(44),
)
"""`root` is the number of its inode; `epoch` the time of all compact inodes; `xattr_block` the block where shared
attributes begin, or begin within."""
EROFS_COMPACT = Struct(
    "format" / Int16ul,
    "xattr_count" / Int16ul,
    "mode" / Int16ul,
    "links" / Int16ul,
    "size" / Int32ul,
    "zero1" / Int32ul,
    "place" / Int32ul,
    "number" / Int32ul,
    "uid" / Int16ul,
    "gid" / Int16ul,
    "zero2" / Int32ul,
)
"""`format`: bit 0 for an extended inode, bits 1 to 3 where its data is. `xattr_count`: words of attributes but for the
two last of their head. `place`: the first block, the device, or bits of a chunk's size beyond a block's."""
EROFS_EXTENDED = Struct(
    "format" / Int16ul,
    "xattr_count" / Int16ul,
    "mode" / Int16ul,
    "zero1" / Int16ul,
    "size" / Int64ul,
    "place" / Int32ul,
    "number" / Int32ul,
    "uid" / Int32ul,
    "gid" / Int32ul,
    "seconds" / Int64sl,
    "nanoseconds" / Int32ul,
    "links" / Int32ul,
    "zero2" / Bytes(16),
)
EROFS_DIRENT = Struct("inode" / Int64ul, "name_at" / Int16ul, "type" / Int8ul, "zero" / Int8ul)
"""All of a block come first, then their names; the first `name_at` tells how many there are."""
EROFS_XATTR_BODY = Struct("filter" / Int32ul, "shared" / Int8ul, "zero" / Bytes(7))
"""Numbers of shared attributes follow, then attributes of this inode alone. A bit of `filter` that is set says that no
name with this hash is here."""
EROFS_XATTR = Struct("name_size" / Int8ul, "prefix" / Int8ul, "value_size" / Int16ul)
"""The rest of the name and the value follow, padded to four bytes."""

# What `fs.apply` plans for each row of a run, in C, and looks at in Python. In the machine's byte order.

PLACE = Struct("fd" / Int32sl, "row" / Int32sl, "uid" / Int32ul, "gid" / Int32ul)
"""`fd` is that of the directory that a node goes into, or that the row opens or ends; -1 for none. `row` opened the
directory that the row ends, when that was in the same plan; else -1. `uid` and `gid` are to be changed to; -1 not."""

# What the native readers of files are to ask about each (`fs.system`).

WANT = (
    "FLAGS",  # read the chattr flags
    "PROJID",  # read the quota project id
    "LIST",  # ask whether there are extended attributes
    "LINKS",  # take symlinks into runs
    "RUNS",  # read runs at all
    "LABELS",  # leave symlinks that have an SELinux label to the caller
)

# Messages of casync's protocol (`src/caprotocol.h`). Each is a record: its size, header included, its type, a body.

MESSAGE_SIZE_MAX = 16 << 20
"""Of a message, header included, in bytes (`CA_PROTOCOL_SIZE_MAX`)."""
ABORT_ERROR_MAX = (1 << 31) - 2
"""The largest error number that a reader of ABORT takes; 0 stands for none."""

MESSAGES = (
    RecordRow("HELLO", 0x3C71D0948CA5FBEE, Struct("flags" / Int64ul), 24, 24),
    RecordRow("INDEX", 0xB32A91DD2B3E27F8, Struct("data" / RAW), 17, MESSAGE_SIZE_MAX),
    RecordRow("INDEX_EOF", 0x4F0932F1043718F5, Struct(), 16, 16),
    RecordRow("ARCHIVE", 0x95D6428A69EDDCC5, Struct("data" / RAW), 17, MESSAGE_SIZE_MAX),
    RecordRow("ARCHIVE_EOF", 0x450BEF663F24CBAD, Struct(), 16, 16),
    # as many ids as there is room for, one at least
    RecordRow("REQUEST", 0x8AB427E0F89D9210, Struct("flags" / Int64ul, "ids" / RAW), 56, MESSAGE_SIZE_MAX),
    RecordRow(
        "CHUNK",
        0x5213DD180A84BC8C,
        Struct("flags" / Int64ul, "id" / Bytes(CHUNK_ID_SIZE), "data" / RAW),
        57,
        MESSAGE_SIZE_MAX,
    ),
    RecordRow("MISSING", 0xD010F9FAC82B7B6C, Struct("id" / Bytes(CHUNK_ID_SIZE)), 48, 48),
    RecordRow("GOODBYE", 0xAD205DBF1A3686C3, Struct(), 16, 16),
    RecordRow(
        "ABORT", 0xE7D9136B7EFEA352, Struct("error" / Int64ul, "reason" / NUL_STRING), 25, MESSAGE_SIZE_MAX
    ),
)

HELLO = (
    "READABLE_STORE",
    "WRITABLE_STORE",
    "READABLE_INDEX",
    "WRITABLE_INDEX",
    "READABLE_ARCHIVE",
    "WRITABLE_ARCHIVE",
    "PULL_CHUNKS",
    "PULL_INDEX",
    "PULL_ARCHIVE",
    "PUSH_CHUNKS",
    "PUSH_INDEX",
    "PUSH_INDEX_CHUNKS",  # ask me for what the index that I push needs
    "PUSH_ARCHIVE",
)
"""What the sender of HELLO offers, and what it wants to do."""
REQUEST = ("URGENT",)
"""Of REQUEST: these chunks are needed now."""
CHUNK = ("COMPRESSED",)
"""Of CHUNK: its data is a compressed file."""

DECLARED = Declared(
    prefix="CASYNC",
    numbers={
        "MAX_CHUNK_SIZE": MAX_CHUNK_SIZE,
        "CHUNK_ID_SIZE": CHUNK_ID_SIZE,
        "MAX_PACKS": MAX_PACKS,
        "MAX_PACK_CHUNKS": MAX_PACK_CHUNKS,
        "MAX_STORED_SIZE": MAX_STORED_SIZE,
        "MAX_STORE_PACK": MAX_STORE_PACK,
        "MAX_SEGMENT_CHUNKS": MAX_SEGMENT_CHUNKS,
        "MAX_STORE_CHUNKS": MAX_STORE_CHUNKS,
        "MAX_SEGMENTS": MAX_SEGMENTS,
        "MAX_REMOVED_PACKS": MAX_REMOVED_PACKS,
        "RECIPE_TAR_MAX": RECIPE_TAR_MAX,
        "RECIPE_CATAR_MAX": RECIPE_CATAR_MAX,
        "RECIPE_LITERALS_MAX": RECIPE_LITERALS_MAX,
        "RECIPE_LIST_MAX": RECIPE_LIST_MAX,
        "RECIPE_LITERAL": RECIPE_LITERAL,
        "RECIPE_COPY": RECIPE_COPY,
        "RECIPE_ZEROS": RECIPE_ZEROS,
        "EROFS_BLOCK": EROFS_BLOCK,
        "EROFS_SUPERBLOCK_AT": EROFS_SUPERBLOCK_AT,
        "EROFS_SLOT": EROFS_SLOT,
        "EROFS_HOLE": EROFS_HOLE,
        "EROFS_XATTR_SEED": EROFS_XATTR_SEED,
        "EROFS_PLAIN": EROFS_PLAIN,
        "EROFS_INLINE": EROFS_INLINE,
        "EROFS_CHUNKS": EROFS_CHUNKS,
        "MESSAGE_SIZE_MAX": MESSAGE_SIZE_MAX,
        "ABORT_ERROR_MAX": ABORT_ERROR_MAX,
    },
    structs={
        "INDEX_HEADER": INDEX_HEADER,
        "INDEX_ITEM": INDEX_ITEM,
        "INDEX_TAIL": INDEX_TAIL,
        "PACK_INDEX_HEADER": PACK_INDEX_HEADER,
        "PACK_INDEX_PACK": PACK_INDEX_PACK,
        "PACK_INDEX_CHUNK": PACK_INDEX_CHUNK,
        "PACK_TABLE_FRAME": PACK_TABLE_FRAME,
        "PACK_TABLE_ROW": PACK_TABLE_ROW,
        "PACK_TABLE_FOOTER": PACK_TABLE_FOOTER,
        "SEGMENT_HEADER": SEGMENT_HEADER,
        "STORE_HEAD": STORE_HEAD,
        "STORE_HEAD_SEGMENT": STORE_HEAD_SEGMENT,
        "STORE_HEAD_REMOVED": STORE_HEAD_REMOVED,
        "STORE_HEAD_TAIL": STORE_HEAD_TAIL,
        "RECIPE_HEAD": RECIPE_HEAD,
        "RECIPE_FRAME": RECIPE_FRAME,
        "CACHE_HEADER": CACHE_HEADER,
        "CACHE_DIRECTORY": CACHE_DIRECTORY,
        "CACHE_IDENTITY": CACHE_IDENTITY,
        "COMPOSEFS_HEADER": COMPOSEFS_HEADER,
        "EROFS_SUPERBLOCK": EROFS_SUPERBLOCK,
        "EROFS_COMPACT": EROFS_COMPACT,
        "EROFS_EXTENDED": EROFS_EXTENDED,
        "EROFS_DIRENT": EROFS_DIRENT,
        "EROFS_XATTR_BODY": EROFS_XATTR_BODY,
        "EROFS_XATTR": EROFS_XATTR,
        "PLACE": PLACE,
    },
    records=MESSAGES,
    bits={"WANT": WANT, "HELLO": HELLO, "REQUEST": REQUEST, "CHUNK": CHUNK},
)
