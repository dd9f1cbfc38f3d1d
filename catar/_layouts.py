"""The layouts of `catar.schema` as plain numbers.

Written by `python -m catar.derive catar.schema`, never by hand; a test proves that it is up to date.
"""

from __future__ import annotations

UINT64_MAX = 0xFFFFFFFFFFFFFFFF
GOODBYE_TAIL_MARKER = 0x57446FA533702943
XATTR_NAME_MAX = 255
XATTR_VALUE_MAX = 65536
ORDINARY_NAME_MAX = 255
DEPTH_MAX = 64
PAYLOAD_MAX = 0x7FFFFFFFFFFFFFFF
DEVICE_MAJOR_MAX = 4095
DEVICE_MINOR_MAX = 1048575
ID_INVALID = 0xFFFFFFFF
ID16_INVALID = 65535
NODE_METADATA_MAX = 67108864
NODE_RECORDS_MAX = 65536
ROW_COLUMNS = (
    "mode:Q name:Q name_len:Q uid:Q gid:Q mtime:Q user:Q user_len:Q group:Q group_len:Q "
    "target:Q target_len:Q size:Q start:Q entry:Q behind:Q"
)
FILE_COLUMNS = (
    "mode:Q uid:Q gid:Q mtime:Q size:Q place:Q"
)
GAP_COLUMNS = (
    "uid:Q gid:Q length:Q"
)
HEADER: tuple[str, dict[str, int | bytes]] = (
    "size:Q type:Q",
    {
    },
)
GOODBYE_ITEM: tuple[str, dict[str, int | bytes]] = (
    "offset:Q size:Q hash:Q",
    {
    },
)
GOODBYE_TAIL: tuple[str, dict[str, int | bytes]] = (
    "entry_offset:Q size:Q marker:Q",
    {
        "marker": 0x57446FA533702943,
    },
)

RECORDS: tuple[tuple[str, int, int, int, str, str], ...] = (
    # name, type, smallest and largest size, fixed fields, tail
    ("ENTRY", 0x1396FABCEA5BBB51, 64, 64,
     "feature_flags:Q mode:Q flags:Q uid:Q gid:Q mtime:Q", "NONE"),
    ("USER", 0xF453131AAEEACCB3, 18, 272,
     "", "STRING"),
    ("GROUP", 0x25EB6AC969396A52, 18, 272,
     "", "STRING"),
    ("XATTR", 0xB8157091F80BC486, 20, 65808,
     "", "STRING_RAW"),
    ("ACL_USER", 0x297DC88B2EF12FAF, 32, 288,
     "id:Q permissions:Q", "OPTIONAL_STRING"),
    ("ACL_GROUP", 0x36F2ACB56CB3DD0B, 32, 288,
     "id:Q permissions:Q", "OPTIONAL_STRING"),
    ("ACL_GROUP_OBJ", 0x23047110441F38F3, 24, 24,
     "permissions:Q", "NONE"),
    ("ACL_DEFAULT", 0xFE3EEDA6823C8CD0, 48, 48,
     "user_obj:Q group_obj:Q other:Q mask:Q", "NONE"),
    ("ACL_DEFAULT_USER", 0xBDF03DF9BD010A91, 32, 288,
     "id:Q permissions:Q", "OPTIONAL_STRING"),
    ("ACL_DEFAULT_GROUP", 0xA0CB1168782D1F51, 32, 288,
     "id:Q permissions:Q", "OPTIONAL_STRING"),
    ("SELINUX", 0x46FAF0602FD26C59, 18, 4112,
     "", "STRING"),
    ("FCAPS", 0xF7267DB0AFED0629, 16, 65552,
     "", "RAW"),
    ("QUOTA_PROJID", 0x161BAF2D8772A72B, 24, 24,
     "projid:Q", "NONE"),
    ("SYMLINK", 0x664A6FB6830E0D6C, 18, 4112,
     "", "STRING"),
    ("DEVICE", 0xAC3DACE369DFE643, 32, 32,
     "major:Q minor:Q", "NONE"),
    ("PAYLOAD", 0x8B9E1D93D6DCFFC9, 16, 18446744073709551614,
     "", "RAW"),
    ("FILENAME", 0x6DBB6EBCB3161F0B, 18, 4112,
     "", "STRING"),
    ("GOODBYE", 0xDFD35C5E8327C403, 40, 18446744073709551614,
     "", "TABLE"),
)
