# SPDX-License-Identifier: Apache-2.0
"""The status port: what /healthz, /readyz and /metrics say of a worker, and the text that Prometheus reads."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import sys
import threading
import time
import unittest
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.support import PATIENCE_S, Arrivals, FakeClock, at_once, entered
from tests.workerbox import AGENT, Box, Worker, agent, working
from user_agent_sdk._version import __version__, digest
from user_agent_sdk.conductor.client import PollError
from user_agent_sdk.conductor.wire import Task, TaskStatus, Verdict
from user_agent_sdk.errors import UserAgentError
from user_agent_sdk.watching import server as status_server
from user_agent_sdk.watching.metrics import FAMILIES, Metrics
from user_agent_sdk.watching.server import REQUEST_BYTES, REQUEST_S, StatusServer
from user_agent_sdk.watching.status import ANSWERED_S, SILENT_S, Status
from user_agent_sdk.worker.keeping.journal import Journal
from user_agent_sdk.worker.polling.gate import Budget, Gate
from user_agent_sdk.worker.polling.intake import Intake
from user_agent_sdk.worker.watched import Counts

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? ([0-9.e+-]+)")


def read(text: str) -> dict[str, float]:
    """The samples of a page of metrics, which is checked as Prometheus' own promtool checks one."""
    assert text.endswith("\n") and "\n\n" not in text and "\r" not in text
    samples: dict[str, float] = {}
    kinds: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert re.fullmatch(NAME, name) and name not in kinds and len(line.split(" ", 3)[3]) > 3, line
        elif line.startswith("# TYPE "):
            _, _, typed, kind = line.split(" ")
            assert typed == name and kind in ("counter", "gauge", "histogram"), line
            assert (kind == "counter") == name.endswith("_total"), line
            kinds[name] = kind
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            base = re.sub("_(bucket|sum|count)$", "", found[1]) if kinds[name] == "histogram" else found[1]
            assert base == name, f"{line} is not beside its TYPE"
            assert line.rpartition(" ")[0] not in samples, f"{line} comes twice"
            samples[line.rpartition(" ")[0]] = float(found[3])
    for name, kind in kinds.items():
        if kind == "histogram":
            check_histogram(name, {key: value for key, value in samples.items() if key.startswith(name + "_")})
    return samples


def check_histogram(name: str, samples: dict[str, float]) -> None:
    series: dict[str, list[tuple[float, float]]] = {}
    for key, value in samples.items():
        if key.startswith(name + "_bucket"):
            rest, le = re.sub(r',?le="[^"]*"', "", key), re.findall(r'le="([^"]*)"', key)
            series.setdefault(rest.partition("_bucket")[2], []).append((float(le[0]), value))
    assert series, name
    for labels, buckets in series.items():
        labels = "" if labels == "{}" else labels
        bounds, counts = zip(*buckets)
        assert list(bounds) == sorted(set(bounds)) and bounds[-1] == float("inf"), (name, bounds)
        assert list(counts) == sorted(counts), f"{name}{labels} falls"
        assert samples[f"{name}_count{labels}"] == counts[-1], f"{name}{labels}"
        assert counts[-1] > 0 or samples[f"{name}_sum{labels}"] == 0, f"{name}{labels}"


class Text(unittest.TestCase):
    def test_a_page_is_what_prometheus_takes_whatever_an_agent_is_called(self) -> None:
        metrics = Metrics()
        for agent_id in ("a", "0000#user-agent", 'quote " back \\ slash\nline', "Müller, {x}", ""):
            metrics.polled(agent_id, 0.1)
            metrics.polled(agent_id, 15.0, "PollError")
            metrics.started(agent_id, Task({"scheduledTime": 5_000, "startTime": 80_000}))
            metrics.executed(agent_id, 0.001, TaskStatus.COMPLETED)
            metrics.executed(agent_id, 3.0, TaskStatus.FAILED)
            metrics.reported(agent_id, 0.2, Verdict.APPLIED, 150)
            metrics.reported(agent_id, 0.2, Verdict.LATER)
        samples = read(metrics.render({("active_workers", 'a"b'): 2, ("stuck_workers",): 0}))
        self.assertEqual(samples['task_poll_total{taskType="a"}'], 2)
        self.assertEqual(samples['task_poll_error_total{taskType="a",exception="PollError"}'], 1)
        self.assertEqual(samples['task_execute_error_total{taskType="a",exception="FAILED"}'], 1)
        self.assertEqual(samples['task_update_error_total{taskType="a",exception="LATER"}'], 1)
        self.assertEqual(samples['task_result_size_bytes_bucket{taskType="a",le="1000.0"}'], 1)
        self.assertEqual(samples['task_poll_time_seconds_bucket{taskType="a",status="FAILURE",le="10.0"}'], 0)
        self.assertIn(r'active_workers{taskType="a\"b"}', samples)

    def test_names_labels_and_buckets_are_those_of_conductor_python(self) -> None:
        """Read off conductor-python 2.0.0's canonical collector: a dashboard made for it fits."""
        own = {"stuck_workers", "journal_depth", "journal_on_disk", "user_agent_sdk_info", "task_result_rejected",
               "oldest_undelivered_seconds", "task_queue_time_seconds",
               "worker_slots", "last_contact_timestamp_seconds", "token_expiry_timestamp_seconds",
               "process_start_time_seconds", "process_cpu_seconds", "process_resident_memory_bytes",
               "process_open_fds"}  # fmt: skip
        task, why, status = ("taskType",), ("taskType", "exception"), ("taskType", "status")
        self.assertEqual(
            {name: (family.kind, family.labels) for name, family in FAMILIES.items() if name not in own},
            {"task_poll": ("counter", task), "task_poll_error": ("counter", why),
             "task_poll_time_seconds": ("histogram", status), "task_execution_started": ("counter", task),
             "task_execute_error": ("counter", why), "task_execute_time_seconds": ("histogram", status),
             "task_update_error": ("counter", why), "task_update_time_seconds": ("histogram", status),
             "task_result_size_bytes": ("histogram", task), "active_workers": ("gauge", task)})  # fmt: skip
        metrics = Metrics()
        metrics.polled("a", 1.0)
        metrics.reported("a", 1.0, Verdict.APPLIED, 10)
        page = metrics.render({})
        times = ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"]
        self.assertEqual(re.findall(r'task_poll_time_seconds_bucket.*le="(.*?)"', page), times)
        sizes = ["100.0", "1000.0", "10000.0", "100000.0", "1e+06", "1e+07", "+Inf"]
        self.assertEqual(re.findall(r'task_result_size_bytes_bucket.*le="(.*?)"', page), sizes)

    def test_the_first_failure_raises_a_counter_that_was_there_before(self) -> None:
        """Prometheus' increase() needs two values: of a counter that appeared with its first failure it never saw
        one, and the alert on a rare failure never came."""
        metrics = Metrics()
        metrics.known("a")
        before = read(metrics.render({}))
        metrics.executed("a", 0.1, TaskStatus.FAILED_WITH_TERMINAL_ERROR)
        metrics.executed("a", 0.1, TaskStatus.FAILED)
        metrics.polled("a", 0.1, PollError.__name__)
        for verdict in Verdict:
            metrics.reported("a", 0.1, verdict)
        metrics.rejected("a")
        after = read(metrics.render({}))
        risen = [name for name, value in after.items() if "_total{" in name and value]
        self.assertEqual(len(risen), 9, risen)
        self.assertEqual([before[name] for name in risen], [0.0] * 9)
        metrics.known("a")
        self.assertEqual(read(metrics.render({})), after)

    def test_a_task_of_minutes_has_a_bucket_of_its_own(self) -> None:
        metrics = Metrics()
        for took_s in (20.0, 200.0, 2000.0):
            metrics.executed("a", took_s, TaskStatus.COMPLETED)
        page, name = metrics.render({}), 'task_execute_time_seconds_bucket{taskType="a",status="SUCCESS",le='
        samples = read(page)
        self.assertEqual([samples[f'{name}"{le}"}}'] for le in ("10.0", "30.0", "300.0", "3600.0")], [0, 1, 2, 3])

    def test_a_value_on_a_bound_is_in_its_bucket(self) -> None:
        metrics = Metrics()
        metrics.polled("a", 0.1)
        samples = read(metrics.render({}))
        self.assertEqual(samples['task_poll_time_seconds_bucket{taskType="a",status="SUCCESS",le="0.05"}'], 0)
        self.assertEqual(samples['task_poll_time_seconds_bucket{taskType="a",status="SUCCESS",le="0.1"}'], 1)

    def test_no_count_is_lost_between_threads(self) -> None:
        metrics = Metrics()

        def poll() -> None:
            for _ in range(500):
                metrics.polled("a", 0.01, "x")

        at_once(8, poll)
        samples = read(metrics.render({}))
        self.assertEqual(samples['task_poll_total{taskType="a"}'], 4000)
        self.assertEqual(samples['task_poll_time_seconds_count{taskType="a",status="FAILURE"}'], 4000)

    def test_counting_costs_next_to_nothing(self) -> None:
        """A task is some five calls, beside an exchange of some 500 microseconds."""
        metrics = Metrics()
        began = time.thread_time()
        for _ in range(5000):
            metrics.polled("a", 0.01)
        self.assertLess((time.thread_time() - began) / 5000, 20e-6)


class Judged(unittest.TestCase):
    """A Status over real parts, by a clock that moves when it is told to."""

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.stopping = threading.Event()
        self.auth: Any = SimpleNamespace(left_s=60.0)
        self.register: Any = SimpleNamespace(stuck=0, running=list)
        self.answer: Any = []
        self.gate = Gate(
            SimpleNamespace(send_poll=lambda *ids: SimpleNamespace(fetch=self.poll, age_s=0.0), can_wait=False),  # type: ignore[arg-type]
            "a", "w", None, Intake(1, 1.0, lambda: 0.5), self.stopping, Budget(None), lambda: None,
            Counts(),
        )  # fmt: skip
        self.gate._clock = self.clock
        custody = SimpleNamespace(register=self.register, journal=Journal(None))
        services: Any = SimpleNamespace(
            client=SimpleNamespace(auth=self.auth), custody=custody, stopping=self.stopping, counts=Metrics()
        )
        self.status = Status(self.clock)
        self.status.attach(services, [self.gate])

    def poll(self, *_: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def take(self) -> None:
        self.clock.advance(max(0.0, self.gate.intake.next_at - self.clock.now))
        self.gate.take()

    def test_a_loop_that_does_not_come_round_makes_it_ill(self) -> None:
        self.status.beat("main")
        self.status.beat("upkeep")
        self.clock.advance(SILENT_S)
        self.status.beat("upkeep")
        self.assertEqual(self.status.illness(), [])
        self.clock.advance(1)
        self.assertEqual(self.status.illness(), ["the main loop hangs"])

    def test_a_poll_that_never_ends_makes_it_ill(self) -> None:
        seen = []

        def hang(*_: Any) -> Any:
            self.clock.advance(SILENT_S)
            seen.append(self.status.illness())
            self.clock.advance(1)
            seen.append(self.status.illness())
            return []

        self.poll = hang  # type: ignore[method-assign]
        self.take()
        self.assertEqual(seen, [[], ["polling for a hangs"]])
        self.assertEqual(self.status.illness(), [])

    def test_a_report_that_never_ends_makes_it_unready_and_ill_by_the_poll_that_rides_with_it(self) -> None:
        """An agent with one slot was ready and healthy for ever."""
        self.take()
        self.clock.advance(1)
        self.assertIsNotNone(self.gate.go_on(self.clock.now))
        self.assertEqual((self.status.hindrances(), self.status.illness()), ([], []))
        self.clock.advance(SILENT_S + 1)
        self.assertEqual(self.status.hindrances(), [f"no poll for a was answered for {SILENT_S + 2:.0f} s"])
        self.assertEqual(self.status.illness(), ["polling for a hangs"])
        self.gate.chained(1)
        self.assertEqual((self.status.hindrances(), self.status.illness()), ([], []))

    def test_an_outage_does_not_make_it_ill_but_soon_unready(self) -> None:
        self.assertEqual(self.status.hindrances(), ["no poll for a was answered yet"])
        self.take()
        self.assertEqual(self.status.hindrances(), [])
        self.answer = PollError("down")
        self.take()
        self.assertEqual(self.status.hindrances(), [], "one failed poll is not an outage")
        answered_at = self.gate.polled_at or 0.0
        while self.clock.now - answered_at <= ANSWERED_S:
            self.take()
        self.assertRegex(self.status.hindrances()[0], r"no poll for a was answered for \d\d s")
        self.assertEqual(self.status.illness(), [])
        self.answer = []
        self.take()
        self.assertEqual(self.status.hindrances(), [])

    def test_slots_that_are_all_busy_for_an_hour_are_neither_ill_nor_unready(self) -> None:
        self.take()
        self.clock.advance(3600)
        self.assertEqual((self.status.illness(), self.status.hindrances()), ([], []))

    def test_a_stuck_slot_makes_it_ill(self) -> None:
        self.register.stuck = 2
        self.assertEqual(self.status.illness(), ["2 slots stuck in functions past their timeout"])

    def test_without_a_valid_token_or_while_it_stops_it_is_not_ready(self) -> None:
        self.take()
        self.auth.left_s = 0.0
        self.stopping.set()
        self.assertEqual(self.status.hindrances(), ["stopping", "there is no valid token"])
        self.assertEqual(self.status.illness(), [])


class Ports(unittest.TestCase):
    def serve(self, answer: Any, address: str = "127.0.0.1:0") -> StatusServer:
        server = StatusServer(address, answer)
        self.addCleanup(server.close)
        return server

    def ask(self, server: StatusServer, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as stream:
                return stream.read()

    def test_get_and_head_are_answered_and_nothing_else(self) -> None:
        server = self.serve(lambda path: ("200 OK", "text/plain", f"it is {path}"))
        reply = self.ask(server, b"GET /x?y=1 HTTP/1.1\r\nHost: localhost:9\r\n\r\n")
        self.assertTrue(reply.endswith(b"\r\n\r\nit is /x"), reply)
        head = self.ask(server, b"HEAD /x HTTP/1.1\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n") and head.endswith(b"\r\n\r\n"), head)
        self.assertIn(b"Content-Length: 8\r\n", head)
        for request in (b"POST /x HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"GET\r\n\r\n", b"\xff\x00 / x\r\n\r\n"):
            self.assertIn(b" 405 ", self.ask(server, request)[:20])

    def test_a_probe_is_answered_while_a_hundred_clients_say_nothing(self) -> None:
        """Each was served after the other: with fifteen silent ones a probe waited 15 s, and the pod was killed."""
        server = self.serve(lambda path: ("200 OK", "text/plain", "here"))
        with contextlib.ExitStack() as stack:
            for number in range(100):
                silent = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                silent.sendall(b"GET /healthz HTTP/1.1\r\n"[: number % 25])
            began = time.monotonic()
            self.assertIn(b"here", self.ask(server, b"GET /healthz HTTP/1.1\r\n\r\n"))
            self.assertLess(time.monotonic() - began, REQUEST_S)
            silent.settimeout(PATIENCE_S)
            self.assertEqual(silent.recv(1), b"", "a silent one is hung up on")

    def test_a_probe_is_answered_while_a_hundred_clients_read_nothing(self) -> None:
        """Each reply that did not fit into the system's buffer was waited for, 0.2 s: /healthz took 20 s."""
        page = "x" * 50_000
        server = self.serve(lambda path: ("200 OK", "text/plain", page if path == "/metrics" else "here"))
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                silent = stack.enter_context(socket.socket())
                silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                if sys.platform == "linux":  # which, with small segments, makes the other end's buffer small, too
                    silent.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 100)
                silent.connect(("127.0.0.1", server.port))
                silent.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            began = time.monotonic()
            self.assertIn(b"here", self.ask(server, b"GET /healthz HTTP/1.1\r\n\r\n"))
            self.assertLess(time.monotonic() - began, REQUEST_S)
        self.assertEqual(len(self.ask(server, b"GET /metrics HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")[2]), len(page))

    def test_no_more_than_so_many_are_kept(self) -> None:
        server = self.serve(lambda path: ("200 OK", "text/plain", "here"))
        with mock.patch.object(status_server, "CLIENTS_MAX", 2), contextlib.ExitStack() as stack:
            first, *_ = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(3)]
            self.assertIn(b"here", self.ask(server, b"GET / HTTP/1.1\r\n\r\n"))
            self.assertEqual(first.recv(1), b"")

    def test_a_page_whose_name_leads_to_loopback_reads_nothing(self) -> None:
        """DNS rebinding: evil.example, resolved to 127.0.0.1, is the same origin for the browser that asks."""
        server = self.serve(lambda path: ("200 OK", "text/plain", "here"))
        for host, status in (("evil.example", 421), (f"evil.example:{server.port}", 421), ("[::1", 421), ("", 421),
                             ("localhost", 200), (f"127.0.0.1:{server.port}", 200), ("[::1]:1", 200)):  # fmt: skip
            reply = self.ask(server, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            self.assertIn(f" {status} ".encode(), reply[:14], host)
        server = self.serve(lambda path: ("200 OK", "text/plain", "here"), "0.0.0.0:0")
        self.assertIn(b"here", self.ask(server, b"GET / HTTP/1.1\r\nHost: worker-0.pods\r\n\r\n"))

    def test_it_outlives_what_accept_can_raise(self) -> None:
        """A process without a free descriptor, or without memory, has them again later."""
        server = self.serve(lambda path: ("200 OK", "text/plain", "here"))
        failed = Arrivals()

        class Poor:
            def __getattr__(self, name: str) -> Any:
                return getattr(listener, name)

            def accept(self) -> Any:
                if failed.arrived() < 3:
                    raise MemoryError if failed.count == 1 else OSError(24, "Too many open files")
                return listener.accept()

        listener, server._listener = server._listener, Poor()  # type: ignore[assignment]
        self.assertIn(b"here", self.ask(server, b"GET / HTTP/1.1\r\n\r\n"))
        failed.wait(3)

    @mock.patch("user_agent_sdk.watching.server.REQUEST_S", 0.1)
    def test_no_client_keeps_the_others_from_an_answer(self) -> None:
        server = self.serve(lambda path: ("200 OK", "text/plain", "here"))
        with socket.create_connection(("127.0.0.1", server.port)) as mute:
            mute.sendall(b"GET / HT")
            self.assertIn(b"here", self.ask(server, b"GET / HTTP/1.0\r\n\r\n"))
        with socket.create_connection(("127.0.0.1", server.port)):
            pass
        with socket.create_connection(("127.0.0.1", server.port)) as endless:
            endless.sendall(b"x" * (REQUEST_BYTES + 10))
        self.assertIn(b"here", self.ask(server, b"GET / HTTP/1.0\r\n\r\n"))

    def test_a_bug_is_a_500_and_the_next_one_is_answered(self) -> None:
        def answer(path: str) -> Any:
            if path == "/bug":
                raise ZeroDivisionError
            return "200 OK", "text/plain", "here"

        server = self.serve(answer)
        with self.assertLogs("user_agent_sdk", "ERROR"):
            self.assertIn(b" 500 ", self.ask(server, b"GET /bug HTTP/1.1\r\n\r\n"))
        self.assertIn(b"here", self.ask(server, b"GET / HTTP/1.1\r\n\r\n"))

    def test_a_port_that_is_taken_is_said_and_a_closed_one_is_free_at_once(self) -> None:
        server = self.serve(None)
        with self.assertRaisesRegex(UserAgentError, f"can't listen on 127.0.0.1:{server.port}: "):
            self.serve(None, f"127.0.0.1:{server.port}")
        server.close()
        self.serve(None, f"127.0.0.1:{server.port}")

    @unittest.skipUnless(socket.has_ipv6, "no IPv6 here")
    def test_it_listens_on_ipv6_when_told(self) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("no IPv6 loopback here")
        server = self.serve(lambda path: ("200 OK", "text/plain", "six"), "[::1]:0")
        connection = http.client.HTTPConnection("::1", server.port, timeout=PATIENCE_S)
        self.addCleanup(connection.close)
        connection.request("GET", "/")
        self.assertEqual(connection.getresponse().read(), b"six")


class OfAWorker(unittest.TestCase):
    def setUp(self) -> None:
        self.box = entered(self, Box())

    @contextlib.contextmanager
    def worker(self, function: Any, **changes: Any) -> Iterator[Worker]:
        with working(self.box, agent(function), status_port="127.0.0.1:0", **changes) as worker:
            self.box.await_calls("poll", 2)  # so one was answered
            server = worker.runner.watch.server
            assert server is not None
            self.server = server
            yield worker

    def get(self, path: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            body = reply.read().decode()
            return reply.status, json.loads(body) if path.endswith("z") else body
        finally:
            connection.close()

    def test_a_worker_at_work_is_healthy_ready_and_counted(self) -> None:
        def half(n: int) -> float:
            if n < 0:
                raise ValueError(n)
            return n / 2

        with self.worker(half) as worker:
            for n in (2, 4):
                self.assertEqual(self.box.wait(self.box.put(n=n), PATIENCE_S).status, "COMPLETED")
            self.assertEqual(self.box.wait(self.box.put(n=-1), PATIENCE_S).status, "FAILED")
            self.assertEqual(self.get("/healthz"), (200, {"ok": True, "problems": []}))
            self.assertEqual(self.get("/readyz"), (200, {"ok": True, "problems": []}))
            status, page = self.get("/metrics")
            self.assertEqual(self.get("/nothing")[0], 404)
            worker.stop()
        self.assertEqual(status, 200)
        samples, kind = read(page), f'{{taskType="{AGENT}"}}'
        self.assertGreaterEqual(samples[f"task_poll_total{kind}"], 5)
        self.assertEqual(samples[f"task_execution_started_total{kind}"], 5)  # the failing one was tried three times
        self.assertEqual(samples[f'task_execute_error_total{{taskType="{AGENT}",exception="FAILED"}}'], 3)
        self.assertEqual(samples[f'task_execute_time_seconds_count{{taskType="{AGENT}",status="SUCCESS"}}'], 2)
        self.assertGreaterEqual(samples[f"task_result_size_bytes_count{kind}"], 4)
        self.assertEqual(samples[f"task_queue_time_seconds_count{kind}"], 3)  # a retry's wait is the platform's choice
        self.assertEqual(samples[f"active_workers{kind}"], 0)
        self.assertEqual(samples['journal_depth{state="taken"}'], 0)
        self.assertEqual(samples[f"worker_slots{kind}"], 1)
        self.assertEqual(samples[f'user_agent_sdk_info{{version="{__version__}",digest="{digest()}"}}'], 1)
        for moment in (f"last_contact_timestamp_seconds{kind}", "process_start_time_seconds"):
            self.assertTrue(time.time() - 600 < samples[moment] <= time.time() + 1, moment)
        self.assertGreater(samples["token_expiry_timestamp_seconds"], time.time())
        self.assertGreater(samples["process_cpu_seconds_total"], 0)
        if sys.platform == "linux":
            self.assertGreater(samples["process_resident_memory_bytes"], 2**20)
            self.assertGreater(samples["process_open_fds"], 2)
        with self.assertRaises(ConnectionRefusedError):
            self.get("/healthz")

    def test_what_runs_and_what_cannot_be_delivered_is_seen(self) -> None:
        running, go_on = threading.Event(), threading.Event()

        def patient() -> None:
            running.set()
            go_on.wait(PATIENCE_S)

        with self.worker(patient):
            self.box.put()
            running.wait(PATIENCE_S)
            samples = read(self.get("/metrics")[1])
            self.assertEqual(samples[f'active_workers{{taskType="{AGENT}"}}'], 1)
            self.assertEqual(samples['journal_depth{state="taken"}'], 1)
            self.assertEqual(samples["oldest_undelivered_seconds"], 0)
            with self.box.down():
                go_on.set()
                self.box.await_calls("report", 2)  # the reply to the first was read by then
                self.box.await_calls("poll", self.box.calls["poll"] + 1)
                self.assertEqual(self.get("/healthz")[0], 200, "an outage is no reason to restart a worker")
                samples = read(self.get("/metrics")[1])
                self.assertEqual(samples['journal_depth{state="result"}'], 1)
                self.assertGreater(samples["oldest_undelivered_seconds"], 0)
                self.assertGreaterEqual(
                    samples[f'task_update_error_total{{taskType="{AGENT}",exception="LATER"}}'], 1)  # fmt: skip

    def test_a_function_past_its_timeout_turns_it_red(self) -> None:
        go_on = threading.Event()
        with self.worker(lambda: go_on.wait(PATIENCE_S), workers=2, task_timeout_s=0.05):
            self.box.put()
            self.box.await_calls("report", 1)
            status, told = self.get("/healthz")
            go_on.set()
        self.assertEqual((status, told["ok"]), (503, False))
        self.assertIn("stuck", told["problems"][0])

    def test_a_port_that_is_taken_ends_the_start_before_the_first_poll(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with working(self.box, agent(lambda: 1), status_port=f"127.0.0.1:{port}") as worker:
                self.assertRaisesRegex(UserAgentError, f"can't listen on 127.0.0.1:{port}", worker.ended)
        self.assertEqual(self.box.calls["poll"], 0)

    def test_without_the_setting_nobody_listens(self) -> None:
        with working(self.box, agent(lambda: 1)) as worker:
            self.box.await_calls("poll", 1)
            self.assertIsNone(worker.runner.watch.server)
            self.assertNotIn("status", [thread.name for thread in threading.enumerate()])


if __name__ == "__main__":
    unittest.main()
