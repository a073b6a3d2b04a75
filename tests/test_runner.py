# SPDX-License-Identifier: Apache-2.0
"""A whole worker: start, taking over, drain, stop, and every way out."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import random
import signal
import tempfile
import threading
import time
import unittest
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

from tests.support import Telling, entered
from user_agent_sdk.conductor.wire import LONG_POLL_MAX_MS
from user_agent_sdk.errors import AuthRefusedError, PlatformError, UserAgentError
from user_agent_sdk.sandbox.exchange import Reply, Request
from user_agent_sdk.values import Secret
from user_agent_sdk.worker.keeping import delivery, journal_file
from user_agent_sdk.worker.keeping.journal import Journal, work_hash
from user_agent_sdk.worker.keeping.journal_file import ONCE, REJECTED, RESULT, TAKEN, Entry
from user_agent_sdk.worker.runner import Runner

from .workerbox import AGENT, DOWN, LONG_S, PASS, Box, Worker, agent, hasten, rows, settings_for, working

RUNNER = "user_agent_sdk.worker.runner"
DRAIN = "user_agent_sdk.worker.drain"


class WorkerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.box = entered(self, Box())
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.journal = Path(folder.name)

    def blocking(self) -> tuple[Any, threading.Semaphore, threading.Event]:
        """An agent that says when it has started and ends when it is told to."""
        started, go = threading.Semaphore(0), threading.Event()
        self.addCleanup(go.set)

        def blocks(n: int = 0) -> int:
            started.release()
            go.wait(LONG_S)
            return n

        return agent(blocks), started, go

    def await_stopping(self, worker: Worker) -> None:
        self.assertTrue(worker.runner.services.stopping.wait(LONG_S))


class RunTest(WorkerTest):
    def test_embedded_in_another_thread_it_leaves_no_thread_file_or_socket(self) -> None:
        before = {thread.name for thread in threading.enumerate()}

        async def later(n: int) -> int:
            return n

        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            with working(self.box, agent(later), self.journal, workers=4) as worker:
                for n in range(8):
                    self.assertEqual(self.box.wait(self.box.put(n=n), LONG_S).output, {"result": n})
                self.assertEqual(worker.stop(), 0)
            self.assertFalse(worker.runner.has_stragglers)
            del worker
            gc.collect()
        left = {thread.name for thread in threading.enumerate()} - before - {"sandbox-connection"}
        self.assertEqual(left, set())
        self.assertEqual([str(one.message) for one in warned if one.category is ResourceWarning], [])

    def test_idle_it_polls_once_an_interval_whatever_its_workers(self) -> None:
        with working(self.box, agent(lambda: 1), workers=8, poll_interval_ms=150):
            self.box.await_calls("poll", 4)
            began, polls = time.monotonic(), self.box.calls["poll"]
            self.box.await_calls("poll", polls + 5)
            # The box holds an empty poll for 100 ms, which counts as pause.
            self.assertGreaterEqual(time.monotonic() - began, 5 * 0.15 - 0.05)

    def test_max_tasks_is_exact_over_several_agents_and_all_are_delivered(self) -> None:
        for platform in ("akabot", "conductor"):
            with self.subTest(platform):
                agents = [agent(lambda: 1, agent_id=f"{platform}{number}", workers=4) for number in range(3)]
                ids = [self.box.put(one.agent_id or "") for one in agents for _ in range(20)]
                worker = Worker(settings_for(self.box, self.journal, max_tasks=25, platform=platform), agents)
                worker.start()
                self.assertEqual(worker.ended(), 0)
                states = [self.box.wait(one, 0).status for one in ids]
                self.assertEqual(states.count("COMPLETED"), 25)
                self.assertEqual(self.box.calls["put-back"], 0)
                self.assertEqual(sum(row["running"] for row in self.box.engine.agents()), 0)

    def test_the_last_task_goes_to_the_agent_that_has_one(self) -> None:
        """An agent with an empty queue once kept the last task's permit through one long poll after the other."""
        for platform in ("akabot", "conductor"):
            with self.subTest(platform):
                agents = [agent(lambda: 1, agent_id=f"{platform}{number}") for number in range(5)]
                worker = Worker(settings_for(self.box, max_tasks=1, platform=platform), agents)
                worker.start()
                self.box.await_calls("poll", self.box.calls["poll"] + 2)
                one, began = self.box.put(f"{platform}4"), time.monotonic()
                self.assertEqual(worker.ended(), 0)
                self.assertLess(time.monotonic() - began, LONG_POLL_MAX_MS / 1000 / 2)
                self.assertEqual(self.box.wait(one, 0).status, "COMPLETED")

    def test_several_agents_do_not_wait_for_each_other(self) -> None:
        blocks, started, go = self.blocking()
        with working(self.box, [blocks, agent(lambda: 1, agent_id="other")]):
            self.box.put()
            self.assertTrue(started.acquire(timeout=LONG_S))
            self.assertEqual(self.box.wait(self.box.put("other"), LONG_S).status, "COMPLETED")
            go.set()

    def test_conductor_takes_the_next_task_with_the_report(self) -> None:
        with working(self.box, agent(lambda: 1), platform="conductor") as worker:
            ids = [self.box.put() for _ in range(30)]
            for one in ids:
                self.assertEqual(self.box.wait(one, LONG_S).status, "COMPLETED")
            worker.runner.stop()
            self.box.put()  # wakes the open long poll
            self.assertEqual(worker.ended(), 0)
        self.assertLess(self.box.calls["poll"], 10)

    def test_a_server_without_update_v2_is_asked_once(self) -> None:
        asked = []

        def old(kind: str, request: Request, proceed: Any) -> Any:
            if request.path.endswith("update-v2"):
                asked.append(1)
                return Reply.error(404, "No static resource api/tasks/update-v2.")
            return PASS

        self.box.faults.append(old)
        ids = [self.box.put() for _ in range(5)]
        with working(self.box, agent(lambda: 1), platform="conductor") as worker:
            for one in ids:
                self.assertEqual(self.box.wait(one, LONG_S).status, "COMPLETED")
            self.assertEqual(len(asked), 1)
            worker.runner.stop()
            self.box.put()  # wakes the open long poll
            self.assertEqual(worker.ended(), 0)

    def test_refused_credentials_end_it_before_anything_is_polled(self) -> None:
        settings = settings_for(self.box)._replace(client_secret=Secret("wrong"))
        with self.assertRaises(AuthRefusedError):
            Runner(settings, [agent(lambda: 1)]).run()
        self.assertEqual(self.box.calls["poll"], 0)

    def test_ctrl_c_waits_for_no_token(self) -> None:
        """On Windows nothing interrupts a connect(): where the token endpoint's host dropped packets, Ctrl+C was heeded
        after ten seconds."""
        runner = Runner(settings_for(self.box), [agent(lambda: 1)])
        answered = threading.Event()
        self.addCleanup(answered.set)

        def hangs(urgent: bool = False) -> dict[str, str]:
            runner._numbers.put(signal.SIGINT)
            self.assertTrue(answered.wait(LONG_S))
            return {}

        with mock.patch.object(runner.client.auth, "headers", hangs):
            self.assertEqual(runner.run(), 0)
            self.assertFalse(answered.is_set())
        self.assertEqual(self.box.calls["poll"], 0)

    def test_an_error_of_our_own_at_the_first_token_ends_it(self) -> None:
        runner = Runner(settings_for(self.box), [agent(lambda: 1)])
        broken = mock.patch.object(runner.client.auth, "headers", side_effect=ZeroDivisionError)
        with broken, self.assertRaises(ZeroDivisionError):
            runner.run()

    def test_an_id_that_could_never_be_polled_for_ends_it(self) -> None:
        """It was a traceback each quarter of a second, for ever."""
        with self.assertRaises(PlatformError) as caught:
            Runner(settings_for(self.box), [agent(lambda: 1, agent_id=".")])
        self.assertEqual(caught.exception.code, "config-invalid")

    def test_a_script_that_seeds_random_changes_no_pause(self) -> None:
        """With a seed in it, as scripts that train models have, the processes of a fleet all waited alike after an
        outage; and their waits took numbers out of the row that a function had seeded."""
        runner = Runner(settings_for(self.box), [agent(lambda: 1)])
        assert runner.client.auth is not None
        self.addCleanup(random.setstate, random.getstate())
        for rand in (runner.gates[0].intake._rand, runner.client.auth._rand, delivery.chance):
            random.seed(7)
            seeded = random.getstate()
            first = rand()
            self.assertEqual(random.getstate(), seeded)
            self.assertNotEqual(rand(), first)

    def test_a_platform_that_is_down_at_the_start_is_waited_for(self) -> None:
        with self.box.down():
            worker = Worker(settings_for(self.box), [agent(lambda: 1)])
            worker.start()
            self.box.await_calls("token", 2)
        self.assertEqual(self.box.wait(self.box.put(), LONG_S).status, "COMPLETED")
        self.assertEqual(worker.stop(), 0)

    def test_a_start_that_fails_leaves_no_thread(self) -> None:
        before = threading.active_count()
        runner = Runner(settings_for(self.box), [agent(lambda: 1)])

        broken = mock.Mock(side_effect=RuntimeError("can't start new thread"))
        with mock.patch.object(runner._custody, "take_over", broken), self.assertRaises(RuntimeError):
            runner.run()
        self.assertLessEqual(threading.active_count(), before + 1)  # the box's connection

    def test_a_start_that_can_not_have_all_its_slots_goes_on_with_those_it_got(self) -> None:
        """Each agent gets a slot before one gets a second."""
        started: list[str] = []
        real = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if thread.name.startswith("slot_"):
                if len(started) == 3:
                    raise RuntimeError("can't start new thread")
                started.append(thread.name)
            real(thread)

        agents = [agent(lambda: 1, agent_id=name, workers=4) for name in "ab"]
        few = mock.patch.object(threading.Thread, "start", start)
        with few, self.assertLogs("user_agent_sdk.worker", "ERROR") as said, working(self.box, agents) as worker:
            ids = [self.box.put(name) for name in "abab"]
            self.assertEqual({self.box.wait(one, LONG_S).status for one in ids}, {"COMPLETED"})
            self.assertEqual(worker.stop(), 0)
        self.assertIn("Only 3 of 8 slots could be started", said.output[0])

    def test_a_start_without_any_thread_is_an_error_with_a_remedy(self) -> None:
        real = threading.Thread.start
        for kept in (0, 3, 9):  # leases and deliveries have four each, upkeep one: nine, then the slots
            left = [kept]

            def start(thread: threading.Thread, left: list[int] = left) -> None:
                if threading.current_thread() is threading.main_thread():
                    if not left[0]:
                        raise RuntimeError("can't start new thread")
                    left[0] -= 1
                real(thread)

            runner = Runner(settings_for(self.box), [agent(lambda: 1)])
            short = mock.patch.object(threading.Thread, "start", start)
            with self.subTest(kept), short, self.assertRaises(UserAgentError) as caught:
                runner.run()
            self.assertEqual(caught.exception.code, "io")
            self.assertIn("ulimit -u", caught.exception.hints[0])

    def test_a_worker_whose_main_loop_is_short_of_memory_goes_on_and_drains(self) -> None:
        """It closed its connections under the tasks that ran, and ended with 1."""
        hasten(self, drain_STUMBLED_AGAIN_S=0.01)
        blocks, started, go = self.blocking()
        with working(self.box, blocks, workers=2) as worker, self.assertLogs(DRAIN, "ERROR") as said:
            runner = worker.runner
            for owner, name in ((runner, "_is_over"), (runner.drain, "_heed_signals")):
                real, left = getattr(owner, name), [MemoryError(), OSError(24, "too many open files")]

                def stumbles(real: Any = real, left: list[Exception] = left) -> Any:
                    if left:
                        raise left.pop()
                    return real()

                setattr(owner, name, stumbles)
            one = self.box.put(n=1)
            self.assertTrue(started.acquire(timeout=LONG_S))
            runner.stop()
            self.await_stopping(worker)
            go.set()
            self.assertEqual(worker.ended(), 0)
        self.assertEqual(self.box.wait(one, 0).status, "COMPLETED")
        self.assertGreaterEqual(len(said.output), 2)

    def test_each_thread_that_breaks_says_so_and_no_result_is_lost(self) -> None:
        hasten(self, timetable_FAILED_AGAIN_S=0.05, timetable_RESTART_PAUSE_S=0.01)
        with working(self.box, agent(lambda: 1), self.journal) as worker:
            services = worker.runner.services
            seams: list[tuple[Any, str, str]] = [
                (services.custody.leases._table, "_act", "lease"),
                (services.custody.delivery._table, "_act", "delivery"),
                (worker.runner._journal, "sweep", "upkeep"),
            ]
            for owner, name, thread in seams:
                with self.subTest(thread), self.assertLogs("user_agent_sdk.worker", "CRITICAL") as said:
                    real, broken, logged = getattr(owner, name), threading.Event(), threading.Event()
                    logging.getLogger("user_agent_sdk.worker").addHandler(Telling(logged))

                    def breaks(*args: Any, real: Any = real, broken: threading.Event = broken) -> Any:
                        if not broken.is_set():
                            broken.set()
                            raise RuntimeError("a bug")
                        return real(*args)

                    setattr(owner, name, breaks)
                    with self.box.down("report"):
                        one = self.box.submit(AGENT, {}, response_timeout_s=0.9)
                        self.box.await_calls("report", self.box.calls["report"] + 1)
                        self.assertTrue(broken.wait(LONG_S))
                    self.assertEqual(self.box.wait(one, LONG_S).status, "COMPLETED")
                    setattr(owner, name, real)
                    self.assertTrue(logged.wait(LONG_S))
                    self.assertIn(f"Thread {thread} failed", said.output[0])
            self.assertEqual(worker.stop(), 0)


class TakeOverTest(WorkerTest):
    def leave(self, *entries: Entry) -> None:
        """A journal as a process that was killed leaves it."""
        target = settings_for(self.box)
        folder = journal_file.folder_of(self.journal, target.platform, target.service_url, target.client_id)
        journal = Journal(folder)
        journal.open()
        for entry in entries:
            journal.write(entry)
        assert journal._file is not None
        journal._file.close()

    def poll(self, **policy: Any) -> tuple[str, dict[str, Any]]:
        one = self.box.submit(AGENT, {"n": 1}, **policy)
        return one, self.box.engine.poll(AGENT, "dead")[0]

    def entry(self, task: dict[str, Any], state: str, **changes: Any) -> Entry:
        from user_agent_sdk.conductor.wire import Task

        plain = Entry(
            state, task["taskId"], task["workflowInstanceId"], AGENT, "dead", work_hash=work_hash(Task(task))
        )
        return plain._replace(lease_s=60.0, lease_until_ms=int((time.time() + 60) * 1000), **changes)

    def result(self, task: dict[str, Any], value: int) -> Entry:
        ids = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"]}
        body = json.dumps({**ids, "status": "COMPLETED", "outputData": {"result": value}}).encode()
        return self.entry(task, RESULT, status="COMPLETED", body=body)

    def test_a_result_is_delivered_a_started_task_failed_at_once_a_sent_mark_dropped(self) -> None:
        done, done_task = self.poll()
        died, died_task = self.poll()
        sent, sent_task = self.poll()
        _, refused_task = self.poll()
        rejected = self.result(refused_task, 0)._replace(state=REJECTED)
        self.leave(self.result(done_task, 42), self.entry(died_task, TAKEN), self.entry(sent_task, ONCE), rejected)
        recorded: list[Any] = []
        with working(self.box, agent(lambda n: n), self.journal, on_execution=recorded.append) as worker:
            self.assertEqual(self.box.wait(done, LONG_S).output, {"result": 42})
            retried = self.box.wait(died, LONG_S)
            self.assertEqual([one.status for one in retried.attempts], ["FAILED", "COMPLETED"])
            self.assertIn("the worker process ended", retried.attempts[0].reason or "")
            self.assertEqual(worker.stop(), 0)
        self.assertEqual(self.box.wait(sent, 0).attempts[0].status, "IN_PROGRESS")
        self.assertEqual(self.box.calls["put-back"], 0)
        self.assertEqual([row[:2] for row in rows(self.journal)], [("rejected", refused_task["taskId"])])
        self.assertEqual([one.result.status for one in recorded], ["FAILED", "COMPLETED"])
        self.assertEqual(recorded[0].task.task_id, died_task["taskId"])

    def test_a_success_that_is_adopted_is_recorded_once_and_named_in_the_log(self) -> None:
        """It was COMPLETED on the platform, with no row in the history and no line in any log that named it."""
        unrecorded, first = self.poll()
        recorded, second = self.poll()
        whole = self.result(first, 42)._replace(task=json.dumps(first).encode())
        self.leave(whole, self.result(second, 43))
        runs: list[Any] = []
        log = self.assertLogs("user_agent_sdk.worker.keeping.delivery", "INFO")
        with log as said, working(self.box, agent(lambda n: n), self.journal, on_execution=runs.append) as worker:
            for one in (unrecorded, recorded):
                self.assertEqual(self.box.wait(one, LONG_S).status, "COMPLETED")
            self.assertEqual(worker.stop(), 0)
        self.assertEqual([(run.task.input_data, run.result.output_data) for run in runs], [({"n": 1}, {"result": 42})])
        for task in (first, second):
            self.assertTrue([line for line in said.output if task["taskId"] in line])

    def test_the_journal_keeps_the_task_of_a_result_until_the_run_is_recorded(self) -> None:
        seen: list[list[bool]] = []

        def on_execution(run: Any) -> None:
            seen.append([bool(entry.task) for entry in worker.runner._journal.live().values()])

        with working(self.box, agent(lambda n=0: n), self.journal, on_execution=on_execution) as worker:
            with self.box.down("report"), self.assertLogs("user_agent_sdk.worker", "WARNING"):
                one = self.box.put(n=1)
                self.box.await_calls("report", 2)
                left = [bool(entry.task) for entry in worker.runner._journal.live().values()]
            self.assertEqual(self.box.wait(one, LONG_S).status, "COMPLETED")
        self.assertEqual((seen, left), ([[True]], [False]))

    def test_an_undelivered_result_keeps_its_lease_after_the_kill(self) -> None:
        one, task = self.poll(response_timeout_s=0.9)
        self.leave(self.result(task, 42)._replace(lease_s=0.9))
        outage = contextlib.ExitStack()
        outage.enter_context(self.box.down("report"))
        with outage, working(self.box, agent(lambda n: n), self.journal):
            self.box.await_calls("extend", 5)  # more than the lease and a half
            self.assertEqual(self.box.wait(one, 0).attempts[0].status, "IN_PROGRESS")
            outage.close()
            self.assertEqual(len(self.box.wait(one, LONG_S).attempts), 1)

    def test_a_result_that_lapsed_across_a_kill_answers_the_retry(self) -> None:
        """The first call of the new process is an extension, which gets a 200 though the lease is long gone."""
        one, task = self.poll(response_timeout_s=0.1, retries=1)
        self.box.await_state(one, lambda it: len(it.attempts) > 1)
        self.leave(self.result(task, 42)._replace(lease_s=0.1, lease_until_ms=int(time.time() * 1000) - 500))
        ran: list[int] = []
        extended = threading.Event()

        def extension_first(kind: str, request: Request, proceed: Any) -> Any:
            if kind == "extend":
                extended.set()
            return DOWN if kind in ("report", "poll") and not extended.is_set() else PASS

        self.box.faults.append(extension_first)
        with working(self.box, agent(ran.append), self.journal):
            done = self.box.wait(one, LONG_S)
        self.assertEqual((done.status, done.output, ran), ("COMPLETED", {"result": 42}, []))

    def test_a_process_that_dies_later_is_adopted_within_a_minute(self) -> None:
        hasten(self, runner_ADOPT_S=0.05)
        with working(self.box, agent(lambda n: n), self.journal):
            self.box.await_calls("poll", 1)
            one, task = self.poll_for_another()
            self.leave(self.result(task, 42))
            self.assertEqual(self.box.wait(one, LONG_S).output, {"result": 42})

    def poll_for_another(self) -> tuple[str, dict[str, Any]]:
        one = self.box.submit("another", {})
        return one, self.box.engine.poll("another", "dead")[0]

    def test_another_targets_journal_is_not_touched(self) -> None:
        one, task = self.poll()
        self.leave(self.result(task, 42))
        same_place = self.box.url.replace("127.0.0.1", "localhost")
        with working(self.box, agent(lambda n: n), self.journal, service_url=same_place):
            self.box.await_calls("poll", 1)
        self.assertEqual(self.box.wait(one, 0).status, "RUNNING")
        self.assertEqual([row[0] for row in rows(self.journal)], ["result"])


class DrainTest(WorkerTest):
    def test_running_tasks_finish_with_their_leases_kept_and_the_exit_is_0(self) -> None:
        blocks, started, go = self.blocking()
        with working(self.box, blocks, self.journal, workers=3) as worker:
            ids = [self.box.submit(AGENT, {"n": n}, response_timeout_s=1.5) for n in range(3)]
            for _ in ids:
                self.assertTrue(started.acquire(timeout=LONG_S))
            worker.runner.stop()
            self.await_stopping(worker)
            extended = self.box.calls["extend"]
            self.box.await_calls("extend", extended + 6)
            go.set()
            self.assertEqual(worker.ended(), 0)
        self.assertEqual([self.box.wait(one, 0).status for one in ids], ["COMPLETED"] * 3)
        self.assertEqual([len(self.box.wait(one, 0).attempts) for one in ids], [1] * 3)

    def test_a_function_can_see_that_a_drain_has_begun(self) -> None:
        from user_agent_sdk.worker.running.context import current_task

        started = threading.Event()

        def watches() -> bool:
            started.set()
            return current_task().stopping.wait(LONG_S)

        with working(self.box, agent(watches)) as worker:
            one = self.box.put()
            self.assertTrue(started.wait(LONG_S))
            self.assertEqual(worker.stop(), 0)
        self.assertEqual(self.box.wait(one, 0).output, {"result": True})

    def test_a_task_that_an_open_poll_brings_is_journaled_and_handed_back_once(self) -> None:
        opened, go, marks = threading.Event(), threading.Event(), []

        def slow_poll(kind: str, request: Request, proceed: Any) -> Any:
            if kind == "put-back":
                marks.extend(entry.state for entry in worker.runner._journal.live().values())
            if kind == "poll":
                opened.set()
                go.wait(LONG_S)
            return PASS

        self.box.faults.append(slow_poll)
        with working(self.box, agent(lambda: 1), self.journal) as worker:
            self.assertTrue(opened.wait(LONG_S))
            one = self.box.put()
            worker.runner.stop()
            self.await_stopping(worker)
            go.set()
            self.assertEqual(worker.ended(), 0)
        self.assertEqual((self.box.calls["put-back"], marks), (1, ["once"]))
        attempt = self.box.wait(one, 0).attempts[0]
        self.assertEqual((attempt.status, attempt.retry_count), ("SCHEDULED", 0))
        self.assertEqual(rows(self.journal), [])

    def test_a_task_that_comes_with_a_reports_reply_is_handed_back_too(self) -> None:
        first, second = self.box.put(), self.box.put()
        hanging, works = self.box.hanging("report"), working(self.box, agent(lambda: 1), platform="conductor")
        with hanging as (asked, go), works as worker:
            self.assertTrue(asked.wait(LONG_S))
            worker.runner.stop()
            self.await_stopping(worker)
            go.set()
            self.assertEqual(worker.ended(), 0)
        self.assertEqual(self.box.wait(first, 0).status, "COMPLETED")
        self.assertEqual(self.box.wait(second, 0).attempts[0].status, "SCHEDULED")
        self.assertEqual(self.box.calls["put-back"], 1)

    def test_past_the_timeout_what_runs_is_failed_and_recorded_as_the_last_act_and_the_exit_is_7(self) -> None:
        """The history missed what was cut off, though the platform had it as FAILED."""
        blocks, started, _ = self.blocking()
        runs: list[Any] = []
        limits = {"workers": 2, "drain_timeout_s": 0.2}
        with working(self.box, blocks, self.journal, on_execution=runs.append, **limits) as worker:
            ids = [self.box.submit(AGENT, {"n": n}, retries=0) for n in range(2)]
            for _ in ids:
                self.assertTrue(started.acquire(timeout=LONG_S))
            began = time.monotonic()
            with self.assertLogs(DRAIN, "ERROR") as said:
                self.assertEqual(worker.stop(), 7)
            self.assertGreaterEqual(time.monotonic() - began, 0.2)
            self.assertTrue(worker.runner.has_stragglers)
        for one in ids:
            self.assertIn("the worker was stopped", self.box.wait(one, LONG_S).reason or "")
        self.assertIn("Stopped while 2 tasks ran", said.output[0])
        self.assertEqual(sorted(run.task.input_data["n"] for run in runs), [0, 1])
        self.assertEqual({run.result.status for run in runs}, {"FAILED"})
        self.assertEqual(rows(self.journal), [])

    def test_what_cannot_be_reported_at_the_end_keeps_its_row_for_the_next_process(self) -> None:
        blocks, started, _ = self.blocking()
        with working(self.box, blocks, self.journal, drain_timeout_s=0.1) as worker:
            one = self.box.put()
            self.assertTrue(started.acquire(timeout=LONG_S))
            with self.box.down("report"):
                self.assertEqual(worker.stop(), 7)
        self.assertEqual([(state, status) for state, _, status in rows(self.journal)], [("result", "FAILED")])
        with working(self.box, agent(lambda n=0: 5), self.journal):
            done = self.box.wait(one, LONG_S)
        self.assertEqual(([it.status for it in done.attempts], done.output), (["FAILED", "COMPLETED"], {"result": 5}))

    def test_a_last_report_that_an_extension_may_undo_keeps_its_row(self) -> None:
        """It was done with at the platform's 200; an extension applied after it left the task to its timeout."""
        blocks, started, _ = self.blocking()
        hanging, works = self.box.hanging("extend"), working(self.box, blocks, self.journal, drain_timeout_s=0.1)
        with hanging as (asked, _), works as worker:
            one = self.box.submit(AGENT, {}, response_timeout_s=1.2, retries=0)
            self.assertTrue(started.acquire(timeout=LONG_S))
            self.assertTrue(asked.wait(LONG_S))
            self.assertEqual(worker.stop(), 7)
            self.assertEqual(self.box.wait(one, 0).status, "FAILED")
        self.assertEqual([(state, status) for state, _, status in rows(self.journal)], [("result", "FAILED")])

    def test_an_undelivered_result_is_exit_7_and_the_next_process_delivers_it(self) -> None:
        with self.box.down("report"), working(self.box, agent(lambda: 1), self.journal, drain_timeout_s=0.3) as worker:
            one = self.box.put()
            self.box.await_calls("report", 2)
            with self.assertLogs(RUNNER, "ERROR") as said:
                self.assertEqual(worker.stop(), 7)
        self.assertIn("Undelivered: 1 result; kept in the journal", said.output[0])
        ran: list[int] = []
        with working(self.box, agent(lambda: ran.append(1)), self.journal) as worker:
            self.assertEqual(self.box.wait(one, LONG_S).output, {"result": 1})
            self.assertEqual(worker.stop(), 0)
        self.assertEqual(ran, [])

    def test_a_drain_of_0_waits_for_ever(self) -> None:
        blocks, started, go = self.blocking()
        with working(self.box, blocks, drain_timeout_s=0.0) as worker:
            one = self.box.put()
            self.assertTrue(started.acquire(timeout=LONG_S))
            worker.runner.stop()
            self.await_stopping(worker)
            worker.join(0.3)
            self.assertTrue(worker.is_alive())
            go.set()
            self.assertEqual(worker.ended(), 0)
        self.assertEqual(self.box.wait(one, 0).status, "COMPLETED")

    def test_it_does_not_wait_for_a_function_that_was_given_up(self) -> None:
        go = threading.Event()
        self.addCleanup(go.set)
        agents = agent(lambda: go.wait(LONG_S), timeout_s=0.05)
        with working(self.box, agents, workers=2, drain_timeout_s=0.0) as worker:
            one = self.box.submit(AGENT, {}, retries=0)
            self.assertEqual(self.box.wait(one, LONG_S).status, "FAILED")
            self.assertEqual(worker.stop(), 7)

    def test_the_limit_of_a_drain_is_there_from_the_start_and_ends_with_it(self) -> None:
        """A script that went on after run() was killed with exit 7 half a minute after its clean stop: the timer that
        bounds a drain was still ticking. And a timer could not be armed any more where threads had run out."""
        for owns_process in (True, False):
            worker = Worker(settings_for(self.box), [agent(lambda: 1)], owns_process=owns_process)
            worker.start()
            self.box.await_calls("poll", self.box.calls["poll"] + 1)
            limits = [thread for thread in threading.enumerate() if thread.name == "drain-limit"]
            self.assertEqual(len(limits), int(owns_process))
            self.assertEqual(worker.stop(), 0)
            for limit in limits:
                limit.join(LONG_S)
                self.assertFalse(limit.is_alive())

    def test_a_wall_clock_that_jumps_a_day_disturbs_nothing(self) -> None:
        real, jump_s = time.time, [0.0]
        self.addCleanup(setattr, time, "time", real)
        time.time = lambda: real() + jump_s[0]  # type: ignore[assignment]
        blocks, started, go = self.blocking()
        with working(self.box, blocks, self.journal) as worker:
            for jump in (86400.0, -86400.0):
                go.clear()
                one = self.box.submit(AGENT, {}, response_timeout_s=0.3)
                self.assertTrue(started.acquire(timeout=LONG_S))
                jump_s[0] = jump
                self.box.await_calls("extend", self.box.calls["extend"] + 4)
                go.set()
                done = self.box.wait(one, LONG_S)
                self.assertEqual((done.status, len(done.attempts)), ("COMPLETED", 1))
            self.assertEqual(worker.stop(), 0)
        self.assertEqual(self.box.calls["token"], 1)


if __name__ == "__main__":
    unittest.main()
