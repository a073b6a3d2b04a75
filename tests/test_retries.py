# SPDX-License-Identifier: Apache-2.0
"""The table of cases: a copy, a retry, a late result, each beside what is held here."""

from __future__ import annotations

import unittest
from typing import Any

from user_agent_sdk.conductor.wire import Task, TaskResult
from user_agent_sdk.worker.keeping import retries
from user_agent_sdk.worker.keeping.held import ENDED, GONE, LATE, REPORTING, RUNNING, Held, Register, State
from user_agent_sdk.worker.keeping.journal_file import RESULT, TAKEN, Entry
from user_agent_sdk.worker.keeping.lease import Lease
from user_agent_sdk.worker.keeping.retries import Case, case_of, result_again, too_many

DAY_S = 86400.0


def held(task_id: str, **changes: Any) -> Held:
    return Held(Entry(TAKEN, task_id, "w", "agent", "me", work_hash="h")._replace(**changes), Lease(9.0))


def task(task_id: str, retried: str | None = None, **wire: Any) -> Task:
    named = {"taskId": task_id, "workflowInstanceId": "w", "referenceTaskName": "step", "retriedTaskId": retried}
    return Task({**named, **wire})


class CaseTest(unittest.TestCase):
    def setUp(self) -> None:
        self.register = Register()

    def earlier(self, *states: State, status: str = "COMPLETED", encoded: bool = True, **changes: Any) -> Held:
        """A task t1 that went through these states; its result is in its report, or not encoded yet."""
        one = held("t1", **changes)
        self.register.hold(one)
        for state in states:
            if state is ENDED:
                self.register.finish(one, TaskResult(status=status, output_data={"a": 1}))
                if encoded:
                    assert one.result is not None
                    one.encode(one.result)
                    one.result = None
            else:
                self.assertTrue(self.register.move(one, state))
        return one

    def case(self, retried: str = "t1", *, is_there: bool = True, step: str | None = "step", **changes: Any) -> Case:
        retry = held("t2", **changes)
        self.register.hold(retry)
        named = task("t2", retried, referenceTaskName=step)
        return case_of(self.register, retry, named, 0.0, 0.0, lambda _: is_there)[0]

    def cases(self, task_: Task) -> Any:
        return case_of(self.register, held(task_.task_id), task_, 0.0, 0.0, self.fail)

    def test_a_task_that_retries_nothing_or_what_is_not_held_is_new(self) -> None:
        self.assertEqual(self.cases(task("t1")), (Case.NEW, None))
        self.assertEqual(self.case(), Case.NEW)

    def test_a_malformed_one_is_faulty_whatever_it_retries(self) -> None:
        self.earlier(RUNNING)
        bad = task("t2", "t1")
        bad.fault = "its input is no object"
        self.assertEqual(self.cases(bad), (Case.FAULTY, None))

    def test_a_retry_of_what_runs_takes_its_place(self) -> None:
        one = self.earlier(RUNNING)
        self.assertEqual(self.case(), Case.RUNS)
        assert one.heir is not None
        self.assertEqual(one.heir.entry.task_id, "t2")

    def test_a_completed_result_answers_its_retry_from_its_first_moment_until_it_is_forgotten(self) -> None:
        """In the journal alone it was not found while its slot was writing it: the work was done twice."""
        paths = ([ENDED], [ENDED, REPORTING], [ENDED, REPORTING, LATE])
        for path in paths:
            for encoded in (False, True):
                with self.subTest(path=path, encoded=encoded):
                    self.setUp()
                    one = self.earlier(RUNNING, *path, encoded=encoded)
                    self.assertEqual(self.case(), Case.KNOWN)
                    again = result_again(one, "other")
                    self.assertEqual((again.output_data, again.worker_id), ({"a": 1}, "other"))
                    self.assertEqual(again.task_id, "", "it is addressed anew")

    def test_an_attempt_that_nobody_ever_had_lies_between_a_result_and_its_retry(self) -> None:
        """A Conductor that was started again kept the reply to a poll for longer than the lease of its task: the next
        retry named that attempt, which nobody here knew, and the function ran again."""
        one = self.earlier(RUNNING, ENDED, REPORTING, LATE)
        self.assertEqual(self.case("lost"), Case.KNOWN)
        self.register.hold(held("t3"))
        self.assertEqual(self.cases(task("t3")), (Case.NEW, None), "it retries nothing")
        self.assertEqual(self.register.attempts(held("t4", work_hash="another step")), [])
        self.assertNotIn(one, self.register.attempts(one), "an attempt is no other than itself")
        self.assertIs(one.state, LATE)

    def test_what_runs_gives_its_place_to_a_retry_that_names_another_once_its_lease_is_over(self) -> None:
        """Else the platform has two attempts in progress, each of which needs its lease."""
        for sent_at, case in ((-9.0, Case.RUNS), (-8.0, Case.NEW)):
            self.setUp()
            one = self.earlier(RUNNING)
            one.lease.renewed(sent_at, 0.0, 0.0)
            self.assertEqual(self.case("lost"), case)

    def test_an_attempt_that_is_not_named_answers_only_while_the_platform_has_it(self) -> None:
        """A workflow was restarted, and its new task failed in another process. The retry of that came here, where a
        late result of before the restart lay: it was reported, and the function did not run."""
        for name, is_there, case in (("lost", True, Case.KNOWN), ("lost", False, Case.NEW), ("t1", False, Case.KNOWN)):
            self.setUp()
            self.earlier(RUNNING, ENDED, REPORTING, LATE)
            self.assertEqual(self.case(name, is_there=is_there), case)

    def test_of_a_task_without_the_name_of_its_step_the_attempt_that_it_names_alone_is_known(self) -> None:
        """Two branches of one workflow may have the same definition and input."""
        for name, case in (("lost", Case.NEW), ("t1", Case.KNOWN)):
            self.setUp()
            self.earlier(RUNNING, ENDED, REPORTING, LATE)
            self.assertEqual(self.case(name, step=None), case)

    def test_work_that_begins_anew_takes_no_result_of_before(self) -> None:
        """A workflow was restarted while a function ran for it. That ended, too late; the new task's function failed,
        and the retry was answered with the result of before."""
        late, one = held("t0"), self.earlier(RUNNING)
        self.register.move(late, LATE)
        restarted = held("n1")
        self.register.hold(restarted)
        self.assertEqual(self.register.begin_anew(restarted, False), [], "it retries something, or came again")
        self.assertEqual(self.register.begin_anew(restarted, True), [late])
        self.register.move(late, GONE)
        self.assertEqual(self.case(), Case.NEW, "while it runs, though it is named")
        self.register.finish(one, TaskResult(status="COMPLETED"))
        self.assertEqual(self.case(), Case.NEW)

    def test_a_task_that_comes_again_though_its_result_is_kept_was_rerun(self) -> None:
        one = self.earlier(RUNNING, ENDED, REPORTING, LATE)
        again = held("t1")
        self.register.hold(again)
        self.assertEqual(self.cases(task("t1", "t0")), (Case.NEW, None))
        self.assertEqual(self.register.begin_anew(again, False), [one])

    def test_what_the_platform_does_not_know_any_more_gives_its_place_to_a_retry_that_names_it_alone(self) -> None:
        for name, case in (("lost", Case.NEW), ("t1", Case.RUNS)):
            self.setUp()
            one = self.earlier(RUNNING)
            one.lease.renewed(-9.0, 0.0, 0.0)
            one.is_unknown = True
            self.assertEqual(self.case(name), case)

    def test_a_result_of_what_the_platform_does_not_know_any_more_answers_a_retry_that_names_it_alone(self) -> None:
        """A workflow was restarted, the worker killed, and the question for the attempt of before got no reply. Its
        lease had told that it was gone; yet the retry of the restarted workflow's task was answered with its result."""
        for name, case in (("lost", Case.NEW), ("t1", Case.KNOWN)):
            self.setUp()
            self.earlier(RUNNING, ENDED, REPORTING).is_unknown = True
            self.assertEqual(self.case(name, is_there=True), case)

    def test_a_task_that_was_ended_gives_its_place_though_its_lease_is_kept(self) -> None:
        self.earlier(RUNNING).is_over = True
        self.assertEqual(self.case("lost"), Case.RUNS)

    def test_another_input_or_agent_an_unknown_input_a_failure_or_a_refused_result_is_run(self) -> None:
        for retry in ({"work_hash": "changed"}, {"agent_id": "another"}):
            self.setUp()
            self.earlier(RUNNING, ENDED)
            self.assertEqual(self.case(**retry), Case.NEW)
        self.setUp()
        self.earlier(RUNNING, ENDED, work_hash="")
        self.assertEqual(self.case(work_hash=""), Case.NEW)
        for encoded in (False, True):
            self.setUp()
            self.earlier(RUNNING, ENDED, status="FAILED", encoded=encoded)
            self.assertEqual(self.case(), Case.NEW)
        self.setUp()
        self.earlier(RUNNING, ENDED, REPORTING, State.REJECTED)
        self.assertEqual(self.case(), Case.NEW)

    def test_the_damaged_report_of_another_process_answers_nothing(self) -> None:
        for body, case in ((b'{"outputData":{"a":1}}', Case.KNOWN), (b"[1]", Case.NEW), (b"\xff", Case.NEW)):
            self.setUp()
            adopted = held("t1", state=RESULT, status="COMPLETED", body=body)
            self.register.hold(adopted)
            self.assertEqual(self.case(), case, body)


class LateTest(unittest.TestCase):
    def late(self, name: str, kept_s: float, size: int = 2) -> Held:
        return held(name, taken_ms=int(kept_s * 1000), body=b"x" * size)

    def left(self, late: list[Held], now_s: float) -> list[str]:
        over = too_many(late, now_s)
        return [one.entry.task_id for one in late if one not in over]

    def test_after_a_day_it_goes(self) -> None:
        late = [self.late("old", 0.0), self.late("new", 1.0)]
        self.assertEqual(self.left(late, DAY_S), ["old", "new"])
        self.assertEqual(self.left(late, DAY_S + 1), ["new"])
        self.assertEqual(self.left([self.late("of a clock that was wrong", 3 * DAY_S)], DAY_S), [])

    def test_of_more_than_a_thousand_the_oldest_go(self) -> None:
        late = [self.late(str(number), 100.0 + number) for number in range(1003)]
        self.assertEqual(self.left(late, 2000.0), [str(number) for number in range(3, 1003)])

    def test_of_more_than_64_mb_the_oldest_go(self) -> None:
        self.assertEqual(retries.LATE_BYTES, 64 * 2**20)
        late = [self.late(str(number), 100.0 + number, 25 * 2**20) for number in range(3)]
        self.assertEqual(self.left(late, 200.0), ["1", "2"])


if __name__ == "__main__":
    unittest.main()
