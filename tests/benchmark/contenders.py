# SPDX-License-Identifier: Apache-2.0
"""The workers that are measured, each as a command for a process of its own, and the work that they are given."""

from __future__ import annotations

import compileall
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from user_agent_sdk import _build

DATA = Path(__file__).resolve().parents[1] / "data"


class Work(NamedTuple):
    """A task's function, the same text for all contenders, and the input of each task."""

    source: str
    given: dict[str, Any]


SMALL = Work(
    """
def bench(input_data, logger):
    return {"sum": input_data["num1"] + input_data["num2"]}
""",
    {"num1": 2, "num2": 3},
)
LARGE = Work(
    """
def bench(input_data, logger):
    return {"text": input_data["text"]}
""",
    {"text": "0123456789abcdef" * 6400},
)
LOGS = Work(
    """
def bench(input_data, logger):
    for number in range(100):
        logger.info("line %d of a task", number)
    return {"sum": input_data["num1"] + input_data["num2"]}
""",
    SMALL.given,
)
ASYNC = Work(
    """
import asyncio

async def bench(input_data, logger):
    await asyncio.sleep(0)
    return {"sum": input_data["num1"] + input_data["num2"]}
""",
    SMALL.given,
)

AGENT = """
from user_agent_sdk import user_agent
bench = user_agent()(bench)
"""

# Two exchanges a task and no more: what a loop costs that has no guarantees.
BARE = """
import http.client, json, logging, sys, threading, time
from work import bench
port, threads, authority = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]

class Lines(logging.Handler):
    def emit(self, record):
        created_ms = int(record.created * 1000)
        self.lines.append({"log": record.getMessage(), "taskId": self.task_id, "createdTime": created_ms})

def connect():
    if not authority:
        return http.client.HTTPConnection("127.0.0.1", port)
    import ssl
    return http.client.HTTPSConnection("127.0.0.1", port, context=ssl.create_default_context(cafile=authority[0]))

def runner():
    if not bench.__code__.co_flags & 0x80:
        return lambda value: value
    import asyncio
    return asyncio.new_event_loop().run_until_complete

def work():
    connection, run, logger, handler = connect(), runner(), logging.Logger("bench"), Lines()
    logger.addHandler(handler)
    headers = {"Authorization": "Bearer " + "t" * 900, "Content-Type": "application/json"}
    while True:
        connection.request("GET", "/api/tasks/external/poll/bench?workerid=bare", headers=headers)
        reply = connection.getresponse()
        body = reply.read()
        if reply.status == 204:
            return
        task = json.loads(body)
        handler.task_id, handler.lines = task["taskId"], []
        result = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"], "status": "COMPLETED",
                  "workerId": "bare", "outputData": run(bench(task["inputData"], logger)), "logs": handler.lines}
        connection.request("POST", "/api/tasks/external", json.dumps(result).encode(), headers)
        connection.getresponse().read()

workers = [threading.Thread(target=work) for _ in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
"""

# Bytes that were made before, over sockets that are written in a row and then read in a row: the platform's limit.
RAW = """
import socket, sys
port, connections = int(sys.argv[1]), int(sys.argv[2])
sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
token = b"Authorization: Bearer " + b"t" * 900
poll = b"GET /api/tasks/external/poll/bench?workerid=raw HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n" + token + b"\\r\\n\\r\\n"
body = b'{"taskId":"t-1","workflowInstanceId":"w-1","status":"COMPLETED","workerId":"raw","outputData":{"sum":5}}'
head = b"POST /api/tasks/external HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nContent-Length: %d\\r\\n" % len(body) + token
report = head + b"\\r\\n\\r\\n" + body
while sockets:
    for one in sockets:
        one.sendall(poll)
    sockets = [one for one in sockets if b" 204 " not in one.recv(65536)[:16]]
    for one in sockets:
        one.sendall(report)
    for one in sockets:
        one.recv(65536)
"""

CONDUCTOR_PYTHON = """
import logging, sys
from conductor.client.automator.task_handler import TaskHandler
from conductor.client.configuration.configuration import Configuration
from conductor.client.worker.worker import Worker
import work

def bench(task):
    return work.bench(task.input_data, logging.getLogger("bench"))

if __name__ == "__main__":
    url, threads = sys.argv[1], int(sys.argv[2])
    worker = Worker("bench", bench, poll_interval=100, thread_count=threads)
    configuration = Configuration(server_api_url=url)
    with TaskHandler(workers=[worker], configuration=configuration, scan_for_annotated_workers=False) as handler:
        handler.start_processes()
        handler.join_processes()
"""

SCRIPTS = {"bare": BARE, "raw": RAW, "conductor-python": CONDUCTOR_PYTHON}


class Contender(NamedTuple):
    """``kind``: ours, before, seed or a key of SCRIPTS; ``options``: of our command line."""

    name: str
    kind: str
    options: tuple[str, ...] = ()


def ours(*options: str, name: str = "") -> Contender:
    return Contender(name or " ".join(["ours", *options]), "ours", options)


class Bench:
    """A folder with what the contenders need: our package as a wheel installs it, scripts, credentials.

    ``before``: another checkout of this project, whose package is measured beside this one's.
    """

    def __init__(self, folder: Path, peers: dict[str, str], before: Path | None = None) -> None:
        self.folder = folder
        self.pythons = {"ours": sys.executable, "bare": sys.executable, "raw": sys.executable, **peers}
        self._sites = {"ours": folder / "site"}
        self.wheel = folder / _build.build_wheel(str(folder))
        with zipfile.ZipFile(self.wheel) as wheel:
            wheel.extractall(self._sites["ours"])
        if before:
            self.pythons["before"], self._sites["before"] = sys.executable, folder / "before"
            leave_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(before / _build.PACKAGE, self._sites["before"] / _build.PACKAGE, ignore=leave_out)
        for site in self._sites.values():
            compileall.compile_dir(site, quiet=1)

    def environment(self, contender: Contender) -> dict[str, str]:
        """Ours, without what is set for the one who measures."""
        dropped = re.compile(r"PYTHON|USERAGENT_|CONDUCTOR_|(?i:\w+_proxy$)")
        kept = {name: value for name, value in os.environ.items() if not dropped.match(name)}
        site = self._sites.get(contender.kind)
        return {**kept, "PYTHONPATH": str(site)} if site else kept

    def fresh(self) -> Path:
        """A new folder to work in: no journal and no history of the run before."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def command(self, contender: Contender, base: str, workers: int, work: Work) -> list[str]:
        """Written afresh for each run: the scripts, the work, and where the platform is: ``base``, a URL."""
        kind, tls = contender.kind, base.startswith("https")
        python, script = self.pythons[kind], self._write("agent.py", SCRIPTS.get(kind, work.source + AGENT))
        self._write("work.py", work.source)
        authority = str(DATA / "ca.pem")
        if kind in ("bare", "raw"):
            return [python, script, base.rpartition(":")[2], str(workers), *([authority] if tls else [])]
        if kind == "conductor-python":
            return [python, script, base + "/api", str(workers)]
        credentials = {"clientId": "bench", "clientSecret": "bench", "agentId": "bench"}
        credentials.update(serviceUrl=base + "/api", authUrl=base + "/token", **({"caFile": authority} if tls else {}))
        config = self._write("credentials.json", json.dumps(credentials))
        if kind == "seed":
            code = "import sys; from user_agent_sdk.cli import app; sys.exit(app())"
            return [python, "-c", code, "run", script, "-c", config, "-w", str(workers)]
        command = [python, "-m", "user_agent_sdk", "run", script, "-w", str(workers), *contender.options]
        is_akabot = "--conductor" not in contender.options
        return [*command, "-c", config] if is_akabot else [*command, base + "/api", "-a", "bench"]

    def _write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        return str(path)
