# SPDX-License-Identifier: Apache-2.0
"""The import paths of 0.2.0 and 0.3.0: each leads somewhere, does what it did, and is in one room alone."""

from __future__ import annotations

import copy
import importlib
import io
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import user_agent_sdk
from tests.cli import ROOT, CliTest
from tests.real.parity.names import NAMES
from user_agent_sdk import compat, earlier
from user_agent_sdk.agents import REGISTRY, register_user_agent
from user_agent_sdk.conductor.wire import Task
from user_agent_sdk.errors import ConfigError, NonRetryableException
from user_agent_sdk.sandbox.server import Sandbox
from user_agent_sdk.testing import run_task

PACKAGE = ROOT / "user_agent_sdk"


def python(code: str, *words: str, path: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(path), **environ}
    return subprocess.run([sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, timeout=60)


class ThePathsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.addCleanup(REGISTRY.clear)
        kept = set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(name) for name in [*sys.modules] if name not in kept])

    def test_each_name_of_the_table_is_found_where_it_was(self) -> None:
        count = 0
        for table, prefix in ((compat.PATHS, "user_agent_sdk."), (compat.CONDUCTOR, "")):
            for path, homes in table.items():
                for name in (name for names in homes.values() for name in names):
                    scope: dict[str, object] = {}
                    exec(f"from {prefix}{path} import {name}", scope)
                    self.assertTrue(scope[name] is not None, (path, name))
                    count += 1
        self.assertGreater(count, 25)

    def test_the_old_command_line_is_a_program_too(self) -> None:
        """``python -m user_agent_sdk.cli.cli`` was 0.2.0's only such form, and ended with a traceback of runpy's."""
        for module, out in (("cli.cli", "1.1.0"), ("decorators", "")):
            words = [sys.executable, "-W", "error", "-m", f"user_agent_sdk.{module}", "version"]
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
            self.assertEqual((done.returncode, out in done.stdout, done.stderr), (0, True, ""))

    def test_a_module_has_the_names_that_it_imported(self) -> None:
        """Scripts take ``TaskResult`` from ``agent_worker``, and the platform's addresses from the runner's module."""
        count = 0
        for path, names in NAMES.items():
            module = importlib.import_module(path)
            for name in names.split():
                self.assertTrue(hasattr(module, name), f"{path}.{name}")
                count += 1
        self.assertGreater(count, 60)

    def test_what_never_was_is_not_there(self) -> None:
        for name in ("user_agent_sdk.nothing", "user_agent_sdk.decorators.x", "conductor.nothing", "conductors"):
            with self.assertRaises(ModuleNotFoundError):
                importlib.import_module(name)
        for module, name in (("decorators", "nothing"), ("cli", "nothing"), ("credentials", "nothing")):
            with self.assertRaises(ImportError):
                exec(f"from user_agent_sdk.{module} import {name}", {})

    def test_the_browser_bridge_says_that_it_is_left_out(self) -> None:
        with self.assertRaisesRegex(ModuleNotFoundError, "not part of this package"):
            importlib.import_module("user_agent_sdk.chrome_bridge")

    def test_a_conductor_package_that_is_installed_is_the_one_that_is_used(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "conductor").mkdir()
            Path(folder, "conductor", "__init__.py").write_text("theirs = True\n")
            code = (
                f"import sys; sys.path.insert(0, {folder!r})\n"
                "import user_agent_sdk, conductor\nprint(conductor.theirs)\n"
                "try:\n    import conductor.client\nexcept ModuleNotFoundError as error:\n    print(error.name)"
            )
            self.assertEqual(python(code).stdout, "True\nconductor.client\n")

    def test_a_folder_of_that_name_beside_the_script_is_no_conductor_package(self) -> None:
        """With a folder ``conductor`` of workflow files beside it, a script found no ``conductor.client``."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "conductor", "flows").mkdir(parents=True)
            code = (
                f"import sys; sys.path.insert(0, {folder!r})\n"
                "import user_agent_sdk, conductor.flows\n"
                "from conductor.client.http.models import TaskResult\nprint(TaskResult.__module__)"
            )
            done = python(code)
            self.assertEqual(done.stdout, "user_agent_sdk.compat.models\n", done.stderr)

    def test_old_modules_are_there_as_attributes_too(self) -> None:
        """``user_agent_sdk.decorators.user_agent`` after ``import user_agent_sdk`` was an AttributeError."""
        code = (
            "import user_agent_sdk as u\nfrom conductor.client.http import models\n"
            "print(u.decorators.user_agent is u.user_agent, u.utils.logger.get_logger('a').name)\n"
            "print(u.utils.exception.NonRetryableException is u.NonRetryableException, models.task_result.__name__)\n"
            "print(u.user_agent_runner.RunnerConfig.__name__, u.agent_worker.AgentWorker.__name__)\n"
            "print(any(hasattr(module, 'nothing') for module in (u, u.utils, models)))"
        )
        done = python(code)
        told = "True user_agent_sdk.a\nTrue conductor.client.http.models.task_result\nRunnerConfig AgentWorker\nFalse\n"
        self.assertEqual(done.stdout, told, done.stderr)

    def test_that_conductor_is_served_is_said_at_debug_level(self) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "conductor"]:
            del sys.modules[name]  # another test's
        with self.assertLogs("user_agent_sdk.compat", "DEBUG") as caught:
            importlib.import_module("conductor.client.http.models.task_result")
        self.assertIn("conductor is served by this SDK", caught.output[0])
        self.assertEqual({record.levelno for record in caught.records}, {logging.DEBUG})

    def test_nothing_of_it_is_loaded_until_it_is_asked_for(self) -> None:
        code = (
            "import sys\nfrom user_agent_sdk import user_agent\n"
            "from user_agent_sdk.cli import main\nmain(['version'])\n"
            "print([name for name in sys.modules if '.compat' in name])"
        )
        self.assertEqual(python(code).stdout.splitlines()[-1], "[]")

    def test_a_copy_without_the_room_lacks_those_names_and_nothing_else(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "user_agent_sdk")
            shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("compat", "__pycache__"))
            code = (
                "from user_agent_sdk.cli import main\n"
                "for name in ('user_agent_sdk.decorators', 'conductor.client', 'user_agent_sdk.nothing'):\n"
                "    try:\n        __import__(name)\n"
                "    except ModuleNotFoundError as error:\n        print(error.name)\n"
                "try:\n    from user_agent_sdk.credentials import Credentials\n"
                "except ImportError:\n    print('no name')\n"
                "print(main(['invoke', 'agent.py']))"
            )
            Path(folder, "agent.py").write_text("from user_agent_sdk import user_agent\nuser_agent(lambda: 1)\n")
            done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
            absent = ["user_agent_sdk.decorators", "conductor", "user_agent_sdk.nothing"]
            self.assertEqual(done.stdout.splitlines(), [*absent, "no name", '{"result": 1}', "0"], done.stderr)

    def test_a_copy_of_another_name_serves_its_own_and_scripts_that_say_the_public_one(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(PACKAGE, Path(folder, "vendored", "uas"), ignore=shutil.ignore_patterns("__pycache__"))
            Path(folder, "agent.py").write_text(
                "from user_agent_sdk.decorators import user_agent\n"
                "from user_agent_sdk.user_agent_runner import UserAgentRunner\n"
                "from user_agent_sdk.cli import app\n"
                "from conductor.client.http.models import TaskResult\n"
                "from vendored.uas.decorators import user_agent as own\n"
                "@user_agent()\ndef work():\n"
                "    seen = {'one': own is user_agent, 'of': app.__module__}\n"
                "    return TaskResult(status='COMPLETED', output_data=seen)\n"
            )
            words = [sys.executable, "-m", "vendored.uas", "invoke", "agent.py"]
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
            self.assertEqual(json.loads(done.stdout), {"one": True, "of": "vendored.uas.compat.runner"}, done.stderr)

    def test_a_program_without_that_room_is_told_by_the_finder(self) -> None:
        with mock.patch.dict(sys.modules, {"user_agent_sdk.compat": None}), self.assertRaises(AttributeError):
            earlier.attribute("user_agent_sdk.cli", "app")


class WhatTheyDoTest(CliTest):
    def test_the_registry_is_the_one_that_runs(self) -> None:
        from user_agent_sdk.decorators import (  # type: ignore[import-not-found]
            clear_user_agent_registry,
            register_user_agent,
            user_agent_registry,
        )

        def work() -> None: ...

        self.assertIs(register_user_agent(work, agent_id="a", workers=2), work)
        [entry] = user_agent_registry
        config = {"agent_id": "a", "worker_id": None, "domain": None, "poll_interval": 1000, "workers": 2}
        self.assertEqual((entry["func"], entry["config"]), (work, config))
        user_agent_registry.append(entry)
        self.assertEqual([agent.agent_id for agent in REGISTRY], ["a", "a"])
        clear_user_agent_registry()
        self.assertEqual((REGISTRY, list(user_agent_registry)), ([], []))

    def test_what_is_set_in_an_entry_of_the_registry_is_set_in_its_agent(self) -> None:
        """Each look at the registry made a new entry, and what a script set in that was lost without a word."""
        from user_agent_sdk.decorators import user_agent_registry

        register_user_agent(lambda: "old", agent_id="a", timeout_s=5)
        for entry in user_agent_registry:
            entry["config"]["agent_id"] = "b"
            entry["config"].update(poll_interval=50, workers=3, remark="the script's own")
            entry["func"] = new = lambda: "new"
            self.assertEqual((entry["config"]["workers"], entry["func"]), (3, new))
        user_agent_registry[0].update(config={"domain": "d", "worker_id": None})
        [agent] = REGISTRY
        known = (agent.func, agent.agent_id, agent.poll_interval_ms, agent.workers, agent.domain, agent.timeout_s)
        self.assertEqual(known, (new, "b", 50, 3, "d", 5))
        self.assertEqual(run_task(new, {}).output_data, {"result": "new"})
        with self.assertRaises(ConfigError):
            user_agent_registry[0]["config"]["workers"] = "many"
        self.assertEqual(user_agent_registry[0]["config"]["workers"], 3)

    def test_models_and_results_of_0_2_0(self) -> None:
        from conductor.client.http.models import (  # type: ignore[import-not-found]
            Task as OldTask,
        )
        from conductor.client.http.models import (
            TaskExecLog,
            TaskResult,
            TaskResultStatus,
        )

        self.assertIs(OldTask, Task)
        self.assertEqual(OldTask(task_id="t", input_data={"a": 1}).input_data, {"a": 1})

        def work(task: OldTask) -> TaskResult:
            result = TaskResult(task_id=task.task_id, status=TaskResultStatus.FAILED_WITH_TERMINAL_ERROR)
            result.reason_for_incompletion = "no such invoice"
            result.logs = [TaskExecLog("one", task.task_id, 17)]
            return result.add_output_data("seen", 1).log("two")

        reported = run_task(work)
        self.assertEqual(reported.status, "FAILED_WITH_TERMINAL_ERROR")
        self.assertEqual(reported.output_data, {"seen": 1})
        self.assertEqual(reported.reason_for_incompletion, "no such invoice")
        self.assertEqual([line.log for line in reported.logs], ["one", "two"])
        self.assertEqual(reported.logs[0].created_ms, 17)
        self.assertEqual(run_task(lambda: TaskResult(output_data={"a": 1})).status, "COMPLETED")
        self.assertEqual(run_task(TaskResult.in_progress).status, "IN_PROGRESS")
        self.assertEqual(run_task(lambda: TaskResult.failed("why")).reason_for_incompletion, "why")
        self.assertIn("'status'", TaskResult().to_str())
        self.assertIn("'one'", TaskExecLog("one").to_str())

    def test_the_status_of_a_result_of_0_2_0_is_an_enum(self) -> None:
        """It was the text that it was given, without ``name`` and ``value``, and any text at all."""
        from conductor.client.http.models import TaskResult, TaskResultStatus

        result = TaskResult(status="COMPLETED")
        self.assertEqual((result.status.name, result.status.value), ("COMPLETED", "COMPLETED"))
        result.status = "FAILED"
        self.assertIs(result.status, TaskResultStatus.FAILED)
        self.assertIsNone(TaskResult().status)
        with self.assertRaises(ValueError):
            TaskResult(status="DONE")

    def test_the_task_can_be_turned_into_a_dict(self) -> None:
        def work(task: Task) -> object:
            return [json.loads(json.dumps(task.to_dict()))["task_id"], task.workflow_task, hasattr(task, "nothing")]

        self.assertEqual(run_task(work).output_data, {"result": ["test-task", None, False]})
        step = {"name": "n", "taskReferenceName": "r", "inputParameters": {"aB": 1}}
        task = Task({"taskId": "t", "workflowTask": step})
        self.assertEqual((task.workflow_task.name, task.workflow_task.task_reference_name), ("n", "r"))
        self.assertEqual(task.workflow_task.input_parameters.to_dict(), {"a_b": 1})
        self.assertEqual(task.to_dict()["workflow_task"]["input_parameters"], {"aB": 1})
        self.assertIn("'task_id': 't'", task.to_str())
        self.assertEqual(copy.deepcopy(task).task_id, "t")

    def test_the_tasks_logger_can_be_copied_and_pickled(self) -> None:
        def work(logger: logging.Logger) -> object:
            copy.deepcopy([logger])[0].info("a copy")
            pickle.loads(pickle.dumps(logger)).info("unpickled")
            return copy.copy(logger) is logger

        reported = run_task(work)
        self.assertEqual([line.log for line in reported.logs], ["a copy", "unpickled"])
        self.assertEqual(reported.output_data, {"result": True})

    def test_addresses_and_credentials(self) -> None:
        from user_agent_sdk.utils.url_generator import (  # type: ignore[import-not-found]
            generate_auth_url,
            generate_service_url,
        )

        from user_agent_sdk.credentials import Credentials

        address = "https://auth.next.akabot.io/realms/user-agent/protocol/openid-connect/token"
        self.assertEqual(generate_service_url("https://next.akabot.io/"), "https://external-api.next.akabot.io/api")
        self.assertEqual(generate_auth_url("https://next.akabot.io"), address)
        for made in (Credentials("i", "s", "https://next.akabot.io"), Credentials("i", "s", address)):
            self.assertEqual((made.key_id, made.key_secret, made.auth_url), ("i", "s", address))

    def test_loggers_and_their_set_up(self) -> None:
        from user_agent_sdk.utils.agent_log_handler import AgentLogHandler  # type: ignore[import-not-found]
        from user_agent_sdk.utils.logger import configure_logging, get_logger  # type: ignore[import-not-found]

        self.assertEqual(get_logger("bot").name, "user_agent_sdk.bot")
        self.assertIs(get_logger("user_agent_sdk.bot"), get_logger("bot"))
        handler = AgentLogHandler()
        get_logger("bot").addHandler(handler)
        self.addCleanup(get_logger("bot").removeHandler, handler)
        with mock.patch.object(sys, "stderr", io.StringIO()) as err:
            configure_logging(level="DEBUG")
            get_logger("bot").debug("hello %s", "there")
        self.assertIn("hello there", err.getvalue())
        self.assertEqual([text for _, text in handler.logged_messages], ["hello there"])

    def test_the_history_from_python(self) -> None:
        from user_agent_sdk.utils.execution_history import ExecutionHistory  # type: ignore[import-not-found]

        history = ExecutionHistory("old.db")
        self.addCleanup(history.close)
        for number, ended in enumerate(("2026-01-01T10:00:01", "2026-01-01T10:00:02")):
            history.record(f"t{number}", "a", "u", ended, ended, "success", "{}", output_data='{"result": 1}')
        self.assertEqual([row[1] for row in history.get_history()], ["t1", "t0"])
        self.assertEqual(history.get_history(agent_id="b"), [])
        self.assertEqual(len(history.get_history(user_agent_id="u", limit=1)), 1)
        self.assertEqual(history.get_record_by_id(1)[1:4], ("t0", "a", "u"))
        self.assertIsNone(history.get_record_by_id(9))
        self.assertEqual(len(json.loads(self.run_main("history", "-db", "old.db", "--json").out)), 2)
        brief = ExecutionHistory(":memory:")
        self.addCleanup(brief.close)
        brief.record("t", "a", "u", "2026-01-01T10:00:01", "2026-01-01T10:00:02", "success", "{}")
        self.assertEqual((len(brief.get_history()), os.path.exists(":memory:")), (1, False))

    def test_what_a_script_does_to_the_history_of_0_2_0_is_where_executions_go(self) -> None:
        """``-r`` wrote to its own file whatever ``execution_history.db_path`` was; a ``record`` was not called."""
        head = "from user_agent_sdk.utils.execution_history import execution_history\n"
        work = "from user_agent_sdk import user_agent\nuser_agent(agent_id='u')(lambda a: a)\n"
        for set_up, rows, said in (
            ("execution_history.db_path = 'other.db'\n", 1, ""),
            ("execution_history.record = lambda **row: print(row['status'], row['output_data'])\n", 0, "success"),
        ):
            script = self.write("agent.py", head + set_up + work)
            with Sandbox() as sandbox:
                self.write("credentials.json", json.dumps(sandbox.credentials("u")))
                sandbox.submit("u", {"a": 1})
                words = [sys.executable, "-m", "user_agent_sdk", "run", str(script), "-r", "--max-tasks", "1"]
                env = {**os.environ, "PYTHONPATH": str(ROOT)}
                with subprocess.Popen(words, cwd=self.folder, env=env, stdout=-1, stderr=-3, text=True) as process:
                    self.assertIn(said, process.communicate(timeout=60)[0])
            self.assertFalse((self.folder / "execution_history.db").exists())
            if rows:
                self.assertEqual(len(json.loads(self.run_main("history", "-db", "other.db", "--json").out)), rows)

    def test_an_agent_worker_runs_one_task(self) -> None:
        from user_agent_sdk.agent_worker import AgentWorker  # type: ignore[import-not-found]

        def boom() -> None:
            raise NonRetryableException("x")

        task = Task(task_id="t", workflow_instance_id="w", input_data={"a": 2})
        result = AgentWorker("u", lambda a: a + 1, worker_id="me").execute(task)
        self.assertEqual((result.output_data, result.task_id, result.worker_id), ({"result": 3}, "t", "me"))
        told = AgentWorker("u", lambda logger: logger.info("hi")).execute(task).to_dict()  # it had no to_dict
        self.assertEqual((told["status"], told["logs"][0]["log"], told["logs"][0]["task_id"]), ("COMPLETED", "hi", "t"))
        with self.assertLogs("user_agent_sdk.agent", "ERROR"):
            self.assertEqual(AgentWorker("u", boom).execute(task).status, "FAILED_WITH_TERMINAL_ERROR")


class RunFromPythonTest(CliTest):
    def runner_of(self, sandbox: Sandbox, **options: object) -> object:
        from user_agent_sdk.user_agent_runner import RunnerConfig, UserAgentRunner  # type: ignore[import-not-found]

        own = sandbox.credentials("u")
        config = RunnerConfig(own["clientId"], own["clientSecret"], own["serviceUrl"], own["authUrl"], "u")
        return UserAgentRunner(config=config, **options)

    def test_a_runner_works_until_its_signal_is_set(self) -> None:
        from user_agent_sdk.decorators import user_agent

        @user_agent()
        def work(a: int) -> int:
            return a + 1

        stop = threading.Event()
        with Sandbox() as sandbox:
            runner = self.runner_of(sandbox, workers=2, abort_signal=stop, record_logs=True)
            with mock.patch.object(sys, "stderr", io.StringIO()):
                thread = threading.Thread(target=runner.run)  # type: ignore[attr-defined]
                thread.start()
                ended = sandbox.wait(sandbox.submit("u", {"a": 1}), 30)
                stop.set()
                thread.join(30)
        self.assertEqual((ended.status, ended.output), ("COMPLETED", {"result": 2}))
        self.assertFalse(thread.is_alive())
        self.assertIn('"result": 2', self.run_main("hd", "1").out)

    def test_the_three_ways_to_say_where(self) -> None:
        from user_agent_sdk.user_agent_runner import RunnerConfig, UserAgentRunner

        places = ("https://a.b/api", "https://a.b/token", "u")
        for config in (
            RunnerConfig("i", "s", *places),
            RunnerConfig("i", "s", service_url=places[0], auth_url=places[1], agent_id="u"),
        ):
            chosen = UserAgentRunner(config, workers=3)._settings()
            self.assertEqual((chosen.service_url, chosen.auth_url, chosen.agent_id), places)
            self.assertEqual((chosen.workers, chosen.sources["service_url"]), (3, "RunnerConfig"))
        chosen = UserAgentRunner(RunnerConfig("i", "s", "https://next.akabot.io", "u"))._settings()
        self.assertEqual((chosen.service_url, chosen.agent_id), ("https://external-api.next.akabot.io/api", "u"))
        self.write("own.json", '{"clientId": "i", "clientSecret": "s"}')
        self.assertEqual(UserAgentRunner(config_file="own.json")._settings().client_id, "i")
        self.assertRaises(ValueError, RunnerConfig, "", "s")

    def test_what_a_runners_config_has_by_its_places_and_by_default(self) -> None:
        """``debug`` in its place was overlooked, and 0.3.0's own addresses were None."""
        from user_agent_sdk.user_agent_runner import (
            AUTH_URL,
            DEFAULT_BASE_URL,
            SERVICE_URL,
            RunnerConfig,
        )

        older = RunnerConfig("i", "s", SERVICE_URL, AUTH_URL, "a", True)
        newer = RunnerConfig("i", "s", DEFAULT_BASE_URL, "a", True)
        for config in (older, newer, RunnerConfig("i", "s", agent_id="a", debug=True)):
            places = (config.service_url, config.auth_url, config.agent_id, config.debug)
            self.assertEqual(places, (SERVICE_URL, AUTH_URL, "a", True))
        self.assertEqual(RunnerConfig("i", "s").base_url, DEFAULT_BASE_URL)
        one = RunnerConfig("i", "s", service_url="https://x.y/api")
        self.assertEqual((one.service_url, one.auth_url), ("https://x.y/api", AUTH_URL))
        self.assertEqual(RunnerConfig("i", "s", None, None, True, SERVICE_URL, "https://x.y/t").auth_url, "https://x.y/t")

    def test_a_runner_takes_any_object_with_a_configs_attributes_and_a_signal_that_can_say_is_set(self) -> None:
        """A SimpleNamespace had "no attribute base_url", and a signal without wait() never stopped the worker."""
        from user_agent_sdk.user_agent_runner import UserAgentRunner

        over = threading.Event()
        signal = SimpleNamespace(is_set=over.is_set)
        with Sandbox() as sandbox:
            own = sandbox.credentials("u")
            config = SimpleNamespace(client_id=own["clientId"], client_secret=own["clientSecret"], agent_id="u",
                                     service_url=own["serviceUrl"], auth_url=own["authUrl"])  # fmt: skip
            register_user_agent(over.set, agent_id="u")
            task = sandbox.submit("u", {})
            with mock.patch.object(sys, "stderr", io.StringIO()):
                thread = threading.Thread(target=UserAgentRunner(config, abort_signal=signal).run, daemon=True)
                thread.start()
                self.assertEqual(sandbox.wait(task, 30).status, "COMPLETED")
                thread.join(30)
        self.assertFalse(thread.is_alive())

    def test_a_runner_whose_signal_is_taken_away_works_on(self) -> None:
        """It stopped at once."""
        register_user_agent(lambda: 1, agent_id="u")
        with Sandbox() as sandbox, mock.patch.object(sys, "stderr", io.StringIO()):
            runner = self.runner_of(sandbox)
            runner.abort_signal = None  # type: ignore[attr-defined]
            thread = threading.Thread(target=runner.run, daemon=True)  # type: ignore[attr-defined]
            thread.start()
            self.assertEqual(sandbox.wait(sandbox.submit("u", {}), 30).status, "COMPLETED")
            runner.abort_signal = SimpleNamespace(is_set=lambda: True)  # type: ignore[attr-defined]
            thread.join(30)
        self.assertFalse(thread.is_alive())

    def test_a_runners_config_can_be_read_and_changed(self) -> None:
        """``UserAgentRunner(config_file=…).config`` was None, and a config of 0.3.0 had no service_url."""
        from user_agent_sdk.user_agent_runner import RunnerConfig, UserAgentRunner

        self.write("own.json", '{"clientId": "i", "clientSecret": "s", "agentId": "u", "baseUrl": "https://a.b"}')
        runner = UserAgentRunner(config_file="own.json")
        service_url = "https://external-api.a.b/api"
        self.assertEqual((runner.config.client_id, runner.config.agent_id), ("i", "u"))
        self.assertEqual(runner.config.service_url, service_url)
        self.assertIn("own.json", runner._settings().sources["agent_id"])
        runner.config.agent_id = "v"
        chosen = runner._settings()
        self.assertEqual((chosen.agent_id, chosen.service_url, chosen.client_secret), ("v", service_url, "s"))
        self.assertEqual(chosen.sources["agent_id"], "RunnerConfig")
        config = RunnerConfig("i", "s", "https://a.b/", auth_url="https://c.d/token")
        known = (config.base_url, config.service_url, config.auth_url)
        self.assertEqual(known, ("https://a.b", service_url, "https://c.d/token"))
        runner = UserAgentRunner(config_file="nothing.json")  # at the top of a script that check or invoke loads
        self.assertIsNone(runner.config)
        self.assertRaises(ConfigError, runner.run)
        both = RunnerConfig("i", "s", "http://10.0.0.5:8088", service_url="https://a.b", auth_url="https://c.d")
        self.assertEqual((both.service_url, both.auth_url), ("https://a.b", "https://c.d"))
        with mock.patch.dict(os.environ, CONDUCTOR_SERVER_URL="http://127.0.0.1:1/api"):
            self.assertIsNone(UserAgentRunner().config)

    def test_a_module_of_conductors_client_that_is_not_served_is_named_by_its_project(self) -> None:
        self.write("agent.py", "from conductor.client.http.api_client import ApiClient\n")
        ended = self.run_main("invoke", "agent.py")
        self.assertEqual(ended.code, 6)
        self.assertIn("pip install conductor-python", ended.err)

    def test_the_command_line_from_python(self) -> None:
        from user_agent_sdk.cli import app
        from user_agent_sdk.cli.run import run_command

        for words, code in (("version", 0), (["version", "--json"], 0), ("nothing", 2)):
            quiet = mock.patch.multiple(sys, stdout=io.StringIO(), stderr=io.StringIO())
            with self.assertRaises(SystemExit) as ended, quiet:
                app(words)
            self.assertEqual(ended.exception.code, code)
        with self.assertRaises(SystemExit) as ended, mock.patch.object(sys, "stderr", io.StringIO()) as err:
            run_command("nothing.py")
        self.assertEqual((ended.exception.code, "nothing.py" in err.getvalue()), (6, True))
        with self.assertRaises(SystemExit) as ended, mock.patch.object(sys, "stderr", None):  # as in pythonw.exe
            run_command("nothing.py")
        self.assertEqual(ended.exception.code, 6)

    def test_a_script_may_run_itself_by_the_old_command(self) -> None:
        """It ended with "defines no agent": its own agents were forgotten, since another script was expected."""
        self.write(
            "agent.py",
            "import os, threading\n"
            "from user_agent_sdk import user_agent\n"
            "from user_agent_sdk.cli.run import run_command\n"
            "over = threading.Event()\n"
            "@user_agent()\ndef work(a):\n    over.set()\n    return a + 1\n"
            "if __name__ == '__main__':\n    run_command(__file__, 'credentials.json', abort_signal=over)\n",
        )
        with Sandbox() as sandbox:
            self.write("credentials.json", json.dumps(sandbox.credentials("u")))
            task = sandbox.submit("u", {"a": 1})
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            words = [sys.executable, "agent.py"]
            done = subprocess.run(words, cwd=self.folder, env=env, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(sandbox.wait(task, 30).output, {"result": 2})

    def test_the_old_command_runs_the_agents_of_the_script_that_it_names_alone(self) -> None:
        from user_agent_sdk.cli.run import run_command

        register_user_agent(lambda: "another script's", agent_id="other")
        self.write("agent.py", "from user_agent_sdk import user_agent\nuser_agent(agent_id='u')(lambda: 1)\n")
        self.write("credentials.json", '{"clientId": "i", "clientSecret": "s"}')
        with mock.patch("user_agent_sdk.compat.runner.UserAgentRunner.run") as run:
            run_command("agent.py")
        self.assertEqual((run.call_count, [agent.agent_id for agent in REGISTRY]), (1, ["u"]))

    def test_the_public_names_are_still_there(self) -> None:
        self.assertEqual({"user_agent", "register_user_agent"} - set(user_agent_sdk.__all__), set())

    def test_import_star_takes_no_name_of_a_script_away(self) -> None:
        """After ``from subprocess import run`` it was ours that ran; so it was with a TaskResult of Conductor's."""
        scope: dict[str, object] = {}
        exec("from subprocess import run\nfrom user_agent_sdk import *", scope)
        self.assertIs(scope["run"], subprocess.run)
        self.assertEqual(set(scope) - {"run", "__builtins__"}, {"user_agent", "register_user_agent"})


if __name__ == "__main__":
    unittest.main()
