# SPDX-License-Identifier: Apache-2.0
"""Small scripts of 0.2.0 and 0.3.0, each a kind of its own, to be run there and here.

``differs`` names what is meant to be otherwise here, and why: of "status", "output", "attempts", "reason", "logs",
"history" or "files". The table of the README's "Moving here" is made of ``MOVES``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

TOP = "import json, logging, os, sys\nfrom user_agent_sdk import user_agent\n"

# What is meant to be otherwise: by a key that rows refer to, what there was, what there is, and what to do.
MOVES: dict[str, tuple[str, str, str]] = {
    "type": ("a failure's reason is the first argument of its error: `boom`, `2` for a missing file; the history has "
             "it whole", "its type and text: `ValueError: boom`; 500 characters, in the history too",
             "look for a part of it"),
    "traceback": ("a traceback shows the SDK's own frames", "it starts with your function", "nothing"),
    "recorded": ("runs that return a dataclass or a TaskResult are not recorded", "they are", "nothing"),
    "lost": ("a result that JSON can't hold is lost, and its task times out; of two keys that are one text there (`1`, "
             "`\"1\"`) one is lost",
             "the task fails for good, and its reason names the place and what to do", "nothing"),
    "half": ("half a surrogate pair in a result is sent as `?`", "the task's log says so, too", "nothing"),
    "kept": ("some values (bytes, Enum, Decimal in a dict, an exception, a subclass of TaskResult, …) lose the result, "
             "or become an empty object, or one of private fields",
             "bytes are base64, an Enum is its value, sets are arrays, an exception is its text, such a TaskResult is "
             "a TaskResult", "nothing"),
    "seconds": ("a timedelta is text, `0:01:30`", "seconds, `90.0`", "read a number in the next step"),
    "null": ("None fields of a dataclass in a list or a dict are left out", "they are null",
             "nothing, in most workflows"),
    "array": ("a range, a deque, a view of a dict is text", "an array", "nothing"),
    "named": ("a parameter that is none of the five names gets its default, or its lack is an error of each try",
              "it is taken from the input by name", "rename a parameter that must not come from the input"),
    "exit": ("`sys.exit()` in a function ends a worker's thread, and the task times out", "the try fails", "nothing"),
    "own lines": ("a TaskResult that is returned has none of the logger's lines", "it has them", "nothing"),
    "came": ("the history has an input as the function left it", "as it came", "nothing"),
    "file": ("a log file of `basicConfig` or `dictConfig` has the lines of other loggers only",
             "those of the tasks and the SDK too", "give its handler a filter, if they are unwanted"),
    "siblings": ("modules beside the script can't be imported", "they can", "nothing"),
    "fit": ("a line of the log whose arguments don't fit (`logger.info('%d', 'x')`) fails the task", "the line says so",
            "nothing"),
    "handlers": ("`logger.handlers` has the handler that fills the task's log", "it is empty",
                 "add handlers of your own"),
    "models": ("`task.to_task_result()` and `task.workflow_task` are objects of Conductor's models",
               "a TaskResult of `user_agent_sdk`, without `log()`, `to_dict()` and `to_str()`; the fields that the "
               "platform sent", "make one of `conductor.client.http.models`; expect absent fields"),
    "early": ("what the script does at its top reaches its worker: `os.environ` (`conductor_worker_domain`), "
              "`os.chdir`, a `credentials.json` that it writes", "settings and credentials are read before the script",
              "do it before the worker is started, or write `domain=`"),
    "runner": ("`UserAgentRunner(config_file=…)` raises for a file that is missing (FileNotFoundError) or is no JSON",
               "its `run()` raises, a UserAgentError", "catch it there"),
    "no status": ("a TaskResult without a status is refused by the platform", "it has completed", "nothing"),
}  # fmt: skip
# The rest of that table: what no script shows on the platform.
ELSEWHERE: tuple[tuple[str, str, str], ...] = (
    ("`import requests` (rich, dateutil, dacite, urllib3; with 0.3.0 also httpx, PIL, websockets), which came along",
     "they have to be installed", "`pip install requests`: the error names what is missing"),
    ("`useragent cua`, `chrome_bridge`, `cua_ui` of 0.3.0: a bridge to a browser",
     "not part of this package, which needs nothing beyond the standard library", "stay with 0.3.0 for that agent"),
    ("other modules of `conductor.client` than the four models of a task (clients, workflow definitions)",
     "not served", "`pip install conductor-python`: where it is installed, it is the one that is imported"),
    ("a file `conductor.py` beside the script is not seen", "it is imported in place of `conductor`", "rename it"),
    ("plain http to another machine works", "refused, save to a Conductor without a key", "use https"),
    ("certificates of `certifi` are trusted, redirects are followed, `.netrc` is read",
     "certificates of the system, `caFile` or `REQUESTS_CA_BUNDLE` are; no redirect is followed, no `.netrc` read",
     "set `caFile` where the system lacks the authority; give `serviceUrl` the service's own address"),
    ("a `credentials.json` of another user is used; so is an `execution_history.db` that is another's, or that others "
     "may write", "refused, where it was found by its name; `-r` refuses such a history in any case",
     "`chown` and `chmod` it, or name it: `-c FILE`, `-db FILE`"),
    ("CSV has ten columns; cells that begin like a formula run in a spreadsheet; no file is made where nothing is "
     "found",
     "eight more columns after those; such cells have an apostrophe before them; the header alone is written",
     "read columns by name, and cut the apostrophe off"),
    ("`history` is sorted by start", "by end", "sort by `Started At`"),
    ("`execution_history.db_path = …`, or a `record` of the script's own, counts at any time; the file follows "
     "`os.chdir`", "it counts at the script's top; the file lies where the worker was started", "write it there"),
    ("an `AgentWorker` has the methods of Conductor's `WorkerInterface`, and writes a row with `record_logs=True`; "
     "`_run_workers` of a subclass of `UserAgentRunner` is called",
     "it has `execute` and its options; a runner is what `useragent run` is",
     "let `useragent run -r` run the function"),
    ("`Task(\"SIMPLE\")`, `swagger_types` and `attribute_map` of a model", "a Task is made of what a platform sends",
     "`Task({\"taskType\": \"SIMPLE\"})`"),
    ("a module gives names that it has imported from elsewhere (`rich`, `cyclopts`, the standard library); `cli.cli` "
     "has the functions of the commands", "its own names, and those of this package; `cli.cli` has `app`",
     "import them from where they are; give `app` the words of the command"),
    ("a `UserAgentRunner` in a script without any logging shows warnings only", "information, too",
     "`logging.basicConfig(level=\"WARNING\")`"),
    ("an agent that can't start runs on without a worker", "it says why, and ends with an exit code", "nothing"),
    ("an option or a function that can't work is overlooked: `poll_interval=\"500\"`, one id for two functions, "
     "a method decorated in its class, `\"platform\": \"mine\"` or `\"debug\": \"very\"` in `credentials.json`",
     "the worker does not start, and says why", "mend it, or take it out"),
    ("`agent_id=[\"a\", \"b\"]` serves both ids", "the worker does not start, and says why",
     "put `@user_agent(agent_id=…)` on the function once for each"),
    ("`work.__wrapped__` is the function under `@user_agent()`", "`work` is that function itself", "write `work`"),
    ("the script's own handler of SIGTERM runs", "`run` has its own; `atexit` and `@on_stop` run", "use one of those"),
    ("an annotation of `input_data` is a comment", "the input is checked and converted by it", "take it off"),
    ("`history` and `hd` end with 0 without a database, or such an execution, or a place for the CSV",
     "they end with 1", "nothing"),
    ("Ctrl+C drops running tasks; SIGTERM kills", "both let running tasks end and deliver", "nothing"),
    ("a result is lost after an outage of a minute", "it is delivered when the platform is back", "nothing"),
    ("each task's log holds the lines of all tasks before it", "its own lines only", "nothing"),
    ("each worker polls once an interval, and waits an interval after each task",
     "one poll an interval for all, and none to wait for between tasks", "nothing"),
    ("a line of a task's log has any length", "8,000 characters, without its middle if it is longer",
     "return what is longer, or write it to a file"),
    ("numbers of a command line may be `0x4` or `4.0`", "decimal digits only", "write `4`"),
)  # fmt: skip


def table() -> str:
    """That of the README's "Moving here"."""
    rows = [*ELSEWHERE, *MOVES.values()]
    return "\n".join(["| what you had | what you have | what to do |", "|---|---|---|", *map(_line, rows)])


def _line(row: tuple[str, str, str]) -> str:
    return "| " + " | ".join(row) + " |"


class Script(NamedTuple):
    name: str
    code: str
    differs: Mapping[str, str] = {}  # what -> a key of MOVES
    given: Mapping[str, Any] = {"a": 1, "b": "x"}
    options: tuple[str, ...] = ()
    environ: Mapping[str, str] = {}
    files: Mapping[str, str] = {}  # beside the script
    credentials: Mapping[str, Any] = {}  # more of them
    made: str = ""  # a file whose text is compared

    @property
    def text(self) -> str:
        return TOP + textwrap.dedent(self.code)


def function(signature: str, body: str, before: str = "", decorator: str = "@user_agent()") -> str:
    return f"{before}\n{decorator}\ndef work({signature}):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"


def returns(name: str, expression: str, before: str = "", **more: Any) -> Script:
    return Script(f"returns {name}", function("input_data", f"return {expression}", before), **more)


def raises(name: str, statement: str, before: str = "", **more: Any) -> Script:
    meant = {"reason": "type", "logs": "traceback", "history": "type", **more.pop("differs", {})}
    return Script(f"raises {name}", function("input_data", statement, before), differs=meant, **more)


RESULT = "from conductor.client.http.models import Task, TaskResult, TaskExecLog\n"
DATA = (
    "from dataclasses import dataclass\nfrom typing import Optional\n"
    "@dataclass\nclass Item:\n    x: int\n    y: Optional[int] = None\n"
)
NO_RETRY = "from user_agent_sdk.utils.exception import NonRetryableException\n"
WHOLE = ("status", "output", "attempts", "reason", "logs", "history")
OWN = {"logs": "own lines", "history": "recorded"}

SCRIPTS: tuple[Script, ...] = (
    # arguments
    Script("takes input_data", function("input_data", "return sorted(input_data)")),
    Script("takes all five", function("input_data, logger, task, platform_task_id, platform_agent_id",
           "return [input_data['a'], logger is not None, task.input_data, platform_task_id, platform_agent_id]"),
           given={"a": 1, "__task_id__": "p-1", "__deployed_workflow_id__": "d-1"}),
    Script("takes nothing", function("", "return 'ran'")),
    Script("takes a default of its own", function("input_data, times=3", "return times")),
    Script("takes a name of the input", function("a", "return a"),
           {"status": "named", "output": "named", "attempts": "named", "reason": "named", "logs": "named",
            "history": "named"}),
    Script("takes keywords only", function("*, input_data, logger", "return input_data['a']")),
    Script("takes *args", function("input_data, *args", "return [input_data['a'], len(args)]")),
    Script("takes *args and **kwargs", function("*args, **kwargs", "return [len(args), kwargs]")),
    Script("takes **kwargs beside input_data", function("input_data, **kw", "return kw")),
    Script("is wrapped by functools", function("input_data", "return input_data['a']",
           "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def inner(*args, **kwargs):\n"
           "        return f(*args, **kwargs)\n    return inner", "@user_agent()\n@deco")),
    Script("is wrapped by what adds an argument", function("input_data, browser", "return [browser, input_data['a']]",
           "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def inner(*args, **kwargs):\n"
           "        return f(*args, browser='chrome', **kwargs)\n    return inner", "@user_agent()\n@deco")),
    Script("is patched", function("mocked, input_data", "return input_data['a']", "from unittest import mock",
           "@user_agent()\n@mock.patch('os.getcwd')")),
    Script("annotates what the platform gives", function("input_data, task: dict, platform_task_id: int",
           "return [task.input_data['a'], platform_task_id]")),
    Script("sets its registry entry", function("input_data", "return 'old'")
           + "from user_agent_sdk.decorators import user_agent_registry\n"
           "user_agent_registry[-1]['func'] = lambda input_data: 'new'\n"),
    Script("is wrapped without functools", function("", "return 'inner'",
           "def deco(f):\n    return lambda *args, **kwargs: f(*args, **kwargs)", "@user_agent()\n@deco")),
    Script("passes the platform's names on", function("input_data, logger", "return input_data['a']",
           "def deco(f):\n    def inner(input_data, logger, **kw):\n"
           "        return f(input_data=input_data, logger=logger, **kw)\n    return inner", "@user_agent()\n@deco")),
    Script("is async", "@user_agent()\nasync def work(input_data):\n    import asyncio\n    await asyncio.sleep(0)\n"
           "    return input_data['a']\n"),
    Script("is a lambda", "user_agent()(lambda input_data: input_data['b'])\n"),
    Script("has keys of underscores", function("input_data", "return sorted(input_data)"),
           given={"a": 1, "__x__": 2, "__": 3, "___": 4, "__y": 5, "_": 6}),
    Script("changes its input", function("input_data", "input_data['a'] = 9\nreturn input_data"), {"history": "came"}),
    Script("reads the task", function("task",
           "return [task.retry_count, task.workflow_task.name == task.task_def_name, hasattr(task, 'nothing'),"
           " sorted(task.to_dict())[:3], isinstance(task.to_str(), str)]")),
    Script("reads the workflow's task", function("task", "return len(task.workflow_task.to_dict())"),
           {"output": "models", "history": "models"}),
    Script("calls itself directly", function("input_data", "return helper(1)",
           "@user_agent(agent_id='other')\ndef helper(x):\n    return x + 1\n")),
    # results
    returns("a whole number", "5"), returns("a fraction", "0.5"), returns("text", "'ü'"), returns("nothing", "None"),
    returns("true", "True"), returns("a dict", "{'x': {'y': [1, None]}}"), returns("an empty dict", "{}"),
    returns("half a surrogate pair", "'a\\udcff'", differs={"logs": "half", "history": "half"}),
    returns("a list", "[1, 'x', None, [2.5]]"), returns("a tuple", "(1, (2, 3))"),
    returns("number keys", "{1: 'x', 2.5: 'y', None: 'z', True: 'w'}"),
    returns("a date", "[date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5, 6)]", "from datetime import date, datetime"),
    returns("a uuid", "uuid.UUID(int=5)", "import uuid"),
    returns("a dataclass", "Item(1)", DATA, differs={"history": "recorded"}),
    returns("dataclasses in a list", "[Item(1), Item(2, 3)]", DATA, differs={"output": "null", "history": "null"}),
    returns("an object", "Thing()",
            "class Thing:\n    def __init__(self):\n        self.x, self.y, self._z = 1, None, [2]"),
    returns("objects in a list", "[SimpleNamespace(x=1, y=None), SimpleNamespace()]",
            "from types import SimpleNamespace"),
    returns("an exact fraction", "Fraction(1, 3)", "from fractions import Fraction"),
    returns("an address", "ipaddress.ip_address('10.0.0.1')", "import ipaddress"),
    returns("a complex number", "1 + 2j"), returns("a time zone", "timezone.utc", "from datetime import timezone"),
    returns("a path", "PurePosixPath('/a/b')", "from pathlib import PurePosixPath"),
    returns("a decimal", "Decimal('1.50')", "from decimal import Decimal"),
    returns("a range", "range(3)", differs={"output": "array", "history": "array"}),
    returns("a deque", "deque([1, 2])", "from collections import deque",
            differs={"output": "array", "history": "array"}),
    returns("a view of a dict", "{'a': 1}.values()", differs={"output": "array", "history": "array"}),
    returns("an exception", "ValueError('x')", differs={"output": "kept", "history": "kept"}),
    returns("two keys that are one text", "{1: 'x', '1': 'y'}", differs=dict.fromkeys(WHOLE, "lost")),
    returns("a set", "{1}", differs={"output": "kept", "history": "kept"}),
    returns("a timedelta", "timedelta(minutes=1, seconds=30)", "from datetime import timedelta",
            differs={"output": "seconds", "history": "seconds"}),
    returns("an Enum", "Colour.RED", "from enum import Enum\nclass Colour(Enum):\n    RED = 'red'",
            differs=dict.fromkeys(WHOLE, "kept")),
    returns("dates in a dict", "{'day': date(2026, 1, 2)}", "from datetime import date",
            differs=dict.fromkeys(WHOLE, "kept")),
    # results of Conductor's kind
    returns("a TaskResult", "TaskResult(status='COMPLETED', output_data={'x': 1})", RESULT, differs=OWN),
    returns("a TaskResult that failed", "TaskResult(status='FAILED', output_data={'x': 1},"
            " reason_for_incompletion='no luck')", RESULT, differs=OWN),
    returns("a TaskResult that failed for good", "TaskResult(status='FAILED_WITH_TERMINAL_ERROR',"
            " reason_for_incompletion='never')", RESULT, differs=OWN),
    Script("returns a TaskResult to be called again", function("task",
           "if task.poll_count > 1:\n    return {'seen': task.output_data, 'poll': task.poll_count}\n"
           "return TaskResult(status=TaskResultStatus.IN_PROGRESS, output_data={'x': 1}, callback_after_seconds=1)",
           RESULT + "from conductor.client.http.models.task_result_status import TaskResultStatus"),
           {"history": "recorded"}),
    Script("makes a TaskResult step by step", function("task, logger",
           "logger.info('a line')\n"
           "result = task.to_task_result()\nresult = TaskResult(task_id=task.task_id, status='COMPLETED')\n"
           "result.add_output_data('x', 1)\n"
           "result.logs = [TaskExecLog('mine', task.task_id, 1700000000000)]\nreturn result", RESULT), OWN),
    returns("a TaskResult without a status", "TaskResult(output_data={'x': 1})", RESULT,
            differs=dict.fromkeys(WHOLE, "no status")),
    returns("a TaskResult of its own kind", "Mine(status='COMPLETED', output_data={'x': 1})",
            RESULT + "class Mine(TaskResult):\n    pass", differs={"output": "kept", "history": "kept"}),
    returns("not a number", "float('nan')", differs=dict.fromkeys(WHOLE, "lost")),
    # exceptions
    Script("calls sys.exit", function("input_data", "sys.exit(3)"), dict.fromkeys(WHOLE, "exit")),
    raises("an exception", "raise ValueError('boom')"), raises("one without a message", "raise ValueError()"),
    raises("a KeyError", "input_data['missing']"), raises("one with a number", "raise RuntimeError(404)"),
    raises("one of the system", "open('/nonexistent')"), raises("a long one", "raise ValueError('x' * 600)"),
    raises("one of two arguments", "raise RuntimeError('code', 7)"),
    raises("NonRetryableException without a message", "raise NonRetryableException()", NO_RETRY),
    raises("an AssertionError", "assert input_data == 2, 'not two'"),
    raises("one from another",
           "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise RuntimeError('outer') from error"),
    raises("NonRetryableException", "raise NonRetryableException('never again')", NO_RETRY, differs={"reason": ""}),
    raises("a subclass of it", "raise Mine('never', 7)", NO_RETRY + "class Mine(NonRetryableException):\n    pass",
           differs={"reason": ""}),
    raises("a subclass with a message property", "raise Mine('never')",
           NO_RETRY + "class Mine(NonRetryableException):\n    message = property(lambda self: self.args[0])",
           differs={"reason": ""}),
    raises("it where it is caught", "try:\n    raise NonRetryableException('x')\nexcept Exception as error:\n"
           "    return str(error)", NO_RETRY),
    Script("fails first and then succeeds", function("task", "if task.retry_count < 2:\n    raise OSError('not yet')\n"
           "return task.retry_count"), {"logs": "traceback"}),
    # logging
    Script("logs lines of each level", function("logger",
           "for name in ('debug', 'info', 'warning', 'error', 'critical'):\n"
           "    getattr(logger, name)('a %s line', name)")),
    Script("logs arguments and extras", function("logger", "logger.info('%d of %s', 1, 'two', extra={'x': 1})")),
    Script("logs what does not fit its format", function("logger", "logger.info('%d', 'x')"),
           dict.fromkeys(WHOLE, "fit")),
    Script("counts its logger's handlers", function("logger", "return len(logger.handlers)"),
           {"output": "handlers", "history": "handlers"}),
    Script("logs by the task's name", function("logger",
           "logging.getLogger(logger.name).info('by name')\nlogging.getLogger(logger.name + '.excel').info('below')")),
    Script("logs an exception that it caught", function("logger",
           "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logger.exception('caught')"), {"logs": "traceback"}),
    Script("logs with -l WARNING", function("logger", "logger.info('dropped')\nlogger.warning('kept')"),
           options=("-l", "WARNING")),
    Script("sets a level for the SDK's loggers", function("logger", "logger.info('dropped')\nlogger.error('kept')",
           "logging.getLogger('user_agent_sdk').setLevel('ERROR')")),
    Script("configures logging with a number", function("logger", "logger.info('dropped')\nlogger.error('kept')",
           "from user_agent_sdk.utils.logger import configure_logging\nconfigure_logging(35)")),
    Script("logs with -l DEBUG", function("logger", "logger.debug('shown')"), options=("-l", "DEBUG")),
    Script("has debug in its credentials", function("logger", "logger.debug('hidden')\nlogger.info('shown')"),
           credentials={"debug": True}),
    Script("sets up basicConfig with a file", function("logger", "logging.info('mine')\nlogger.info('of the task')",
           "logging.basicConfig(filename='bot.log', level='INFO', format='%(message)s')"),
           differs={"files": "file"}, made="bot.log"),
    Script("sets up dictConfig", function("logger", "logging.getLogger('bot').info('mine')\nlogger.info('of the task')",
           "import logging.config\n"
           "logging.config.dictConfig({'version': 1, 'root': {'level': 'INFO', 'handlers': ['f']},"
           " 'handlers': {'f': {'class': 'logging.FileHandler', 'filename': 'bot.log'}}})"),
           differs={"files": "file"}, made="bot.log"),
    Script("sets the root's level", function("logger", "logger.info('of the task')",
           "logging.getLogger().setLevel(logging.WARNING)")),
    Script("pickles its logger", function("logger",
           "import pickle\npickle.loads(pickle.dumps(logger)).info('unpickled')")),
    Script("copies its logger", function("logger",
           "import copy\ncopy.deepcopy({'l': logger})['l'].info('copied')")),
    Script("logs in a thread", function("logger", "import threading\nt = threading.Thread(target=logger.info,"
           " args=('from a thread',))\nt.start()\nt.join()")),
    # imports
    Script("imports decorators", function("input_data", "return len(user_agent_registry)",
           "from user_agent_sdk.decorators import user_agent, user_agent_registry, clear_user_agent_registry\n"
           "clear_user_agent_registry()")),
    Script("imports get_logger", function("input_data", "get_logger('bot').info('x')\nreturn get_logger('bot').name",
           "from user_agent_sdk.utils.logger import get_logger")),
    Script("imports submodules of the models", function("input_data", "return [TaskResultStatus.FAILED.value,"
           " TaskExecLog('x').log, TaskResult(task_id='t').task_id]",
           "from conductor.client.http.models.task_result import TaskResult\n"
           "from conductor.client.http.models.task_exec_log import TaskExecLog\n"
           "from conductor.client.http.models.task_result_status import TaskResultStatus")),
    Script("imports the rest", function("input_data", "return [UserAgentRunner.__name__,"
           " Credentials.__name__, AgentLogHandler().level, AgentWorker.__name__, callable(run_command)]",
           "from user_agent_sdk.user_agent_runner import UserAgentRunner, RunnerConfig\n"
           "from user_agent_sdk.credentials import Credentials\nfrom user_agent_sdk.agent_worker import AgentWorker\n"
           "from user_agent_sdk.utils.agent_log_handler import AgentLogHandler\n"
           "from user_agent_sdk.cli.run import run_command\nfrom user_agent_sdk.cli import app")),
    Script("makes a runner of a file that is missing", function("input_data", "return said",
           "from user_agent_sdk.user_agent_runner import UserAgentRunner\nsaid = 'made'\n"
           "try:\n    UserAgentRunner(config_file='missing.json')\nexcept FileNotFoundError:\n    said = 'missing'"),
           {"output": "runner", "history": "runner"}),
    Script("imports what a module imported", function("input_data", "return [SERVICE_URL, AUTH_URL,"
           " TaskResult(status='COMPLETED').status.name, NonRetryableException.__name__]",
           "from user_agent_sdk.user_agent_runner import SERVICE_URL, AUTH_URL\n"
           "from user_agent_sdk.agent_worker import TaskResult, NonRetryableException")),
    Script("imports all", function("input_data", "return run.__module__",
           "from subprocess import run\nfrom user_agent_sdk import *")),
    Script("records elsewhere", function("input_data", "return execution_history.db_path",
           "from user_agent_sdk.utils.execution_history import execution_history\n"
           "execution_history.db_path = 'other.db'")),
    Script("records by a function of its own", function("input_data", "return 1",
           "from user_agent_sdk.utils.execution_history import execution_history\n"
           "def keep(**row):\n    with open('rows.json', 'a') as file:\n"
           "        json.dump([row['status'], row['input_data'], row['output_data'], row['error_message']], file)\n"
           "execution_history.record = keep"), made="rows.json"),
    Script("has a RunnerConfig by its places", function("input_data",
           "one = RunnerConfig('i', 's', 'https://x.y/api', 'https://x.y/t', 'me', True)\n"
           "return [one.service_url, one.auth_url, one.agent_id, one.debug]",
           "from user_agent_sdk.user_agent_runner import RunnerConfig")),
    Script("keeps rows in memory", function("input_data", "kept = ExecutionHistory(':memory:')\n"
           "kept.record('t', 'a', 'u', '2026-01-01', '2026-01-02', 'success', '{}')\n"
           "return [kept.get_history()[0][1:4], os.path.exists(':memory:'), TaskExecLog('x').to_str()]",
           "from user_agent_sdk.utils.execution_history import ExecutionHistory\n"
           "from conductor.client.http.models import TaskExecLog")),
    Script("imports a sibling without further ado", function("input_data", "return nearby.VALUE", "import nearby"),
           dict.fromkeys(WHOLE, "siblings"), files={"nearby.py": "VALUE = 42\n"}),
    Script("imports a sibling", function("input_data", "return nearby.VALUE", "sys.path.insert(0, '.')\nimport nearby"),
           files={"nearby.py": "VALUE = 42\n"}),
    Script("has a sibling called like the library's", function("input_data", "import fractions\n"
           "return str(fractions.Fraction(1, 2))"), files={"decimal.py": "raise RuntimeError('the wrong one')\n"}),
    Script("reads a file of its folder", function("input_data", "return open('data.txt').read()"),
           files={"data.txt": "there"}),
    Script("knows its own file and name", function("input_data", "return [os.path.basename(__file__), __name__]")),
    # options and environment
    Script("has workers=0", function("input_data", "return 1", decorator="@user_agent(workers=0)")),
    Script("has workers=True", function("input_data", "return 1", decorator="@user_agent(workers=True)")),
    Script("has an interval below 0", function("input_data", "return 1", decorator="@user_agent(poll_interval=-5)")),
    Script("has an interval of the environment that is none", function("input_data", "return 1"),
           environ={"conductor_worker_polling_interval": "abc"}),
    Script("chooses a domain at its top", function("input_data", "return 1",
           "os.environ['conductor_worker_domain'] = 'nobody'"), dict.fromkeys(WHOLE, "early")),
    Script("has -w 0", function("input_data", "return 1"), options=("-w", "0")),
    Script("has worker_id=''", function("task", "return task.worker_id != ''", decorator="@user_agent(worker_id='')")),
    Script("has a worker_id", function("task", "return task.worker_id", decorator="@user_agent(worker_id='me')")),
    Script("has poll_interval=0", function("input_data", "return 1", decorator="@user_agent(poll_interval=0)")),
    Script("has its interval from the environment", function("input_data", "return 1"),
           environ={"conductor_worker_polling_interval": "200"}),
    Script("has CONDUCTOR_SERVER_URL beside it", function("input_data", "return 1"),
           environ={"CONDUCTOR_SERVER_URL": "http://127.0.0.1:9/api"}),
    Script("has arguments in their order", function("input_data", "return 1"), options=("credentials.json", "2")),
    Script("has switches with values", function("input_data", "return 1"),
           options=("--debug=false", "--config_file", "credentials.json")),
)  # fmt: skip

# Of 0.3.0: some of the same, one of a kind, and what it has of its own.
_BOTH = {
    "takes all five", "takes **kwargs beside input_data", "is async", "reads the task",
    "returns a dict", "returns a dataclass", "returns objects in a list", "returns a TaskResult that failed for good",
    "returns a TaskResult to be called again", "makes a TaskResult step by step", "calls sys.exit",
    "raises an exception", "raises NonRetryableException", "fails first and then succeeds", "logs lines of each level",
    "sets up basicConfig with a file", "imports the rest", "imports submodules of the models",
    "has CONDUCTOR_SERVER_URL beside it", "has arguments in their order", "has switches with values",
}
NEWER: tuple[Script, ...] = (
    *(script for script in SCRIPTS if script.name in _BOTH),
    Script("makes addresses", function("input_data", "base = 'https://x.example/'\n"
           "return [generate_service_url(base), generate_auth_url(base)]",
           "from user_agent_sdk.utils.url_generator import generate_service_url, generate_auth_url")),
    Script("has a RunnerConfig with a base_url", function("input_data",
           "one = RunnerConfig('id', 'secret', 'https://x.example', 'me')\nreturn [one.base_url, one.agent_id]",
           "from user_agent_sdk.user_agent_runner import RunnerConfig")),
    Script("has a RunnerConfig of defaults", function("input_data", "one = RunnerConfig('i', 's')\n"
           "two = RunnerConfig('i', 's', 'https://x.y', 'a', True)\n"
           "half = RunnerConfig('i', 's', service_url='https://x.y/api')\n"
           "return [one.base_url, one.service_url, one.auth_url, two.debug, half.auth_url, DEFAULT_BASE_URL]",
           "from user_agent_sdk.user_agent_runner import DEFAULT_BASE_URL, RunnerConfig")),
    Script("has Credentials with a base_url", function("input_data",
           "return Credentials('id', 'secret', 'https://x.example/').base_url",
           "from user_agent_sdk.credentials import Credentials")),
    Script("has a baseUrl beside both addresses", function("input_data", "return 1"),
           credentials={"baseUrl": "https://x.example"}),
)  # fmt: skip
