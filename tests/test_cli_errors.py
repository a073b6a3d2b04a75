# SPDX-License-Identifier: Apache-2.0
"""Configurations that are wrong, each with the message that somebody sees who made that mistake."""

from __future__ import annotations

import contextlib
import io
import json
import os
import unittest
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from tests.cli import SUM, CliTest
from user_agent_sdk.cli import main
from user_agent_sdk.errors import CODES

SECRET = "s3cr3t-of-ours"
GOOD = {"clientId": "the-client", "clientSecret": SECRET, "agentId": "0000#user-agent"}


class Wrong(NamedTuple):
    """A mistake: the credentials file (an object, or text as it is), environment and words of the command
    line; and what comes of it, ``{here}`` being the current folder. No hint: the message is one."""

    code: str
    message: str
    hint: str
    file: Any = GOOD
    environ: dict[str, str] = {}  # noqa: RUF012
    words: tuple[str, ...] = ()
    script: str = SUM


WRONG = (
    Wrong("config-missing", "no credentials.json in this folder or beside the agent, and no clientId and clientSecret "
          "in the environment", "download it from the akaBot Workflow Builder, or name it: -c FILE", file=None),
    Wrong("config-missing", "the credentials file creds.json does not exist (from --config-file)",
          "did you mean credentials.json?", words=("-c", "creds.json")),
    Wrong("config-invalid", "{here}/credentials.json is not JSON: Expecting ':' delimiter: line 2 column 16 (char 33)",
          "mend it there, or download it again", file='{"clientId": "a",\n"clientSecret" "b"}'),
    Wrong("config-missing", "{here}/credentials.json has no clientSecret", "{here}/credentials.json has an unknown key "
          "'clientSecrt': did you mean 'clientSecret'?", file={"clientId": "a", "clientSecrt": SECRET}),
    Wrong("config-invalid", "agentId in {here}/credentials.json must be a string, not a number",
          "put it in quotes", file={**GOOD, "agentId": 7}),
    Wrong("config-invalid", "serviceUrl in {here}/credentials.json: plain http would show the credentials to the "
          "network: http://api.example.com/api", "use https:// (plain http is for this machine only)",
          file={**GOOD, "serviceUrl": "http://api.example.com/api"}),
    Wrong("config-invalid", "baseUrl in {here}/credentials.json must be https:// and a host name, such as "
          "https://next.akabot.io, not 'https://next.akabot.io/login'", "give serviceUrl and authUrl instead",
          file={**GOOD, "baseUrl": "https://next.akabot.io/login"}),
    Wrong("config-invalid", "caFile in {here}/credentials.json names a file that does not exist: {here}/company.pem",
          "correct it there, or take it out", file={**GOOD, "caFile": "company.pem"}),
    Wrong("config-invalid", "platform in {here}/credentials.json must be one of akabot, conductor, not 'akabott'",
          "correct it there, or take it out", file={**GOOD, "platform": "akabott"}),
    Wrong("config-invalid", "clientSecretFile in {here}/credentials.json and clientSecret in {here}/credentials.json "
          "are both set: keep one", "",
          file={**GOOD, "clientSecretFile": "credentials.json"}),
    Wrong("config-invalid", "environment variable USERAGENT_WORKERS must be a whole number from 1 to 1,000, not 'many'",
          "correct it there, or take it out", environ={"USERAGENT_WORKERS": "many"}),
    Wrong("config-invalid", "environment variable USERAGENT_PROXY must be no more than http://host:port",
          "correct it there, or take it out", environ={"USERAGENT_PROXY": "http://clerk:s3cr3t-of-ours@proxy/pac"}),
    Wrong("config-missing", "CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET go together", "set both, or neither",
          environ={"CONDUCTOR_AUTH_KEY": "k"}, words=("--conductor", "http://127.0.0.1:1/api")),
    Wrong("usage", "--workers must be a whole number from 1 to 1,000, not 'x'", "useragent run -h lists the options",
          words=("-w", "x")),
    Wrong("usage", "--conductor must begin with https:// (or http://, on this machine, for a Conductor or a proxy), "
          "not "
          "'localhost:8080/api'", "useragent run -h lists the options", words=("--conductor", "localhost:8080/api")),
    Wrong("no-agent", "the agent sum_agent ({here}/agent.py:3) has no id",
          "set agentId in credentials.json, give -a ID, or write @user_agent(agent_id=...)",
          file={**GOOD, "agentId": None}),
    Wrong("no-agent", "two agents have the id '0000#user-agent': sum_agent ({here}/agent.py:3) and again "
          "({here}/agent.py:9)", "give each its own: @user_agent(agent_id=...)",
          script=SUM + SUM.replace("sum_agent", "again")),
    Wrong("config-invalid", "timeout_s=0 of sum_agent ({here}/agent.py:3) can't be used",
          "timeout_s is seconds, more than 0", script=SUM.replace("agent()", "agent(timeout_s=0)")),
)  # fmt: skip


class WrongConfigurationTest(CliTest):
    def test_each_says_what_is_wrong_where_and_what_to_do(self) -> None:
        here = str(self.folder)
        for wrong in WRONG:
            with self.subTest(wrong.message):
                self.write("agent.py", wrong.script)
                Path("credentials.json").unlink(missing_ok=True)
                if wrong.file is not None:
                    text = wrong.file if isinstance(wrong.file, str) else json.dumps(wrong.file)
                    self.write("credentials.json", "").write_bytes(text.encode())
                    Path("credentials.json").chmod(0o600)
                with mock.patch.dict(os.environ, wrong.environ):
                    ended = self.run_main("run", "agent.py", *wrong.words)
                first, *rest = ended.err.splitlines()
                self.assertEqual((ended.code, ended.out), (CODES[wrong.code][0], ""), ended.err)
                shown = first.replace(here + os.sep, "{here}/")
                self.assertEqual(shown, f"useragent: error[{wrong.code}]: {wrong.message}")
                hints = [line.replace(here + os.sep, "{here}/") for line in rest if line.startswith("hint: ")]
                self.assertTrue(f"hint: {wrong.hint}" in hints if wrong.hint else not hints, hints)
                self.assertNotIn(SECRET, ended.err)
                self.assertFalse(Path(".useragent").exists())  # nothing was started

    def test_names_that_are_too_long_or_lead_in_a_circle_are_told_as_missing(self) -> None:
        """Python before 3.13 raises for the one when it looks for names alike, and for the other when it resolves the
        name: "this is a bug"."""
        self.write("agent.py", SUM)
        names = ["x" * 300 + "/agent.py"]
        with contextlib.suppress(OSError, NotImplementedError):
            os.symlink("round.py", "round.py")
            names.append("round.py")
        for name in names:
            for words in (("run", name), ("invoke", name), ("dev", name), ("check", name),
                          ("run", "agent.py", "-c", name)):  # fmt: skip
                self.assertEqual(self.run_main(*words).code, 6 if words[0] == "invoke" else 3, words)

    def test_with_json_the_same_is_one_document(self) -> None:
        self.write("agent.py", SUM)
        error = self.error_of(self.run_main("invoke", "agent.py", "-i", "{", "--json"))
        self.assertEqual(error["code"], "usage")
        self.assertIn("not JSON", error["message"])
        self.assertTrue(error["hint"])

    def test_a_terminal_without_columns_gets_the_message_too(self) -> None:
        """A terminal that tells no size has 0 columns to Python 3.9: each error was a ValueError of textwrap."""
        screen = io.StringIO()
        screen.isatty = lambda: True  # type: ignore[method-assign]
        for columns in ("1", "2"):
            with mock.patch.dict(os.environ, {"COLUMNS": columns}), contextlib.redirect_stderr(screen):
                self.assertEqual(main(["invoke", "nowhere.py"]), 6)
            self.assertIn("error[agent-missing]", screen.getvalue())
            self.assertIn("nowhere.py", screen.getvalue())


if __name__ == "__main__":
    unittest.main()
