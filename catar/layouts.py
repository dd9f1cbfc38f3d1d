"""Layouts of the records, and the numbers of the format: what programs use of the declarations in `catar.schema`.

The table behind it, `catar._layouts`, is written by `catar.derive` from those declarations, so that construct is not
imported where nobody interprets one. `tests/test_catar/test_layouts.py` proves that both give the same bytes.
"""

from __future__ import annotations

from catar import _layouts
from catar._layouts import (
    DEPTH_MAX,
    DEVICE_MAJOR_MAX,
    DEVICE_MINOR_MAX,
    GOODBYE_TAIL_MARKER,
    ID16_INVALID,
    ID_INVALID,
    NODE_METADATA_MAX,
    NODE_RECORDS_MAX,
    ORDINARY_NAME_MAX,
    PAYLOAD_MAX,
    UINT64_MAX,
    XATTR_NAME_MAX,
    XATTR_VALUE_MAX,
)
from catar.structs import Fields, Layout, Tail

__all__ = [
    "BY_TYPE",
    "DEPTH_MAX",
    "DEVICE_MAJOR_MAX",
    "DEVICE_MINOR_MAX",
    "GOODBYE_TAIL_MARKER",
    "HEADER",
    "ID16_INVALID",
    "ID_INVALID",
    "NODE_METADATA_MAX",
    "NODE_RECORDS_MAX",
    "ORDINARY_NAME_MAX",
    "PAYLOAD_MAX",
    "UINT64_MAX",
    "XATTR_NAME_MAX",
    "XATTR_VALUE_MAX",
    "Layout",
    "Tail",
]

HEADER = Fields(*_layouts.HEADER)
"""size, type: the head of every record."""

_BY_NAME = {
    name: Layout(name, type_, smallest, largest, fields, Tail[tail])
    for name, type_, smallest, largest, fields, tail in _layouts.RECORDS
}
BY_TYPE: dict[int, Layout] = {layout.type: layout for layout in _BY_NAME.values()}

ENTRY = _BY_NAME["ENTRY"]
USER = _BY_NAME["USER"]
GROUP = _BY_NAME["GROUP"]
XATTR = _BY_NAME["XATTR"]
ACL_USER = _BY_NAME["ACL_USER"]
ACL_GROUP = _BY_NAME["ACL_GROUP"]
ACL_GROUP_OBJ = _BY_NAME["ACL_GROUP_OBJ"]
ACL_DEFAULT = _BY_NAME["ACL_DEFAULT"]
ACL_DEFAULT_USER = _BY_NAME["ACL_DEFAULT_USER"]
ACL_DEFAULT_GROUP = _BY_NAME["ACL_DEFAULT_GROUP"]
SELINUX = _BY_NAME["SELINUX"]
FCAPS = _BY_NAME["FCAPS"]
QUOTA_PROJID = _BY_NAME["QUOTA_PROJID"]
SYMLINK = _BY_NAME["SYMLINK"]
DEVICE = _BY_NAME["DEVICE"]
PAYLOAD = _BY_NAME["PAYLOAD"]
FILENAME = _BY_NAME["FILENAME"]
GOODBYE = _BY_NAME["GOODBYE"]

GOODBYE_ITEM = Fields(*_layouts.GOODBYE_ITEM)
GOODBYE_TAIL = Fields(*_layouts.GOODBYE_TAIL)

NODE_ROW = Fields(_layouts.ROW_COLUMNS, order="=")
"""An ordinary node, or the end of a directory, as the native decoder gives it; see `catar.schema`."""
FILE_ROW = Fields(_layouts.FILE_COLUMNS, order="=")
"""An ordinary node on its way to the encoder; see `catar.filling`."""
GAP_ROW = Fields(_layouts.GAP_COLUMNS, order="=")
"""An owner and how many bytes it takes in the records of a node."""
