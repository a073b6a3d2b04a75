# SPDX-License-Identifier: Apache-2.0
"""What every command has in common: help, errors, exit codes, odd forms of options, encodings, start-up."""

from __future__ import annotations

import importlib
import io
import os
import re
import subprocess
import sys
import types
import unittest
from argparse import Namespace
from unittest import mock

from tests.cli import ROOT, SUM, CliTest
from user_agent_sdk.cli import commands, options, run, terminal
from user_agent_sdk.errors import CODES, UsageError
from user_agent_sdk.settings import TABLE


class ErrorTest(CliTest):
    def command(self, main: object) -> None:
        """Register a command ``boom`` that does what ``main`` does."""
        module = types.SimpleNamespace(
            configure=lambda parser: parser.add_argument("--json", action="store_true"), main=main
        )
        row = {"boom": ("", "fail")}
        self.enterContext_(mock.patch.dict(commands.COMMANDS, row))
        self.enterContext_(mock.patch.dict(sys.modules, {"user_agent_sdk.cli.boom": module}))

    def enterContext_(self, patch: mock._patch_dict) -> None:  # noqa: N802 - TestCase.enterContext is of 3.11
        patch.start()
        self.addCleanup(patch.stop)

    def test_an_unknown_command_or_option_is_corrected(self) -> None:
        for words, near in (
            (["rum"], "'run'"),
            (["invok", "a.py"], "'invoke'"),
            (["run", "a.py", "--wrokers", "4"], "--workers"),
        ):
            ended = self.run_main(*words)
            self.assertEqual((ended.code, ended.out), (2, ""))
            self.assertRegex(ended.err, r"^useragent: error\[usage\]: ")
            self.assertIn(f"hint: did you mean {near}?", ended.err)
        self.assertIn("useragent run agent.py", self.run_main("agent.py").err)

    def test_help_is_a_command_too(self) -> None:
        self.assertEqual(self.run_main("help").out, self.run_main("-h").out)
        self.assertEqual(self.run_main("help", "hd").out, self.run_main("hd", "-h").out)
        self.assertEqual(self.run_main("help", "rum").code, 2)

    def test_the_help_of_each_command_has_two_examples_that_it_understands(self) -> None:
        for name in commands.COMMANDS:
            shown = self.run_main("help", name).out
            self.assertEqual(self.run_main(name, "-h"), (0, shown, ""))
            first, *examples = shown.partition("\nexamples:\n")[2].splitlines()
            self.assertEqual(len(examples), 1, name)
            module = importlib.import_module(f"user_agent_sdk.cli.{name.replace('-', '_')}")
            parser = options.Parser(f"useragent {name}", *commands.COMMANDS[name])
            module.configure(parser)
            options.add_settings(parser, name)
            for example in (first, *examples):
                program, command, *words = example.split()
                self.assertEqual((program, command), ("useragent", name))
                parser.parse(words)  # raises what it does not understand

    def test_an_option_without_a_command_says_where_it_belongs(self) -> None:
        said = self.run_main("--workers").err
        self.assertIn("no command stands before --workers\nhint: useragent run agent.py --workers\n", said)
        said = self.run_main("--log-format", "json", "run", "my bot.py").err  # the value was left out of the hint
        self.assertIn('\nhint: useragent run "my bot.py" --log-format json\n', said)  # cmd takes no single quotes

    def test_several_scripts_of_any_kind_are_scripts(self) -> None:
        """A second .pyw, as a bot without a window is called, was taken for a file of credentials."""
        parser = options.Parser("useragent run", *commands.COMMANDS["run"])
        run.configure(parser)
        options.add_settings(parser, "run")
        args = parser.parse(["a.pyw", "b.pyw", "c.pyc", "-w", "2"])
        self.assertEqual((args.agent, args.more, args.config_file), ("a.pyw", ["b.pyw", "c.pyc"], None))

    def test_options_are_not_abbreviated(self) -> None:
        self.assertIn("did you mean --workers?", self.run_main("run", "a.py", "--work", "3").err)

    def test_a_missing_value_or_agent_is_a_usage_error(self) -> None:
        for words in (["run", "a.py", "-w"], ["run"], ["run", "a.py", "-p", "b.py"], ["invoke", "a.py", "b.py"]):
            ended = self.run_main(*words)
            self.assertEqual(ended.code, 2, words)
            self.assertTrue(ended.err.startswith("useragent: error[usage]: "), ended.err)

    def test_with_json_an_error_is_one_document(self) -> None:
        error = self.error_of(self.run_main("invoke", "absent.py", "--json"))
        self.assertEqual((error["code"], error["exit_code"], error["hint"]), ("agent-missing", 6, None))
        self.assertEqual(self.error_of(self.run_main("invoke", "--json", "--nope"))["code"], "usage")

    def test_context_is_indented_and_control_characters_are_shown(self) -> None:
        self.write("evil.py", "raise ValueError('a\\x1b[2Jb \\u202e')\n")
        ended = self.run_main("invoke", "evil.py")
        self.assertEqual(ended.code, 6)
        what, *context = ended.err.splitlines()
        self.assertEqual(what, "useragent: error[agent-load]: evil.py raised ValueError while it was loaded")
        self.assertTrue(all(line.startswith("  ") for line in context), context)
        self.assertIn("a\\x1b[2Jb \\u202e", context[-1])

    def test_a_traceback_of_ours_is_shown_only_with_d(self) -> None:
        self.write("bad.py", "1/0\n")
        ended = self.run_main("invoke", "bad.py")
        self.assertNotIn("loader.py", ended.err)
        self.assertIn("bad.py", ended.err)
        self.assertIn("loader.py", self.run_main("invoke", "bad.py", "-d").err)

    def test_a_bug_says_that_it_is_one(self) -> None:
        self.command(lambda args: [][1])
        ended = self.run_main("boom")
        self.assertEqual((ended.code, ended.out), (1, ""))
        self.assertTrue(ended.err.startswith("useragent: error[internal]: IndexError"))
        self.assertIn("bug", ended.err)
        self.assertNotIn("Traceback", ended.err)
        self.assertIn("Traceback", self.run_main("boom", "-d").err)
        self.assertEqual(self.error_of(self.run_main("boom", "--json"))["code"], "internal")

    def test_an_interrupt_is_130_and_prints_no_traceback(self) -> None:
        def interrupt(args: Namespace) -> int:
            raise KeyboardInterrupt

        self.command(interrupt)
        self.assertEqual(self.run_main("boom"), (130, "", ""))

    def test_every_code_has_an_exit_code_that_is_documented(self) -> None:
        self.assertLessEqual({exit_code for exit_code, _ in CODES.values()}, {1, 2, 3, 4, 5, 6, 7})


class OptionsTest(CliTest):
    def parse(self, command: str, *words: str) -> Namespace:
        parser = options.Parser("useragent", "", "test")
        parser.add_argument("-n", "--limit")
        options.add_agent(parser)
        options.add_settings(parser, command)
        return parser.parse(words)

    def test_the_forms_that_users_of_0_2_0_type(self) -> None:
        self.assertEqual(self.parse("run", "-n5").limit, "5")
        self.assertEqual(self.parse("run", "-n=5").limit, "5")
        self.assertEqual(self.parse("run", "a.py", "-db=x").db_path, "x")
        self.assertEqual(self.parse("run", "-db", "x", "a.py").db_path, "x")
        self.assertEqual(self.parse("run", "--db-path=x").db_path, "x")
        self.assertEqual(self.parse("run", "-w4", "a.py").workers, "4")
        for words in (["a.py", "-rd"], ["-dr", "a.py"], ["-r", "a.py", "-d"]):
            args = self.parse("run", *words)
            self.assertEqual((args.record, args.debug, args.agent), ("true", "true", "a.py"))
        self.assertEqual(self.parse("run", "--no-debug").debug, "off")
        self.assertEqual(self.parse("run", "--no-journal").journal_dir, "off")
        self.assertEqual(self.parse("run", "--redact", "a", "--redact", "b").redact, ["a", "b"])
        self.assertEqual(str(options.script_of(self.parse("run", "-p", "a.py", "--workers", "4"))), "a.py")

    def test_a_command_takes_only_its_own_settings(self) -> None:
        with self.assertRaises(UsageError):
            self.parse("invoke", "--status-port", "1")

    def test_every_command_explains_itself_and_every_option(self) -> None:
        for name, (_, does) in commands.COMMANDS.items():
            for flag in ("-h", "--help"):
                ended = self.run_main(name, flag)
                self.assertEqual((ended.code, ended.err), (0, ""), name)
            for row in TABLE:
                if row.flags and name in row.commands:
                    self.assertIn(row.flags[-1], ended.out)
                    self.assertIn(row.env, ended.out)
            self.assertIn(does, self.run_main("-h").out)
            self.assertTrue(ended.out.isascii(), "help must print on any terminal")
            listed, _, examples = ended.out.rpartition("\nexamples:\n")
            self.assertEqual(len(examples.splitlines()), 2, name)
            for word in re.findall(r" (-\S+)", examples):
                self.assertRegex(listed, rf"\s{word}[ ,\n]", name)
            self.assertLessEqual(max(map(len, self.run_main("-h").out.splitlines())), 80)
        self.assertEqual(self.run_main("--help").code, 0)


class TerminalTest(CliTest):
    def test_a_hint_names_the_command_as_it_was_started(self) -> None:
        """Who has only the folder has no command useragent: pasted from a hint, it was not found."""
        hint = "see /opt/useragent or my-useragent -h: useragent history, useragent -h, useragent invoke a.py"
        self.assertEqual(terminal.as_started(hint), hint)
        with mock.patch.object(sys, "argv", ["/x/user_agent_sdk/__main__.py"]):
            own = terminal.program()
            wanted = f"see /opt/useragent or my-useragent -h: {own} history, {own} -h, {own} invoke a.py"
            self.assertEqual(terminal.as_started(hint), wanted)
            self.assertIn(f"hint: {own} -h lists", self.run_main("nope").err)
            self.assertIn(f"usage: {own} hd ID", self.run_main("hd", "-h").out)

    def test_colour_follows_flag_then_environment_then_terminal(self) -> None:
        tty, pipe = io.StringIO(), io.StringIO()
        tty.isatty = lambda: True  # type: ignore[method-assign]
        posix = os.name == "posix"
        for choice, environ, stream, expected in (
            ("auto", {}, pipe, False),
            ("auto", {"TERM": "xterm"}, tty, posix),
            ("auto", {"TERM": "dumb"}, tty, False),
            ("auto", {"NO_COLOR": "1"}, tty, False),
            ("auto", {"NO_COLOR": "", "TERM": "xterm"}, tty, posix),
            ("auto", {"FORCE_COLOR": "1", "TERM": "dumb"}, pipe, True),
            ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, pipe, False),
            ("auto", {"PYTHON_COLORS": "1", "NO_COLOR": "1"}, pipe, True),
            ("auto", {"PYTHON_COLORS": "0", "FORCE_COLOR": "1"}, tty, False),
            ("always", {"NO_COLOR": "1"}, pipe, True),
            ("never", {"FORCE_COLOR": "1"}, tty, False),
        ):
            self.assertEqual(terminal.wants_color(stream, choice, environ), expected, (choice, environ))

    def test_an_error_is_coloured_when_asked(self) -> None:
        self.assertIn(
            "\x1b[31merror[agent-missing]\x1b[0m", self.run_main("invoke", "absent.py", "--color", "always").err
        )
        self.assertNotIn("\x1b", self.run_main("invoke", "absent.py").err)

    def test_output_never_fails_for_want_of_a_character(self) -> None:
        code = "from user_agent_sdk import user_agent\n@user_agent\ndef f(logger):\n  {}\n  return 'đơn ✓'\n"
        self.write("hóa_đơn.py", code.format("logger.info('✓')"))
        escaped = '"\\u0111\\u01a1n \\u2713"'
        for encoding, shown in (("ascii", escaped), ("cp1252", escaped), ("utf-8", '"đơn ✓"')):
            out, err = io.BytesIO(), io.BytesIO()
            streams = [io.TextIOWrapper(raw, encoding=encoding, newline="") for raw in (out, err)]
            with mock.patch.multiple(sys, stdout=streams[0], stderr=streams[1]):
                self.assertEqual(commands.main(["invoke", "hóa_đơn.py"]), 0)
                self.assertEqual(commands.main(["invoke", "đơn.py"]), 6)
            self.assertEqual(out.getvalue().decode(encoding), f'{{"result": {shown}}}\n')
            self.assertIn("đơn.py" if encoding == "utf-8" else "\\u0111\\u01a1n.py", err.getvalue().decode(encoding))

    @unittest.skipUnless(os.name == "posix", "a closed pipe is an OSError of another kind on Windows")
    def test_a_reader_that_has_seen_enough_is_no_crash(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "user_agent_sdk", "--version"]
        result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT)
        os.close(writer)
        self.assertEqual((result.returncode, result.stderr), (1, b""))

    @unittest.skipUnless(os.path.exists("/dev/full"), "a device that is always full")
    def test_a_full_device_is_an_error_of_its_own_and_no_exit_120(self) -> None:
        """It was "a bug" with exit 120, which is what Python makes of a stream that it can't flush."""
        with open("/dev/full", "w", encoding="ascii") as full:
            for command in (["--version"], ["version", "--json"]):
                words = [sys.executable, "-m", "user_agent_sdk", *command]
                result = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, cwd=ROOT)
                self.assertEqual(result.returncode, 1)
                self.assertIn(b"the output can't be written: ", result.stderr)
            result = subprocess.run([*words[:3], "nope"], stdout=full, stderr=full, cwd=ROOT)
            self.assertEqual(result.returncode, 2)

    @unittest.skipUnless(os.name == "posix", "Windows removes no current folder")
    def test_a_current_folder_that_was_removed_is_no_bug(self) -> None:
        """Each command called one a bug, in a shell that stays where a deployment has put a new folder."""
        folder = self.folder / "gone"
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        for way in ([str(ROOT / "user_agent_sdk")], ["-m", "user_agent_sdk"]):
            folder.mkdir(exist_ok=True)
            words = ["sh", "-c", 'rmdir ../gone && exec "$@"', "sh", sys.executable, *way, "history"]
            result = subprocess.run(words, capture_output=True, cwd=folder, env=environ)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn(b"error[io]: the current folder was removed", result.stderr)

    @unittest.skipUnless(os.path.exists("/dev/full"), "a device that is always full")
    def test_on_a_full_device_an_answer_beside_a_script_is_one_error_too(self) -> None:
        """From Python 3.13 on Python's own error of our copy of stdout followed at the end."""
        self.write("agent.py", SUM)
        words = [sys.executable, "-m", "user_agent_sdk", "invoke", "agent.py", "-q"]
        with open("/dev/full", "w", encoding="ascii") as full:
            environ = {**os.environ, "PYTHONPATH": str(ROOT)}
            result = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, cwd=self.folder, env=environ)
        self.assertEqual((result.returncode, result.stderr.count(b"\n")), (1, 1), result.stderr)

    @unittest.skipUnless(os.name == "posix", "a shell that closes streams")
    def test_streams_that_are_closed_are_filled_with_the_null_device(self) -> None:
        """The first sockets were 0 to 2 then: what a function wrote to 1 went to the platform. So it is with the files
        that a program opens which a function starts."""
        looks = "import os; seen = [(os.fstat(n).st_rdev, os.get_inheritable(n)) for n in range(3)]"
        looks += "; open('seen', 'w').write(repr(seen))"
        self.write("agent.py", f"{SUM}{looks}\n")
        words = f"{sys.executable} -m user_agent_sdk invoke agent.py -i '{{}}' <&- >&- 2>&-"
        result = subprocess.run(["sh", "-c", words], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=self.folder)
        self.assertEqual(result.returncode, 0)
        null = os.stat(os.devnull).st_rdev
        self.assertEqual((self.folder / "seen").read_text(), repr([(null, True)] * 3))

    @unittest.skipUnless(os.name == "posix", "a shell that closes streams")
    def test_every_form_of_the_history_can_be_written_to_a_stream_that_is_closed(self) -> None:
        """With --json, --jsonl or -e - it was "this is a bug"."""
        self.write("agent.py", SUM)
        self.assertEqual(self.run_main("invoke", "agent.py", "-r").code, 0)
        forms = ("--json", "--jsonl", "-e -")
        words = " && ".join(f"{sys.executable} -m user_agent_sdk history {form} >&-" for form in forms)
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        result = subprocess.run(["sh", "-c", words], env=environ, cwd=self.folder, capture_output=True)
        self.assertEqual((result.returncode, result.stderr), (0, b""))

    def test_without_any_stream_nothing_crashes(self) -> None:
        """pythonw.exe has neither stdout nor stderr; journal asked what is not there whether it is a terminal."""
        lines = (["--version"], ["version"], ["nope"], ["invoke", "nope.py"], ["journal"])
        with mock.patch.object(sys, "stdout", None), mock.patch.object(sys, "stderr", None):
            codes = [commands.main(words) for words in lines]
        self.assertEqual(codes, [0, 0, 2, 6, 0])


class StartTest(CliTest):
    def test_a_thread_that_a_function_left_does_not_keep_the_process(self) -> None:
        code = (
            "import sys, threading; import user_agent_sdk.cli as c; c.LEFT_S = 0.1; sys.argv = ['x', '--version'];"
            " threading.Thread(target=threading.Event().wait).start(); sys.exit(c.program())"
        )
        self.assertEqual(self.run_process("-c", code).code, 0)

    def test_a_thread_of_a_pool_that_a_function_left_does_not_keep_the_process(self) -> None:
        """Python joins it though it is a daemon, as its slot's thread is: after asyncio.to_thread with what hangs,
        ``run`` said "Stopped" and stayed."""
        code = (
            "import sys, threading as t, concurrent.futures as f; import user_agent_sdk.cli as c; c.LEFT_S = 0.1;"
            "slot = t.Thread(target=lambda: f.ThreadPoolExecutor().submit(t.Event().wait), daemon=True); slot.start();"
            "slot.join(); sys.argv = ['x', '--version']; sys.exit(c.program())"
        )
        self.assertEqual(self.run_process("-c", code).code, 0)

    def test_a_process_that_a_function_left_does_not_keep_ours(self) -> None:
        """Python joins what multiprocessing has started: run, and invoke, said "Stopped" and stayed for ever."""
        wait = "    while os.getppid() == pid and time.monotonic() < 60 + began: threading.Event().wait(0.1)\n"
        self.write("waits.py", f"import os, threading, time\nbegan = time.monotonic()\ndef wait(pid):\n{wait}")
        code = (
            "import os, sys, multiprocessing as m, waits; import user_agent_sdk.cli as c; c.LEFT_S = 0.1;"
            "sys.argv = ['x', '--version']; m.Process(target=waits.wait, args=(os.getpid(),)).start();"
            " sys.exit(c.program())"
        )
        self.assertEqual(self.run_process("-c", code).code, 0)

    def modules_after(self, code: str) -> set[str]:
        ended = self.run_process("-c", f"import sys; {code}; print(*sys.modules)")
        self.assertEqual(ended.code, 0, ended.err)
        return set(ended.out.splitlines()[-1].split())

    def test_importing_the_package_loads_nothing_heavy(self) -> None:
        heavy = {
            "ssl",
            "sqlite3",
            "asyncio",
            "http.server",
            "http.client",
            "urllib.request",
            "subprocess",
            "argparse",
            "logging",
        }
        self.assertEqual(self.modules_after("import user_agent_sdk") & heavy, set())
        heavy.remove("logging")
        found = self.modules_after("import user_agent_sdk.settings; from user_agent_sdk import *")
        self.assertEqual(found & heavy, set())

    def test_the_version_is_printed_without_loading_the_rest(self) -> None:
        found = self.modules_after("from user_agent_sdk.cli import main; main(['--version'])")
        self.assertEqual(
            found & {"argparse", "logging", "json", "user_agent_sdk.settings", "user_agent_sdk.cli.run"}, set()
        )
        more = found - self.modules_after("import importlib")
        self.assertEqual(more & {"typing", "collections", "re", "enum", "dataclasses"}, set())  # each takes as long

    def test_an_agent_named_like_a_standard_module_does_not_break_the_program(self) -> None:
        """python -m puts the current folder first on the path: our own `import json` found the agent."""
        self.write("json.py", SUM)
        self.write("argparse.py", "raise RuntimeError('not for you')")
        ended = self.run_process("-m", "user_agent_sdk", "invoke", "json.py", "-i", '{"num1": 2}')
        self.assertEqual((ended.code, ended.out.splitlines()), (0, ['{"result": 2}']), ended.err)

    def test_exports_are_all_there_and_nothing_else(self) -> None:
        import user_agent_sdk

        for name in (*user_agent_sdk._HOMES, "run", "__version__"):
            self.assertIsNotNone(getattr(user_agent_sdk, name))
            self.assertIn(name, dir(user_agent_sdk))
        with self.assertRaisesRegex(AttributeError, "has no attribute 'nonsense'"):
            _ = user_agent_sdk.nonsense
        self.assertTrue(re.fullmatch(r"\d+\.\d+\.\d+", user_agent_sdk.__version__))


if __name__ == "__main__":
    unittest.main()
