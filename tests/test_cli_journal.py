# SPDX-License-Identifier: Apache-2.0
"""``useragent journal``: what ended processes left; a running worker's file is not touched."""

from __future__ import annotations

import contextlib
import io
import json
import os
import unittest
from pathlib import Path
from unittest import mock

from tests.cli import CliTest
from user_agent_sdk.cli import main
from user_agent_sdk.worker.keeping.journal import Journal
from user_agent_sdk.worker.keeping.journal_file import LATE, ONCE, REJECTED, RESULT, TAKEN, Entry
from user_agent_sdk.worker.keeping.leftovers import leftovers


def entry(task_id: str, state: str = REJECTED, **changes: object) -> Entry:
    body = json.dumps({"taskId": task_id, "status": "COMPLETED", "outputData": {"name": "Žluťoučký"}}).encode()
    made = Entry(state, task_id, "w-1", "a#user-agent", "me", "COMPLETED", body, taken_ms=1_700_000_000_000)
    return made._replace(reason="HTTP 400: bad" if state == REJECTED else "", **changes)  # type: ignore[arg-type]


class JournalCommandTest(CliTest):
    def setUp(self) -> None:
        super().setUp()
        self.root = self.folder / ".useragent" / "journal"

    def leave(self, *entries: Entry, target: str = "one", dead: bool = True) -> Journal:
        journal = Journal(self.root / target)
        journal.open()
        for one in entries:
            journal.write(one)
        self.addCleanup(journal.close)
        if dead:
            assert journal._file is not None
            journal._file.close()
            journal._file = None
        return journal

    def states(self) -> dict[str, str]:
        return {left.entry.task_id: left.entry.state for left in leftovers(self.root).rows}

    def test_nothing_kept_is_no_error_and_makes_no_file(self) -> None:
        ended = self.run_main("journal")
        self.assertEqual((ended.code, ended.out), (0, "\t".join(
            ("id", "state", "status", "agentId", "startedTime", "reason")) + "\n"))  # fmt: skip
        self.assertIn("nothing undelivered", ended.err)
        self.assertEqual(json.loads(self.run_main("journal", "--json").out), [])
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_it_lists_what_every_target_has_in_lines_of_tabs(self) -> None:
        self.leave(entry("t1"))
        self.leave(entry("t2", RESULT), entry("t3", TAKEN, status="", body=b""), target="two")
        ended = self.run_main("journal", "list")
        rows = [line.split("\t") for line in ended.out.splitlines()]
        self.assertEqual([row[0] for row in rows], ["id", "t1", "t2", "t3"])
        self.assertEqual(rows[1], ["t1", "rejected", "COMPLETED", "a#user-agent", "2023-11-14T22:13:20+00:00",
                                   "HTTP 400: bad"])  # fmt: skip
        found = json.loads(self.run_main("journal", "--json").out)
        states = [("t1", "rejected", "COMPLETED"), ("t2", "result", "COMPLETED"), ("t3", "taken", None)]
        self.assertEqual([(one["id"], one["state"], one["status"]) for one in found], states)
        self.assertEqual(Path(found[0]["file"]), self.root / "one" / "1.log")

    def test_on_a_terminal_it_is_a_table_that_fits_and_names_ids_as_the_log_does(self) -> None:
        self.leave(entry("0f8fad5b-d9cb-469f-a165-70867728950e")._replace(reason="HTTP 400: " + "bad " * 60))
        screen = io.StringIO()
        screen.isatty = lambda: True  # type: ignore[method-assign]
        environ = {"COLUMNS": "80", "NO_COLOR": "1"}
        with contextlib.redirect_stdout(screen), mock.patch.dict(os.environ, environ):
            self.assertEqual(main(["journal"]), 0)
        heading, row = screen.getvalue().splitlines()
        self.assertRegex(heading, r"^TASK +STATE +")
        self.assertRegex(row, r"^0f8fad5b  rejected  .*HTTP 400: bad.*…$")
        self.assertLessEqual(len(row), 80)
        shown = self.run_main("journal", "show", "0f8fad5b")
        self.assertEqual(json.loads(shown.out)["id"], "0f8fad5b-d9cb-469f-a165-70867728950e")

    def test_ids_that_begin_alike_are_not_guessed(self) -> None:
        self.leave(entry("0f8fad5b-1"), entry("0f8fad5b-2"))
        ended = self.run_main("journal", "drop", "0f8fad5b")
        self.assertEqual(ended.code, 2)
        self.assertIn("0f8fad5b-2", ended.err)
        self.assertEqual(len(self.states()), 2)

    def test_a_running_workers_results_are_listed_and_left_to_it(self) -> None:
        """"Nothing undelivered" was said while a living worker held results: its log can be read without its lock.
        And of one that the platform had refused for good it was said that the worker goes on trying."""
        running = self.leave(entry("mine"), entry("waits", RESULT), entry("runs", TAKEN), dead=False)
        ended = self.run_main("journal", "--json")
        found = [(one["id"], one["inUse"]) for one in json.loads(ended.out)]
        self.assertEqual(found, [("mine", True), ("waits", True)])
        shown = self.run_main("journal", "--exit-code")
        self.assertEqual(shown.code, 7)
        self.assertIn("1 result of these: in a running worker, which goes on trying", shown.err)
        for words in (("drop", "mine"), ("retry", "waits")):
            refused = self.run_main("journal", *words)
            self.assertEqual(refused.code, 1)
            self.assertIn("1.log belongs to a running worker", refused.err)
        self.assertIn("may run in a worker", self.run_main("journal", "show", "nope").err)
        self.assertEqual(len(running.live()), 3)

    def test_a_script_learns_from_the_exit_code_whether_something_is_left(self) -> None:
        self.assertEqual(self.run_main("journal", "--exit-code").code, 0)
        self.leave(entry("late", LATE))
        self.assertEqual(self.run_main("journal", "--exit-code").code, 0)
        self.leave(entry("t1", RESULT), target="two")
        self.assertEqual(self.run_main("journal", "--exit-code", "--json").code, 7)
        self.assertEqual(self.run_main("journal", "drop", "t1").code, 0)
        self.assertEqual(self.run_main("journal", "--exit-code").code, 0)
        (self.root / "two" / "1.log").unlink()
        (self.root / "two" / "1.log").mkdir()
        ended = self.run_main("journal", "--exit-code")
        self.assertEqual(ended.code, 7)
        self.assertIn("unknown: 1 file can't be read", ended.err)
        self.assertNotIn("nothing undelivered", ended.err)

    def test_a_folder_that_cannot_be_read_is_not_said_to_hold_nothing(self) -> None:
        """The journal of a service's user, a file in the place of the folder: "nothing undelivered", exit 0, and a
        script that watches the exit code slept on."""
        self.leave(entry("t1"))
        self.write("afile", "")
        (self.root / "a file beside the targets").touch()
        for option in ("--journal", "--also"):
            ended = self.run_main("journal", "--exit-code", option, "afile")
            self.assertEqual(ended.code, 7, option)
            self.assertRegex(ended.err, r"can't be read: .*afile[\s\S]*unknown: 1 file can't be read")
            self.assertNotIn("nothing undelivered", ended.err)
        self.assertEqual(list(self.states()), ["t1"])

    def test_several_folders_are_looked_into_at_once(self) -> None:
        self.leave(entry("t1"))
        self.root = self.folder / "elsewhere"
        self.leave(entry("t2"))
        ended = self.run_main("journal", "--also", "elsewhere", "--also", "nowhere", "--json")
        self.assertEqual([one["id"] for one in json.loads(ended.out)], ["t1", "t2"])
        self.assertEqual(self.run_main("journal", "drop", "t2", "--also", "elsewhere").code, 0)
        self.assertEqual(self.states(), {})

    @unittest.skipIf(os.name == "nt", "Windows takes no such name")
    def test_names_of_files_and_folders_cannot_steer_the_terminal(self) -> None:
        self.leave(entry("t1"), target="\x1b[31mred")
        (self.root / "\x1b[31mred" / "2.log").write_bytes(b"rubbish")
        for words in ((), ("show", "nope"), ("--also", "\x1b[2J"), ("--journal", "\x1b[2J")):
            ended = self.run_main("journal", *words)
            self.assertNotIn("\x1b", ended.out + ended.err)

    def test_show_has_the_whole_report(self) -> None:
        self.leave(entry("t1"))
        ended = self.run_main("journal", "show", "t1", "--json")
        document = json.loads(ended.out)
        self.assertEqual((ended.code, document["report"]["outputData"]), (0, {"name": "Žluťoučký"}))
        self.assertIn("Žluťoučký", ended.out)

    def test_retry_has_a_refused_result_delivered_by_the_next_worker(self) -> None:
        self.leave(entry("t1"), entry("t2"))
        self.assertEqual(self.run_main("journal", "retry", "t1").code, 0)
        self.assertEqual(self.states(), {"t1": "result", "t2": "rejected"})

    def test_what_has_no_result_or_was_sent_cannot_be_sent_again(self) -> None:
        self.leave(entry("t1", TAKEN), entry("t2", ONCE))
        for task_id in ("t1", "t2"):
            self.assertEqual(self.run_main("journal", "retry", task_id).code, 1)
        self.assertEqual(self.states(), {"t1": "taken", "t2": "once"})

    def test_drop_takes_it_off_the_disk(self) -> None:
        self.leave(entry("t1", body=b'{"outputData":"SECRET-OUTPUT"}'), entry("t2"))
        ended = self.run_main("journal", "drop", "t1", "--json")
        self.assertEqual((ended.code, json.loads(ended.out)), (0, {"id": "t1", "action": "drop"}))
        self.assertEqual(self.states(), {"t2": "rejected"})
        self.assertFalse([path for path in (self.root / "one").iterdir() if b"SECRET-OUTPUT" in path.read_bytes()])

    def test_an_unknown_id_is_not_found(self) -> None:
        self.leave(entry("t1"))
        for action in ("show", "retry", "drop"):
            ended = self.run_main("journal", action, "nope", "--json")
            self.assertEqual((ended.code, self.error_of(ended)["code"]), (1, "not-found"))

    def test_a_damaged_file_is_said_and_the_others_are_listed(self) -> None:
        self.leave(entry("t1"))
        rubbish = self.root / "one" / "2.log"
        rubbish.write_bytes(b"rubbish" * 1000)
        rubbish.chmod(0o600)
        ended = self.run_main("journal", "--json")
        self.assertEqual((ended.code, len(json.loads(ended.out))), (0, 1))
        self.assertIn("2.log is damaged", ended.err)
        self.assertEqual(rubbish.read_bytes(), b"rubbish" * 1000)

    def test_another_folder_and_wrong_words(self) -> None:
        self.leave(entry("t1"))
        self.assertEqual(json.loads(self.run_main("journal", "--journal", "elsewhere", "--json").out), [])
        self.assertEqual(json.loads(self.run_main("journal", "--journal", "x" * 5000, "--json").out), [])
        for words in (("show",), ("list", "t1"), ("mend", "t1"), ("--no-journal",)):
            self.assertEqual(self.run_main("journal", *words).code, 2, words)

    def test_what_a_task_sent_cannot_steer_the_terminal(self) -> None:
        self.leave(entry("t\x1b[31m\tx")._replace(reason="bad\nline"))
        self.assertNotIn("\x1b", self.run_main("journal").out)
        self.assertEqual(len(self.run_main("journal").out.splitlines()), 2)
