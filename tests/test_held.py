# SPDX-License-Identifier: Apache-2.0
"""The register: what is held, who may report it, and that nobody clears up twice."""

from __future__ import annotations

import random
import threading
import unittest

from user_agent_sdk.conductor.wire import TaskResult
from user_agent_sdk.worker.keeping.held import ENDED, GONE, LATE, REPORTING, RUNNING, SUPERSEDED, Held, Register, State
from user_agent_sdk.worker.keeping.journal_file import TAKEN, Entry
from user_agent_sdk.worker.keeping.lease import Lease
from user_agent_sdk.worker.running.context import Call


def held(task_id: str, row: int = 1) -> Held:
    made = Held(Entry(TAKEN, task_id, "w", "a", "me", work_hash="h"), Lease(9.0))
    made.row = row
    return made


class RegisterTest(unittest.TestCase):
    def setUp(self) -> None:
        self.register = Register()

    def running(self, task_id: str) -> Held:
        one = held(task_id)
        self.assertTrue(self.register.hold(one))
        self.assertTrue(self.register.move(one, RUNNING))
        return one

    def moved(self, task_id: str, *states: State) -> Held:
        one = self.running(task_id)
        for state in states:
            self.assertTrue(self.register.move(one, state))
        return one

    def test_a_task_is_held_once_until_nothing_is_owed_for_it(self) -> None:
        one = self.running("t")
        self.assertFalse(self.register.hold(held("t")))
        self.assertTrue(self.register.move(one, GONE))
        self.assertEqual((self.register.find("t"), self.register.pending()), (None, []))
        self.assertTrue(self.register.hold(held("t")))

    def test_whoever_comes_second_to_clear_up_is_told_so(self) -> None:
        """Its row may be another task's by then: a second free would lose that task's result."""
        one = self.moved("t", ENDED, REPORTING)
        self.assertEqual([self.register.move(one, GONE) for _ in range(3)], [True, False, False])

    def test_what_goes_back_to_the_queue_may_come_again_before_its_report_is_answered(self) -> None:
        one = self.moved("t", ENDED, State.ONCE)
        again = held("t")
        self.assertTrue(self.register.hold(again))
        self.assertEqual(set(self.register.pending()), {one, again})
        self.register.move(one, GONE)
        self.assertEqual(self.register.pending(), [again])

    def test_a_late_result_is_found_until_it_is_gone_and_its_task_may_run_again(self) -> None:
        late = self.moved("t", ENDED, REPORTING, LATE)
        self.assertEqual((self.register.late(), self.register.pending()), ([late], []))
        again = held("t")
        self.assertTrue(self.register.hold(again))
        self.assertIs(self.register.find("t"), again)
        self.assertTrue(self.register.move(late, GONE))
        self.assertEqual(self.register.late(), [])

    def test_of_late_results_of_a_work_the_newest_comes_first_and_none_is_lost_sight_of(self) -> None:
        """The first was in no list any more: its row stayed in the journal until the worker ended."""
        first, second = (self.moved("t", ENDED, REPORTING, LATE) for _ in range(2))
        second.entry = second.entry._replace(taken_ms=1)
        adopted = held("t")
        self.assertTrue(self.register.move(adopted, LATE))
        self.assertEqual(set(self.register.late()), {first, second, adopted})
        self.assertIs(self.register.attempts(held("retry"))[0], second)

    def test_a_superseded_result_is_neither_waiting_again_nor_kept(self) -> None:
        one = self.moved("t", ENDED, REPORTING, SUPERSEDED)
        for state in (REPORTING, LATE):
            self.assertFalse(self.register.move(one, state))
        self.assertTrue(self.register.move(one, GONE))

    def test_a_function_given_up_is_stuck_until_its_slot_comes_back(self) -> None:
        one = self.running("t")
        self.assertEqual((self.register.running(), self.register.stuck), ([one], 0))
        self.assertIs(self.register.give_up(one, TaskResult()), one)
        self.assertEqual((self.register.running(), self.register.stuck), ([], 1))
        self.register.move(one, REPORTING)
        self.register.move(one, GONE)  # delivered, while the function still runs
        self.assertEqual(self.register.stuck, 1)
        self.assertIsNone(self.register.finish(one, TaskResult()))
        self.assertEqual(self.register.stuck, 0)

    def test_giving_up_after_the_result_is_too_late(self) -> None:
        one, result = self.running("t"), TaskResult()
        self.assertIs(self.register.finish(one, result), one)
        self.assertIsNone(self.register.give_up(one, TaskResult()))
        self.assertIs(self.register.finish(one, result), one, "its slot may say it again, when its report breaks")
        self.assertIs(one.result, result)

    def test_a_retry_takes_the_place_of_what_runs_again_and_again(self) -> None:
        first, retries = self.running("t1"), [held("t2"), held("t3")]
        for earlier, retry in zip([first, *retries], retries):
            self.register.hold(retry)
            self.assertTrue(self.register.inherit(earlier, retry))
            self.assertEqual(self.register.running(), [retry])
            self.assertIsNone(self.register.find(earlier.entry.task_id))
        self.assertIs(self.register.finish(first, TaskResult()), retries[-1])

    def test_a_function_that_was_told_to_end_hands_nothing_on_and_one_that_never_asked_is_told_nothing(self) -> None:
        """A retry that came while a function gave up, since its workflow was ended, got the half that it returned."""
        for has_asked in (True, False):
            one, retry, one_call = self.running(f"{has_asked}"), held(f"retry {has_asked}"), Call()
            one.call = one_call
            if has_asked:
                self.assertFalse(one_call.cancelled.is_set())
            one_call.cancel("over")
            self.register.hold(retry)
            self.assertEqual(self.register.inherit(one, retry), not has_asked)
            self.assertEqual(one_call.cancelled.is_set(), has_asked)

    def test_a_copy_takes_the_place_of_what_is_over_and_of_another_input_alone(self) -> None:
        """And its row of the journal. That was freed twice, by who took the rerun and by the slot whose function ended
        just then: by the second time it could be the rerun's own, which a kill then lost."""
        goes_on = [(False, True, "h", False), (True, False, "h", False)]
        for is_over, asks, work_hash, is_replaced in (*goes_on, (True, True, "h", True), (False, False, "o", True)):
            self.setUp()
            first, copy, call = self.running("t"), held("t", row=0), Call()
            copy.entry = copy.entry._replace(work_hash=work_hash)
            first.call, first.is_over = call, is_over
            if is_over:
                call.cancel("over")
            if asks:
                self.assertEqual(call.cancelled.is_set(), is_over)
            self.assertIs(self.register.again(copy), first)
            self.assertIs(self.register.find("t"), copy if is_replaced else first)
            self.assertEqual((first.is_over, first.row, copy.row), (is_replaced, not is_replaced, is_replaced))

    def test_what_ended_or_was_given_up_hands_nothing_on(self) -> None:
        for end in (self.register.finish, self.register.give_up):
            one, retry = self.running(end.__name__), held("retry")
            end(one, TaskResult())
            self.assertFalse(self.register.inherit(one, retry))
            self.assertIs(one.owed, one)

    def test_whoever_comes_first_of_slot_timeout_and_retry_one_result_is_reported_once(self) -> None:
        rand = random.Random(11)
        for _ in range(100):
            self.setUp()
            first, retry = self.running("t1"), held("t2")
            self.register.hold(retry)
            start = threading.Barrier(3)
            said: dict[str, object] = {}

            def race(name: str, act: object, start: threading.Barrier = start, said: dict[str, object] = said) -> None:
                start.wait()
                said[name] = act()  # type: ignore[operator]

            racers = [
                ("finish", lambda first=first: self.register.finish(first, TaskResult())),
                ("give_up", lambda first=first: self.register.give_up(first, TaskResult())),
                ("inherit", lambda first=first, retry=retry: self.register.inherit(first, retry)),
            ]
            rand.shuffle(racers)
            threads = [threading.Thread(target=race, args=racer) for racer in racers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            reported = [said[name] for name in ("finish", "give_up") if said[name] is not None]
            self.assertEqual(reported, [retry if said["inherit"] else first])
            self.assertEqual(first.owed, reported[0])


if __name__ == "__main__":
    unittest.main()
