# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with workers, done to a whole one on loopback: no result is lost, nothing runs twice
for no reason. Kills and signals are done to child processes."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from user_agent_sdk import storage
from user_agent_sdk.conductor.wire import TaskStatus
from user_agent_sdk.history import store
from user_agent_sdk.history.recorder import recording
from user_agent_sdk.sandbox import server
from user_agent_sdk.sandbox.exchange import Reply, Request

from .cli import PYTHON
from .faultchild import KILL
from .workerbox import AGENT, DOWN, LONG_S, PASS, Box, FullFile, agent, hasten, rows, working

LONG = os.environ.get("USERAGENT_LONG") == "1"


class RetryAfter(Reply):
    """503 with a Retry-After."""

    header = ""

    def encode(self, keep: bool) -> bytes:
        head, _, body = super().encode(keep).partition(b"\r\n\r\n")
        return head + f"\r\nRetry-After: {self.header}\r\n\r\n".encode() + body


class Faults(unittest.TestCase):
    def setUp(self) -> None:
        self.box = Box()
        self.box.__enter__()
        self.addCleanup(lambda: self.box.close())
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.journal = self.folder / "journal"

    def once(self, kind: str, answer: Any) -> None:
        """The first call of that kind is answered by ``answer(request, proceed)``."""

        def fault(got: str, request: Request, proceed: Any) -> Any:
            if got != kind:
                return PASS
            self.box.faults.remove(fault)
            return answer(request, proceed)

        self.box.faults.append(fault)


class WireFaultsTest(Faults):
    def test_the_server_goes_away_and_comes_back_on_its_port(self) -> None:
        started, go = threading.Event(), threading.Event()

        def blocks(n: int = 0) -> int:
            started.set()
            go.wait(LONG_S)
            return n

        with working(self.box, agent(blocks), self.journal) as worker:
            one = self.box.put(n=7)
            self.assertTrue(started.wait(LONG_S))
            gone = self.box
            gone.close()
            with self.assertLogs("user_agent_sdk.worker", "WARNING"):
                go.set()
                while not len(worker.runner.services.custody.delivery):
                    threading.Event().wait(0.01)
            back = Box(port=gone.port)
            back.engine, back._client_secret = gone.engine, gone._client_secret
            back.submit, back.wait = gone.submit, gone.wait
            back.engine._closed = False
            self.box = back
            back.__enter__()
            self.assertEqual(back.wait(one, LONG_S).output, {"result": 7})
            self.assertEqual(back.wait(back.put(n=8), LONG_S).output, {"result": 8})

    def test_a_report_whose_reply_was_lost_is_sent_again_and_counts_once(self) -> None:
        def lost(request: Request, proceed: Any) -> None:
            proceed(request)

        self.once("report", lost)
        ran: list[Any] = []
        with working(self.box, agent(lambda n: n), self.journal, on_execution=ran.append) as worker:
            done = self.box.wait(self.box.put(n=5), LONG_S)
            self.box.await_calls("report", 2)
            self.assertEqual(worker.stop(), 0)
        self.assertEqual((done.output, len(done.attempts), len(ran)), ({"result": 5}, 1, 1))
        self.assertEqual(self.box.reports[0], self.box.reports[1])
        self.assertEqual(rows(self.journal), [])

    def test_a_poll_whose_reply_was_lost_is_left_to_the_lease_and_not_polled_hot(self) -> None:
        def lost(request: Request, proceed: Any) -> None:
            self.assertEqual(proceed(request).status, 200)

        one = self.box.submit(AGENT, {"n": 1}, response_timeout_s=0.5)
        self.once("poll", lost)
        with working(self.box, agent(lambda n: n)):
            done = self.box.wait(one, LONG_S)
        self.assertEqual([it.status for it in done.attempts], ["TIMED_OUT", "COMPLETED"])
        self.assertLess(self.box.calls["poll"], 40)

    def test_retry_after_of_any_kind_is_clamped_and_no_loop_dies(self) -> None:
        from user_agent_sdk.conductor.client import retry_after_s
        from user_agent_sdk.conductor.transport import Response

        nonsense = ("-5", "NaN", "1e12", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "")
        for text in nonsense:
            waits = retry_after_s(Response(503, {"retry-after": text}, b""))
            self.assertTrue(waits is None or 0 <= waits <= 60, (text, waits))
        left = {"poll": ["-5", "NaN"], "report": ["soon", nonsense[3]]}

        def busy(kind: str, request: Request, proceed: Any) -> Any:
            if not left.get(kind):
                return PASS
            reply = RetryAfter(*DOWN)
            reply.header = left[kind].pop()
            return reply

        self.box.faults.append(busy)
        with working(self.box, agent(lambda: 1)):
            self.assertEqual(self.box.wait(self.box.put(), LONG_S).status, "COMPLETED")

    def test_a_200_that_is_not_the_platforms_is_no_idle_queue_and_no_ack(self) -> None:
        portal = Reply(200, b"<html>Please log in", "text/html")
        for fake in (portal, Reply(200, b"[1]"), Reply(200, b'{"taskId":7}'), Reply(200, b'{"taskId":"a"')):
            self.once("poll", lambda request, proceed, fake=fake: fake)
            said = self.assertLogs("user_agent_sdk.worker.polling.gate", "WARNING")
            with self.subTest(fake.body), working(self.box, agent(lambda: 1)), said:
                self.assertEqual(self.box.wait(self.box.put(), LONG_S).status, "COMPLETED")
        self.box.reports.clear()
        self.once("report", lambda request, proceed: portal)
        with working(self.box, agent(lambda: 1)):
            self.assertEqual(self.box.wait(self.box.put(), LONG_S).status, "COMPLETED")
        self.assertEqual(len(self.box.reports), 2)

    def test_what_is_refused_for_good_is_kept_as_rejected_or_for_a_retry_and_delays_no_other(self) -> None:
        hasten(self, delivery_REFUSED_FOR_S=0.0, delivery_REFUSED_AGAIN_S=0.01)
        refusals = {
            "400": Reply.error(400, "bad"),
            "500": Reply.error(500, "JSON parse error"),
            "413": Reply(413, b"", "text/html"),
        }

        def refuse(kind: str, request: Request, proceed: Any) -> Any:
            if kind != "report":
                return PASS
            output = json.loads(request.body).get("outputData", {}).get("result")
            if output == "404":
                task_id = json.loads(request.body)["taskId"]
                return Reply.error(404, f"No such task found by id: {task_id}")
            return refusals.get(output, PASS)

        self.box.faults.append(refuse)
        with working(self.box, agent(lambda how: how), self.journal, workers=2) as worker:
            ids = {how: self.box.put(how=how) for how in (*refusals, "404", "fine")}
            self.assertEqual(self.box.wait(ids["fine"], LONG_S).status, "COMPLETED")
            too_large = self.box.wait(ids["413"], LONG_S)
            self.assertTrue(worker.runner.services.custody.delivery.flush(LONG_S))
            self.assertEqual(worker.stop(), 0)
        self.assertEqual(too_large.attempts[0].status, TaskStatus.FAILED_WITH_TERMINAL_ERROR)
        self.assertIn("too large", too_large.reason or "")
        kept = sorted(row[0] for row in rows(self.journal))
        self.assertEqual(kept, ["late", "rejected", "rejected"], "late is what the platform knows no longer")

    def test_a_foreign_task_type_is_the_polled_agents(self) -> None:
        def foreign(request: Request, proceed: Any) -> Any:
            task = self.box.engine.poll("foreign")[0]
            return Reply.of(task)

        one = self.box.put("foreign", n=3)
        self.once("poll", foreign)
        with working(self.box, agent(lambda n: n)):
            self.assertEqual(self.box.wait(one, LONG_S).output, {"result": 3})

    def test_a_token_endpoint_that_goes_away_loses_nothing(self) -> None:
        quick = mock.patch.object(server, "TOKEN_LIFE_S", 0.3)
        with quick, working(self.box, agent(lambda: 1), self.journal) as worker:
            self.box.await_calls("poll", 1)
            for answer in (DOWN, Reply.of({"error": "unauthorized_client"}, 401)):
                fault = lambda kind, request, proceed, answer=answer: answer if kind == "token" else PASS  # noqa: E731
                self.box.faults.append(fault)
                self.box.await_calls("token", self.box.calls["token"] + 2)
                one = self.box.put()
                self.box.faults.remove(fault)
                worker.runner.client.auth._retry_at = 0.0  # type: ignore[union-attr]
                worker.runner._custody.contact()
                self.assertEqual(self.box.wait(one, LONG_S).status, "COMPLETED")

    def test_outputs_that_the_platform_would_spoil_fail_for_good_and_name_the_place(self) -> None:
        deep: list[Any] = []
        for _ in range(1001):
            deep = [deep]
        circle: list[Any] = []
        circle.append(circle)
        outputs = {"nan": {"a": [1, float("nan")]}, "deep": deep, "circle": circle, "large": "x" * (11 * 2**20),
                   "infinite": 1e400}  # fmt: skip
        with working(self.box, agent(lambda which: outputs[which]), workers=2):
            ids = {which: self.box.put(which=which) for which in outputs}
            for which, one in ids.items():
                done = self.box.wait(one, LONG_S)
                with self.subTest(which):
                    self.assertEqual(done.attempts[0].status, "FAILED_WITH_TERMINAL_ERROR")
                    self.assertIn("11,534,349 bytes" if which == "large" else "$", done.reason or "")

    def test_agents_that_raise_what_ends_a_process_fail_and_cost_no_slot(self) -> None:
        errors = {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "memory": MemoryError(),
                  "recursion": RecursionError(), "generator": GeneratorExit()}  # fmt: skip

        def raises(which: str) -> str:
            if which in errors:
                raise errors[which]
            return which

        with working(self.box, agent(raises), workers=2) as worker:
            ids = [self.box.submit(AGENT, {"which": which}, retries=0) for which in errors]
            for one in ids:
                self.assertEqual(self.box.wait(one, LONG_S).status, "FAILED")
            fine = [self.box.put(which="fine") for _ in range(4)]
            self.assertEqual({self.box.wait(one, LONG_S).status for one in fine}, {"COMPLETED"})
            self.assertEqual(worker.stop(), 0)

    def test_a_journal_of_rubbish_is_set_aside_and_the_worker_goes_on(self) -> None:
        with working(self.box, agent(lambda: 1), self.journal):
            self.box.await_calls("poll", 1)
        (path,) = self.journal.glob("*/1.log")
        path.write_bytes(b"\xff" * 5000)
        logged = self.assertLogs("user_agent_sdk.worker.keeping", "ERROR")
        with logged as said, working(self.box, agent(lambda: 1), self.journal) as worker:
            self.assertEqual(self.box.wait(self.box.put(), LONG_S).status, "COMPLETED")
            self.assertTrue(worker.runner._journal.is_on_disk)
        self.assertEqual(len(said.output), 1)
        self.assertEqual(len(list(path.parent.glob("1.log.corrupt-*"))), 1)

    def test_a_disk_that_is_full_while_results_are_in_hand_stops_no_report(self) -> None:
        with working(self.box, agent(lambda: "x" * 9000), self.journal) as worker:
            self.box.await_calls("poll", 1)
            file = worker.runner._journal._file
            assert file is not None
            assert file._log is not None
            file._log.close()
            file._log = FullFile(file.path, "ab")
            with self.assertLogs("user_agent_sdk.worker.keeping.journal", "ERROR") as said:
                for _ in range(5):
                    self.assertEqual(self.box.wait(self.box.put(), LONG_S).status, "COMPLETED")
            self.assertEqual(len(said.output), 1)
            self.assertEqual(worker.stop(), 0)

    def test_a_history_that_somebody_locks_delays_no_report_and_is_written_later(self) -> None:
        path = self.folder / "history.db"
        with contextlib.closing(storage.open_shared(path)) as made:
            store.prepare(made)
        with contextlib.closing(sqlite3.connect(str(path), isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            with recording(path, ()) as record:
                with working(self.box, agent(lambda n: n), self.journal, on_execution=record, workers=4):
                    ids = [self.box.put(n=n) for n in range(20)]
                    self.assertEqual({self.box.wait(one, LONG_S).status for one in ids}, {"COMPLETED"})
                self.assertEqual(lock.execute("SELECT count(*) FROM execution_history").fetchone(), (0,))
                lock.execute("ROLLBACK")
            self.assertEqual(lock.execute("SELECT count(*) FROM execution_history").fetchone(), (20,))


def ignore_sighup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class Children(Faults):
    popen = staticmethod(subprocess.Popen)

    def child(
        self, function: str, agent_id: str = AGENT, journal: str = "journal", **order: Any
    ) -> subprocess.Popen[bytes]:
        runs = self.folder / f"{journal}.runs"
        runs.mkdir(exist_ok=True)
        order.update(
            agent=function,
            credentials=self.box.credentials(agent_id),
            journal=str(self.folder / journal),
            runs=str(runs),
        )
        process = self.popen(
            [*PYTHON, "-W", "error::ResourceWarning", "-m", "tests.faultchild", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if LONG else subprocess.DEVNULL,
            cwd=Path(__file__).parent.parent,
        )
        self.addCleanup(self.reap, process)
        return process

    def reap(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.kill()
        process.wait(LONG_S)
        assert process.stdin is not None and process.stdout is not None
        process.stdout.close()
        with contextlib.suppress(OSError):  # it still holds what the child did not read
            process.stdin.close()

    def runs(self, journal: str = "journal") -> list[str]:
        """The ids of the tasks that ran in children, one a run."""
        return [path.name.partition(".")[0] for path in (self.folder / f"{journal}.runs").iterdir()]

    def send(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
        """A signal; on Windows, where from outside each is a kill, the child raises it itself."""
        if os.name == "posix":
            process.send_signal(number)
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended
            process.stdin.write(b"%d\n" % number)
            process.stdin.flush()

    def await_started(self, process: subprocess.Popen[bytes], count: int = 1) -> None:
        assert process.stdout is not None
        for _ in range(count):
            self.assertEqual(process.stdout.readline(), b"started\n")


class KillTest(Children):
    def test_killed_at_each_point_every_outcome_is_the_one_of_the_table(self) -> None:
        """What the next process finds, and how often the function ran: the first try's id, the retry's."""
        table = {
            # point: (statuses of the attempts, runs of the killed one, runs of the next)
            "polled": (["TIMED_OUT", "COMPLETED"], 0, 1),
            "journaled": (["FAILED", "COMPLETED"], 0, 1),
            "ran": (["FAILED", "COMPLETED"], 1, 1),
            "committed": (["COMPLETED"], 1, 0),
            "posted": (["COMPLETED"], 1, 0),
            "marked": (["TIMED_OUT", "COMPLETED"], 1, 1),
            "put-back": (["COMPLETED"], 1, 1),
        }
        left_to_lease = {"polled": 0.8, "marked": 0.8}
        ids, children = {}, {}
        for point in table:
            policy = {"response_timeout_s": left_to_lease.get(point, 3600.0)}
            ids[point] = self.box.submit(f"at-{point}", {"n": 4}, **policy)
            children[point] = self.child("quick", f"at-{point}", point, point=point)
        for child in children.values():
            self.assertEqual(child.wait(LONG_S), KILL if os.name == "nt" else -KILL)
        for point, (statuses, before, after) in table.items():
            ran: list[int] = []
            again = agent(lambda n, ran=ran: ran.append(n) or n + 1, agent_id=f"at-{point}")
            with self.subTest(point), working(self.box, again, self.folder / point) as worker:
                done = self.box.wait(ids[point], LONG_S)
                self.assertEqual([it.status for it in done.attempts], statuses)
                self.assertEqual(done.output, {"result": 5})
                self.assertEqual(len(ran), after)
                self.assertEqual(len(self.runs(point)), before)
                self.assertTrue(worker.runner.services.custody.delivery.flush(LONG_S))
                self.assertEqual(worker.stop(), 0)
            self.assertEqual(rows(self.folder / point), [])

    def test_killed_again_and_again_no_task_is_lost_and_runs_are_the_attempts(self) -> None:
        kills, ids = 40 if LONG else 2, []
        for _ in range(kills):
            # Not all at once: the first child was once so quick that it left the next one fewer than ten, for ever.
            ids += [self.box.submit(AGENT, {"n": n}, retries=100, response_timeout_s=2) for n in range(50)]
            child = self.child("quick", settings={"workers": 4})
            self.await_started(child, 10)
            child.kill()
            child.wait(LONG_S)
        last = self.child("quick", settings={"workers": 4})
        done = [self.box.wait(one, 60.0) for one in ids]
        self.send(last)
        self.assertEqual(last.wait(LONG_S), 0)
        self.assertEqual({one.status for one in done}, {"COMPLETED"})
        runs = self.runs()
        self.assertEqual(len(runs), len(set(runs)))  # a task id ran once
        for one in done:
            failed = sum(it.status in ("FAILED", "TIMED_OUT") for it in one.attempts)
            self.assertLessEqual(sum(it.task_id in runs for it in one.attempts), 1 + failed)

    def test_two_processes_on_one_folder_share_the_queue_and_touch_nothing_of_each_other(self) -> None:
        pollers: set[str | None] = set()
        both = threading.Event()

        def watch(kind: str, request: Request, proceed: Any) -> Any:
            pollers.add(request.query.get("workerid"))
            if {"one", "two"} <= pollers:
                both.set()
            return PASS

        self.box.faults.append(watch)
        children = [self.child("quick", settings={"workers": 2, "worker_id": name}) for name in ("one", "two")]
        self.assertTrue(both.wait(LONG_S))
        ids = [self.box.put(n=n) for n in range(60)]
        done = [self.box.wait(one, LONG_S) for one in ids]
        for child in children:
            self.send(child)
            self.assertEqual(child.wait(LONG_S), 0)
        self.assertEqual({(one.status, len(one.attempts)) for one in done}, {("COMPLETED", 1)})
        self.assertEqual(len(self.runs()), 60)
        self.assertEqual(len(self.box.reports), 60)


class StopTest(Children):
    def test_sigterm_with_eight_tasks_in_flight_delivers_all_and_exits_0(self) -> None:
        ids = [self.box.put(seconds=0.6) for _ in range(8)]
        child = self.child("waits", settings={"workers": 8})
        self.await_started(child, 8)
        began = time.monotonic()
        self.send(child)
        self.assertEqual(child.wait(LONG_S), 0)
        self.assertLess(time.monotonic() - began, 0.6 + 5.0)  # to wait for a poll would take 6 s; others are busy
        self.assertEqual({self.box.wait(one, 0).status for one in ids}, {"COMPLETED"})
        self.assertEqual(self.box.calls["put-back"], 0)

    def test_without_a_thread_or_a_descriptor_left_it_still_drains_and_reports(self) -> None:
        """A stop began with "can't start new thread", called that a bug, and dropped the function that ran."""
        for what in ("threads", "descriptors"):
            if what == "descriptors" and os.name == "nt":
                continue  # Windows limits nobody's
            with self.subTest(what):
                one = self.box.submit(f"takes-{what}", {"seconds": 0.4, "what": what}, retries=0)
                child = self.child("takes_all", f"takes-{what}", what)
                self.await_started(child)
                self.send(child)
                self.assertEqual(child.wait(LONG_S), 0)
                self.assertEqual(self.box.wait(one, 0).status, "COMPLETED")

    def test_past_the_drain_limit_without_threads_what_runs_is_reported_and_the_exit_is_7(self) -> None:
        one = self.box.submit(AGENT, {"seconds": 30, "what": "threads"}, retries=0)
        child = self.child("takes_all", settings={"drain_timeout_s": 0.3})
        self.await_started(child)
        self.send(child)
        self.assertEqual(child.wait(LONG_S), 7)
        self.assertIn("the worker was stopped", self.box.wait(one, 0).reason or "")

    @unittest.skipUnless(hasattr(signal, "SIGHUP"), "Windows has no SIGHUP")
    def test_a_lost_terminal_drains_it_and_nohup_keeps_it(self) -> None:
        """SIGHUP was a kill: the task that ran was reported by the next worker only. Later it was a drain that the
        second SIGHUP, which bash and the kernel send within a millisecond, ended at once."""
        for seconds_after in (0.0, 0.2):  # the drain has begun by then
            one = self.box.put(seconds=0.6)
            child = self.child("waits")
            self.await_started(child)
            child.send_signal(signal.SIGHUP)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(seconds_after)
            for number in (signal.SIGHUP, signal.SIGTERM):  # systemd sends both
                child.send_signal(number)
            self.assertEqual(child.wait(LONG_S), 0)
            self.assertEqual(self.box.wait(one, 0).status, "COMPLETED")
        with mock.patch.object(self, "popen", functools.partial(subprocess.Popen, preexec_fn=ignore_sighup)):
            child = self.child("waits", journal="nohup")
        two = self.box.put(seconds=0.1)
        self.await_started(child)
        child.send_signal(signal.SIGHUP)
        self.assertEqual(self.box.wait(two, LONG_S).status, "COMPLETED")
        three = self.box.put(seconds=0.0)
        self.assertEqual(self.box.wait(three, LONG_S).status, "COMPLETED")
        child.terminate()
        self.assertEqual(child.wait(LONG_S), 0)

    @unittest.skipUnless(os.name == "posix", "Windows has no such groups")
    def test_a_signal_that_a_wrapper_forwards_to_its_whole_group_lets_what_runs_finish(self) -> None:
        """`timeout` signals its child, and then the group that both are in: what ran was cut off with exit code 130."""
        one = self.box.put(seconds=0.6)
        child = self.child("waits")
        self.await_started(child)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            child.send_signal(number)
        self.assertEqual(child.wait(LONG_S), 0)
        self.assertEqual(self.box.wait(one, 0).status, "COMPLETED")

    def test_sigterm_finds_it_in_every_state_and_it_ends_in_time(self) -> None:
        with self.subTest("idle"):
            child = self.child("waits")
            self.box.await_calls("poll", 2)
            self.send(child, signal.SIGINT)
            self.assertEqual(child.wait(LONG_S), 0)
        # SIGTERM had its default effect then: -15
        with self.subTest("asking for its first token"), self.box.hanging("token") as (asked, go):
            child = self.child("waits", journal="first")
            self.assertTrue(asked.wait(LONG_S))
            self.send(child)
            self.assertEqual(child.wait(LONG_S), 0)
            self.assertFalse(go.is_set())
        with self.subTest("refreshing its token"), self.box.down("token"):
            child = self.child("waits", journal="token")
            self.box.await_calls("token", self.box.calls["token"] + 2)
            self.send(child)
            self.assertEqual(child.wait(LONG_S), 0)
        with self.subTest("retrying a report"), self.box.down("report"):
            one = self.box.put()
            child = self.child("waits", journal="retry", settings={"drain_timeout_s": 0.2})
            self.box.await_calls("report", self.box.calls["report"] + 2)
            self.send(child)
            self.assertEqual(child.wait(LONG_S), 7)
            self.assertEqual([row[0] for row in rows(self.folder / "retry")], ["result"])
        with working(self.box, agent(lambda: 1), self.folder / "retry"):
            self.assertEqual(self.box.wait(one, LONG_S).output, {"result": 0})
        with self.subTest("committing a result"):
            one = self.box.submit("commits", {"n": 4})
            child = self.child("quick", "commits", "commit", point="stopped while committing")
            self.assertEqual(child.wait(LONG_S), 0)
            self.assertEqual(self.box.wait(one, 0).output, {"result": 5})
            self.assertEqual(rows(self.folder / "commit"), [])

    def test_a_function_that_never_ends_is_cut_off_and_the_process_ends(self) -> None:
        one = self.box.submit(AGENT, {"seconds": 3600}, retries=0)
        child = self.child("waits", settings={"drain_timeout_s": 0.2})
        self.await_started(child)
        self.send(child)
        self.assertEqual(child.wait(LONG_S), 7)
        self.assertEqual(self.box.wait(one, 0).status, "FAILED")

    def test_the_second_signal_ends_it_at_once_with_130_and_the_journal_has_it_all(self) -> None:
        self.box.put(seconds=3600)
        child = self.child("waits")
        self.await_started(child)
        self.send(child, signal.SIGINT)
        began = time.monotonic()
        while child.poll() is None and time.monotonic() < began + LONG_S:
            self.send(child, signal.SIGINT)
            threading.Event().wait(0.01)
        self.assertEqual(child.wait(LONG_S), 130)
        self.assertEqual([row[0] for row in rows(self.journal)], ["taken"])

    def test_a_storm_of_signals_does_not_block_it(self) -> None:
        self.box.put(seconds=3600)
        child = self.child("waits")
        self.await_started(child)
        until = time.monotonic() + LONG_S
        for count in itertools.count():
            self.send(child, (signal.SIGTERM, signal.SIGINT)[count % 2])
            if child.poll() is not None or (count > 10_000 and time.monotonic() > until):
                break
        self.assertEqual(child.wait(LONG_S), 130)
        self.assertEqual([row[0] for row in rows(self.journal)], ["taken"])

    def test_slots_that_compute_without_a_pause_keep_their_leases(self) -> None:
        ids = [self.box.submit(AGENT, {"seconds": 2.2}, response_timeout_s=2.0) for _ in range(4)]
        child = self.child("spins", settings={"workers": 4})
        done = [self.box.wait(one, LONG_S) for one in ids]
        self.send(child)
        self.assertEqual(child.wait(LONG_S), 0)
        self.assertEqual([(one.status, len(one.attempts)) for one in done], [("COMPLETED", 1)] * 4)

    def test_an_agent_that_closes_stdout_completes(self) -> None:
        one = self.box.put()
        child = self.child("closes_stdout")
        self.assertEqual(self.box.wait(one, LONG_S).status, "COMPLETED")
        self.send(child)
        self.assertEqual(child.wait(LONG_S), 0)

    @unittest.skipUnless(os.name == "posix", "Windows limits no file's size")
    def test_a_disk_that_takes_no_more_stops_no_task(self) -> None:
        child = self.child("quick", max_file_bytes=40_000, settings={"workers": 2})
        ids = [self.box.put(n=n, filler="x" * 1000) for n in range(60)]
        self.assertEqual({self.box.wait(one, LONG_S).status for one in ids}, {"COMPLETED"})
        self.send(child)
        self.assertEqual(child.wait(LONG_S), 0)


if __name__ == "__main__":
    unittest.main()
