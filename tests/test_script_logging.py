# SPDX-License-Identifier: Apache-2.0
"""Logging belongs to the script: whatever it sets up works as in plain Python, and our own lines go on."""

from __future__ import annotations

import json
import logging
import sys
import unittest

from tests.cli import CliTest, Ended
from user_agent_sdk import logs

BODY = """
    from user_agent_sdk import user_agent
    own = logging.getLogger("bot")
    @user_agent()
    def work(logger):
        own.info("of the bot")
        logging.getLogger("library").warning("of a library")
        logger.info("of the task")
"""
DICT = {"version": 1, "root": {"level": "INFO", "handlers": ["file"]},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": "bot.log"}}}  # fmt: skip
FILE = """\
[loggers]
keys=root
[handlers]
keys=file
[formatters]
keys=plain
[logger_root]
level=INFO
handlers=file
[handler_file]
class=FileHandler
formatter=plain
args=("bot.log",)
[formatter_plain]
format=%(message)s
"""


class ScriptLoggingTest(CliTest):
    def invoke(self, set_up: str, *words: str) -> Ended:
        self.write("agent.py", f"    import logging, logging.config\n    {set_up}{BODY}")
        ended = self.run_main("invoke", "agent.py", *words)
        self.addCleanup(self.close_files)
        self.assertEqual(ended.code, 0, ended.err)
        return ended

    @staticmethod
    def close_files() -> None:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.close()

    def in_the_file(self) -> str:
        return (self.folder / "bot.log").read_text("utf-8")

    def test_without_any_all_goes_to_the_console(self) -> None:
        err = self.invoke("pass").err
        for text in ("of the bot", "of a library", "of the task"):
            self.assertEqual(err.count(text), 1, err)

    def test_basic_config_writes_its_file_and_our_lines_go_on(self) -> None:
        """The file was not even made: the root logger had a handler of ours."""
        err = self.invoke('logging.basicConfig(filename="bot.log", level="INFO", format="[%(message)s]")').err
        self.assertIn("[of the bot]\n[of a library]\n[of the task]", self.in_the_file())
        self.assertNotIn("of the bot", err)
        self.assertIn("of the task", err)

    def test_basic_config_for_the_console_repeats_no_line_of_ours(self) -> None:
        err = self.invoke('logging.basicConfig(format="<%(message)s>", level="INFO")').err
        self.assertIn("<of the bot>", err)
        self.assertEqual((err.count("of the task"), "<of the task>" in err), (1, False), err)

    def test_a_console_of_rich_repeats_no_line_of_ours_either(self) -> None:
        rich = (
            "class Rich(logging.Handler):\n"
            "        console = type('Console', (), {'file': __import__('sys').stderr})\n"
            "        def emit(self, record): self.console.file.write('rich ' + record.getMessage() + chr(10))\n"
            "    logging.basicConfig(level='INFO', handlers=[Rich()])"
        )
        err = self.invoke(rich).err
        self.assertIn("rich of the bot", err)
        self.assertNotIn("rich of the task", err)

    def test_a_record_factory_may_set_fields_of_our_names(self) -> None:
        """A worker did not start, or lost results: logging takes no field from us that the factory has set."""
        self.addCleanup(logging.setLogRecordFactory, logging.getLogRecordFactory())
        factory = (
            "class Record(logging.LogRecord):\n"
            "        def __init__(self, *given, **more):\n"
            "            super().__init__(*given, **more)\n"
            "            self.task_id = self.agent_id = self.action = self.code = '-'\n"
            "    logging.setLogRecordFactory(Record)"
        )
        lines = [json.loads(line) for line in self.invoke(factory, "-d", "--log-format=json").err.splitlines()]
        [ended] = [line for line in lines if line.get("action") == "task_ended"]
        self.assertEqual((ended["agent_id"], len(ended["task_id"])), ("work", 36))
        known = logging.root.manager.loggerDict
        ours = [name for name in known if name.startswith("user_agent_sdk.") and name in sys.modules]
        self.assertEqual([name for name in ours if type(known[name]) is logging.Logger], [])

    def test_what_a_script_hangs_on_our_loggers_or_the_root_may_raise(self) -> None:
        """A handler of the root whose stream is a property that raises, or a filter on our logger, cost the results."""
        raising = (
            "class Raising(logging.Handler):\n"
            "        def filter(self, record): raise RuntimeError('no log server')\n"
            "        stream = property(lambda self: 1 / 0)\n"
            "    logging.getLogger().addHandler(Raising())\n"
            "    logging.getLogger('user_agent_sdk').addHandler(Raising())\n"
            "    logging.getLogger('user_agent_sdk.worker.slots').addFilter(Raising())\n"
            "    logging.getLogger('bot').disabled = logging.getLogger('library').disabled = True"
        )
        self.addCleanup(logging.getLogger("user_agent_sdk.worker.slots").filters.clear)
        self.addCleanup(setattr, logging.getLogger("library"), "disabled", False)
        self.addCleanup(setattr, logging.getLogger("bot"), "disabled", False)
        self.assertEqual(self.invoke(raising).err.count("of the task"), 1)

    def test_the_roots_level_is_the_scripts(self) -> None:
        err = self.invoke("logging.getLogger().setLevel(logging.ERROR)").err
        self.assertNotIn("of the bot", err)
        self.assertNotIn("of a library", err)
        self.assertIn("of the task", err)

    def test_a_level_for_our_logger_is_obeyed(self) -> None:
        err = self.invoke('logging.getLogger("user_agent_sdk").setLevel("ERROR")', "-l", "INFO").err
        self.assertNotIn("of the task", err)
        self.assertIn("of a library", err)

    def test_the_level_of_our_loggers_says_what_a_task_sends(self) -> None:
        """In 0.2.0 ``-l WARNING`` kept a task's INFO lines from the platform; here it only kept them from the screen.
        ``-q`` is for the screen alone."""
        ours = "logging.getLogger('user_agent_sdk').setLevel('ERROR')"
        theirs = "from user_agent_sdk.utils.logger import configure_logging; configure_logging('WARNING')"
        number = "from user_agent_sdk.utils.logger import configure_logging; configure_logging(25)"
        for set_up, words, sent in (
            ("", ("-l", "WARNING"), 0), ("", ("-l", "INFO"), 1), ("", (), 1), ("", ("-q",), 1),
            ("", ("-q", "-l", "ERROR"), 0), (ours, ("-l", "INFO"), 0), (theirs, ("-l", "INFO"), 0),
            (theirs, ("-q",), 0), (number, ("-l", "INFO"), 0),
        ):  # fmt: skip
            with self.subTest(set_up, words=words):
                ended = self.invoke(set_up, "--json", *words)
                self.assertEqual(ended.out.count("of the task"), sent)
                if "-q" in words or "WARNING" in words:
                    self.assertNotIn("of the task", ended.err)

    def test_the_root_is_left_alone_until_the_script_was_loaded(self) -> None:
        root = logging.getLogger()
        root.handlers.clear()
        level = root.level
        logs.setup("DEBUG", "text", (), sys.stderr)
        self.assertEqual((root.handlers, root.level), ([], level))

    def test_debug_in_the_file_of_the_credentials_changes_nothing_that_is_sent(self) -> None:
        """0.2.0 ignored that key; here the agent's DEBUG lines went to the platform."""
        self.write("credentials.json", '{"clientId": "i", "clientSecret": "s", "agentId": "u", "debug": true}')
        for option, level in (("--color=never", logging.INFO), ("-d", logging.DEBUG)):
            self.assertEqual(self.run_main("run", "missing.py", option).code, 6)
            self.assertEqual(logging.getLogger("user_agent_sdk.agent").getEffectiveLevel(), level)


class SetUpsThatDisableTest(CliTest):
    """dictConfig and fileConfig disable every logger that they don't name, unless they are told not to. In a process
    of its own, since that holds for the loggers of other tests too."""

    def invoke(self, set_up: str) -> Ended:
        self.write("agent.py", f"    import logging, logging.config\n{set_up}{BODY}")
        ended = self.run_process("-m", "user_agent_sdk", "invoke", "agent.py", "-l", "INFO")
        self.assertEqual((ended.code, ended.out), (0, '{"result": null}\n'), ended.err)
        self.assertIn("of the task", ended.err)
        self.assertIn("completed", ended.err)  # the worker's own word
        return ended

    def test_dict_config(self) -> None:
        self.invoke(f"    logging.config.dictConfig({DICT!r})")
        self.assertIn("of the bot\nof a library\nof the task", (self.folder / "bot.log").read_text("utf-8"))

    def test_file_config(self) -> None:
        self.write("logging.ini", FILE)
        self.invoke('    logging.config.fileConfig("logging.ini")')
        self.assertIn("of the bot", (self.folder / "bot.log").read_text("utf-8"))

    def test_dict_config_inside_a_task(self) -> None:
        self.write(
            "agent.py",
            f"""
            import logging.config
            from user_agent_sdk import user_agent
            @user_agent
            def work(logger):
                logging.config.dictConfig({DICT!r})
                logger.info("afterwards")
            """,
        )
        self.assertIn("afterwards", self.run_process("-m", "user_agent_sdk", "invoke", "agent.py").err)


if __name__ == "__main__":
    unittest.main()
