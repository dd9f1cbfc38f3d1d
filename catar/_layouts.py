"""The layouts of `catar.schema` as plain numbers, for `catar.layouts`.

Written by `python -m catar.derive`, never by hand; a test proves that it is up to date.
"""

from __future__ import annotations

UINT64_MAX = 0xFFFFFFFFFFFFFFFF
NODE_METADATA_MAX = 0x4000000
NODE_RECORDS_MAX = 0x10000
GOODBYE_TAIL_MARKER = 0x57446FA533702943
INDEX_TYPE = 0x96824D9C7B129FF9
TABLE_TYPE = 0xE75B9E112F17417D
TABLE_TAIL_MARKER = 0x4B4F050E5549ECD1
MAX_CHUNK_SIZE = 0x8000000
GOODBYE_ITEM = "<QQQ"
GOODBYE_TAIL = "<QQQ"
INDEX_HEADER = "<QQQQQQQQ"
INDEX_ITEM = "<Q32s"
INDEX_TAIL = "<QQQQQ"

RECORDS: tuple[tuple[str, int, int, int, str, str], ...] = (
    # name, type, smallest and largest size, fixed fields, tail
    ("ENTRY", 0x1396FABCEA5BBB51, 64, 64, "feature_flags mode flags uid gid mtime", "NONE"),
    ("USER", 0xF453131AAEEACCB3, 18, 272, "", "STRING"),
    ("GROUP", 0x25EB6AC969396A52, 18, 272, "", "STRING"),
    ("XATTR", 0xB8157091F80BC486, 20, 65808, "", "STRING_RAW"),
    ("ACL_USER", 0x297DC88B2EF12FAF, 32, 288, "id permissions", "OPTIONAL_STRING"),
    ("ACL_GROUP", 0x36F2ACB56CB3DD0B, 32, 288, "id permissions", "OPTIONAL_STRING"),
    ("ACL_GROUP_OBJ", 0x23047110441F38F3, 24, 24, "permissions", "NONE"),
    ("ACL_DEFAULT", 0xFE3EEDA6823C8CD0, 48, 48, "user_obj group_obj other mask", "NONE"),
    ("ACL_DEFAULT_USER", 0xBDF03DF9BD010A91, 32, 288, "id permissions", "OPTIONAL_STRING"),
    ("ACL_DEFAULT_GROUP", 0xA0CB1168782D1F51, 32, 288, "id permissions", "OPTIONAL_STRING"),
    ("SELINUX", 0x46FAF0602FD26C59, 18, 4112, "", "STRING"),
    ("FCAPS", 0xF7267DB0AFED0629, 16, 65552, "", "RAW"),
    ("QUOTA_PROJID", 0x161BAF2D8772A72B, 24, 24, "projid", "NONE"),
    ("SYMLINK", 0x664A6FB6830E0D6C, 18, 4112, "", "STRING"),
    ("DEVICE", 0xAC3DACE369DFE643, 32, 32, "major minor", "NONE"),
    ("PAYLOAD", 0x8B9E1D93D6DCFFC9, 16, 18446744073709551614, "", "RAW"),
    ("FILENAME", 0x6DBB6EBCB3161F0B, 18, 4112, "", "STRING"),
    ("GOODBYE", 0xDFD35C5E8327C403, 40, 18446744073709551614, "", "TABLE"),
)
