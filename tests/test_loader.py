# SPDX-License-Identifier: Apache-2.0
"""An agent script is imported as Python itself would, and a broken one ends in one clear error."""

from __future__ import annotations

import importlib
import json
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from unittest import mock

import user_agent_sdk
from tests.cli import keep_imports_as_they_are
from user_agent_sdk import loader
from user_agent_sdk.agents import REGISTRY, Agent
from user_agent_sdk.errors import AgentError, ConfigError

AGENT = "from user_agent_sdk import user_agent\n@user_agent()\ndef work(): return 1\n"


class LoaderTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        keep_imports_as_they_are(self, self.folder)

    def write(self, name: str, text: str = AGENT) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text), "utf-8")
        return path

    def load(self, name: str, text: str = AGENT) -> list[Agent]:
        return loader.load(self.write(name, text))

    def refused(self, name: str, text: str) -> AgentError:
        with self.assertRaises(AgentError) as caught:
            self.load(name, text)
        self.assertEqual(REGISTRY, [])
        return caught.exception

    # What a script may expect

    def test_a_package_at_the_root_of_a_disk_has_no_name(self) -> None:
        """A root is its own parent: with an __init__.py there, the loader looked upwards for ever."""
        with mock.patch("os.path.isfile", return_value=True):
            name = loader._in_package(Path("/bots/agent.py"), b"from bots import tools")
        self.assertEqual(name, "bots.agent")
        sys.path.pop()

    def test_the_library_comes_before_the_script_on_windows_too(self) -> None:
        """Its extension modules are in DLLs there: a unicodedata.py beside the script took the library's place."""
        self.assertTrue(loader._is_standard(os.path.join(sys.base_prefix, "DLLs")))

    def test_a_compiled_script_is_one(self) -> None:
        """Whoever hands out agent.pyc, or Cython's agent.so, was told that it is not a Python script."""
        compiled = py_compile.compile(str(self.write("bot.py")), str(self.folder / "bot.pyc"), doraise=True)
        (self.folder / "bot.py").unlink()
        [agent] = loader.load(Path(compiled))
        self.assertEqual((agent.func.__module__, agent.func()), ("bot", 1))
        for suffix in EXTENSION_SUFFIXES:  # such a module must have the name that it was compiled under
            self.assertEqual(loader._names(Path("bot" + suffix))[0], "bot")

    def test_a_script_whose_lines_cannot_be_quoted_still_fails_as_one_error(self) -> None:
        # Python 3.9 runs it all the same: a byte in a comment that is no UTF-8, after a call that fails.
        path = self.folder / "agent.py"
        path.write_bytes(b"from user_agent_sdk import user_agent\nlen(1)\n#\xff")
        with self.assertRaises(AgentError) as caught:
            loader.load(path)
        self.assertEqual(caught.exception.code, "agent-load")

    def test_a_name_that_is_too_long_names_no_script(self) -> None:
        with self.assertRaises(AgentError) as caught:
            loader.load(Path("agent.py" * 500))
        self.assertEqual(caught.exception.code, "agent-missing")

    def test_the_agents_come_in_the_order_of_the_script(self) -> None:
        found = self.load("two.py", AGENT + '@user_agent(agent_id="b")\nasync def second(): pass\n')
        self.assertEqual([(agent.name, agent.agent_id) for agent in found], [("work", None), ("second", "b")])

    def test_a_sibling_module_can_be_imported(self) -> None:
        """0.2.0 never put the script's folder on the path: an agent had to be one file."""
        self.write("nearby_helper.py", "VALUE = 42\n")
        [agent] = self.load(
            "uses.py", "import nearby_helper\n" + AGENT.replace("return 1", "return nearby_helper.VALUE")
        )
        self.assertEqual(agent.func(), 42)
        plain = [entry for entry in sys.path if loader._is_standard(entry)]
        self.assertEqual(sys.path.index(str(self.folder)), max(map(sys.path.index, plain)) + 1)

    def test_a_sibling_takes_no_module_of_the_standard_librarys_place(self) -> None:
        """requests, say, imported a statistics.py that lay beside the script."""
        self.write("colorsys.py", "raise RuntimeError('the wrong one')\n")
        self.write("nearby_user.py", "import colorsys\nVALUE = colorsys.rgb_to_hls(0, 0, 0)[1]\n")
        [agent] = self.load("uses2.py", "import nearby_user\n" + AGENT.replace("return 1", "return nearby_user.VALUE"))
        self.assertEqual(agent.func(), 0.0)

    def test_a_dataclass_with_postponed_annotations_works(self) -> None:
        """0.2.0 left the module out of sys.modules, where dataclasses look up what an annotation means."""
        text = """
            from __future__ import annotations
            from dataclasses import dataclass, field
            from typing import ClassVar
            from user_agent_sdk import user_agent
            @dataclass
            class Invoice:
                kind: ClassVar[str] = "x"
                lines: list[str] | None = None
            @user_agent
            def read() -> Invoice:
                return Invoice(["a"])
            """
        [agent] = self.load("invoices.py", text)
        self.assertEqual(agent.func().lines, ["a"])
        self.assertEqual(sys.modules["invoices"].__file__, str(self.folder / "invoices.py"))

    def test_the_main_part_of_a_script_does_not_run(self) -> None:
        self.assertEqual(
            len(self.load("guarded.py", AGENT + 'if __name__ == "__main__":\n    raise SystemExit(9)\n')), 1
        )

    def test_a_script_named_like_another_module_takes_nobodys_place(self) -> None:
        import colorsys  # a module that is there already

        for name in ("colorsys", "json", "wave", "chunk", "user_agent_sdk", "antigravity", "time"):
            text = "import json, time, colorsys\njson.dumps(1), time.time, colorsys.rgb_to_hls\n" + AGENT
            self.assertEqual(len(self.load(f"{name}.py", text)), 1, name)
        self.assertIs(sys.modules["colorsys"], colorsys)
        self.assertIs(sys.modules["json"], json)
        self.assertIs(sys.modules["user_agent_sdk"], user_agent_sdk)
        found = importlib.import_module("wave")  # not imported before, and there is a wave.py in the folder
        self.assertNotEqual(Path(found.__file__ or "").parent, self.folder)

    def test_names_that_are_no_identifiers_load(self) -> None:
        for name in ("my-agent.py", "2nd.agent.py", "hóa đơn.py"):
            self.assertEqual(len(self.load(name)), 1, name)

    def test_loading_a_changed_script_again_gives_the_new_agents(self) -> None:
        self.load("again.py")
        [agent] = self.load("again.py", AGENT.replace("work", "changed_name"))
        self.assertEqual(agent.name, "changed_name")

    # What can be wrong with it

    def test_a_path_that_is_no_script_says_what_it_is(self) -> None:
        self.write("agent.py")
        for path, said in (("agnet.py", "did you mean"), (".", "name the script: agent.py")):
            with self.assertRaises(AgentError) as caught:
                loader.load(self.folder / path)
            self.assertEqual((caught.exception.code, caught.exception.exit_code), ("agent-missing", 6))
            self.assertIn(said, "".join(caught.exception.hints))
        error = self.refused("notes.txt", "")
        self.assertEqual((error.code, "not a Python script" in error.message), ("agent-missing", True))

    def test_a_file_without_an_agent_is_an_error(self) -> None:
        """0.2.0 went on with no worker at all, for ever."""
        error = self.refused("none.py", "def work(): pass\n")
        self.assertEqual((error.code, error.exit_code), ("no-agent", 6))

    def test_a_syntax_error_shows_the_line(self) -> None:
        error = self.refused("broken.py", "x = 1\ndef work(:\n    pass\n")
        self.assertEqual(error.code, "agent-load")
        what, *context = error.message.split("\n")
        self.assertTrue(what.startswith(f"{self.folder / 'broken.py'}:2: SyntaxError:"), what)
        self.assertIn("def work(:", context[0])
        self.assertIn("^", context[1])
        for text in ("x = 1\n\0\n", "x = '\udcff'"):
            path = self.folder / "odd.py"
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
            with self.assertRaises(AgentError):
                loader.load(path)

    def test_a_missing_module_is_named(self) -> None:
        error = self.refused("needs.py", "import absent_module_x\n")
        self.assertIn("No module named 'absent_module_x'", error.message)
        self.assertIn(f"{sys.executable} -m pip install", error.hints[0])
        self.assertIn("no such module", self.refused("old.py", "import user_agent_sdk.nowhere\n").hints[0])

    def test_only_the_scripts_own_frames_are_shown(self) -> None:
        self.write("broken_sibling.py", "def boom():\n    raise KeyError('deep')\nboom()\n")
        error = self.refused("uses_broken.py", "import broken_sibling\n")
        self.assertIn("uses_broken.py raised KeyError", error.message)
        self.assertIn("broken_sibling.py", error.message)
        self.assertIn("in boom", error.message)
        for foreign in ("importlib", "loader.py", "exec_module"):
            self.assertNotIn(foreign, error.message)
        self.assertIsInstance(error.__cause__, KeyError)  # all of it, for -d

    def test_a_long_chain_of_exceptions_is_one_error(self) -> None:
        """Python 3.9 compared its links with one another, and all that hangs on them: a RecursionError of ours."""
        text = "error = None\nfor number in range(3000):\n    cause, error = error, ValueError(number)\n"
        text += "    error.__cause__ = cause\nraise error\n"
        error = self.refused("chained.py", text)
        self.assertIn("ValueError: 2999", error.message)

    def test_an_exception_whose_text_raises_is_one_error_too(self) -> None:
        """Its __str__ was called to find a hint: "this is a bug" of ours."""
        text = "class E(Exception):\n    def __str__(self): return self.args[0]['message']\nraise E('x')\n"
        self.assertIn("speechless.py raised E while it was loaded", self.refused("speechless.py", text).message)
        lazy = "class E(Exception):\n    def __getattr__(self, name): raise KeyError(name)\nraise E('x')\n"
        self.assertIn("lazy.py raised E while it was loaded", self.refused("lazy.py", lazy).message)
        self.assertIn("from . import", self.refused("relative.py", "from . import helper\n").hints[0])

    def test_a_script_that_cannot_be_read_is_an_error_of_its_own(self) -> None:
        """It was "this is a bug", and the end of a dev session, which now waits for the next save."""
        with mock.patch.object(Path, "read_bytes", side_effect=PermissionError(13, "Permission denied")):
            error = self.refused("locked.py", AGENT)
        self.assertEqual((error.code, error.exit_code), ("agent-load", 6))
        self.assertTrue(error.message.endswith("locked.py can't be read: Permission denied"), error.message)

    def test_a_script_that_exits_is_an_error_and_an_interrupt_is_not(self) -> None:
        error = self.refused("exits.py", "import sys\ntry:\n    1/0\nexcept Exception:\n    sys.exit(0)\n")
        self.assertIn("SystemExit", error.message)
        self.assertIn("ZeroDivisionError", error.message)
        self.assertIn("__main__", error.hints[0])
        with self.assertRaises(KeyboardInterrupt):
            self.load("interrupted.py", "raise KeyboardInterrupt\n")
        self.assertIn("RecursionError", self.refused("deep.py", "def f(): f()\nf()\n").message)

    def test_what_the_decorator_refuses_keeps_its_own_code(self) -> None:
        text = "from user_agent_sdk import user_agent\n@user_agent\ndef work(): yield\n"
        self.assertEqual(self.refused("binds.py", text).code, "agent-signature")
        with self.assertRaises(ConfigError):
            self.load("zero.py", AGENT.replace("()", "(timeout_s=0)", 1))

    def test_a_failed_load_leaves_nothing_behind(self) -> None:
        self.refused("half.py", AGENT + "1/0\n")
        self.assertNotIn("half", sys.modules)

    # Ids

    def test_agents_without_an_id_take_the_default_and_one_id_serves_one_agent(self) -> None:
        own, other = Agent(lambda: 1, "own"), Agent(lambda: 2)
        self.assertEqual([agent.agent_id for agent in loader.identify([own, other], "default")], ["own", "default"])
        third = Agent(lambda: 3)
        for agents, default in (([other], None), ([own, other], "own"), ([other, third], "d")):
            with self.assertRaises(AgentError) as caught:
                loader.identify(agents, default)
            self.assertEqual((caught.exception.code, caught.exception.exit_code), ("no-agent", 6))
            self.assertIn("test_loader.py:", caught.exception.message)

    def test_one_id_may_serve_two_domains(self) -> None:
        red, blue, plain = (
            Agent(lambda: 1, "x", domain="red"),
            Agent(lambda: 2, "x", domain="blue"),
            Agent(lambda: 3, "x"),
        )
        self.assertEqual([agent.domain for agent in loader.identify([red, blue, plain], None)], ["red", "blue", None])
        self.assertRaises(AgentError, loader.identify, [red, blue, Agent(lambda: 4, "x", domain="red")], None)

    def test_one_function_that_was_imported_twice_is_one_agent(self) -> None:
        """A helper that imports the script registered its agent once more: two agents had the id."""
        first, second = (Agent(eval(compile("lambda: 1", "bot.py", "eval")), "a") for _ in range(2))
        self.assertEqual(len(loader.identify([first, second], None)), 1)

    def test_an_id_with_a_slash_is_refused_before_any_poll(self) -> None:
        for agent_id in ("a/b", "a\\b"):
            with self.assertRaisesRegex(AgentError, "slash"):
                loader.identify([Agent(lambda: 1, agent_id)], None)

    def test_a_script_in_a_package_imports_from_it_by_its_name(self) -> None:
        """`from my_bots.models import ...` in my_bots/agent.py was no module, where `from .models import ...` was."""
        for name in ("around/__init__.py", "around/my_bots/__init__.py", "around/other.py"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            self.write(name, "")
        self.write("around/my_bots/models.py", "SIZE = 3\n")
        for number, line in enumerate(
            ("from my_bots.models import SIZE", "from around.my_bots.models import SIZE", "from .models import SIZE")
        ):
            with self.subTest(line):
                [agent] = self.load(f"around/my_bots/agent{number}.py", line + "\n" + AGENT + "work.size = SIZE\n")
                self.assertEqual(agent.func.size, 3)
                REGISTRY.clear()

    # A copy under another name

    def test_a_renamed_copy_two_levels_deep_is_what_scripts_import(self) -> None:
        source = Path(user_agent_sdk.__file__).parent
        shutil.copytree(source, self.folder / "vendor" / "worker_kit", ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "vendor" / "__init__.py").write_text("")
        sys.path.insert(0, str(self.folder))
        ours = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "user_agent_sdk"}
        self.addCleanup(sys.modules.update, ours)
        copy = importlib.import_module("vendor.worker_kit.loader")
        text = """
            from user_agent_sdk import NonRetryableException as first, user_agent
            from user_agent_sdk.utils.exception import NonRetryableException
            import user_agent_sdk.conductor.wire
            @user_agent
            def work(): return first is NonRetryableException, user_agent_sdk
            """
        [agent] = copy.load(self.write("asks.py", text))
        same, package = agent.func()
        self.assertTrue(same)
        self.assertIs(package, sys.modules["vendor.worker_kit"])
        self.assertEqual(REGISTRY, [])
        for name in ("vendor.worker_kit", "vendor.worker_kit.errors"):
            spec = sys.modules[name].__spec__
            self.assertEqual(spec and spec.name, name)  # or relative imports inside would warn, then fail

    def test_the_script_that_is_running_is_not_imported_a_second_time(self) -> None:
        """`python script.py` that ends in user_agent_sdk.run(): its agents are registered already."""
        ask = "import pathlib\nfrom user_agent_sdk import loader\n"
        ask += "print(loader.load(pathlib.Path(__file__))[0].func is work)\n"
        script = self.write("direct.py", AGENT + ask)
        environ = {**os.environ, "PYTHONPATH": str(Path(user_agent_sdk.__file__).parent.parent)}
        result = subprocess.run([sys.executable, str(script)], env=environ, capture_output=True, text=True)
        self.assertEqual((result.stdout, result.stderr), ("True\n", ""))


if __name__ == "__main__":
    unittest.main()
