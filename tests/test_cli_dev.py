# SPDX-License-Identifier: Apache-2.0
"""``useragent dev``: every save counts, no save ends it, and Ctrl+C does at once."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.request import Request, urlopen

from tests.cli import PYTHON, ROOT, CliTest
from tests.support import Arrivals
from user_agent_sdk.cli import commands, dev
from user_agent_sdk.cli.options import Parser, add_settings
from user_agent_sdk.cli.watch import LOOK_S, SETTLE_S, Watch
from user_agent_sdk.conductor.wire import LONG_POLL_MAX_MS
from user_agent_sdk.sandbox.server import Sandbox
from user_agent_sdk.worker.running import hooks

LONG_S = 20.0
AGENT = """
    from user_agent_sdk import user_agent
    import helper
    @user_agent()
    def greet(input_data):
        return helper.WORD
    """


class DevTest(CliTest):
    """A session whose watch is looked at by the test, not by the clock."""

    def session(self, *words: str, sandbox: bool = True) -> dev.Session:
        parser = Parser("useragent dev", "", "test")
        dev.configure(parser)
        add_settings(parser, "dev")
        self.args = parser.parse(["agent.py", "--poll-interval", "10", *words])
        self.err = io.StringIO()
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        stack.enter_context(contextlib.redirect_stderr(self.err))
        stack.enter_context(mock.patch.object(sys, "dont_write_bytecode", True))
        self.sandbox = stack.enter_context(Sandbox())
        session = dev.Session(self.args, Path("agent.py"), self.sandbox if sandbox else None)
        session._settings = session._prepared()
        stack.callback(session._close)
        return session

    def save(self, name: str, text: str) -> None:
        """Write a file so that no look can miss it, however coarse the clock of the file system is."""
        self.saves = getattr(self, "saves", 0) + 1
        path = self.write(name, text)
        os.utime(path, ns=(self.saves * 10**9, self.saves * 10**9))

    def changed(self, session: dev.Session) -> list[str]:
        """What the second look says: the first one only sees that something moves."""
        session._watch.changed()
        return [Path(name).name for name in session._watch.changed()]

    def ask(self, agent_id: str = "greet", **given: Any) -> Any:
        execution = self.sandbox.wait(self.sandbox.submit(agent_id, given, retries=0), LONG_S)
        self.assertEqual(execution.status, "COMPLETED", f"{execution}\n{self.err.getvalue()}")
        return execution.output["result"]

    def test_a_save_of_the_agent_or_of_what_it_imports_is_the_code_of_the_next_task(self) -> None:
        """0.2.0 watched one file; and two saves within a second, of one size, came from the same .pyc."""
        (self.folder / "deep").mkdir()
        self.save("deep/words.py", "WORD = 'one'\n")
        self.save("helper.py", "from deep.words import WORD\n")  # deep is a package without a file of its own
        self.save("agent.py", AGENT)
        session = self.session()
        session._load()
        self.assertEqual(self.ask(), "one")
        self.save("deep/words.py", "WORD = 'two'\n")
        self.assertEqual(self.changed(session), ["words.py"])
        session.reload([str(self.folder / "deep" / "words.py")])
        self.assertEqual(self.ask(), "two")
        self.save("agent.py", AGENT.replace("greet", "wave"))
        self.assertEqual(self.changed(session), ["agent.py"])
        session.reload([str(self.folder / "agent.py")])
        self.assertEqual(self.ask("wave"), "two")
        self.assertRegex(self.err.getvalue(), r"Reloaded agent\.py \(\d\.\d s\): deep[/\\]words\.py changed\n")
        self.assertEqual(self.err.getvalue().count(" changed\n"), 1)  # on Windows the script's own full name was told
        self.assertNotIn("Stopp", self.err.getvalue())
        self.assertFalse(list(self.folder.rglob("*.pyc")))

    def test_the_old_worker_finishes_its_task_while_the_new_one_runs(self) -> None:
        self.save("helper.py", "WORD = 'old'\n")
        gate = threading.Event()
        with mock.patch.dict(sys.modules, {"gate_of_the_test": mock.Mock(event=gate, started=threading.Event())}):
            self.save("agent.py", AGENT.replace("return", "gate.started.set(); gate.event.wait(20); return")
                      .replace("import helper", "import helper, gate_of_the_test as gate"))  # fmt: skip
            session = self.session()
            session._load()
            slow = self.sandbox.submit("greet", {})
            self.assertTrue(sys.modules["gate_of_the_test"].started.wait(LONG_S))
            self.save("helper.py", "WORD = 'new'\n")
            self.save("agent.py", AGENT)
            session.reload(["agent.py"])
            self.assertEqual(self.ask(), "new")
            gate.set()
            finished = self.sandbox.wait(slow, LONG_S)
            self.assertEqual((finished.output, len(finished.attempts)), ({"result": "old"}, 1))

    def test_hooks_run_at_each_load_and_a_start_hook_that_fails_waits_for_the_next_save(self) -> None:
        self.addCleanup(hooks.STARTS.clear)
        self.addCleanup(hooks.STOPS.clear)
        text = AGENT.replace("import helper", "import helper")
        text = text.replace("helper.WORD", "STATE") + "\n    from user_agent_sdk import on_start\n    @on_start\n"
        opens = "    def opens():\n        global STATE\n        STATE = helper.WORD\n"
        self.save("helper.py", "WORD = 'one'\n")
        self.save("agent.py", text + opens.replace("helper.WORD", "1/0"))
        session = self.session()
        session._load()
        assert session._worker is not None
        session._worker.join(LONG_S)
        self.assertTrue(session._goes_on())
        self.assertIn("error[agent-start]: the start hook opens", self.err.getvalue())
        self.assertIn("waiting for the next save", self.err.getvalue())
        self.save("agent.py", text + opens)
        session.reload(["agent.py"])
        self.assertEqual(self.ask(), "one")
        self.save("helper.py", "WORD = 'two'\n")
        session.reload(["helper.py"])
        self.assertEqual((self.ask(), len(hooks.STARTS)), ("two", 1))

    def test_a_function_that_stays_stuck_past_its_timeout_is_mended_by_a_save(self) -> None:
        """Its slot was the only one: the session ended, with exit 0 on the sandbox."""
        self.save("helper.py", "WORD = 'mended'\n")
        gate = mock.Mock(event=threading.Event())
        with mock.patch.dict(sys.modules, {"gate_of_the_test": gate}):
            text = AGENT.replace("user_agent()", "user_agent(timeout_s=0.05)")
            self.save("agent.py", text.replace("return", "__import__('gate_of_the_test').event.wait(20); return"))
            session = self.session()
            session._load()
            failed = self.sandbox.wait(self.sandbox.submit("greet", {}, retries=0), LONG_S)
            self.assertEqual(failed.reason, "the function ran longer than its timeout of 0.05 s")
            assert session._worker is not None
            session._worker.join(LONG_S)
            self.assertTrue(session._goes_on())
            self.assertTrue(session._goes_on())
            self.assertEqual(self.err.getvalue().count("waiting for the next save"), 1)
            self.save("agent.py", AGENT)
            session.reload(["agent.py"])
            self.assertEqual(self.ask(), "mended")
            gate.event.set()

    def test_its_end_waits_for_a_worker_without_using_the_processor(self) -> None:
        """It waited for the first worker alone, which had ended before the others: for seconds it took one processor,
        and the interpreter from the tasks that still ran."""
        self.save("helper.py", "WORD = 1\n")
        gate = mock.Mock(event=threading.Event(), started=threading.Event())
        self.addCleanup(gate.event.set)
        waits = AGENT.replace("return", "__import__('gate').started.set(); __import__('gate').event.wait(20); return")
        with mock.patch.dict(sys.modules, {"gate": gate}):
            self.save("agent.py", waits.replace("user_agent()", "user_agent(timeout_s=0.05)"))
            session = self.session()
            session._load()
            self.sandbox.wait(self.sandbox.submit("greet", {}, retries=0), LONG_S)
            assert session._worker is not None
            session._worker.join(LONG_S)
            self.assertTrue(session._goes_on())
            gate.started.clear()
            self.save("agent.py", waits)
            session.reload(["agent.py"])
            self.sandbox.submit("greet", {})
            self.assertTrue(gate.started.wait(LONG_S))
            began_s = time.thread_time()
            session._close()
            self.assertLess(time.thread_time() - began_s, 0.25)

    def test_a_broken_save_is_shown_once_where_it_is_and_the_next_one_mends_it(self) -> None:
        self.save("helper.py", "WORD = 'fine'\n")
        self.save("agent.py", AGENT.replace("def greet(input_data):", "def greet(input_data:"))
        session = self.session()
        session._load()
        for _ in range(3):
            self.assertEqual(self.changed(session), [])
        shown = self.err.getvalue()
        self.assertEqual(shown.count("useragent: error[agent-load]: "), 1)
        self.assertIn("SyntaxError", shown)
        self.assertRegex(shown, r"agent\.py:[56]: ")
        self.assertIn("waiting for the next save", shown)
        for text, code in (("1/0", "agent-load"), ("import absent", "agent-load"), ("", "no-agent"),
                           ("raise SystemExit(3)", "agent-load")):  # fmt: skip
            self.save("agent.py", text + "\n")
            self.err.truncate(0)
            session.reload(["agent.py"])
            self.assertIn(f"useragent: error[{code}]: ", self.err.getvalue())
            self.assertNotIn("Reloaded", self.err.getvalue())
        os.unlink("agent.py")
        session.reload(["agent.py"])
        self.assertIn("error[agent-missing]", self.err.getvalue())
        self.save("agent.py", AGENT)
        session.reload(["agent.py"])
        self.assertEqual(self.ask(), "fine")

    def test_a_default_that_json_cannot_hold_is_empty_in_the_form(self) -> None:
        """Keys that are tuples: "dev --sandbox" did not start. NaN: the page could not read the form."""
        defaults = "first={(1, 2): 3}, second=float('nan'), third=[1, {'a': Path('x')}], *, fourth=None"
        self.save("helper.py", "WORD = 'hi'\n")
        self.save("agent.py", f"    from pathlib import Path\n{AGENT.replace('input_data', defaults)}")
        session = self.session()
        self.assertTrue(session._load(), self.err.getvalue())
        self.assertEqual(self.ask(), "hi")
        with urlopen(f"{self.sandbox.origin}/sandbox/overview") as reply:
            form = json.loads(json.load(reply)["agents"][0]["template"])
        self.assertEqual(form, {"first": None, "second": None, "third": [1, {"a": "x"}], "fourth": None})

    def test_on_the_sandbox_every_agent_has_an_id_and_submit_is_explained(self) -> None:
        """An id of two words was shown without quotes: pasted, the command was not understood."""
        self.save("helper.py", "WORD = 'hi'\n")
        more = "    @user_agent(agent_id='{}')\n    def other(): return 1\n"
        self.save("agent.py", "\n".join([AGENT.rstrip(), more.format("own#id"), more.format("own id")]))
        session = self.session()
        session._load()
        self.assertEqual((self.ask(), self.ask("own#id")), ("hi", 1))
        shown = self.err.getvalue()
        self.assertIn(f"page at {self.sandbox.origin}", shown)
        self.assertIn(f"submit -a greet -i input.json --url {self.sandbox.origin}", shown)
        self.assertIn('submit -a "own#id" -i', shown)
        self.assertIn('submit -a "own id" -i', shown)
        session.reload(["agent.py"])
        self.assertEqual(self.err.getvalue().count("page at"), 1)  # the same one, with its tasks
        self.assertFalse((self.folder / ".useragent").exists())

    def test_a_change_of_the_credentials_counts_too(self) -> None:
        self.save("helper.py", "WORD = 'hi'\n")
        self.save("agent.py", AGENT)
        with Sandbox() as first:
            self.save("credentials.json", json.dumps(first.credentials("greet")))
            session = self.session("--no-journal", sandbox=False)
            session._load()
            self.assertEqual(first.wait(first.submit("greet", {}), LONG_S).output, {"result": "hi"})
            self.save("credentials.json", "{")
            self.assertEqual(self.changed(session), ["credentials.json"])
            session.reload(["credentials.json"])
            self.assertIn("error[config-invalid]", self.err.getvalue())
            self.save("credentials.json", json.dumps({**first.credentials("greet"), "clientSecret": "wrong-one"}))
            session.reload(["credentials.json"])
            assert session._worker is not None
            session._worker.join(LONG_S)
            self.assertTrue(session._goes_on())
            self.assertIn("error[auth-refused]", self.err.getvalue())
            self.save("credentials.json", json.dumps(self.sandbox.credentials("greet")))
            session.reload(["credentials.json"])
            self.assertEqual(self.ask(), "hi")

    def test_what_is_wrong_from_the_start_ends_it_as_run_would(self) -> None:
        self.save("agent.py", "x = 1\n")
        for words, code in ((["agent.py"], 3), (["absent.py", "--sandbox"], 6), (["agent.py", "-wx"], 2), ([], 2)):
            self.assertEqual(self.run_main("dev", *words).code, code, words)

    def test_max_tasks_ends_it(self) -> None:
        self.save("agent.py", AGENT.replace("import helper", "").replace("helper.WORD", "1"))
        session = self.session("--max-tasks", "1")
        thread = threading.Thread(target=lambda: codes.append(session.run()), daemon=True)
        codes: list[int] = []
        thread.start()
        self.assertEqual(self.ask(), 1)
        thread.join(LONG_S)
        self.assertEqual(codes, [0])

    def test_a_poll_that_is_open_at_the_end_is_not_cut_off_and_its_task_goes_back(self) -> None:
        """Cut off after a second, it took a task all the same, which nobody had until its response timeout."""
        self.save("agent.py", AGENT.replace("import helper", "").replace("helper.WORD", "1"))
        polls, codes = Arrivals(), []
        with Sandbox() as platform:
            handle = platform.handle
            platform.handle = lambda request: (polls.arrived(), handle(request))[1]  # type: ignore[method-assign]
            session = self.session("--no-journal", "--conductor", platform.url, "-a", "greet", sandbox=False)
            session._load()
            polls.wait(1)
            closing = threading.Thread(target=lambda: codes.append(session._close()), daemon=True)
            worker = session._worker
            assert worker is not None
            closing.start()
            self.assertTrue(worker.runner.services.stopping.wait(LONG_S))
            execution = platform.submit("greet", {})
            closing.join(LONG_S)
            [attempt] = platform.wait(execution, 0).attempts
        self.assertEqual(codes, [0])
        self.assertGreater(dev.STOP_S * 1000, LONG_POLL_MAX_MS)
        self.assertEqual(attempt.status, "SCHEDULED")
        self.assertIn("is handed back", self.err.getvalue())

    @unittest.skipUnless(os.name == "posix", "signals of POSIX")
    def test_ctrl_c_ends_it_at_once_whatever_runs(self) -> None:
        self.save("agent.py", """
            import threading
            from user_agent_sdk import user_agent
            @user_agent()
            def stubborn():
                print("running", flush=True)
                threading.Event().wait(60)
            """)  # fmt: skip
        for busy in (False, True):
            with self.started() as it:
                assert it.stdout is not None and it.stderr is not None
                lines = iter(it.stderr.readline, "")
                origin = next(found[1] for found in (re.search(r"page at (\S+);", line) for line in lines) if found)
                next(line for line in lines if "1 worker" in line)
                if busy:
                    self.submit(origin)
                    self.assertEqual(it.stdout.readline(), "running\n")
                it.send_signal(signal.SIGINT)
                _, err = it.communicate(timeout=LONG_S)
                self.assertEqual(it.returncode, 0, err)
                self.assertNotIn("Traceback", err)

    @unittest.skipUnless(os.name == "posix", "signals of POSIX")
    def test_a_signal_while_the_script_is_loaded_counts_even_if_the_script_swallows_it(self) -> None:
        """No handler was installed then: SIGTERM killed it, and a Ctrl+C that the script caught was lost."""
        self.save("agent.py", """
            import threading
            from user_agent_sdk import user_agent
            print("loading", flush=True)
            try:
                threading.Event().wait(60)
            except BaseException:
                pass
            @user_agent()
            def late(): pass
            """)  # fmt: skip
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.started() as it:
                assert it.stdout is not None
                self.assertEqual(it.stdout.readline(), "loading\n")
                it.send_signal(number)
                _, err = it.communicate(timeout=LONG_S)
                self.assertEqual(it.returncode, 0, err)

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen[str]]:
        command = [*PYTHON, "-m", "user_agent_sdk", "dev", "agent.py", "--sandbox"]
        options: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with (
            subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **options) as it,
            ExitStack() as end,
        ):
            end.callback(it.kill)  # before Popen's own end, which waits for ever
            yield it

    def submit(self, origin: str) -> None:
        body = json.dumps({"agentId": "stubborn"}).encode()
        request = Request(f"{origin}/api/sandbox/executions", body, {"Content-Type": "application/json"})
        urlopen(request, timeout=LONG_S).close()


class WatchTest(CliTest):
    def test_it_sees_python_files_that_are_new_gone_or_different_and_nothing_else(self) -> None:
        for name in ("package", ".venv", "env", "node_modules", "__pycache__"):
            (self.folder / name).mkdir()
        self.write("env/pyvenv.cfg", "")
        with mock.patch("user_agent_sdk.cli.watch.LOOK_SHARE", 0):
            self.look(Watch([self.folder]))

    def look(self, watch: Watch) -> None:
        watch.add([self.folder / "credentials.json"])
        for name in (".venv/a.py", "env/a.py", "node_modules/a.py", "__pycache__/a.py", "data.json", "log.txt"):
            self.write(name, "x")
        self.assertEqual((watch.changed(), watch.pause_s), ([], LOOK_S))
        for act, seen in (
            (lambda: self.write("package/new.py", "x"), "package/new.py"),
            (lambda: os.utime("package/new.py", ns=(1, 1)), "package/new.py"),
            (lambda: os.unlink("package/new.py"), "package/new.py"),
            (lambda: self.write("bot.pyw", "x"), "bot.pyw"),
            (lambda: self.write("credentials.json", "{}"), "credentials.json"),
        ):
            act()
            self.assertEqual((watch.changed(), watch.pause_s), ([], SETTLE_S))  # it may not be whole yet
            self.assertEqual((watch.changed(), watch.pause_s), ([str(self.folder / seen)], LOOK_S))

    def test_a_file_that_still_changes_is_waited_for(self) -> None:
        watch = Watch([self.folder])
        for size in range(1, 5):
            self.write("agent.py", "x" * size)
            self.assertEqual(watch.changed(), [])
        self.assertEqual(watch.changed(), [str(self.folder / "agent.py")])

    def test_an_endless_folder_is_looked_at_less_often(self) -> None:
        with mock.patch("user_agent_sdk.cli.watch.time.monotonic", side_effect=[7.0, 8.0]):
            self.assertEqual(Watch([self.folder]).pause_s, 20.0)

    def test_only_modules_of_the_agents_own_are_forgotten(self) -> None:
        """A virtual environment in the agent's folder would be imported twice, which numpy does not survive."""
        (self.folder / "venv" / "lib").mkdir(parents=True)
        self.write("venv/pyvenv.cfg", "")
        modules: dict[str, Any] = {
            name: mock.Mock(__file__=str(self.folder / file))
            for name, file in (("ours", "ours.py"), ("theirs", "venv/lib/theirs.py"), ("compiled", "compiled.so"))
        }
        with mock.patch.dict(sys.modules, {**modules, "odd": mock.Mock(__file__=None, __path__=7)}):
            Watch([self.folder, ROOT / "user_agent_sdk"]).forget_modules()
            self.assertEqual([name for name in (*modules, "odd") if name in sys.modules], ["theirs", "compiled", "odd"])
            Watch([ROOT]).forget_modules()
            self.assertIs(sys.modules["user_agent_sdk.cli.commands"], commands)


if __name__ == "__main__":
    unittest.main()
