"""Heads and bodies of HTTP/1.1, as bytes: what is taken for a request, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.serve.http1 import BadRequest, Heads, RequestBody

HOST = b"Host: x\r\n"


def test_what_a_head_says() -> None:
    head = Heads().read(b"GET /a%20b?q=1 HTTP/1.1\r\nHOST:x \r\nAccept:  a,b\t\r\nAccept: c\r\nEmpty:\r\n")
    assert (head.method, head.target, head.minor) == ("GET", b"/a%20b?q=1", 1)
    assert head.framing.fields == {b"host": b"x", b"accept": b"c", b"empty": b""}
    assert (head.framing.length, head.framing.keep, head.framing.waits) == (0, True, False)


@pytest.mark.parametrize(
    ("head", "length", "keep", "waits"),
    [
        (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n", 12, True, False),
        (b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n", None, True, False),
        (b"PUT /a HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n", 1, True, True),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: foo, CLOSE\r\n", 0, False, False),
        (b"GET /a HTTP/1.0\r\n", 0, False, False),
        (b"PUT /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n", 1, False, False),
    ],
)
def test_what_frames_it(head: bytes, length: int | None, keep: bool, waits: bool) -> None:
    framing = Heads().read(head).framing
    assert (framing.length, framing.keep, framing.waits) == (length, keep, waits)


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"http://some.where:80/a?b", b"/a?b"), (b"HTTP://x", b"/"), (b"https://x?q", b"/?q"), (b"*", b"*")],
)
def test_forms_of_targets(target: bytes, path: bytes) -> None:
    """RFC 9112, section 3.2: a whole URL is taken by its path."""
    assert Heads().read(b"GET " + target + b" HTTP/1.1\r\n" + HOST).target == path


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\r\n", 400),
        (b"GET\r\n", 400),
        (b"GET  /a HTTP/1.1\r\n" + HOST, 400),
        (b"GET /a b HTTP/1.1\r\n" + HOST, 400),
        (b"GET /a HTTP/1.1 \r\n" + HOST, 400),
        (b"GET /a HTTP/1.1\n" + HOST, 400),
        (b"GET /a HTTP/1.11\r\n" + HOST, 400),
        (b"GET /a\0 HTTP/1.1\r\n" + HOST, 400),
        (b"PRI * HTTP/2.0\r\n", 505),
        (b"GET /a HTTP/1.1\r\n", 400),
        (b"GET /a HTTP/1.1\r\n" + HOST + HOST, 400),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"no colon\r\n", 400),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"name : x\r\n", 400),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"a: x\r\n folded\r\n", 400),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"a: x\ny: z\r\n", 400),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"a: x\ry: z\r\n", 400),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"a: \0\r\n", 400),
        (b"GET /a HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 100, 431),
        (b"PUT /a HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n", 400),
        (b"PUT /a HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n", 400),
        (b"PUT /a HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n", 400),
        (b"PUT /a HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n", 400),
        (b"PUT /a HTTP/1.1\r\n" + HOST + b"Content-Length: \r\n", 400),
        (b"PUT /a HTTP/1.1\r\n" + HOST + b"Content-Length: 9999999999999999999\r\n", 400),
        (b"PUT /a HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"PUT /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n" * 2, 400),
        (b"PUT /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n", 501),
        (b"PUT /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\x0bchunked\r\n", 501),
        (b"PUT /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400),
    ],
)
def test_what_is_no_head(head: bytes, status: int) -> None:
    """What a proxy might read in another way is not read at all; what was refused stays refused."""
    heads = Heads()
    for _ in range(2):
        with pytest.raises(BadRequest) as caught:
            heads.read(head)
        assert caught.value.status == status


def test_fields_of_one_version_are_not_those_of_another() -> None:
    """HTTP/1.0 has no connections that stay, whatever came with the same fields before."""
    heads = Heads()
    assert heads.read(b"GET / HTTP/1.1\r\n" + HOST).framing.keep
    assert not heads.read(b"GET / HTTP/1.0\r\n" + HOST).framing.keep
    assert heads.read(b"GET / HTTP/1.1\r\n" + HOST).framing.keep


def test_many_different_fields() -> None:
    heads = Heads()
    for number in range(1000):
        said = heads.read(b"GET / HTTP/1.1\r\n" + HOST + b"x: %d\r\n" % number).framing.fields
        assert said[b"x"] == b"%d" % number
    assert len(heads._known) <= 256


@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=5),
    st.binary(max_size=10),
    st.lists(st.integers(1, 30), max_size=20),
)
def test_a_body_in_parts(parts: list[bytes], after: bytes, cuts: list[int]) -> None:
    """However it is cut on its way, it is the same, and what follows it is left."""
    sent = b"".join(b"%X;some=thing\r\n%b\r\n" % (len(part), part) for part in parts)
    sent += b"0\r\nTrailer: x\r\n\r\n" + after
    body = RequestBody(None)
    heard, held, at = b"", b"", 0
    for cut in [*cuts, len(sent)]:
        held += sent[at : at + cut]
        at += cut
        part, held = body.take(held)
        heard += part
    assert body.done
    assert (heard, held) == (b"".join(parts), after)


def test_a_body_of_known_length() -> None:
    body = RequestBody(5)
    assert body.take(b"abc") == (b"abc", b"")
    assert not body.done
    assert body.take(b"deGET /") == (b"de", b"GET /")
    assert body.done
    assert RequestBody(0).done


@pytest.mark.parametrize(
    "sent",
    [
        b"zz\r\n",
        b"\r\n",
        b"-1\r\n",
        b"1_0\r\n",
        b"0x1\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n1\r\n",
        b"1\n",
        b"1" * 16 + b"\r\n",
        b"1;" + b"x" * 5000,
        b"1;" + b"x" * 5000 + b"\r\n",
        b"0\r\n" + b"a: b\r\n" * 2000 + b"\r\n",
    ],
)
def test_what_is_no_body_in_parts(sent: bytes) -> None:
    with pytest.raises(BadRequest):
        RequestBody(None).take(sent + b"GET / HTTP/1.1\r\n\r\n")


def test_blanks_cost_no_time() -> None:
    """A head of the largest size is read in one go, whatever fills it. (Were each blank looked at from each other one,
    this would take minutes.)"""
    fields = b"x:" + b" " * 60_000 + b"y" + b" " * 60_000 + b"z\r\n"
    assert len(Heads().read(b"GET / HTTP/1.1\r\n" + HOST + fields).framing.fields[b"x"]) == 60_002
