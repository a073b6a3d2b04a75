# SPDX-License-Identifier: Apache-2.0
"""Replies are read as the standard library reads them, and what could be endless or cut off is refused."""

from __future__ import annotations

import gzip
import http.client
import io
import itertools
import random
import tracemalloc
import unittest
import zlib
from typing import Any

from user_agent_sdk.conductor.reply import HEAD_LIMIT_BYTES, BadReplyError, Reader, Response

LIMIT = 100_000


class Pieces(Reader):
    """A reader fed from a list, or from anything that goes on."""

    def __init__(self, pieces: Any) -> None:
        super().__init__()
        self._pieces = iter(pieces)

    def receive(self) -> bytes:
        return next(self._pieces, b"")


def read(*pieces: bytes, limit: int = LIMIT) -> Response:
    return Pieces(pieces).read(limit)[0]


class _File:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> Any:
        return io.BytesIO(self._data)


def stock(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """What http.client makes of the same bytes."""
    reply = http.client.HTTPResponse(_File(data))  # type: ignore[arg-type]
    reply.begin()
    return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()


ODD_BUT_VALID = {
    "plain": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "empty reason": b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    "reason with spaces and digits": b"HTTP/1.1 404 Not Found 404\r\nContent-Length: 0\r\n\r\n",
    "unknown status": b"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\nX-A: b\n\nok",
    "no headers at all, body to the end": b"HTTP/1.1 200 OK\r\n\r\nall of it",
    "HTTP/1.0 to the end": b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold",
    "HTTP/1.0 keep-alive": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nold",
    "no space after the colon": b"HTTP/1.1 200 OK\r\nContent-Length:2\r\nX-A:b\r\n\r\nok",
    "tabs and spaces before a value": b"HTTP/1.1 200 OK\r\nX-A: \t b\r\nContent-Length: \t2\r\n\r\nok",
    "colons in a value": b"HTTP/1.1 200 OK\r\nLocation: http://a:1/b\r\nContent-Length: 0\r\n\r\n",
    "empty value": b"HTTP/1.1 200 OK\r\nX-A:\r\nContent-Length: 0\r\n\r\n",
    "any case": b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 2\r\nx-a: B\r\n\r\nok",
    "latin-1 value": b"HTTP/1.1 200 OK\r\nX-A: caf\xe9\r\nContent-Length: 0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    "204 with a length": b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    "304 with the length of what it does not send": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n",
    "100 first": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "100 twice, with headers": b"HTTP/1.1 100 Go\r\nX: 1\r\n\r\n" * 2 + b"HTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "chunked, any case": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "chunk extensions": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a="b"\r\nabc\r\n0;z\r\n\r\n',
    "chunk size with zeros": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n000\r\n\r\n",
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n",
    "chunked wins over a length": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"1\r\na\r\n0\r\n\r\n",
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
}


class TheSameAsTheStandardLibrary(unittest.TestCase):
    def test_odd_but_valid_replies_are_read_alike_however_they_are_cut(self) -> None:
        for name, data in ODD_BUT_VALID.items():
            expected = stock(data)
            for size in (1, 2, 7, len(data)):
                with self.subTest(name, size=size):
                    reply = read(*(data[at : at + size] for at in range(0, len(data), size)))
                    self.assertEqual((reply.status, dict(reply.headers), reply.body), expected)

    def test_generated_bodies_come_out_whole(self) -> None:
        rand = random.Random(7)
        for _ in range(200):
            body = rand.randbytes(rand.randrange(0, 300))
            if rand.random() < 0.5:
                data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            else:
                data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                at = 0
                while at < len(body):
                    size = rand.randrange(1, 99)
                    piece = body[at : at + size]
                    data += b"%x\r\n%s\r\n" % (len(piece), piece)
                    at += size
                data += b"0\r\n\r\n"
            cuts = sorted(rand.choices(range(len(data)), k=rand.randrange(6)))
            pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)]) if a < b]
            self.assertEqual(read(*pieces).body, body)


class Framing(unittest.TestCase):
    def test_a_second_reply_is_left_for_the_second_read(self) -> None:
        reader = Pieces([ODD_BUT_VALID["plain"] + ODD_BUT_VALID["trailers"] + ODD_BUT_VALID["204"]])
        self.assertEqual([reader.read(LIMIT)[0].body for _ in range(3)], [b"ok", b"abc", b""])
        self.assertEqual(reader.held, b"")

    def test_the_connection_is_kept_only_where_both_ends_know_where_the_reply_ended(self) -> None:
        kept = {name for name, data in ODD_BUT_VALID.items() if Pieces([data]).read(LIMIT)[1]}
        self.assertEqual(
            set(ODD_BUT_VALID) - kept,
            {"close", "HTTP/1.0 to the end", "no headers at all, body to the end", "chunked wins over a length"},
        )

    def test_a_repeated_header_is_joined_and_a_folded_one_unfolded(self) -> None:
        reply = read(b"HTTP/1.1 200 OK\r\nVia: a\r\nVia: b\r\nX-A: one\r\n  two\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual((reply.headers["via"], reply.headers["x-a"]), ("a, b", "one two"))

    def test_a_value_has_no_blanks_round_it(self) -> None:
        self.assertEqual(read(b"HTTP/1.1 204 X\r\nX-A: \t b \t \r\n\r\n").headers, {"x-a": "b"})

    def test_the_same_length_twice_is_one_length(self) -> None:
        self.assertEqual(read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok").body, b"ok")

    def test_the_media_type_has_no_parameters(self) -> None:
        self.assertEqual(read(b"HTTP/1.1 204 X\r\nContent-Type: Text/HTML; charset=x\r\n\r\n").media_type, "text/html")


class Refused(unittest.TestCase):
    def assert_refused(self, *pieces: bytes, limit: int = LIMIT) -> str:
        with self.assertRaises(BadReplyError) as caught:
            read(*pieces, limit=limit)
        return str(caught.exception)

    def test_json_that_ends_with_the_connection_and_is_not_whole(self) -> None:
        """A proxy died half way; the ids in what had come made of it a task that failed for good."""
        head = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
        whole = b'[{"taskId": "t", "inputData": {"n": 1}}]\n'
        self.assertEqual(read(head + whole).body, whole)
        for size in (1, 20, len(whole) - 5):
            self.assertIn("cut off", self.assert_refused(head + whole[:size]))

    def test_what_is_no_http_1_reply(self) -> None:
        for start in (
            b"ICY 200 OK\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 099 OK\r\n\r\n",
            b"\x15\x03\x01\x00\x02\x02\x50\r\n\r\n",
            b"\r\n\r\n",
        ):
            with self.subTest(start):
                self.assertIn("not HTTP/1.1", self.assert_refused(start))

    def test_nothing_at_all(self) -> None:
        self.assertEqual(self.assert_refused(), "the connection was closed without a reply")

    def test_a_reply_cut_anywhere_is_no_reply(self) -> None:
        """urllib's read(n) gives a cut body as if it were whole (seen: 7 of 100 bytes, no error)."""
        for name in ("plain", "chunked", "trailers", "100 first"):
            data = ODD_BUT_VALID[name]
            for end in range(len(data)):
                with self.subTest(name, end=end):
                    self.assertIn("closed", self.assert_refused(data[:end]))

    def test_lengths_that_are_none(self) -> None:
        for length in (b"-1", b"+2", b"2x", b"0x2", b"1_0", b"", b"2, 3", b"9" * 30, b"\xb2"):
            with self.subTest(length):
                self.assert_refused(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n" + b"x" * 50)

    def test_chunks_that_are_none(self) -> None:
        for chunk in (b"-1\r\na", b"0x1\r\na\r\n", b"\r\n", b"g\r\n", b"1\r\nab\r\n", b"1_0\r\n", b"f" * 40 + b"\r\n"):
            with self.subTest(chunk):
                self.assert_refused(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n")

    def test_encodings_nobody_asked_for(self) -> None:
        self.assert_refused(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
        self.assert_refused(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx")

    def test_a_huge_announced_body_is_refused_before_it_is_read(self) -> None:
        """http.client asked for 3 GB of memory at once."""
        self.assertIn("3000000000", self.assert_refused(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000000\r\n\r\nab"))


ENDLESS = {
    "status line": (b"HTTP/1.1 200 ", b"x" * 5000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 500),
    "interim replies": (b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body to the end": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 5000),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nabcde\r\n" * 500),
    "one huge chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", b"x" * 5000),
    "chunk extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x" * 5000),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n" * 500),
}


class Endless(unittest.TestCase):
    def test_whatever_a_server_makes_endless_is_cut_and_little_of_it_was_kept(self) -> None:
        for name, (start, again) in ENDLESS.items():
            with self.subTest(name):
                tracemalloc.start()
                try:
                    endless = Pieces(itertools.chain([start], itertools.repeat(again)))
                    self.assertRaises(BadReplyError, endless.read, LIMIT)
                    self.assertLess(tracemalloc.get_traced_memory()[1], 3 * LIMIT)
                finally:
                    tracemalloc.stop()


    def test_a_head_or_a_line_has_no_byte_more_than_it_may_have_however_it_comes(self) -> None:
        """What came with the last piece was not counted: 128 KiB of headers passed where 64 were allowed."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: "
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for most in (HEAD_LIMIT_BYTES, HEAD_LIMIT_BYTES + 1):
            line = b"0;" + b"a" * (most - 2 - 1)  # a line's \r counts
            for data in (head + b"a" * (most - len(head)) + b"\r\n\r\n", chunked + line + b"\r\n\r\n"):
                for size in (1000, 65536, len(data)):
                    pieces = [data[start : start + size] for start in range(0, len(data), size)]
                    with self.subTest(data[-10:], most=most, size=size):
                        if most == HEAD_LIMIT_BYTES:
                            self.assertEqual(read(*pieces).status, 200)
                        else:
                            self.assertRaisesRegex(BadReplyError, "over 65536 bytes", read, *pieces)


class Gzip(unittest.TestCase):
    def packed(self, body: bytes, encoding: bytes = b"gzip") -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s" % (encoding, len(body), body)

    def test_a_gzip_reply_is_unpacked(self) -> None:
        for encoding in (b"gzip", b"GZIP", b"x-gzip"):
            self.assertEqual(read(self.packed(gzip.compress(b"abc" * 99), encoding)).body, b"abc" * 99)

    def test_an_empty_body_needs_no_unpacking(self) -> None:
        self.assertEqual(read(b"HTTP/1.1 204 No\r\nContent-Encoding: gzip\r\n\r\n").body, b"")

    def test_a_bomb_is_noticed_before_it_is_unpacked(self) -> None:
        bomb = self.packed(gzip.compress(bytes(20_000_000)))  # 19 KB
        tracemalloc.start()
        try:
            with self.assertRaisesRegex(BadReplyError, "unpacks to more"):
                read(bomb)
            self.assertLess(tracemalloc.get_traced_memory()[1], 4 * LIMIT)
        finally:
            tracemalloc.stop()

    def test_a_limit_is_what_may_come(self) -> None:
        body = gzip.compress(bytes(LIMIT))
        self.assertEqual(len(read(self.packed(body)).body), LIMIT)
        self.assertEqual(len(read(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LIMIT, bytes(LIMIT)).body), LIMIT)

    def test_what_is_not_gzip_cut_off_or_followed_by_more_is_refused(self) -> None:
        whole = gzip.compress(b"abc" * 99)
        for body in (b"plain", whole[:-1], whole[:12], whole + b"x", zlib.compress(b"abc")):
            with self.subTest(body), self.assertRaises(BadReplyError):
                read(self.packed(body))


if __name__ == "__main__":
    unittest.main()
