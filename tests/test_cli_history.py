# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import unittest
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

from tests.cli import PYTHON, ROOT, SUM, CliTest, Ended
from tests.historybox import NOON_S, execution
from user_agent_sdk import _build
from user_agent_sdk.cli import main
from user_agent_sdk.history.recorder import Recorder

DB = "execution_history.db"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class HistoryCliTest(CliTest):
    def record(self, count: int = 3, name: str = DB) -> None:
        recorder = Recorder(Path(name))
        recorder.start()
        for n in range(count):
            failed: dict[str, Any] = (
                {"status": "FAILED", "reason_for_incompletion": "=no\x1b[31m total"} if n % 2 else {}
            )
            given = {"n": n, "name": "株式会社"}
            recorder.record(*execution(given, {"n": n}, started_s=NOON_S + n, logs=["read"], **failed))
        recorder.close()

    def on_terminal(self, *words: str, columns: int = 80) -> Ended:
        out, err = Terminal(), io.StringIO()
        environ = mock.patch.dict(os.environ, {"COLUMNS": str(columns), "NO_COLOR": "1"})
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), environ:
            code = main(words)
        return Ended(code, out.getvalue(), err.getvalue())


class ListTest(HistoryCliTest):
    def test_a_pipe_gets_every_column_uncut_and_separated_by_tabs(self) -> None:
        self.record()
        ended = self.run_main("history")
        header, *rows = (line.split("\t") for line in ended.out.splitlines())
        self.assertEqual(header[:3] + header[9:11], ["id", "task_id", "agent_id", "error_message", "duration_ms"])
        self.assertEqual([row[0] for row in rows], ["3", "2", "1"])
        self.assertEqual({len(row) for row in rows}, {len(header)})
        self.assertEqual(rows[1][9], r"=no\x1b[31m total")
        self.assertEqual((ended.code, ended.err), (0, ""))

    def test_a_terminal_gets_a_table_that_fits(self) -> None:
        self.record()
        lines = self.on_terminal("history").out.splitlines()
        self.assertRegex(lines[0], "^ID  STATUS   STARTED")
        self.assertRegex(lines[1], "^ 3  success  ")
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertEqual(len(lines), 4)

    def test_the_forms_of_0_2_0_are_understood(self) -> None:
        self.record(name="old.db")
        for words in (
            ["-n2", "-db", "old.db"], ["-n=2", "-db=old.db"], ["-n", "2", "--db-path", "old.db"],
            ["--limit", "2", "-db=old.db", "-a", "deployed-1"], ["-n2", "-u=reader#user-agent", "-db=old.db"],
        ):  # fmt: skip
            with self.subTest(words):
                self.assertEqual(len(self.run_main("history", *words).out.splitlines()), 3)

    def test_filters_choose_rows(self) -> None:
        self.record()
        for words, ids in (
            (["--status", "error"], ["2"]), (["-a", "nobody"], []), (["-u", "reader#user-agent", "-n1"], ["3"]),
            (["--since", "2027-01-01"], ["3", "2", "1"]), (["--since=2100-01-01"], []), (["-n0"], []),
            (["--until", "2100-01-01", "--since", "2027-01-01"], ["3", "2", "1"]), (["--until=2027-01-01"], []),
            (["-n", "-1"], ["3", "2", "1"]), (["-n=all"], ["3", "2", "1"]), (["-a", "nobody"], []),
        ):  # fmt: skip
            with self.subTest(words):
                ended = self.run_main("history", *words)
                self.assertEqual([line.split("\t")[0] for line in ended.out.splitlines()[1:]], ids)
                self.assertEqual(ended.code, 0)

    def test_the_beginning_of_an_id_that_a_log_line_showed_finds_its_execution(self) -> None:
        """The log showed the wire's task id; hd took the history's own number alone."""
        recorder = Recorder(Path(DB))
        recorder.start()
        for n, task_id in enumerate(("0f8fad5b-d9cb-469f-a165-70867728950e", "12345678-d9cb-469f-a165-70867728950e")):
            recorder.record(*execution(task_id=task_id, started_s=NOON_S + n))
        recorder.close()
        whole = "0f8fad5b-d9cb-469f-a165-70867728950e"
        for text, number in (("0f8fad5b", 1), (whole, 1), ("12345678", 2), ("flow-1", 2)):
            self.assertEqual(json.loads(self.run_main("hd", text, "--json").out)["id"], number, text)
        self.assertIn("  0f8fad5b ", self.on_terminal("history", columns=140).out)
        self.assertEqual(len(self.run_main("history", "--task", "0f8fad").out.splitlines()), 2)
        for text, code in (("0f8fa", 2), ("ffffffff", 1), ("99", 1)):
            self.assertEqual(self.run_main("hd", text).code, code, text)

    def test_a_view_has_one_zone_and_names_it(self) -> None:
        self.record()
        shown = self.on_terminal("hd", "1").out
        self.assertRegex(shown, r"Started +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC")
        self.assertRegex(shown, r"Ended +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC")

    def test_json_is_an_array_of_the_ten_columns_and_extra(self) -> None:
        self.record()
        documents = json.loads(self.run_main("history", "--json").out)
        self.assertEqual([document["id"] for document in documents], [3, 2, 1])
        self.assertEqual(len(documents[0]), 11)
        self.assertEqual(documents[0]["input_data"], {"n": 2, "name": "株式会社"})
        self.assertEqual(documents[1]["error_message"], "=no\x1b[31m total")
        self.assertEqual(documents[0]["extra"]["logs"][0]["log"], "read")
        self.assertEqual(documents[0]["extra"]["duration_ms"], 1500)
        self.assertIn("株式会社", self.run_main("history", "--json").out)

    def test_jsonl_is_one_object_a_line(self) -> None:
        self.record()
        ended = self.run_main("history", "--jsonl")
        self.assertEqual([json.loads(line)["id"] for line in ended.out.splitlines()], [3, 2, 1])
        self.assertNotIn("\x1b", ended.out)

    def test_an_empty_history_is_no_error(self) -> None:
        self.record()
        self.run_main("history-prune", "--older-than", "2100-01-01")
        self.assertEqual(self.run_main("history", "--json").out, "[]\n")
        ended = self.run_main("history")
        self.assertEqual((ended.code, len(ended.out.splitlines())), (0, 1))
        self.assertIn("no execution is recorded", ended.err)

    def test_a_missing_database_is_an_error_and_is_not_made(self) -> None:
        """0.2.0 made an empty one, and said that there is no history."""
        for words in (["history"], ["hd", "1"], ["history-prune", "--older-than", "1d"], ["history", "--follow"]):
            ended = self.run_main(*words, "-db", "none.db", *(["--json"] if words == ["history"] else []))
            self.assertEqual(ended.code, 1)
            self.assertIn("db-missing", ended.err)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_text_that_is_no_utf8_is_an_id_like_any_other(self) -> None:
        """A file's name pasted as an id, a byte of Latin-1 in it: UnicodeEncodeError, "this is a bug"."""
        self.record()
        for option in ("--task", "-a", "-u"):
            self.assertEqual(self.run_main("history", option, "h\udcf3a-0001", "--json").out, "[]\n")
        self.assertEqual(self.run_main("hd", "h\udcf3a-0001").code, 1)

    @unittest.skipUnless(sys.platform.startswith("linux"), "names of files are UTF-8 there")
    def test_a_file_whose_name_is_no_utf8_is_read(self) -> None:
        self.record()
        os.rename(DB, "h\udcf3a.db")
        self.assertEqual(len(json.loads(self.run_main("history", "--json", "-db", "h\udcf3a.db").out)), 3)

    def test_what_makes_no_sense_is_a_usage_error(self) -> None:
        self.record()
        for words in (["-n", "x"], ["--since", "soon"], ["--until", "later"], ["--json", "--jsonl"],
                      ["--follow", "--json"], ["--status", "good"], ["--follow", "--html", "x"]):  # fmt: skip
            with self.subTest(words):
                self.assertEqual(self.run_main("history", *words).code, 2)


class FileTest(HistoryCliTest):
    def test_csv_goes_to_a_file_or_to_stdout(self) -> None:
        self.record()
        ended = self.run_main("history", "-e", "out.csv")
        self.assertEqual((ended.code, ended.out), (0, ""))
        content = Path("out.csv").read_bytes().decode("utf-8")
        self.assertEqual(content.count("\r\n"), 4)
        self.assertIn("'=no", content)
        piped = self.run_process("-m", "user_agent_sdk", "history", "--export-csv", "-")
        self.assertEqual(piped.out, content.replace(os.linesep, "\n"))

    def test_an_export_that_fails_is_an_error_and_leaves_what_was_there(self) -> None:
        self.record()
        ended = self.run_main("history", "-e", "missing/out.csv")
        self.assertEqual(ended.code, 1)
        self.assertIn("error[io]", ended.err)
        for option in ("-e", "--html"):
            ended = self.run_main("history", option, "x" * 300)  # Path.exists() raises for it
            self.assertEqual((ended.code, "error[io]" in ended.err), (1, True), ended.err)
            ended = self.run_main("history", option, "~no-such-user/out")
            self.assertEqual(ended.code, 1 if os.name == "nt" else 2)  # Windows knows where a home would be
            self.assertNotIn("bug", ended.err)
        Path("out.csv").write_text("kept", "utf-8")
        with mock.patch("user_agent_sdk.history.views.write_csv", side_effect=OSError("No space left on device")):
            self.assertEqual(self.run_main("history", "-e", "out.csv").code, 1)
        self.assertEqual(Path("out.csv").read_text("utf-8"), "kept")
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), [DB, "out.csv"])

    @unittest.skipUnless(os.name == "posix", "links need a privilege on Windows")
    def test_a_link_stays_and_the_file_that_it_leads_to_is_written(self) -> None:
        """The link was replaced: for root, with a shell's > FILE, /dev/stdout itself."""
        self.record()
        Path("there.csv").write_text("old", "utf-8")
        for name in ("there.csv", "new.csv"):
            os.symlink(name, f"link-to-{name}")
            for words in (("-e", f"link-to-{name}"), ("--html", f"link-to-{name}")):
                self.assertEqual(self.run_main("history", *words).code, 0)
                self.assertTrue(os.path.islink(f"link-to-{name}"))
            self.assertEqual(Path(name).read_text("utf-8")[:9], "<!doctype")

    @unittest.skipUnless(os.name == "posix", "Windows has no name for stdout")
    def test_an_export_to_stdouts_name_goes_on_where_the_stream_is(self) -> None:
        """Of a shell's >> FILE all earlier lines were lost: the export took the place of the file."""
        self.record()
        for name in ("/dev/stdout", "/proc/self/fd/1")[: 1 + os.path.exists("/proc/self/fd/1")]:
            Path("all.csv").write_text("before\n", "utf-8")
            with open("all.csv", "ab") as stream:
                words = [sys.executable, "-m", "user_agent_sdk", "history", "--db-path", DB, "-e", name]
                environ = {**os.environ, "PYTHONPATH": str(ROOT)}
                done = subprocess.run(words, stdout=stream, env=environ, stderr=subprocess.PIPE)
                self.assertEqual(done.returncode, 0, done.stderr)
            lines = Path("all.csv").read_text("utf-8").splitlines()
            self.assertEqual((lines[0], lines[1][:3], len(lines) > 3), ("before", "ID,", True), lines)

    def test_the_history_itself_is_never_overwritten(self) -> None:
        self.record()
        for option in ("--export-csv", "--html"):
            self.assertEqual(self.run_main("history", option, DB).code, 2)
        self.assertEqual(len(json.loads(self.run_main("history", "--json").out)), 3)

    def test_the_report_is_one_file(self) -> None:
        self.record()
        self.assertEqual(self.run_main("history", "--html", "report.html", "--status", "error").code, 0)
        page = Path("report.html").read_text("utf-8")
        self.assertIn("status error", page)
        self.assertIn(r"=no\x1b[31m total", page)


class DetailTest(HistoryCliTest):
    def test_the_report_is_made_by_the_one_file_program_too(self) -> None:
        """To a module in a zip Python 3.9 tells its package only after its last line: "history --html" of
        useragent.pyz was an internal error there."""
        program = self.folder / "useragent.pyz"
        program.write_bytes(_build._zip({**_build._tree("user_agent_sdk"), "__main__.py": _build.ZIPAPP_MAIN}))
        self.record()
        ended = self.run_process(str(program), "history", "--html", "report.html", PYTHONPATH="")
        self.assertEqual((ended.code, ended.err), (0, "3 executions written to report.html\n"))

    def test_one_is_shown_by_its_id_or_as_the_last(self) -> None:
        self.record()
        for words in (["history-detail", "2"], ["hd", "2"]):
            out = self.run_main(*words).out
            self.assertRegex(out, r"(?m)^Execution +2  error$")
            for text in (r"=no\x1b[31m total", '"name": "株式会社"', "read", "worker-1", "1.50 s"):
                self.assertIn(text, out)
        self.assertRegex(self.run_main("hd", "last").out, r"(?m)^Execution +3  success$")
        self.assertEqual(json.loads(self.run_main("hd", "last", "--json").out)["id"], 3)

    def test_colour_is_for_terminals(self) -> None:
        self.record()
        self.assertNotIn("\x1b", self.run_main("hd", "1").out)
        self.assertIn('\x1b[1m"n"\x1b[0m: \x1b[35m0\x1b[0m', self.run_main("hd", "1", "--color", "always").out)

    def test_an_unknown_id_is_an_error(self) -> None:
        """0.2.0 said so, and exited with 0."""
        self.record()
        ended = self.run_main("hd", "99", "--json")
        self.assertEqual((ended.code, self.error_of(ended)["code"]), (1, "not-found"))
        self.assertEqual(self.run_main("hd", "first").code, 2)


class PruneTest(HistoryCliTest):
    def test_it_prints_how_many_and_deletes_them_unless_told_not_to(self) -> None:
        self.record()
        self.assertEqual(self.run_main("history-prune", "--older-than", "2100-01-01", "--dry-run").out, "3\n")
        self.assertEqual(self.run_main("history-prune", "--older-than", "30d").out, "0\n")
        said = self.on_terminal("history-prune", "--older-than", "2100-01-01", "--dry-run")
        before = datetime(2100, 1, 1).astimezone().isoformat(" ")
        self.assertEqual((said.out, said.err), (f"would delete 3 executions that ended before {before}\n", ""))
        self.assertEqual(self.run_main("history-prune", "--older-than", "2100-01-01").out, "3\n")
        self.assertEqual(self.run_main("history", "--json").out, "[]\n")
        self.assertEqual(self.run_main("history-prune").code, 2)


class InvokeTest(HistoryCliTest):
    def test_an_invocation_is_recorded_and_run_again(self) -> None:
        self.write("agent.py", SUM)
        ended = self.run_main("invoke", "agent.py", "-r", "-i", '{"num1": 2, "num2": 3}')
        self.assertEqual(json.loads(ended.out), {"result": 5})
        document = json.loads(self.run_main("hd", "last", "--json").out)
        self.assertEqual((document["input_data"], document["output_data"]), ({"num1": 2, "num2": 3}, {"result": 5}))
        self.assertEqual(document["extra"]["logs"][0]["log"], "Processing task input")
        self.assertEqual(document["extra"]["platform_status"], "COMPLETED")
        for given in ("1", "last"):
            ended = self.run_main("invoke", "agent.py", "--replay", given)
            self.assertEqual((ended.code, json.loads(ended.out)), (0, {"result": 5}))
        self.assertEqual(self.run_main("invoke", "agent.py", "--replay", "1", "-i", "{}").code, 2)
        self.assertEqual(self.run_main("invoke", "agent.py", "--replay", "7").code, 1)

    def test_a_dataclass_and_a_task_result_are_recorded_as_they_were_sent(self) -> None:
        """0.2.0 left both out of its history."""
        script = """
            from dataclasses import dataclass
            from user_agent_sdk import TaskResult, user_agent
            @dataclass
            class Total:
                sum: int
            @user_agent(agent_id="data")
            def data(): return Total(5)
            @user_agent(agent_id="own")
            def own(): return TaskResult(status="FAILED_WITH_TERMINAL_ERROR", output_data={"a": 1},
                                         reason_for_incompletion="mine")
            """
        self.write("agent.py", script)
        for name, status, output, reason in (
            ("data", "success", {"sum": 5}, None), ("own", "error", {"a": 1}, "mine"),
        ):  # fmt: skip
            self.run_main("invoke", "agent.py", "-r", "-a", name)
            document = json.loads(self.run_main("hd", "last", "--json").out)
            found = document["status"], document["output_data"], document["error_message"]
            self.assertEqual(found, (status, output, reason))

    def test_an_input_that_was_cut_is_not_run_again_and_a_blanked_one_is_said(self) -> None:
        self.write("agent.py", SUM)
        big = self.write("big.json", json.dumps({"num1": 1, "blob": "x" * 2_000_000}))
        self.run_main("invoke", "agent.py", "-r", "-i", str(big))
        ended = self.run_main("invoke", "agent.py", "--replay", "last")
        self.assertEqual(ended.code, 2)
        self.assertIn("too large", ended.err)
        self.run_main("invoke", "agent.py", "-r", "-i", '{"num1": 1, "pin": "swordfish"}', "--redact", "pin")
        ended = self.run_main("invoke", "agent.py", "--replay", "last")
        self.assertEqual((ended.code, json.loads(ended.out)), (0, {"result": 1}))
        self.assertIn("***", ended.err)
        self.assertEqual(Path(DB).read_bytes().count(b"swordfish"), 0)  # no digits: a random id may have any

    def test_an_input_that_was_too_deep_to_be_kept_is_not_run_again(self) -> None:
        """The agent was run on the mark that stood in its place."""
        self.write("agent.py", SUM)
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        recorder = Recorder(Path(DB))
        recorder.start()
        recorder.record(*execution({"deep": deep}))
        recorder.close()
        while deep:  # its own end must not need a deep stack
            deep = deep[0]
        ended = self.run_main("invoke", "agent.py", "--replay", "last")
        self.assertEqual(ended.code, 2)
        self.assertIn("can't be run again", ended.err)


class FollowTest(HistoryCliTest):
    @unittest.skipIf(os.name == "nt", "a test can't press Ctrl+C on Windows")
    def test_new_executions_are_printed_as_they_end_until_ctrl_c(self) -> None:
        self.record(2)
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
        command = [*PYTHON, "-m", "user_agent_sdk", "history", "--follow", "--jsonl", "-n1"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, env=environ, **pipes) as process, contextlib.ExitStack() as end:
            end.callback(process.kill)  # before Popen's own end, which waits for ever
            assert process.stdout is not None and process.stderr is not None
            self.assertEqual(json.loads(process.stdout.readline())["id"], 2)
            self.record(2)
            self.assertEqual([json.loads(process.stdout.readline())["id"] for _ in range(2)], [3, 4])
            process.send_signal(signal.SIGINT)
            self.assertEqual((process.wait(20), process.stderr.read()), (0, b""))


if __name__ == "__main__":
    unittest.main()
