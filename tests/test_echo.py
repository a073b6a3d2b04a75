# SPDX-License-Identifier: Apache-2.0
"""A peer that answers with our own secrets, in every shape that one can think of: no command shows a piece of one.

A proxy's error page, a gateway's debug mode and a token endpoint that quotes the form all do that. The secret was cut
before it was blanked, so that up to sixty of its characters stood in the log and in ``check --json``.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock
from urllib.parse import quote

from tests.cli import SUM, CliTest, Ended
from tests.support import Peer, Server

SECRET, TOKEN = "s3cr3t/0f-us+n0w&f0r=ever", "eyJhbGciOiJub25lIn0.dGhlLXRva2Vu.c2lnbmVk"
PASSWORD = "pr0xy:w0rd@h%me-of+the/clerk"
SECRETS = (SECRET, TOKEN, PASSWORD)
PIECE_CHARS = 10
TASK = {"taskId": "task-1", "workflowInstanceId": "flow-1", "taskType": "a", "inputData": {"num1": 2}}


def dense(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def coded(text: str) -> Iterator[str]:
    for before in ("", "a", "ab", "user:"):
        yield base64.b64encode((before + text).encode()).decode()


def shapes(secret: str) -> Iterator[str]:
    yield secret
    yield "x" * 180 + secret  # over the end of what is shown
    yield secret[: len(secret) * 2 // 3] + "..."
    yield "\n ".join(secret[at : at + 7] for at in range(0, len(secret), 7))
    yield json.dumps({"form": json.dumps({"secret": secret})})
    yield repr(secret)
    yield quote(secret, safe="")
    yield "".join(f"%{byte:02x}" for byte in secret.encode())
    yield from coded(secret)
    yield next(coded(secret))[:16] + "\r\n" + next(coded(secret))[16:]


FORMS = [dense(form) for secret in SECRETS for form in (secret, *(code[8:-4] for code in coded(secret)))]
PIECES = {form[at : at + PIECE_CHARS] for form in FORMS for at in range(len(form) - PIECE_CHARS + 1)}


def told(text: str) -> list[str]:
    """The pieces of secrets that ``text`` has, whatever stands between their letters."""
    letters = dense(text)
    return sorted(piece for piece in PIECES if piece in letters)


class EchoTest(CliTest):
    def setUp(self) -> None:
        super().setUp()
        self.write("agent.py", SUM)
        self.given = itertools.cycle([shape for secret in (SECRET, TOKEN) for shape in shapes(secret)])

    def serve(self, handler: Any, **settings: str) -> Server:
        server = Server(handler)
        self.addCleanup(server.close)
        keys = {"clientId": "user", "clientSecret": SECRET, "agentId": "a", "serviceUrl": f"{server.url}/api"}
        keys.update(authUrl=f"{server.url}/token", **{key: text.format(server.port) for key, text in settings.items()})
        self.write("credentials.json", json.dumps(keys)).chmod(0o600)
        return server

    def says_nothing(self, *words: str, code: int | None = None) -> Ended:
        ended = self.run_main(*words)
        self.assertEqual(told(ended.out + ended.err), [], ended)
        if code is not None:
            self.assertEqual(ended.code, code, ended)
        return ended

    def test_the_test_would_see_each(self) -> None:
        for secret in SECRETS:
            for shape in shapes(secret):
                if "%" not in shape:
                    self.assertTrue(told(shape), shape)

    def test_a_token_endpoint_that_quotes_what_it_was_sent(self) -> None:
        def handle(peer: Peer) -> None:
            while peer.request():
                peer.reply(json.dumps({"error": next(self.given)}).encode(), next(statuses))

        statuses = itertools.cycle((401, 500))
        self.given = itertools.cycle(shapes(SECRET))  # it gave no token, so nobody knows one
        self.serve(handle)
        for _ in range(30):
            ended = self.says_nothing("check", "--json")
            self.assertIn("/token", ended.out)
        statuses = itertools.repeat(401)
        for log_format in ("text", "json"):
            self.says_nothing("run", "agent.py", "--log-format", log_format, code=4)

    def test_a_platform_that_quotes_what_it_was_sent(self) -> None:
        def handle(peer: Peer) -> None:
            while request := peer.request():
                if request.target == "/token":
                    peer.reply(json.dumps({"access_token": TOKEN, "expires_in": 60}).encode())
                else:
                    peer.reply(next(self.given).replace("\n", " ").encode(), 500)

        self.serve(handle)
        for _ in range(30):
            self.says_nothing("check", "--json", code=5)

    def test_a_conductor_that_quotes_what_it_was_sent(self) -> None:
        def handle(peer: Peer) -> None:
            while request := peer.request():
                said = next(self.given)
                if request.target == "/api/token":
                    peer.reply(json.dumps({"token": TOKEN}).encode())
                elif next(turns):
                    definition = {"name": "a", "description": said, "responseTimeoutSeconds": said, "retryCount": 0}
                    peer.reply(json.dumps({**definition, "timeoutSeconds": 1, "rateLimitPerFrequency": said}).encode())
                else:
                    peer.reply(json.dumps({"message": said}).encode(), 500)

        turns = itertools.cycle((True, True, True, False, False))
        url = self.serve(handle).url + "/api"
        (self.folder / "credentials.json").unlink()
        with mock.patch.dict(os.environ, {"CONDUCTOR_AUTH_KEY": "key-1", "CONDUCTOR_AUTH_SECRET": SECRET}):
            for _ in range(20):
                self.says_nothing("check", "agent.py", "--conductor", url, "-a", "a", "--json")

    def test_a_proxy_that_quotes_what_it_was_sent(self) -> None:
        def handle(peer: Peer) -> None:
            while peer.request():
                said = next(self.given).replace("\n", " ").replace("\r", " ")
                peer.send(next(answers).replace("{}", said).encode())
                return

        self.given = itertools.cycle(shapes(PASSWORD))
        answers = itertools.cycle([
            "{}\r\n\r\n",
            "HTTP/1.1 200 {}\r\nTransfer-Encoding: {}\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Encoding: {}\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n",
            "HTTP/1.1 407 {}\r\nContent-Length: 0\r\n\r\n",
        ])  # fmt: skip
        self.serve(handle, proxy=f"http://user:{quote(PASSWORD, safe='')}@127.0.0.1:{{}}")
        for _ in range(30):
            self.says_nothing("check", "--json", code=5)

    @mock.patch("user_agent_sdk.worker.keeping.delivery.REFUSED_FOR_S", 0.0)
    @mock.patch("user_agent_sdk.worker.keeping.delivery.REFUSED_AGAIN_S", 0.01)
    def test_a_run_and_all_that_shows_it_later(self) -> None:
        def handle(peer: Peer) -> None:
            while request := peer.request():
                said = json.dumps({"message": next(self.given)}).encode()
                if request.target == "/token":
                    peer.reply(json.dumps({"access_token": TOKEN, "expires_in": 60}).encode())
                elif request.method == "GET":
                    body, status = next(polls, (b"", 204))
                    peer.reply(body or said, status)
                else:
                    peer.reply(said, 400)

        polls = iter([(b"", 500), (b"", 200), (json.dumps(TASK).encode(), 200)])
        self.serve(handle)
        run = ("run", "agent.py", "--max-tasks", "1", "--drain-timeout", "0", "--poll-interval", "10", "-r")
        self.assertIn("refused", self.says_nothing(*run, "--log-format", "json").err)
        for words in (("journal",), ("journal", "show", "task-1"), ("history", "--json"), ("hd", "last"),
                      ("hd", "last", "--json"), ("check", "--offline"), ("history", "--html", "page.html"),
                      ("history", "-e", "page.csv")):  # fmt: skip
            self.says_nothing(*words, code=0)
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != "credentials.json"]
        self.assertIn("journal", {path.parent.parent.name for path in files})
        for path in files:
            self.assertEqual(told(path.read_bytes().decode("latin-1")), [], path)

    def test_what_answers_in_a_sandboxs_place(self) -> None:
        said = iter(({"message": SECRET, "instance": "sandbox"}, {"message": SECRET}))
        server = Server(lambda peer: peer.request() and peer.reply(json.dumps(next(said)).encode(), 400))
        self.addCleanup(server.close)
        self.serve(lambda peer: None)
        for code in (2, 5):
            self.says_nothing("submit", "-a", "a", "--url", server.url, code=code)


if __name__ == "__main__":
    unittest.main()
