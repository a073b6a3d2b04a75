# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import time
import unittest
from datetime import datetime
from typing import Any
from unittest import mock

from tests.historybox import NOON_S, HistoryTest, execution
from user_agent_sdk import storage
from user_agent_sdk.conductor.wire import TaskStatus
from user_agent_sdk.errors import StorageError, UsageError
from user_agent_sdk.history import recorder as module
from user_agent_sdk.history import shape, store, times
from user_agent_sdk.history.recorder import Recorder, recording
from user_agent_sdk.settings import load


class WhatIsRecordedTest(HistoryTest):
    def columns(self) -> dict[str, Any]:
        db = sqlite3.connect(str(self.path))
        self.addCleanup(db.close)
        db.row_factory = sqlite3.Row
        return dict(db.execute("SELECT * FROM execution_history ORDER BY id DESC LIMIT 1").fetchone())

    def test_a_row_has_exactly_the_ten_columns_that_0_2_0_unpacks(self) -> None:
        self.record(execution({"num1": 2}, {"result": 5}))
        row = self.columns()
        self.assertEqual(
            list(row),
            ["id", "task_id", "agent_id", "user_agent_id", "started_at", "ended_at", "status", "input_data",
             "output_data", "error_message"],
        )  # fmt: skip
        self.assertEqual(
            [row["task_id"], row["agent_id"], row["user_agent_id"], row["status"], row["error_message"]],
            ["platform-1", "deployed-1", "reader#user-agent", "success", None],
        )
        self.assertEqual((row["input_data"], row["output_data"]), ('{"num1": 2}', '{"result": 5}'))

    def test_the_times_are_those_of_0_2_0_and_the_instants_stand_beside_them(self) -> None:
        """Scripts read ``datetime.now() - datetime.fromisoformat(started_at)``: with an offset that is a TypeError."""
        self.record(execution(started_s=NOON_S, lasted_s=0.25))
        row = self.columns()
        for name, epoch_s in (("started_at", NOON_S), ("ended_at", NOON_S + 0.25)):
            self.assertEqual(datetime.fromisoformat(row[name]), datetime.fromtimestamp(epoch_s))
            self.assertEqual(len(row[name]), 26)
            shown = getattr(self.found()[0], name)
            self.assertEqual(times.moment(shown).timestamp(), epoch_s)  # type: ignore[union-attr]
            self.assertIsNotNone(datetime.fromisoformat(shown).tzinfo)

    def test_a_failed_execution_has_the_output_that_0_2_0_gave_it(self) -> None:
        self.record(execution(output={"result": None}, status=TaskStatus.FAILED))
        self.assertEqual(self.columns()["output_data"], '{"result": null}')

    def test_the_other_facts_are_kept_beside_it(self) -> None:
        self.record(execution(logs=["reading 中文"], status=TaskStatus.FAILED, reason_for_incompletion="no total"))
        record = self.found()[0]
        self.assertEqual(
            (record.duration_ms, record.attempt, record.worker_id, record.workflow_id, record.wire_task_id),
            (1500, 2, "worker-1", "flow-1", "wire-1"),
        )
        self.assertEqual((record.status, record.platform_status), ("error", "FAILED"))
        self.assertEqual((record.error_message, record.output_data), ("no total", None))
        self.assertEqual(record.log_lines(), [(times.clock(NOON_S * 1000), "reading 中文")])

    def test_the_input_is_what_came_whatever_the_function_did_to_it(self) -> None:
        one = execution({"invoice": 7, "order": {"items": [1, 2]}})
        one[2].input_data.pop("invoice")
        one[2].input_data["order"]["items"].clear()
        self.record(one)
        self.assertEqual(self.columns()["input_data"], '{"invoice": 7, "order": {"items": [1, 2]}}')

    def test_the_output_is_what_was_sent_whatever_becomes_of_the_object(self) -> None:
        """A dict that functions share was recorded as the next one had left it."""
        shared = {"result": {"total": 1}}
        one = execution(output=shared)
        one[3].encoded_output = json.dumps(shared).encode()
        shared["result"]["total"] = 2
        self.record(one)
        self.assertEqual(self.columns()["output_data"], '{"result": {"total": 1}}')
        none = execution(output={"later": 1})
        none[3].encoded_output = b"{}"
        self.record(none)
        self.assertEqual(self.columns()["output_data"], "{}")

    def test_a_task_that_asks_to_be_called_again_is_no_error(self) -> None:
        self.record(execution(status=TaskStatus.IN_PROGRESS))
        self.assertEqual((self.found()[0].status, self.found()[0].platform_status), ("success", "IN_PROGRESS"))

    def test_a_clock_that_was_set_back_makes_no_negative_duration(self) -> None:
        self.record(execution(lasted_s=-3600))
        record = self.found()[0]
        self.assertEqual((record.duration_ms, record.ended_at), (0, record.started_at))

    def test_what_sqlite_or_utf_8_can_t_take_is_replaced(self) -> None:
        self.record(execution({"a": "\ud800\x00"}, agent_id="a\ud800", reason_for_incompletion="no\ud800"))
        record = self.found()[0]
        self.assertEqual((record.user_agent_id, record.error_message), ("a?", "no?"))
        self.assertEqual(json.loads(record.input_data or ""), {"a": "\ud800\x00"})

    @unittest.skipIf(os.name == "nt", "modes are POSIX's")
    def test_the_files_are_for_their_owner_alone(self) -> None:
        recorder = Recorder(self.path)
        recorder.start()
        recorder.record(*execution())
        recorder.close()
        keep = storage.open_shared(self.path)
        self.addCleanup(keep.close)
        keep.execute("DELETE FROM execution_facts")
        modes = {path.name: path.stat().st_mode & 0o777 for path in self.folder.iterdir()}
        self.assertEqual(set(modes.values()), {0o600}, modes)
        self.assertEqual(len(modes), 3)

    def test_nothing_is_made_where_nothing_is_to_be_recorded(self) -> None:
        with recording(self.path, ()):
            pass
        self.assertFalse(self.path.exists())

    def test_a_history_that_another_process_makes_meanwhile_is_ours(self) -> None:
        """Of two workers that recorded for the first time together one saw no table of ours, and then tables: it took
        the file for another program's, and recorded nothing more."""

        class Between(sqlite3.Connection):
            """Makes the history, as another process, behind the first question."""

            def execute(self, *args: Any) -> Any:
                found, was_asked = super().execute(*args).fetchall(), self.was_asked
                self.was_asked = True
                if not was_asked:
                    with contextlib.closing(storage.open_shared(path)) as other:
                        store.prepare(other)
                return mock.MagicMock(fetchone=lambda: found[0] if found else None, __iter__=lambda _: iter(found))

            was_asked = False

        path = self.path
        with contextlib.closing(sqlite3.connect(path, factory=Between)) as db:
            store.check(db)


class RetentionTest(HistoryTest):
    def ids(self) -> list[str]:
        db = sqlite3.connect(self.path)
        self.addCleanup(db.close)
        return [row[0] for row in db.execute("SELECT wire_task_id FROM execution_facts ORDER BY id")]

    def run_with(self, task_id: str, started_s: float, keep_s: float | None = 30 * 86400.0) -> None:
        with recording(self.path, (), keep_s) as record:
            record(execution(task_id=task_id, started_s=started_s))

    def test_a_worker_takes_out_what_is_too_old(self) -> None:
        for task_id, age_days in (("old", 31), ("new", 29)):
            self.run_with(task_id, time.time() - age_days * 86400, None)
        self.assertEqual(self.ids(), ["old", "new"])
        with self.assertLogs("user_agent_sdk", "INFO") as said:
            self.run_with("now", time.time())
        self.assertEqual(self.ids(), ["new", "now"])
        self.assertIn("Taken out of the history: 1 execution", said.output[0])

    def test_it_does_so_once_a_day(self) -> None:
        with mock.patch.object(module, "prune", return_value=0) as prune, \
                mock.patch.object(module, "GATHER_S", 0.0), recording(self.path, (), 1.0) as record:
            for _ in range(3):
                record(execution())
        self.assertEqual(prune.call_count, 1)

    def test_an_age_that_makes_no_sense_is_an_error(self) -> None:
        for text in ("30", "soon", "-1d", "1m"):
            self.assertRaises(UsageError, load, {"keep_history_s": text}, environ={}, target=False)
        self.assertEqual(load({"keep_history_s": "2w"}, environ={}, target=False).keep_history_s, 14 * 86400)


class RedactionTest(HistoryTest):
    def test_a_key_is_blanked_in_any_case_and_at_any_depth(self) -> None:
        given = {"user": "ann", "items": [{"PassWord": "hunter22", "n": {"pin": 1234}}]}
        self.record(execution(given, {"password": {"old": "swordfish"}}), redact=["password", "pin"])
        record = self.found()[0]
        self.assertEqual(
            json.loads(record.input_data or ""), {"user": "ann", "items": [{"PassWord": "***", "n": {"pin": "***"}}]}
        )
        self.assertEqual(json.loads(record.output_data or ""), {"password": "***"})
        self.assertEqual(record.altered, "input-blanked output-blanked")

    def test_what_is_too_deep_to_search_is_not_kept(self) -> None:
        deep: Any = {"password": "hunter22"}
        for _ in range(100_000):
            deep = [deep]
        self.record(execution({"deep": deep}), redact=["password"])
        self.assertNotIn("hunter22", str(self.found()))
        self.assertIn("too deep", self.found()[0].input_data or "")
        while isinstance(deep, list):  # its own end must not need a deep stack either
            deep = deep[0]


class SizeTest(HistoryTest):
    def test_a_large_value_is_cut_with_a_mark_and_stays_json(self) -> None:
        self.record(
            execution({"name": "scan.pdf", "blob": "y" * 5_000_000, "after": 1}, [{"n": n} for n in range(10**5)])
        )
        record = self.found()[0]
        given, output = json.loads(record.input_data or ""), json.loads(record.output_data or "")
        self.assertEqual(given["name"], "scan.pdf")
        self.assertRegex(given["blob"][-60:], r"^y+… \(cut: 5,000,000 characters in all\)$")
        self.assertEqual(given["…"], "(cut: 1 more keys)")
        self.assertEqual(output[0], {"n": 0})
        self.assertRegex(output[-1], r"^… \(cut: [\d,]+ more items\)$")
        self.assertEqual(record.altered, "input-cut output-cut")
        for text in (record.input_data, record.output_data):
            self.assertLess(len(text or ""), shape.VALUE_MAX_BYTES * 1.1)

    def test_wide_characters_count_as_what_they_take(self) -> None:
        self.record(execution({"blob": "中" * 1_000_000}))
        text = self.found()[0].input_data or ""
        self.assertIn("中", json.loads(text)["blob"])
        self.assertLess(len(text), shape.VALUE_MAX_BYTES * 1.1)


class TroubleTest(HistoryTest):
    """The worker never waits for its history, nor stops for it."""

    def setUp(self) -> None:
        super().setUp()
        for where, name, value in (
            (storage, "BUSY_TIMEOUT_S", 0.02), (module, "RETRY_S", 0.01), (module, "GATHER_S", 0.01),
        ):  # fmt: skip
            patch = mock.patch.object(where, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def start(self) -> Recorder:
        recorder = Recorder(self.path)
        recorder.start()
        self.addCleanup(recorder.close)
        return recorder

    def test_a_locked_database_is_said_once_and_written_when_it_is_free(self) -> None:
        self.record(execution())
        said = Said(self)
        lock = sqlite3.connect(str(self.path), isolation_level=None)
        self.addCleanup(lock.close)
        lock.execute("BEGIN IMMEDIATE")
        recorder = self.start()
        before = time.monotonic()
        for _ in range(5):
            recorder.record(*execution())
        self.assertLess(time.monotonic() - before, 1.0)
        said.wait_for("history_failed")
        lock.execute("ROLLBACK")
        said.wait_for("history_recovered")
        recorder.close()
        self.assertEqual(len(self.found()), 6)
        self.assertEqual(said.actions, ["history_failed", "history_recovered"])

    def test_a_full_disk_is_said_once_and_written_when_there_is_room(self) -> None:
        said, pages = Said(self), [4]

        def small(path: Any) -> storage.Connection:
            db = storage.open_shared(path)
            db.execute(f"PRAGMA max_page_count={pages[0]}")
            return db

        with mock.patch.object(module, "open_shared", small):
            recorder = self.start()
            recorder.record(*execution({"blob": "x" * 200_000}))
            said.wait_for("history_failed")
            pages[0] = 10**6
            said.wait_for("history_recovered")
            recorder.close()
        self.assertEqual(len(self.found()), 1)
        self.assertEqual(said.actions, ["history_failed", "history_recovered"])

    def test_what_is_not_ours_is_left_alone_and_said_once(self) -> None:
        foreign = sqlite3.connect(str(self.path))
        foreign.execute("CREATE TABLE customers(name)")
        foreign.commit()
        foreign.close()
        for name, content in (("foreign", self.path.read_bytes()), ("text", b"no database at all " * 99)):
            with self.subTest(name):
                self.path.write_bytes(content)
                said, recorder = Said(self), self.start()
                recorder.record(*execution())
                said.wait_for("history_failed")
                recorder.record(*execution())
                recorder.close()
                self.assertEqual(said.actions, ["history_failed"])
                self.assertEqual(sorted(path.name for path in self.folder.iterdir()), [self.path.name])
                if name == "text":
                    self.assertEqual(self.path.read_bytes(), content)
                else:
                    tables = sqlite3.connect(str(self.path))
                    self.assertEqual(tables.execute("SELECT name FROM sqlite_master").fetchall(), [("customers",)])
                    tables.close()

    def test_a_file_that_is_not_ours_is_said_though_another_trouble_was(self) -> None:
        """After a lock the last thing said was that it is tried again, while the recorder had given up."""
        said, recorder = Said(self), Recorder(self.path)
        failures = iter((sqlite3.OperationalError("database is locked"), StorageError("no database")))
        with mock.patch.object(module, "open_shared", side_effect=failures):
            recorder.record(*execution())
            recorder.start()
            recorder._thread.join(10)
            recorder.close()
        self.assertEqual(said.actions, ["history_failed", "history_failed"])
        self.assertIn("are tried again", said.texts[0])
        self.assertIn("can't be used", said.texts[1])

    def test_a_folder_that_is_missing_is_said_and_used_when_it_is_there(self) -> None:
        self.path = self.folder / "later" / "history.db"
        said, recorder = Said(self), self.start()
        recorder.record(*execution())
        said.wait_for("history_failed")
        self.path.parent.mkdir()
        said.wait_for("history_recovered")
        recorder.close()
        self.assertEqual(len(self.found()), 1)

    def test_a_file_that_was_moved_away_is_made_anew(self) -> None:
        """A log rotation took the file away, and later executions went into the file that was gone."""
        recorder = self.start()
        recorder.record(*execution())
        self.await_rows()
        if os.name == "nt":
            self.skipTest("Windows does not move a file that is open")
        self.path.rename(self.folder / "old.db")
        recorder.record(*execution())
        recorder.close()
        self.assertEqual(len(self.found()), 1)

    def test_a_file_that_another_process_made_anew_is_the_one_to_write(self) -> None:
        """The file was moved away, and the quicker of two workers had its name in use again: the other one wrote on
        into the file that was gone."""
        recorder, quicker = self.start(), Recorder(self.path)
        recorder.record(*execution())
        self.await_rows()
        if os.name == "nt":
            self.skipTest("Windows does not move a file that is open")
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).rename(self.folder / f"old{suffix}")
        quicker.start()
        quicker.record(*execution())
        self.await_rows()
        recorder.record(*execution())
        self.await_rows(2)
        recorder.close()
        quicker.close()
        self.assertEqual(len(self.found()), 2)

    def test_the_queue_is_bounded_and_its_overflow_is_said_once(self) -> None:
        said = Said(self)
        recorder = Recorder(self.path)  # not started: nothing empties it
        with mock.patch.object(module, "QUEUE_MAX_ROWS", 3):
            for _ in range(10):
                recorder.record(*execution())
        recorder._thread.start()
        recorder.close()
        self.assertEqual(len(self.found()), 3)
        self.assertEqual(said.actions, ["history_overflow", "history_lost"])
        self.assertIn("Not recorded: 7 executions", said.texts[-1])

    def test_a_full_batch_is_followed_by_the_next_without_a_pause(self) -> None:
        """With a pause after each, 5,000 executions a second were all that it could write: the rest went lost."""
        with mock.patch.object(module, "BATCH_ROWS", 1), mock.patch.object(module, "GATHER_S", 0.5):
            recorder = Recorder(self.path)
            for _ in range(40):
                recorder.record(*execution())
            recorder.start()
            self.await_rows(40)
            recorder.close()

    def test_large_rows_fill_the_queue_by_their_bytes(self) -> None:
        recorder = Recorder(self.path)
        with mock.patch.object(module, "QUEUE_MAX_BYTES", 12_000), self.assertLogs(module.logger):
            for _ in range(5):
                recorder.record(*execution({"blob": "x" * 4000}))
        with self.assertLogs(module.logger):
            recorder._thread.start()
            recorder.close()
        self.assertEqual(len(self.found()), 2)


class SharingTest(HistoryTest):
    def start(self) -> Recorder:
        recorder = Recorder(self.path)
        recorder.start()
        self.addCleanup(recorder.close)
        return recorder

    def test_two_processes_may_share_one_file(self) -> None:
        first, second = self.start(), self.start()
        for _ in range(300):
            first.record(*execution(agent_id="first"))
            second.record(*execution(agent_id="second"))
        first.close()
        second.close()
        counts = [len(self.found(user_agent_id=name)) for name in ("first", "second")]
        self.assertEqual(counts, [300, 300])

    def test_a_reader_and_a_writer_of_500_rows_a_second_do_not_hinder_each_other(self) -> None:
        said, recorder, stop, counts = Said(self), self.start(), threading.Event(), []
        recorder.record(*execution())
        self.await_rows()

        def read() -> None:
            while not stop.is_set():
                counts.append(len(self.found(limit=50)))

        reader = threading.Thread(target=read)
        reader.start()
        pace = threading.Event()
        for _ in range(50):  # half a second
            for _ in range(5):
                recorder.record(*execution())
            pace.wait(0.01)
        recorder.close()
        stop.set()
        reader.join()
        self.assertEqual(len(self.found()), 251)
        self.assertEqual(counts, sorted(counts))
        self.assertEqual(said.actions, [])


class Said:
    """The actions that the recorder logs, in order."""

    def __init__(self, case: unittest.TestCase) -> None:
        self.actions: list[str] = []
        self.texts: list[str] = []
        self._said = threading.Condition()  # guards the two above
        handler = logging.Handler()
        handler.emit = self._emit  # type: ignore[method-assign]
        module.logger.addHandler(handler)
        module.logger.propagate = False
        case.addCleanup(module.logger.removeHandler, handler)
        case.addCleanup(setattr, module.logger, "propagate", True)

    def _emit(self, record: Any) -> None:
        with self._said:
            self.actions.append(record.action)
            self.texts.append(record.getMessage())
            self._said.notify_all()

    def wait_for(self, action: str) -> None:
        with self._said:
            if not self._said.wait_for(lambda: action in self.actions, 10):
                raise AssertionError(f"{action} was not said, but {self.texts}")


if __name__ == "__main__":
    unittest.main()
