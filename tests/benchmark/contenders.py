"""The workers that are measured, each as a command for a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

AGENT = """
from user_agent_sdk import user_agent

@user_agent()
def bench(input_data):
    return {"sum": input_data["num1"] + input_data["num2"]}
"""

BARE = """
import http.client, json, sys, threading
port, threads = int(sys.argv[1]), int(sys.argv[2])

def work():
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": "Bearer " + "t" * 900, "Content-Type": "application/json"}
    while True:
        connection.request("GET", "/api/tasks/external/poll/bench?workerid=bare", headers=headers)
        reply = connection.getresponse()
        body = reply.read()
        if reply.status == 204:
            return
        task = json.loads(body)
        given = task["inputData"]
        result = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"], "status": "COMPLETED",
                  "workerId": "bare", "outputData": {"sum": given["num1"] + given["num2"]}}
        connection.request("POST", "/api/tasks/external", json.dumps(result).encode(), headers)
        connection.getresponse().read()

workers = [threading.Thread(target=work) for _ in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
"""

CONDUCTOR_PYTHON = """
import sys
from conductor.client.automator.task_handler import TaskHandler
from conductor.client.configuration.configuration import Configuration
from conductor.client.worker.worker import Worker

def bench(task):
    return {"sum": task.input_data["num1"] + task.input_data["num2"]}

if __name__ == "__main__":
    url, threads = sys.argv[1], int(sys.argv[2])
    worker = Worker("bench", bench, poll_interval=100, thread_count=threads)
    configuration = Configuration(server_api_url=url)
    with TaskHandler(workers=[worker], configuration=configuration, scan_for_annotated_workers=False) as handler:
        handler.start_processes()
        handler.join_processes()
"""


class Contender:
    """A worker's name and how to start it against a platform on ``port`` with so many workers."""

    def __init__(self, name: str, folder: Path, python: str, kind: str, options: tuple[str, ...] = ()) -> None:
        self.name = name
        self._folder = folder
        self._python = python
        self._kind = kind
        self._options = options

    def command(self, port: int, workers: int) -> list[str]:
        base = f"http://127.0.0.1:{port}"
        if self._kind == "bare":
            return [self._python, self._write("bare.py", BARE), str(port), str(workers)]
        if self._kind == "conductor-python":
            return [self._python, self._write("conductor_worker.py", CONDUCTOR_PYTHON), base + "/api", str(workers)]
        credentials = {"clientId": "bench", "clientSecret": "bench", "agentId": "bench"}
        credentials.update(serviceUrl=base + "/api", authUrl=base + "/token")
        agent = self._write("agent.py", AGENT)
        config = self._write("credentials.json", json.dumps(credentials))
        if self._kind == "seed":
            code = "import sys; from user_agent_sdk.cli import app; sys.exit(app())"
            return [self._python, "-c", code, "run", agent, "-c", config, "-w", str(workers)]
        command = [self._python, "-m", "user_agent_sdk", "run", agent, "-w", str(workers), "-q", *self._options]
        if "--conductor" in self._options:
            return [*command, base + "/api", "-a", "bench"]
        return [*command, "-c", config]

    def _write(self, name: str, text: str) -> str:
        folder = self._folder / self._kind
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)


def ours(name: str, folder: Path, *options: str) -> Contender:
    return Contender(name, folder, sys.executable, "ours", options)
