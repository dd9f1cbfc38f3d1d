"""The tar reader sees what Go's `archive/tar` sees, and knows where every byte belongs."""

from __future__ import annotations

import io
import re
import stat
import tarfile

import pytest
from hypothesis import given, settings
from test_oci import rawtar, strategies
from test_oci.rawtar import END, GNU, USTAR, V7, BytesView

from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.fields import FieldError, number, pax_integer, pax_records, pax_time
from casync_compat.oci.tar.reader import (
    HARD_LINK,
    UNKNOWN,
    Member,
    TarLimits,
    TarReader,
    clean_path,
    members,
)


def read(tar: bytes) -> list[Member]:
    return list(members(BytesView(tar)))


def one(tar: bytes) -> Member:
    """The only member of a tar."""
    (member,) = read(tar + END)
    return member


# Numbers and records


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"  644 \0\0", 0o644),
        (b"00000644", 0o644),
        (b"\x00\x00644\x00\x00\x00", 0o644),
        (b"\0" * 8, 0),
        (b" " * 8, 0),
        (b"1777777777777777777777", (1 << 64) - 1 - (1 << 64)),
        (b"\x80\0\0\0\0\0\0\0\0\0\1\0", 256),
        (b"\xff" * 12, -1),
        (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        (b"\xbf\xff\xff\xff\xff\xff\xff\xff", (1 << 62) - 1),
        (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", (1 << 63) - 1),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    """Octal with any padding, and base 256 with its sign."""
    assert number(field) == value


@pytest.mark.parametrize(
    "field",
    [b"9", b"0o17", b"-1", b"+7", b"1_7", b"7 7", b"7 \0007", b"2777777777777777777777", b"\x80\0\0\0" + b"\x80" * 8],
)  # fmt: skip
def test_bad_numbers(field: bytes) -> None:
    """What Go does not take for a number is none."""
    with pytest.raises(FieldError):
        number(field)


def test_number_ends_at_nul() -> None:
    """Bytes behind a NUL within a field do not count."""
    assert number(b"644\0\x0112\0") == 0o644


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        (b"0", 0),
        (b"1.5", 1_500_000_000),
        (b"-1.25", -1_250_000_000),
        (b"-0.1", -100_000_000),
        (b"+3", 3_000_000_000),
        (b"1.1234567899", 1_123_456_789),
        (b"1.", 1_000_000_000),
    ],
)
def test_times(text: bytes, nanoseconds: int) -> None:
    """Times have a sign and a fraction, of which nine digits count."""
    assert pax_time(text) == nanoseconds


@pytest.mark.parametrize("text", [b"", b".5", b"1e3", b"1.-5", b" 1", b"1_0", b"9" * 30, b"--1"])
def test_bad_times(text: bytes) -> None:
    with pytest.raises(FieldError):
        pax_time(text)


@pytest.mark.parametrize(
    "text", [b"", b"0x1", b"1_0", b" 1", b"1 ", b"\xd9\xa1", b"9223372036854775808", b"1" * 5000]
)
def test_bad_integers(text: bytes) -> None:
    """Python would take some of these."""
    with pytest.raises(FieldError):
        pax_integer(text)


def test_pax_records() -> None:
    """Values may have newlines and equals signs; the last one of a key counts."""
    data = rawtar.pax_record(b"a", b"1\n2=3") + rawtar.pax_record(b"a", b"") + rawtar.pax_record(b"b", b"\0")
    assert pax_records(data) == {b"a": b"", b"b": b"\0"}
    assert pax_records(b"") == {}


@pytest.mark.parametrize(
    "data",
    [
        b"6 a=1",
        b"7 a=123\n",
        b"4 a=\n",
        b"a=1\n",
        b"6 a 1\n",
        b"6 =12\n",
        b"-6 a=1\n",
        b"99 a=1\n",
        b"99999999999999999999999999999 a=1\n",
        b"6 a=1\nx",
        b"10 path=\0\n",
        b"6 \0=1\n",
        b"22 GNU.sparse.offset=0\n" * 2,
        b"23 GNU.sparse.numbytes=1\n",
        rawtar.pax_record(b"GNU.sparse.offset", b"1,2"),
    ],
)
def test_bad_pax_records(data: bytes) -> None:
    with pytest.raises(FieldError):
        pax_records(data)


# Members


def test_where_everything_is() -> None:
    """Headers, payload and padding of each member follow each other without a gap."""
    tar = rawtar.gnu_long(b"n" * 200) + rawtar.file(b"n", b"12345") + rawtar.file(b"b")
    first, second = read(tar + END)
    assert (first.start, first.header, first.data, first.stored, first.end) == (0, 1024, 1536, 5, 2048)
    assert (second.start, second.header, second.data, second.stored, second.end) == (
        2048,
        2048,
        2560,
        0,
        2560,
    )
    assert first.ranges() == [(0, 1536, 5)]
    assert second.ranges() == []


@settings(max_examples=100, deadline=None)
@given(strategies.nasty_tars())
def test_members_tile_the_tar(tar: bytes) -> None:
    """Members follow each other from the first byte on, and stored payload lies within its member."""
    reader = TarReader(BytesView(tar))
    at = 0
    try:
        for member in reader:
            assert member.start == at <= member.header < member.data
            assert member.data + member.stored <= member.end <= len(tar)
            assert (
                sum(length for *_, length in member.ranges()) == member.stored or member.kind != stat.S_IFREG
            )
            assert all(offset + length <= member.size for offset, _, length in member.ranges()) or (
                member.kind != stat.S_IFREG
            )
            at = member.end
    except ImageError:
        return
    assert reader.end == at


@settings(max_examples=150, deadline=None)
@given(strategies.broken_tars())
def test_any_bytes(tar: bytes) -> None:
    """Damaged tars are read or are an error that names the byte; nothing else ever comes of them."""
    try:
        read(tar)
    except ImageError as error:
        message = str(error)
    else:
        return
    assert re.fullmatch(r"tar: .* \(at byte \d+\)", message)


@settings(max_examples=150, deadline=None)
@given(strategies.module_tars())
def test_as_tarfile_reads_it(tar: bytes) -> None:
    """Of ordinary tars Python's tarfile reads the same."""
    with tarfile.open(fileobj=io.BytesIO(tar), errors="surrogateescape") as archive:
        theirs = [
            (
                info.name.encode(errors="surrogateescape"),
                info.mode,
                info.uid,
                info.size if info.isreg() else 0,
            )
            for info in archive
        ]
    ours = [(member.path.rstrip(b"/"), member.mode, member.uid, member.size) for member in read(tar)]
    assert ours == theirs


def test_kinds() -> None:
    """Every type flag has its kind; what is not known is `UNKNOWN` and has payload if it says so."""
    kinds = {
        b"0": stat.S_IFREG,
        b"7": stat.S_IFREG,
        b"\0": stat.S_IFREG,
        b"1": HARD_LINK,
        b"2": stat.S_IFLNK,
        b"3": stat.S_IFCHR,
        b"4": stat.S_IFBLK,
        b"5": stat.S_IFDIR,
        b"6": stat.S_IFIFO,
        b"V": UNKNOWN,
    }
    for flag, kind in kinds.items():
        assert one(rawtar.header(b"x", 0, flag)).kind == kind
    assert one(rawtar.file(b"x", b"1" * 600, typeflag=b"V")).stored == 600


def test_old_directories() -> None:
    """An old member without a type is a directory when its name says so; one of type 0 is a file all the same."""
    assert one(rawtar.header(b"d/", 0, b"\0", magic=V7)).kind == stat.S_IFDIR
    assert one(rawtar.header(b"d/", 0, b"0")).kind == stat.S_IFREG


def test_no_payload_but_of_files() -> None:
    """Links, directories and devices have no payload, whatever their size field says."""
    for flag in b"123456":
        member = one(rawtar.header(b"x", 5000, bytes([flag])))
        assert (member.stored, member.size, member.end) == (0, 0, 512)


def test_names() -> None:
    """Ustar prefixes, names that fill their field, GNU long names and PAX paths, the stronger one first."""
    assert one(rawtar.file(b"x" * 100)).path == b"x" * 100
    assert one(rawtar.file(b"x", prefix=b"p/q")).path == b"p/q/x"
    assert one(rawtar.file(b"x", prefix=b"p", magic=V7)).path == b"x"
    assert one(rawtar.file(b"x\0y")).path == b"x"
    assert one(rawtar.file(b"\xff\xfe")).path == b"\xff\xfe"
    long = rawtar.gnu_long(b"l" * 300)
    assert one(long + rawtar.file(b"x")).path == b"l" * 300
    named = rawtar.pax([(b"path", b"p"), (b"hdrcharset", b"BINARY")])
    assert one(named + rawtar.file(b"x")).path == b"p"
    assert one(long + named + rawtar.file(b"x")).path == b"l" * 300
    assert one(rawtar.pax([(b"path", b"")]) + rawtar.file(b"x")).path == b"x"
    both = rawtar.gnu_long(b"k" * 200, b"K") + rawtar.pax([(b"linkpath", b"p")])
    assert one(both + rawtar.symlink(b"x", b"t")).linkname == b"k" * 200


def test_gnu_prefix() -> None:
    """A GNU header has times where ustar has its prefix, except in what Go before 1.8 wrote."""
    times = {345: b"14000000000\0", 357: b"14000000000\0"}
    assert one(rawtar.file(b"x", magic=GNU, fields=times)).path == b"x"
    assert one(rawtar.file(b"x", magic=GNU, prefix=b"some/prefix")).path == b"some/prefix/x"
    assert one(rawtar.file(b"x", magic=GNU, prefix=b"caf\xc3\xa9")).path == b"x"


def test_star() -> None:
    """star's headers have a shorter prefix and their own mark."""
    fields = {345: b"p" * 131, 476: b"00000000001\0" * 2, 508: b"tar\0"}
    assert one(rawtar.file(b"x", magic=USTAR, fields=fields)).path == b"p" * 131 + b"/x"


def test_pax_overrides() -> None:
    """PAX records override the header's fields, the size of the payload too."""
    records = [
        *((b"uid", b"4294967296"), (b"gid", b"-1"), (b"uname", b"u"), (b"gname", b"g")),
        *((b"mtime", b"-1.5"), (b"size", b"600")),
    ]
    member = one(rawtar.pax(records) + rawtar.header(b"x") + rawtar.padded(b"1" * 600))
    assert (member.uid, member.gid, member.uname, member.gname) == (1 << 32, -1, b"u", b"g")
    assert (member.mtime, member.size, member.stored) == (-1_500_000_000, 600, 600)
    assert dict(member.pax or {}) == dict(records)


def test_last_extension_counts() -> None:
    """A second extended header replaces the first."""
    tar = rawtar.pax([(b"uid", b"1")]) + rawtar.pax([(b"gid", b"2")]) + rawtar.file(b"x")
    assert (one(tar).uid, one(tar).gid) == (0, 2)


@pytest.mark.parametrize(
    ("pending", "member"),
    [
        (rawtar.pax([(b"path", b"other"), (b"uid", b"9")]), rawtar.file(b"x")),
        (rawtar.gnu_long(b"other"), rawtar.file(b"x")),
        (rawtar.gnu_long(b"other", b"K"), rawtar.symlink(b"x", b"y")),
        (
            rawtar.pax([(b"path", b"a")]) + rawtar.gnu_long(b"b") + rawtar.gnu_long(b"c", b"K"),
            rawtar.file(b"x"),
        ),
    ],
)
def test_global_headers_drop_what_was_pending(pending: bytes, member: bytes) -> None:
    """To Go a global header is a member of its own: what stood before it is not about the member after it."""
    found = one(pending + rawtar.pax([(b"comment", b"c")], b"g") + member)
    assert (found.path, found.uid, found.linkname) == (b"x", 0, one(member).linkname)
    again = one(pending + rawtar.pax([(b"comment", b"c")], b"g") + rawtar.pax([(b"uid", b"5")]) + member)
    assert (again.path, again.uid) == (b"x", 5)


def test_global_headers_change_nothing() -> None:
    """docker and containerd take no notice of them."""
    tar = rawtar.pax([(b"mtime", b"5"), (b"path", b"other")], b"g") + rawtar.file(b"x")
    member = one(tar)
    assert (member.path, member.mtime, member.start, member.header) == (b"x", 0, 0, 1024)


def test_modes_are_permissions() -> None:
    """File type bits in the mode field do not count."""
    assert one(rawtar.file(b"x", mode=0o104755)).mode == 0o4755


def test_xattrs() -> None:
    """Both ways to store attributes, sorted; the raw form wins; bad base 64 is passed over."""
    records = [
        rawtar.libarchive_xattr(b"user.b%25", b"\0\1"),
        rawtar.libarchive_xattr(b"user.a", b"encoded"),
        rawtar.xattr(b"user.a", b"raw"),
        rawtar.xattr(b"user.empty", b""),
        (b"LIBARCHIVE.xattr.user.bad", b"A"),
    ]
    assert one(rawtar.pax(records) + rawtar.file(b"x")).xattrs == (
        (b"user.a", b"raw"),
        (b"user.b%", b"\0\1"),
        (b"user.empty", b""),
    )


@pytest.mark.parametrize("kind", sorted(rawtar.SPARSE))
def test_sparse(kind: str) -> None:
    """All four ways to store a sparse file give the same map."""
    parts = [(1000 * i, b"x" * (i + 1)) for i in range(40)]
    member = one(rawtar.SPARSE[kind](b"name", 100_000, parts))
    assert (member.path, member.size, member.kind) == (b"name", 100_000, stat.S_IFREG)
    assert member.sparse == tuple((at, len(data)) for at, data in parts)
    assert member.stored == sum(len(data) for _, data in parts)
    assert member.ranges()[1] == (1000, member.data + 1, 2)


def test_holes_only() -> None:
    """A file may be one hole; parts of no bytes are not named."""
    for make in rawtar.SPARSE.values():
        member = one(make(b"s", 5000, [(5000, b"")]))
        assert (member.sparse, member.size, member.stored) == ((), 5000, 0)


def sparse_records(*records: tuple[bytes, bytes], data: bytes = b"12345") -> bytes:
    return rawtar.pax(records) + rawtar.file(b"x", data)


MAJOR, MINOR = b"GNU.sparse.major", b"GNU.sparse.minor"


def test_sparse_map_of_nothing() -> None:
    """The number of parts is a number, however many digits its zero has."""
    for count in (b"0", b"00", b"+0"):
        member = one(sparse_records((MAJOR, b"1"), (MINOR, b"0"), data=rawtar.padded(count + b"\n")))
        assert (member.sparse, member.stored) == ((), 0)


def test_sparse_of_another_version() -> None:
    """A sparse format to come is read as an ordinary file, as Go does it."""
    member = one(sparse_records((MAJOR, b"2"), (MINOR, b"0"), (b"GNU.sparse.name", b"y")))
    assert (member.path, member.sparse, member.size) == (b"x", None, 5)


MAP, COUNT, SIZE = b"GNU.sparse.map", b"GNU.sparse.numblocks", b"GNU.sparse.size"
BROKEN = {
    "checksum": rawtar.file(b"x")[:150] + b"9" + rawtar.file(b"x")[151:],
    "no checksum": bytes(100).ljust(511, b"\0") + b"1",
    "header cut": rawtar.file(b"x")[:400],
    "payload cut": rawtar.file(b"x", b"1" * 1000)[:-30][:1400],
    "second header cut": rawtar.file(b"x") + rawtar.file(b"y")[:511],
    "extension cut": rawtar.pax([(b"a", b"b")])[:515],
    "second zero block cut": rawtar.file(b"x") + bytes(600),
    "zero block before a header": rawtar.file(b"x") + bytes(512) + rawtar.file(b"y") + END,
    "bad number": rawtar.header(b"x", fields={124: b"12345678999\0"}),
    "bad device number": rawtar.header(b"x", fields={329: b"9"}),
    "negative size": rawtar.header(b"x", fields={124: b"\xff" * 12}),
    "negative extension": rawtar.header(b"x", typeflag=b"x", fields={124: b"\xff" * 12}),
    "large extension": rawtar.header(b"x", (1 << 20) + 1, b"L") + bytes(1 << 21),
    "bad pax time": rawtar.pax([(b"mtime", b"x")]) + rawtar.file(b"x"),
    "bad pax access time": rawtar.pax([(b"atime", b"x")]) + rawtar.file(b"x"),
    "bad pax record": rawtar.header(b"x", 5, b"x") + rawtar.padded(b"5 a=1"),
    "bad global record": rawtar.header(b"x", 5, b"g") + rawtar.padded(b"5 a=1"),
    "long path": rawtar.gnu_long(b"p" * 5000) + rawtar.file(b"x"),
    "long target": rawtar.gnu_long(b"p" * 5000, b"K") + rawtar.symlink(b"x", b"y"),
    "old sparse in ustar": rawtar.header(b"x", 0, b"S"),
    "old sparse overlaps": rawtar.sparse_old(b"x", 100, [(0, b"12"), (1, b"2")]),
    "old sparse past its end": rawtar.sparse_old(b"x", 3, [(2, b"12")]),
    "old sparse cut": rawtar.sparse_old(b"x", 1000, [(i, b"1") for i in range(10)])[:600],
    "old sparse without end": rawtar.header(b"x", 0, b"S", magic=GNU, fields={482: b"\1"})
    + (bytes(504) + b"\1" + bytes(7)) * 2049,
    "sparse sum": rawtar.header(b"x", 9, b"S", magic=GNU, fields={483: rawtar.octal(100, 12)}) + bytes(512),
    "sparse count": sparse_records((SIZE, b"9"), (COUNT, b"2"), (MAP, b"0,5")),
    "sparse number": sparse_records((SIZE, b"9"), (COUNT, b"1"), (MAP, b"0,x")),
    "sparse negative": sparse_records((SIZE, b"9"), (COUNT, b"2"), (MAP, b"-1,1,2,4")),
    "sparse directory": rawtar.pax([(SIZE, b"9"), (COUNT, b"0"), (MAP, b"0,0")]) + rawtar.directory(b"d"),
    "sparse data without map": sparse_records((MAJOR, b"1"), (MINOR, b"0"), data=b"nothing"),
    "sparse data count": sparse_records((MAJOR, b"1"), (MINOR, b"0"), data=rawtar.padded(b"99999999999\n")),
    "sparse data cut": sparse_records((MAJOR, b"1"), (MINOR, b"0"), data=b"1\n" + b"0" * 1600)[:-1024],
    "sparse data short": sparse_records((MAJOR, b"1"), (MINOR, b"0"), data=b"1\n0\n5\n12345"),
    "sparse data sum": sparse_records((MAJOR, b"1"), (MINOR, b"0"), data=rawtar.padded(b"1\n0\n5\n") + b"1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    """Whatever is malformed, contradicts itself or is cut short is an error that says where."""
    with pytest.raises(ImageError, match=r"^layer 2: .* \(at byte \d+\)$"):
        list(members(BytesView(BROKEN[name]), "layer 2"))


@pytest.mark.parametrize(
    ("tail", "end"),
    [(b"", 1024), (bytes(512), 1024), (END, 1024), (END + b"garbage" * 1000, 1024), (bytes(100_000), 1024)],
)
def test_ends(tail: bytes, end: int) -> None:
    """The end blocks may be there or not, and nothing behind them counts."""
    reader = TarReader(BytesView(rawtar.file(b"a", b"1") + tail))
    assert [member.path for member in reader] == [b"a"]
    assert reader.end == end


def test_padding_may_be_missing() -> None:
    """The padding of the last member need not be there, nor be zeros; a left-over extended header is passed over."""
    (member,) = read(rawtar.file(b"a", b"123")[:-500])
    assert (member.stored, member.end) == (3, 524)
    assert [
        member.path for member in read(rawtar.file(b"a", b"1").replace(b"\0" * 400, b"x" * 400, 1)[:0] or b"")
    ] == []
    left_over = rawtar.file(b"a") + rawtar.pax([(b"uid", b"1")]) + END
    reader = TarReader(BytesView(left_over))
    assert len(list(reader)) == 1
    assert reader.end == 512


def test_signed_checksums() -> None:
    """Old programs summed up signed bytes."""
    assert one(rawtar.file(b"caf\xc3\xa9", signed=True)).path == b"caf\xc3\xa9"


def test_limits() -> None:
    """More members than allowed are an error once they are reached."""
    tar = rawtar.file(b"a") * 5 + END
    assert len(list(members(BytesView(tar), limits=TarLimits(members=5)))) == 5
    with pytest.raises(ImageError, match="more than 4 members"):
        list(members(BytesView(tar), limits=TarLimits(members=4)))


def test_few_reads() -> None:
    """Headers of small members are read many at a time, and large payload is not read at all."""
    view = BytesView(rawtar.file(b"a", b"1") * 100 + END)
    assert len(list(members(view))) == 100
    assert view.reads < 20
    view = BytesView((rawtar.header(b"big", 1 << 20) + bytes(1 << 20)) * 3 + END)
    assert len(list(members(view))) == 3
    assert view.reads <= 5


def test_clean_paths() -> None:
    """The components of a path, wherever it seems to begin; none for one that goes up."""
    assert clean_path(b"a/b") == (b"a", b"b")
    assert clean_path(b"./a//b/./") == (b"a", b"b")
    assert clean_path(b"/a") == (b"a",)
    assert clean_path(b"./") == clean_path(b"/") == clean_path(b"") == ()
    assert clean_path(b"a/../b") is None
    assert clean_path(b"..") is None
    assert clean_path(b"..a/b..") == (b"..a", b"b..")
