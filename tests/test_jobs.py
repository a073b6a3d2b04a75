# SPDX-License-Identifier: Apache-2.0
"""What is held here, and who may report it."""

from __future__ import annotations

import random
import threading
import unittest

from user_agent_sdk.conductor.wire import Task, TaskResult
from user_agent_sdk.worker.keeping.jobs import Job, Jobs
from user_agent_sdk.worker.keeping.journal_file import TAKEN, Entry
from user_agent_sdk.worker.keeping.lease import Lease


def job(task_id: str, row: int = 1) -> Job:
    task = Task({"taskId": task_id, "workflowInstanceId": "w"})
    made = Job(task, Entry(TAKEN, task_id, "w", "a", "me"), Lease(task_id, "w", "me", 9.0), 0.0)
    made.row = row
    return made


class JobsTest(unittest.TestCase):
    def test_a_task_is_held_once_until_it_is_released(self) -> None:
        jobs = Jobs()
        self.assertTrue(jobs.hold("t"))
        self.assertFalse(jobs.hold("t"))
        self.assertEqual(jobs.copy_came(), 1)  # only a poll's copy counts: an adopted row may be in two files
        jobs.release("t")
        self.assertTrue(jobs.hold("t"))

    def test_a_job_given_up_is_stuck_until_its_slot_comes_back(self) -> None:
        jobs, one = Jobs(), job("t")
        jobs.started(one)
        self.assertEqual((jobs.running(), jobs.stuck), ([one], 0))
        one.give_up(TaskResult())
        self.assertEqual((jobs.running(), jobs.stuck), ([], 1))
        jobs.ended(one)
        self.assertEqual(jobs.stuck, 0)


class JobTest(unittest.TestCase):
    def test_a_result_after_giving_up_does_not_count(self) -> None:
        one, gave_up = job("t"), TaskResult()
        self.assertTrue(one.give_up(gave_up))
        self.assertFalse(one.finish(TaskResult()))
        self.assertFalse(one.give_up(TaskResult()))
        self.assertIs(one.result, gave_up)

    def test_giving_up_after_the_result_is_too_late(self) -> None:
        one, result = job("t"), TaskResult()
        self.assertTrue(one.finish(result))
        self.assertFalse(one.give_up(TaskResult()))
        self.assertTrue(one.finish(result))  # its own slot may say it again, when its report breaks

    def test_a_retry_takes_the_address_and_leaves_its_own(self) -> None:
        first, retry, jobs = job("t1", 1), job("t2", 2), Jobs()
        jobs.started(first)
        self.assertTrue(first.answers(retry))
        self.assertEqual((first.entry.task_id, first.lease.task_id, first.row), ("t2", "t2", 2))
        self.assertEqual((retry.entry.task_id, retry.lease.task_id, retry.row), ("t1", "t1", 1))
        self.assertIs(jobs.find("t2"), first)
        self.assertIsNone(jobs.find("t1"))

    def test_a_job_that_ended_or_was_given_up_answers_nobody(self) -> None:
        for end in ("finish", "give_up"):
            one, retry = job("t1"), job("t2")
            getattr(one, end)(TaskResult())
            self.assertFalse(one.answers(retry))
            self.assertEqual(one.entry.task_id, "t1")

    def test_whoever_comes_first_of_slot_timeout_and_retry_no_address_is_lost(self) -> None:
        rand = random.Random(11)
        for _ in range(100):
            first, retry = job("t1", 1), job("t2", 2)
            start = threading.Barrier(3)
            said: dict[str, bool] = {}

            def race(name: str, act: object, start: threading.Barrier = start, said: dict[str, bool] = said) -> None:
                start.wait()
                said[name] = act()  # type: ignore[operator]

            racers = [
                ("finish", lambda first=first: first.finish(TaskResult())),
                ("give_up", lambda first=first: first.give_up(TaskResult())),
                ("answers", lambda first=first, retry=retry: first.answers(retry)),
            ]
            rand.shuffle(racers)
            threads = [threading.Thread(target=race, args=racer) for racer in racers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertNotEqual(said["finish"], said["give_up"])
            self.assertEqual({first.row, retry.row}, {1, 2})
            self.assertEqual(first.entry.task_id == "t2", said["answers"])


if __name__ == "__main__":
    unittest.main()
