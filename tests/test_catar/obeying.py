"""Run by test_derived.py in a process of its own, over a copy of the packages whose schema was changed there.

It knows the changed limits and fields, and tries them against both halves of the codec.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from catar import layouts
from catar.archive import Archive, RangeSource
from catar.decoder import END, NEED_DATA, Decoder
from catar.encoder import Encoder
from catar.errors import FormatError, UsageError
from catar.filling import Owners
from catar.flags import DEFAULT
from catar.records import AclDefault, AclEntry, Data, Node, XAttr
from catar.runs import Run, node_of_row
from catar.walker import Walker

REG, DIR, LNK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777
CHR = stat.S_IFCHR | 0o600


class Memory:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]


def nodes_of(data: bytes, *, native: bool = True) -> list[Node]:
    """The nodes that stand in the begin of an archive."""
    decoder = Decoder(native=native)
    decoder.receive(data)
    found = []
    while (event := decoder.next_event()) not in (NEED_DATA, END):
        if isinstance(event, Node):
            found.append(event)
        else:
            assert event is not None
            assert not isinstance(event, Data) or event.data
    return found


def written(*nodes: Node) -> bytes:
    encoder = Encoder(DEFAULT)
    out = encoder.begin(Node(b"", DIR))
    for node in nodes:
        out += encoder.begin(node)
        if node.is_dir:
            out += encoder.end_directory()
        else:
            encoder.advance(node.size)
            out += bytes(node.size)
    return out + encoder.end_directory()


def refused(node: Node) -> None:
    try:
        written(node)
    except UsageError:
        return
    raise AssertionError(f"the encoder takes {node}")


def unreadable(data: bytes) -> None:
    for native in (True, False):
        try:
            found = nodes_of(data, native=native)
        except FormatError:
            continue
        raise AssertionError(f"the decoder takes {found[-1]}")


def entry(mode: int = REG) -> bytes:
    return layouts.ENTRY.head.writer("feature_flags", "mode")(DEFAULT, mode)


def string(layout: layouts.Layout, *values: int, length: int) -> bytes:
    return layout.pack(*values, tail=b"t" * length + b"\0")


def limit(most: int, node: Callable[[int], Node], raw: Callable[[int], bytes]) -> None:
    """`most` is written, and read again; one more is neither.

    :param raw: the child as bytes, written without a look at the limit
    """
    top, before = entry(DIR), Node(b"", DIR)
    (_, found) = nodes_of(written(node(most)))
    assert vars(found) == vars(found) | {"mode": node(most).mode}
    for native in (True, False):
        assert nodes_of(top + raw(most) + b"\0", native=native)[0].mode == before.mode
    refused(node(most + 1))
    unreadable(top + raw(most + 1))


def limits() -> None:
    """Each limit of the changed schema, for encoder and decoder alike."""
    name = string(layouts.FILENAME, length=1)
    rest = layouts.PAYLOAD.pack()
    limit(39, lambda n: Node(b"t" * n, REG), lambda n: string(layouts.FILENAME, length=n) + entry() + rest)
    limit(
        63,
        lambda n: Node(b"t", LNK, target=b"t" * n),
        lambda n: name + entry(LNK) + string(layouts.SYMLINK, length=n),
    )
    for field, layout, most in (
        ("user", layouts.USER, 11),
        ("group", layouts.GROUP, 11),
        ("selinux", layouts.SELINUX, 29),
    ):
        limit(
            most,
            lambda n, field=field: Node(b"t", REG, **{field: b"t" * n}),
            lambda n, layout=layout: name + entry() + string(layout, length=n) + rest,
        )
    limit(
        20,
        lambda n: Node(b"t", REG, xattrs=(XAttr(b"a." + b"t" * (n - 2), b""),)),
        lambda n: name + entry() + layouts.XATTR.pack(tail=b"a." + b"t" * (n - 2) + b"\0") + rest,
    )
    limit(
        100,
        lambda n: Node(b"t", REG, xattrs=(XAttr(b"a.t", bytes(n)),)),
        lambda n: name + entry() + layouts.XATTR.pack(tail=b"a.t\0" + bytes(n)) + rest,
    )
    limit(
        1 << 20,
        lambda n: Node(b"t", REG, size=n),
        lambda n: name + entry() + layouts.HEADER.pack(16 + n, layouts.PAYLOAD.type),
    )
    limit(
        7,
        lambda n: Node(b"t", CHR, device=(n, 0)),
        lambda n: name + entry(CHR) + layouts.DEVICE.head.writer("major")(n),
    )
    with_id = layouts.ENTRY.head.writer("feature_flags", "mode", "uid")
    limit(
        0xFFFFE,
        lambda n: Node(b"t", REG, uid=n),
        lambda n: name + with_id(DEFAULT, REG, n) + rest,
    )
    one = layouts.XATTR.head.size + len(b"a.00\0") + 95  # bytes of an attribute's record
    limit(
        1000 // one,
        lambda n: Node(b"t", REG, xattrs=tuple(XAttr(b"a.%02d" % i, bytes(95)) for i in range(n))),
        lambda n: (
            name
            + entry()
            + b"".join(layouts.XATTR.pack(tail=b"a.%02d\0" % i + bytes(95)) for i in range(n))
            + rest
        ),
    )
    encoder = Encoder(DEFAULT)
    deep = encoder.begin(Node(b"", DIR)) + b"".join(encoder.begin(Node(b"t", DIR)) for _ in range(4))
    assert len(nodes_of(deep + string(layouts.FILENAME, length=1))) == 5
    try:
        encoder.begin(Node(b"t", DIR))
    except UsageError:
        unreadable(deep + name + entry(DIR) + name)
    else:
        raise AssertionError("the encoder takes any depth")


def fields(native: bool) -> None:
    """Fields of the changed schema stand where it has them, and come back by every way to read and write."""
    owners = Owners(DEFAULT)
    owners.add(3, 4, 3, 4, b"u", b"g")
    nodes = [Node(b"%02d" % i, REG, 0, 3, 4, 5 + i, b"u", b"g", size=i) for i in range(9)]
    data = written(*nodes, Node(b"z", LNK, 0, 3, 4, 5, b"u", b"g", target=b"there"), Node(b"zz", DIR))

    (child,) = nodes_of(written(nodes[0]))[1:]
    found = struct.unpack_from("<9Q", written(nodes[0]), child.offset)
    assert found == (72, layouts.ENTRY.type, DEFAULT, REG, 0, 4, 0, 3, 5), found

    encoder = Encoder(DEFAULT)
    filled = bytearray(encoder.begin(Node(b"", DIR)))
    begin, rows, names = len(filled), b"", b""
    pack = layouts.FILE_ROW.writer("mode", "uid", "gid", "mtime", "size", "place")
    for node in nodes:
        filled += bytes(Owners.HEAD + len(node.name) + len(owners.rows[0][4]))
        rows += pack(REG, 3, 4, node.mtime, node.size, len(filled))
        names += node.name + b"\0"
        filled += bytes(node.size)
    assert encoder.fill(memoryview(filled), begin, names, rows, owners) == len(filled)
    assert data.startswith(filled)

    plain = nodes_of(data, native=False)
    assert len(plain) == 12
    assert nodes_of(data) == plain
    steps = list(Walker(RangeSource(Memory(data), 0, len(data))).runs())
    in_runs = [node_of_row(run, i) for run in steps if isinstance(run, Run) for i in range(len(run))]
    assert [node for node in in_runs if node is not None] == (plain[1:] if native else [])
    archive = Archive(Memory(data))
    by_path = [archive.node(node.name) for node in plain]
    assert [(node.offset, node.mtime) for node in by_path] == [(node.offset, node.mtime) for node in plain]
    assert [where.path for where in archive.children()] == [node.name for node in plain[1:]]

    whole = Node(
        b"m",
        DIR,
        acl_users=(AclEntry(7, 5), AclEntry(8, 4, b"n")),
        acl_group_obj=3,
        acl_default=AclDefault(1, 2, 3, 4),
        acl_default_users=(AclEntry(9, 6),),
    )
    device = Node(b"n", CHR, device=(2, 9))
    found_whole, found_device = nodes_of(written(whole, device))[1:]
    assert (found_whole, found_device) == (whole, device)


def trees(work: Path) -> None:
    """A tree on disk goes through reader, encoder, decoder, lines and writer."""
    from casync_compat.cli import main

    tree = work / "tree"
    (tree / "sub").mkdir(parents=True)
    for i in range(20):
        (tree / "sub" / f"{i:02}").write_bytes(b"x" * i)
    (tree / "link").symlink_to("t" * 63)
    archive = work / "made.catar"

    def run(*args: str | Path) -> int:
        try:
            return main([str(arg) for arg in args]) or 0
        except SystemExit as left:
            return int(left.code or 0)

    assert run("make", archive, tree) == 0
    assert run("extract", archive, work / "back") == 0
    assert sorted(os.listdir(work / "back" / "sub")) == [f"{i:02}" for i in range(20)]
    assert all((work / "back" / "sub" / f"{i:02}").read_bytes() == b"x" * i for i in range(20))
    assert os.readlink(work / "back" / "link") == "t" * 63
    assert run("list", archive) == 0
    (tree / "longer").symlink_to("t" * 64)
    assert run("make", archive, tree) != 0


def main(native: bool, work: Path) -> None:
    for name in (
        "catar._decoder",
        "catar._filling",
        "catar._goodbye",
        "casync_compat.fs._system",
        "casync_compat.fs.apply._runs",
        "casync_compat.fs.apply._updates",
    ):
        assert (find_spec(name) is not None) == native, name
    limits()
    fields(native)
    trees(work)


if __name__ == "__main__":
    main(sys.argv[1] == "native", Path(sys.argv[2]))
