"""The layouts of `casync_compat.schema` as plain numbers.

Written by `python -m catar.derive casync_compat.schema`, never by hand; a test proves that it is up to date.
"""

from __future__ import annotations

MAX_CHUNK_SIZE = 134217728
CHUNK_ID_SIZE = 32
MAX_PACKS = 1000
MAX_PACK_CHUNKS = 8388608
MAX_STORED_SIZE = 151060480
MAX_STORE_PACK = 268435456
MAX_SEGMENT_CHUNKS = 1048576
MAX_STORE_CHUNKS = 33554432
MAX_SEGMENTS = 4096
MAX_REMOVED_PACKS = 65536
RECIPE_TAR_MAX = 0x100000000000
RECIPE_CATAR_MAX = 0x4000000000000000
RECIPE_LITERALS_MAX = 0x100000000
RECIPE_LIST_MAX = 268435456
RECIPE_LITERAL = 0
RECIPE_COPY = 1
RECIPE_ZEROS = 2
EROFS_BLOCK = 4096
EROFS_SUPERBLOCK_AT = 1024
EROFS_SLOT = 32
EROFS_HOLE = 0xFFFFFFFF
EROFS_XATTR_SEED = 633069711
EROFS_PLAIN = 0
EROFS_INLINE = 2
EROFS_CHUNKS = 4
MESSAGE_SIZE_MAX = 16777216
ABORT_ERROR_MAX = 2147483646
WANT_FLAGS = 1
WANT_PROJID = 2
WANT_LIST = 4
WANT_LINKS = 8
WANT_RUNS = 16
WANT_LABELS = 32
HELLO_READABLE_STORE = 1
HELLO_WRITABLE_STORE = 2
HELLO_READABLE_INDEX = 4
HELLO_WRITABLE_INDEX = 8
HELLO_READABLE_ARCHIVE = 16
HELLO_WRITABLE_ARCHIVE = 32
HELLO_PULL_CHUNKS = 64
HELLO_PULL_INDEX = 128
HELLO_PULL_ARCHIVE = 256
HELLO_PUSH_CHUNKS = 512
HELLO_PUSH_INDEX = 1024
HELLO_PUSH_INDEX_CHUNKS = 2048
HELLO_PUSH_ARCHIVE = 4096
REQUEST_URGENT = 1
CHUNK_COMPRESSED = 1
INDEX_HEADER: tuple[str, dict[str, int | bytes]] = (
    "index_size:Q index_type:Q feature_flags:Q chunk_size_min:Q chunk_size_avg:Q "
    "chunk_size_max:Q table_size:Q table_type:Q",
    {
        "index_size": 48,
        "index_type": 0x96824D9C7B129FF9,
        "table_size": 0xFFFFFFFFFFFFFFFF,
        "table_type": 0xE75B9E112F17417D,
    },
)
INDEX_ITEM: tuple[str, dict[str, int | bytes]] = (
    "end:Q id:32s",
    {
    },
)
INDEX_TAIL: tuple[str, dict[str, int | bytes]] = (
    "zero1:Q zero2:Q index_offset:Q table_size:Q marker:Q",
    {
        "zero1": 0,
        "zero2": 0,
        "index_offset": 48,
        "marker": 0x4B4F050E5549ECD1,
    },
)
PACK_INDEX_HEADER: tuple[str, dict[str, int | bytes]] = (
    "magic:8s version:I packs:I chunks:I zero:I",
    {
        "magic": b'\x89PCIDX\r\n',
        "version": 1,
        "zero": 0,
    },
)
PACK_INDEX_PACK: tuple[str, dict[str, int | bytes]] = (
    "sha256:32s size:Q",
    {
    },
)
PACK_INDEX_CHUNK: tuple[str, dict[str, int | bytes]] = (
    "id:32s pack:H stored_size:I raw_size:I offset_low:I offset_high:B",
    {
    },
)
PACK_TABLE_FRAME: tuple[str, dict[str, int | bytes]] = (
    "frame_magic:I frame_size:I",
    {
        "frame_magic": 407710298,
    },
)
PACK_TABLE_ROW: tuple[str, dict[str, int | bytes]] = (
    "id:32s stored_size:I raw_size:I",
    {
    },
)
PACK_TABLE_FOOTER: tuple[str, dict[str, int | bytes]] = (
    "chunks:I version:I magic:8s",
    {
        "version": 1,
        "magic": b'\x89PCPAK\r\n',
    },
)
SEGMENT_HEADER: tuple[str, dict[str, int | bytes]] = (
    "magic:8s version:I packs:I chunks:I zero:I generation:Q",
    {
        "magic": b'\x89PCSEG\r\n',
        "version": 1,
        "zero": 0,
    },
)
STORE_HEAD: tuple[str, dict[str, int | bytes]] = (
    "magic:8s version:I segments:I removed:I collections:I generation:Q",
    {
        "magic": b'\x89PCHED\r\n',
        "version": 1,
    },
)
STORE_HEAD_SEGMENT: tuple[str, dict[str, int | bytes]] = (
    "sha256:32s size:Q packs:I chunks:I",
    {
    },
)
STORE_HEAD_REMOVED: tuple[str, dict[str, int | bytes]] = (
    "sha256:32s size:Q moment:Q",
    {
    },
)
STORE_HEAD_TAIL: tuple[str, dict[str, int | bytes]] = (
    "checksum:32s",
    {
    },
)
RECIPE_HEAD: tuple[str, dict[str, int | bytes]] = (
    "frame_magic:I frame_size:I magic:8s version:I literal_frame:I tar_size:Q catar_size:Q "
    "sha256:32s literals:Q splices:Q list_size:I frames:I",
    {
        "frame_magic": 407710300,
        "frame_size": 88,
        "magic": b'tarcatar',
        "version": 1,
        "literal_frame": 1048576,
    },
)
RECIPE_FRAME: tuple[str, dict[str, int | bytes]] = (
    "stored_size:I",
    {
    },
)
CACHE_HEADER: tuple[str, dict[str, int | bytes]] = (
    "magic:16s checksum:32s directories_size:Q table_size:Q description_size:Q",
    {
        "magic": b'pycasync cache 1',
    },
)
CACHE_DIRECTORY: tuple[str, dict[str, int | bytes]] = (
    "path_size:I entries:I names_size:I complete:I",
    {
    },
)
CACHE_IDENTITY: tuple[str, dict[str, int | bytes]] = (
    "device:Q inode:Q special_device:Q size:Q mtime:Q ctime:Q mode:I uid:I gid:I zero:I",
    {
    },
)
COMPOSEFS_HEADER: tuple[str, dict[str, int | bytes]] = (
    "magic:I version:I flags:I composefs_version:I unused:16s",
    {
        "magic": 0xD078629A,
        "version": 1,
    },
)
EROFS_SUPERBLOCK: tuple[str, dict[str, int | bytes]] = (
    "magic:I checksum:I feature_compat:I block_bits:B ext_slots:B root:H inodes:Q epoch:q "
    "epoch_nanoseconds:I blocks:I meta_block:I xattr_block:I uuid:16s volume:16s "
    "feature_incompat:I rest:44s",
    {
        "magic": 0xE0F5E1E2,
        "feature_compat": 6,
        "block_bits": 12,
    },
)
EROFS_COMPACT: tuple[str, dict[str, int | bytes]] = (
    "format:H xattr_count:H mode:H links:H size:I zero1:I place:I number:I uid:H gid:H zero2:I",
    {
    },
)
EROFS_EXTENDED: tuple[str, dict[str, int | bytes]] = (
    "format:H xattr_count:H mode:H zero1:H size:Q place:I number:I uid:I gid:I seconds:q "
    "nanoseconds:I links:I zero2:16s",
    {
    },
)
EROFS_DIRENT: tuple[str, dict[str, int | bytes]] = (
    "inode:Q name_at:H type:B zero:B",
    {
    },
)
EROFS_XATTR_BODY: tuple[str, dict[str, int | bytes]] = (
    "filter:I shared:B zero:7s",
    {
    },
)
EROFS_XATTR: tuple[str, dict[str, int | bytes]] = (
    "name_size:B prefix:B value_size:H",
    {
    },
)
PLACE: tuple[str, dict[str, int | bytes]] = (
    "fd:i row:i uid:I gid:I",
    {
    },
)

RECORDS: tuple[tuple[str, int, int, int, str, str], ...] = (
    # name, type, smallest and largest size, fixed fields, tail
    ("HELLO", 0x3C71D0948CA5FBEE, 24, 24,
     "flags:Q", "NONE"),
    ("INDEX", 0xB32A91DD2B3E27F8, 17, 16777216,
     "", "RAW"),
    ("INDEX_EOF", 0x4F0932F1043718F5, 16, 16,
     "", "NONE"),
    ("ARCHIVE", 0x95D6428A69EDDCC5, 17, 16777216,
     "", "RAW"),
    ("ARCHIVE_EOF", 0x450BEF663F24CBAD, 16, 16,
     "", "NONE"),
    ("REQUEST", 0x8AB427E0F89D9210, 56, 16777216,
     "flags:Q", "RAW"),
    ("CHUNK", 0x5213DD180A84BC8C, 57, 16777216,
     "flags:Q id:32s", "RAW"),
    ("MISSING", 0xD010F9FAC82B7B6C, 48, 48,
     "id:32s", "NONE"),
    ("GOODBYE", 0xAD205DBF1A3686C3, 16, 16,
     "", "NONE"),
    ("ABORT", 0xE7D9136B7EFEA352, 25, 16777216,
     "error:Q", "STRING"),
)
