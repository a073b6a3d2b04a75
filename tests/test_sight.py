# SPDX-License-Identifier: Apache-2.0
"""Whether a server that keeps polls looks at its queue meanwhile."""

from __future__ import annotations

import unittest
from typing import Any

from user_agent_sdk.conductor.wire import Task
from user_agent_sdk.worker.polling.intake import SURE, Sight, queued_s


def task(queued_s: float = 3.0, **fields: Any) -> Task:
    """One that lay in the queue for so long before it was given away."""
    times = {"scheduledTime": 1_700_000_000_000, "startTime": 1_700_000_000_000 + int(queued_s * 1000)}
    return Task({"taskId": "t", "workflowInstanceId": "w", "pollCount": 1, **times, **fields})


class Sees(unittest.TestCase):
    def shows(self, *polls: tuple[float, float, bool, list[Task]]) -> bool:
        sight = Sight()
        return [sight.shows_blindness(*poll) for poll in polls][-1]

    def missed(self, found: Task, times: int = SURE) -> bool:
        """Empty polls of 5 s, and after each a poll that finds ``found`` at once."""
        polls: list[tuple[float, float, bool, list[Task]]] = []
        for number in range(times):
            polls += [(number * 10 + 5.0, 5.0, True, []), (number * 10 + 5.1, 0.0, True, [found])]
        return self.shows(*polls)

    def test_a_task_that_lay_there_while_a_poll_was_kept_was_missed(self) -> None:
        self.assertTrue(self.missed(task(3.0)))

    def test_one_alone_may_be_chance(self) -> None:
        self.assertFalse(self.missed(task(3.0), times=SURE - 1))

    def test_a_task_that_came_when_nobody_waited_was_not(self) -> None:
        self.assertFalse(self.missed(task(0.9)))
        late = [(5.0, 5.0, True, []), (65.0, 0.0, True, [task(60.5)])]
        self.assertFalse(self.shows(*late, *late))

    def test_a_task_that_had_waited_since_before_the_poll_was_held_back_and_not_missed(self) -> None:
        """Paused, or behind a limit: what the kept poll did not get at its start says nothing about the rest."""
        self.assertFalse(self.missed(task(600.0)))

    def test_neither_was_one_that_the_platform_itself_held_back(self) -> None:
        for fields in (
            {"retryCount": 1},
            {"pollCount": 2},
            {"callbackAfterSeconds": 3},
            {"startDelayInSeconds": 3},
            {"rateLimitPerFrequency": 1},
            {"workflowTask": {"taskDefinition": {"concurrentExecLimit": 1}}},
            {"scheduledTime": None},
            {"startTime": "soon"},
        ):
            with self.subTest(fields=fields):
                self.assertFalse(self.missed(task(3.0, **fields)))
                self.assertIsNone(queued_s(task(3.0, **fields)))
        self.assertEqual([queued_s(task(3.0)), queued_s(task(-3.0))], [3.0, 0.0])
        self.assertIsNone(queued_s(task(startTime=10**400)))

    def test_times_that_are_none_are_not_taken_for_a_wait(self) -> None:
        """A scheduledTime of -1e308 made the sum of all waits infinite for the rest of the worker's life."""
        for fields in ({"scheduledTime": -1e308}, {"scheduledTime": 0}, {"startTime": float("nan")}):
            self.assertIsNone(queued_s(task(3.0, **fields)))

    def test_a_reply_of_nonsense_says_nothing_and_costs_no_task(self) -> None:
        """A workflowTask that is no object once ended the poll that brought its task."""
        for flow in (float("inf"), "text", [1], {"taskDefinition": 7}):
            with self.subTest(flow=flow):
                self.assertTrue(self.missed(task(3.0, workflowTask=flow)))

    def test_where_tasks_come_to_kept_polls_one_that_was_missed_counts_for_nothing(self) -> None:
        miss = [(5.0, 5.0, True, []), (5.1, 0.0, True, [task(3.0)])]
        self.assertFalse(self.shows(*miss, (8.0, 2.0, True, [task(0.1)]), *miss))

    def test_a_server_is_clear_once_a_task_that_came_late_was_brought_by_a_kept_poll(self) -> None:
        sight = Sight()
        for took_s, was_kept in ((0.2, True), (5.0, False), (5.0, True)):
            sight.shows_blindness(9.0, took_s, was_kept, [task(0.1)])
            self.assertEqual(sight.is_clear, was_kept and took_s > 1, (took_s, was_kept))

    def test_where_polls_are_not_kept_nothing_is_missed(self) -> None:
        polls = [(1.0, 0.1, False, []), (2.0, 0.0, False, [task(0.9)])]
        self.assertFalse(self.shows(*polls, *polls, *polls))


if __name__ == "__main__":
    unittest.main()
