# SPDX-License-Identifier: Apache-2.0
"""Command lines: what 0.2.0 and 0.3.0 understand by each, and what this SDK does.

``LINES`` holds what they understand, None for a line that they refuse; ``tests/real/parity`` asks them again. Ours may
understand more. A line that is meant to be understood otherwise is in ``MEANT``, with the reason.
"""

from __future__ import annotations

import contextlib
import io
from importlib import import_module
from typing import Any, Optional

from user_agent_sdk.cli import history, options
from user_agent_sdk.cli.commands import ALIASES, COMMANDS, PROGRAM
from user_agent_sdk.errors import UsageError
from user_agent_sdk.settings import TABLE
from user_agent_sdk.values import switch

Understood = Optional[dict[str, Any]]

# Our destinations, by 0.2.0's parameters.
NAMES = {
    "run": {
        "agent_spec": "agent", "config_file": "config_file", "workers": "workers", "record_execution_logs": "record",
        "log_level": "log_level", "debug": "debug",
    },
    "history": {
        "agent_id": "agent", "user_agent_id": "user_agent", "limit": "limit", "db_path": "db_path",
        "export_csv": "export_csv",
    },
    "history-detail": {"record_id": "id", "db_path": "db_path"},
    "version": {},
}  # fmt: skip
NAMES["dev"] = {there: here for there, here in NAMES["run"].items() if here != "record"}
# fmt: off
MEANT = {
    "run agent.py -w -3": "less than one worker is one, with a warning",
    "run agent.py -w 0x4": "a number is written in decimal digits",
    "run agent.py -w 4.0": "a number is written in decimal digits",
    "run agent.py -w 1_0": "a number is written in decimal digits",
    "hd 0x1": "a number is written in decimal digits",
}
LINES: tuple[tuple[str, Understood], ...] = (
    ("", {"command": "help"}),
    ("run agent.py creds.json 4",
     {"command": "run", "agent_spec": "agent.py", "config_file": "creds.json", "workers": 4}),
    ("run agent.py creds.json 4 true",
     {"command": "run", "agent_spec": "agent.py", "config_file": "creds.json", "workers": 4,
      "record_execution_logs": True}),
    ("run agent.py creds.json 4 True DEBUG",
     {"command": "run", "agent_spec": "agent.py", "config_file": "creds.json", "workers": 4,
      "record_execution_logs": True, "log_level": "DEBUG"}),
    ("run agent.py creds.json 4 false debug true", None),
    ("run agent.py -w 4 creds.json",
     {"command": "run", "agent_spec": "agent.py", "config_file": "creds.json", "workers": 4}),
    ("run -w 4 agent.py creds.json",
     {"command": "run", "agent_spec": "agent.py", "config_file": "creds.json", "workers": 4}),
    ("run -p agent.py creds.json 3", None),
    ("run --path agent.py creds.json 3", None),
    ("run creds.json -p agent.py", None),
    ("run agent.py --config_file c.json", {"command": "run", "agent_spec": "agent.py", "config_file": "c.json"}),
    ("run agent.py --config-file=c.json", {"command": "run", "agent_spec": "agent.py", "config_file": "c.json"}),
    ("run agent.py --configFile c.json", None),
    ("run agent.py -c=c.json", {"command": "run", "agent_spec": "agent.py", "config_file": "c.json"}),
    ("run agent.py -cc.json", {"command": "run", "agent_spec": "agent.py", "config_file": "c.json"}),
    ("run agent.py -w4", {"command": "run", "agent_spec": "agent.py", "workers": 4}),
    ("run agent.py -w=4", {"command": "run", "agent_spec": "agent.py", "workers": 4}),
    ("run agent.py --workers=4", {"command": "run", "agent_spec": "agent.py", "workers": 4}),
    ("run agent.py -w -3", {"command": "run", "agent_spec": "agent.py", "workers": -3}),
    ("run agent.py -w 0x4", {"command": "run", "agent_spec": "agent.py", "workers": 4}),
    ("run agent.py -w 4.0", {"command": "run", "agent_spec": "agent.py", "workers": 4}),
    ("run agent.py -w 1e1", None),
    ("run agent.py -w 0", {"command": "run", "agent_spec": "agent.py", "workers": 0}),
    ("run agent.py -w 1_0", {"command": "run", "agent_spec": "agent.py", "workers": 10}),
    ("run agent.py -r", {"command": "run", "agent_spec": "agent.py", "record_execution_logs": True}),
    ("run agent.py -rd",
     {"command": "run", "agent_spec": "agent.py", "record_execution_logs": True, "debug": True}),
    ("run agent.py -dr",
     {"command": "run", "agent_spec": "agent.py", "record_execution_logs": True, "debug": True}),
    ("run agent.py -rdw4",
     {"command": "run", "agent_spec": "agent.py", "workers": 4, "record_execution_logs": True, "debug": True}),
    ("run agent.py -rw 4",
     {"command": "run", "agent_spec": "agent.py", "workers": 4, "record_execution_logs": True}),
    ("run agent.py --record-execution-logs",
     {"command": "run", "agent_spec": "agent.py", "record_execution_logs": True}),
    ("run agent.py --no-record-execution-logs",
     {"command": "run", "agent_spec": "agent.py", "record_execution_logs": False}),
    ("run agent.py --record-execution-logs=false",
     {"command": "run", "agent_spec": "agent.py", "record_execution_logs": False}),
    ("run agent.py --record-execution-logs=true",
     {"command": "run", "agent_spec": "agent.py", "record_execution_logs": True}),
    ("run agent.py --record_execution_logs",
     {"command": "run", "agent_spec": "agent.py", "record_execution_logs": True}),
    ("run agent.py -r=false", {"command": "run", "agent_spec": "agent.py", "record_execution_logs": False}),
    ("run agent.py -r=0", {"command": "run", "agent_spec": "agent.py", "record_execution_logs": False}),
    ("run agent.py -r no",
     {"command": "run", "agent_spec": "agent.py", "config_file": "no", "record_execution_logs": True}),
    ("run agent.py --no-r", None),
    ("run agent.py --debug=false", {"command": "run", "agent_spec": "agent.py", "debug": False}),
    ("run agent.py --debug=no", {"command": "run", "agent_spec": "agent.py", "debug": False}),
    ("run agent.py --debug=1", {"command": "run", "agent_spec": "agent.py", "debug": True}),
    ("run agent.py --debug true",
     {"command": "run", "agent_spec": "agent.py", "config_file": "true", "debug": True}),
    ("run agent.py --debug=t", {"command": "run", "agent_spec": "agent.py", "debug": True}),
    ("run agent.py --debug=n", {"command": "run", "agent_spec": "agent.py", "debug": False}),
    ("run agent.py --debug=Y", {"command": "run", "agent_spec": "agent.py", "debug": True}),
    ("run agent.py --no-debug", {"command": "run", "agent_spec": "agent.py", "debug": False}),
    ("run agent.py --no-debug=false", {"command": "run", "agent_spec": "agent.py", "debug": True}),
    ("run agent.py -d", {"command": "run", "agent_spec": "agent.py", "debug": True}),
    ("run agent.py -l debug", None),
    ("run agent.py -l WARN", None),
    ("run agent.py -l=INFO", {"command": "run", "agent_spec": "agent.py", "log_level": "INFO"}),
    ("run agent.py --log_level Warning", None),
    ("run agent.py --log-level=CRITICAL", {"command": "run", "agent_spec": "agent.py", "log_level": "CRITICAL"}),
    ("run agent.py --", {"command": "run", "agent_spec": "agent.py"}),
    ("run -- agent.py", {"command": "run", "agent_spec": "agent.py"}),
    ("run agent.py -w 2 -w 3", None),
    ("run agent.py --help", {"command": "help"}),
    ("run", None),
    ("run --path", None),
    ("run agent.py extra1 2 true INFO true more", None),
    ("run agent.py --empty-path", None),
    ("dev agent.py creds.json 2",
     {"command": "dev", "agent_spec": "agent.py", "config_file": "creds.json", "workers": 2}),
    ("dev agent.py creds.json 2 DEBUG true",
     {"command": "dev", "agent_spec": "agent.py", "config_file": "creds.json", "workers": 2,
      "log_level": "DEBUG", "debug": True}),
    ("dev -p agent.py -c c.json -w 2 -l DEBUG -d",
     {"command": "dev", "agent_spec": "agent.py", "config_file": "c.json", "workers": 2,
      "log_level": "DEBUG", "debug": True}),
    ("dev agent.py -r", None),
    ("history", {"command": "history"}),
    ("history AGENT", {"command": "history", "agent_id": "AGENT"}),
    ("history AGENT USER", {"command": "history", "agent_id": "AGENT", "user_agent_id": "USER"}),
    ("history AGENT USER 10 x.db out.csv",
     {"command": "history", "agent_id": "AGENT", "user_agent_id": "USER", "limit": 10, "db_path": "x.db",
      "export_csv": "out.csv"}),
    ("history -a A -u U -n 5", {"command": "history", "agent_id": "A", "user_agent_id": "U", "limit": 5}),
    ("history -n5", {"command": "history", "limit": 5}),
    ("history -n=5", {"command": "history", "limit": 5}),
    ("history -n 0", {"command": "history", "limit": 0}),
    ("history -n -1", {"command": "history", "limit": -1}),
    ("history --limit 10", {"command": "history", "limit": 10}),
    ("history --limit=10", {"command": "history", "limit": 10}),
    ("history -db x.db", {"command": "history", "db_path": "x.db"}),
    ("history -db=x.db", {"command": "history", "db_path": "x.db"}),
    ("history -dbx.db", None),
    ("history --db-path x.db", {"command": "history", "db_path": "x.db"}),
    ("history --db_path=x.db", {"command": "history", "db_path": "x.db"}),
    ("history --agent_id A", {"command": "history", "agent_id": "A"}),
    ("history --user_agent_id=U", {"command": "history", "user_agent_id": "U"}),
    ("history -e out.csv", {"command": "history", "export_csv": "out.csv"}),
    ("history --export-csv out.csv", {"command": "history", "export_csv": "out.csv"}),
    ("history --export_csv=out.csv", {"command": "history", "export_csv": "out.csv"}),
    ("history -e=out.csv", {"command": "history", "export_csv": "out.csv"}),
    ("history A -n 3 U", {"command": "history", "agent_id": "A", "user_agent_id": "U", "limit": 3}),
    ("hd 1", {"command": "history-detail", "record_id": 1}),
    ("hd 1 x.db", {"command": "history-detail", "record_id": 1, "db_path": "x.db"}),
    ("hd --record-id 1", {"command": "history-detail", "record_id": 1}),
    ("hd --record_id=1", {"command": "history-detail", "record_id": 1}),
    ("hd --record-id 1 --db-path x.db", {"command": "history-detail", "record_id": 1, "db_path": "x.db"}),
    ("hd -db x.db 1", {"command": "history-detail", "record_id": 1, "db_path": "x.db"}),
    ("history-detail 1", {"command": "history-detail", "record_id": 1}),
    ("history-detail 1 -db x.db", {"command": "history-detail", "record_id": 1, "db_path": "x.db"}),
    ("history_detail 1", None),
    ("hd 0x1", {"command": "history-detail", "record_id": 1}),
    ("hd -1", {"command": "history-detail", "record_id": -1}),
    ("hd", None),
    ("version", {"command": "version"}),
    ("--version", {"command": "version"}),
    ("-h", {"command": "help"}),
    ("--help", {"command": "help"}),
    ("version --help", {"command": "help"}),
    ("dev --help", {"command": "help"}),
    ("Run agent.py", None),
    ("run agent.py --WORKERS 4", None),
    ("run agent.py --no-workers", None),
    ("run agent.py --empty-config-file", None),
    ("run agent.py -wd 4", None),
)
# fmt: on


def ours(line: str) -> Understood:
    """What this SDK understands by a line, in 0.2.0's names; None when it is refused."""
    words = line.split() or ["-h"]
    name = ALIASES.get(words[0], words[0])
    if name in ("-h", "--help", "--version"):
        return {"command": name.lstrip("-").replace("h", "help") if name == "-h" else name.lstrip("-")}
    if name not in COMMANDS:
        return None
    module = import_module(f"user_agent_sdk.cli.{name.replace('-', '_')}")
    parser = options.Parser(f"{PROGRAM} {words[0]}", *COMMANDS[name])
    module.configure(parser)
    options.add_settings(parser, name)
    try:
        args = vars(parser.parse(words[1:]))
        found = {there: args[here] for there, here in NAMES[name].items() if args.get(here) is not None}
        if name in ("run", "dev"):
            found["agent_spec"] = args["agent"] or args["path"]
            if not found["agent_spec"] or (args["agent"] and args["path"]):
                return None
        return {"command": name, **{there: _value(there, text) for there, text in found.items()}}
    except SystemExit:  # -h, which writes to stdout
        return {"command": "help"}
    except (UsageError, ValueError):
        return None


def _value(name: str, text: str) -> Any:
    if name == "workers":
        return next(row for row in TABLE if row.name == "workers").parse(text)
    if name in ("record_execution_logs", "debug"):
        return switch(text)
    if name == "log_level":
        return next(row for row in TABLE if row.name == "log_level").parse(text)
    if name == "limit":
        limit = history._limit(text)
        return -1 if limit is None else limit
    return int(text) if name == "record_id" else text


def quietly(line: str) -> Understood:
    """The same, with nothing on stdout."""
    with contextlib.redirect_stdout(io.StringIO()):
        return ours(line)


def difference(line: str, there: Understood) -> str:
    """"same", "better (why)" or "other (why)"; "DIFFERS" for what nobody meant."""
    here = quietly(line)
    if line in MEANT:
        return f"other ({MEANT[line]})"
    if here == there:
        return "same"
    return "better (understood)" if there is None else f"DIFFERS: {there} there, {here} here"
