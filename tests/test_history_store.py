# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import stat
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock

from tests.historybox import NOON_S, SEED_TABLE, HistoryTest, execution
from user_agent_sdk.cli.history_detail import found
from user_agent_sdk.errors import NotFoundError, StorageError
from user_agent_sdk.history import store, times, views
from user_agent_sdk.history.store import History, parse, prune

NOON = datetime.fromtimestamp(NOON_S, timezone.utc)


class FindingTest(HistoryTest):
    def setUp(self) -> None:
        super().setUp()
        self.record(
            *(
                execution(
                    {"n": n},
                    agent_id="even" if n % 2 == 0 else "odd",
                    started_s=NOON_S + 60 * n,
                    status="FAILED" if n == 3 else "COMPLETED",
                )
                for n in range(10)
            )
        )

    def ids(self, **filters: object) -> list[int]:
        return [record.id for record in self.found(**filters)]

    def test_the_newest_come_first(self) -> None:
        self.assertEqual(self.ids(limit=3), [10, 9, 8])
        self.assertEqual(self.ids(), list(range(10, 0, -1)))

    def test_filters_add_up(self) -> None:
        self.assertEqual(self.ids(user_agent_id="odd"), [10, 8, 6, 4, 2])
        self.assertEqual(self.ids(status="error"), [4])
        self.assertEqual(self.ids(user_agent_id="even", status="error"), [])
        self.assertEqual(self.ids(agent_id="deployed-1", user_agent_id="odd", status="error"), [4])
        self.assertEqual(self.ids(agent_id="nobody"), [])

    def test_since_takes_what_ended_then_or_later(self) -> None:
        self.assertEqual(self.ids(since=NOON + timedelta(minutes=7)), [10, 9, 8])
        self.assertEqual(self.ids(since=NOON + timedelta(minutes=7), limit=2), [10, 9])
        self.assertEqual(self.ids(since=NOON + timedelta(minutes=7), user_agent_id="odd"), [10, 8])

    def test_since_sees_past_rows_that_two_processes_mixed(self) -> None:
        self.record(execution(started_s=NOON_S - 999), execution(started_s=NOON_S + 9999))
        self.assertEqual(self.ids(since=NOON + timedelta(minutes=9)), [12, 10])

    def test_since_stops_at_a_long_run_of_older_rows(self) -> None:
        with mock.patch.object(store, "DISORDER_ROWS", 3):
            self.assertEqual(self.ids(since=NOON + timedelta(minutes=8)), [10, 9])

    def test_until_takes_what_ended_before_then_however_much_came_after(self) -> None:
        self.assertEqual(self.ids(until=NOON + timedelta(minutes=3)), [3, 2, 1])
        self.assertEqual(self.ids(until=NOON + timedelta(minutes=7), since=NOON + timedelta(minutes=4)), [7, 6, 5])
        with mock.patch.object(store, "DISORDER_ROWS", 3):
            self.assertEqual(self.ids(until=NOON + timedelta(minutes=3), since=NOON), [3, 2, 1])

    def test_what_came_later_comes_oldest_first(self) -> None:
        self.assertEqual(self.ids(after_id=7), [8, 9, 10])

    def test_a_brief_look_leaves_the_large_columns_out(self) -> None:
        record = self.found(full=False)[0]
        self.assertEqual((record.input_data, record.logs, record.user_agent_id), (None, None, "odd"))

    def test_one_is_found_by_its_id_or_as_the_last(self) -> None:
        with History(self.path) as history:
            self.assertEqual(found(history, "3").input_data, '{"n": 2}')
            self.assertEqual(found(history, "last").id, 10)
            for unknown in (0, 11, 2**63, 10**30):
                with self.assertRaisesRegex(NotFoundError, f"there is no execution {str(unknown)[:20]}"):
                    found(history, str(unknown))

    def test_every_filter_on_an_id_uses_its_index(self) -> None:
        """At a million rows a scan takes seconds; these take milliseconds."""
        seen: list[str] = []
        with History(self.path) as history:
            history._db.set_trace_callback(seen.append)
            wanted: tuple[dict[str, Any], ...] = (
                {"agent_id": "a", "status": "success"}, {"user_agent_id": "u", "status": "success"},
                {"status": "error"}, {},
            )  # fmt: skip
            for filters in wanted:
                list(history.find(**filters, limit=50))
            history._db.set_trace_callback(None)
            plans = [[row[3] for row in history._db.execute(f"EXPLAIN QUERY PLAN {query}")] for query in seen]
        for plan, index in zip(plans, ("idx_agent_id", "idx_user_agent_id", "idx_status", "")):
            self.assertIn(index, plan[0])
            self.assertEqual(plan[0].startswith("SCAN"), index == "")  # without a filter, from the end
            self.assertIn("INTEGER PRIMARY KEY", plan[1])
            self.assertNotIn("SORT", " ".join(plan).upper().replace("USE TEMP B-TREE", "SORT"))



class OtherFilesTest(HistoryTest):
    def test_a_file_of_0_2_0_is_read_as_it_is(self) -> None:
        self.seed(
            {"task_id": "t", "agent_id": "a", "user_agent_id": "u", "started_at": "2026-11-22T10:00:01.5",
             "ended_at": "2026-11-22T10:00:02.75", "status": "success", "input_data": '{"n": 1}', "output_data": "{}"}
        )  # fmt: skip
        before = self.path.read_bytes()
        record = self.found()[0]
        self.assertEqual((record.duration_ms, record.attempt, record.logs), (1250, None, None))
        self.assertEqual(record.to_json()["input_data"], {"n": 1})
        self.assertEqual(record.to_json()["extra"]["attempt"], None)
        self.assertEqual(self.path.read_bytes(), before)

    def test_we_may_go_on_with_a_file_of_0_2_0_and_it_with_ours(self) -> None:
        self.seed({"task_id": "theirs", "started_at": "2026-11-22T10:00:00", "status": "success"})
        self.record(execution())
        self.seed({"task_id": "theirs again", "started_at": "2026-11-22T10:00:00", "status": "error"})
        self.assertEqual([record.task_id for record in self.found()], ["theirs again", "platform-1", "theirs"])
        db = sqlite3.connect(str(self.path))
        self.assertEqual({len(row) for row in db.execute("SELECT * FROM execution_history")}, {10})
        db.close()

    def test_a_file_that_is_missing_is_an_error_and_stays_missing(self) -> None:
        with self.assertRaises(StorageError) as raised:
            History(self.path)
        self.assertEqual(raised.exception.code, "db-missing")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_file_that_is_no_history_is_an_error(self) -> None:
        contents = {"text": b"not a database " * 99, "empty": b""}
        for name, content in contents.items():
            with self.subTest(name):
                self.path.write_bytes(content)
                with self.assertRaises(StorageError) as raised:
                    History(self.path)
                self.assertEqual(raised.exception.code, "db-invalid")
                self.assertEqual(self.path.read_bytes(), content)
        self.path.unlink()
        db = sqlite3.connect(str(self.path))
        db.execute("CREATE TABLE execution_history(id INTEGER PRIMARY KEY, title TEXT)")
        db.close()
        with self.assertRaisesRegex(StorageError, "other columns"):
            History(self.path)

    def test_whatever_was_stored_comes_out_as_text_or_as_json(self) -> None:
        self.seed_hostile()
        for record in self.found():
            for value in (record.task_id, record.input_data, record.output_data):
                self.assertIsInstance(value, str)
            record.to_json()

    def test_a_file_in_a_folder_that_can_t_be_written_is_read(self) -> None:
        self.record(execution())
        if sys.platform == "win32" or os.geteuid() == 0:
            self.skipTest("root writes where it likes, and Windows has no such mode")
        self.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        self.addCleanup(self.folder.chmod, 0o700)
        self.assertEqual(len(self.found()), 1)


class ParsingTest(HistoryTest):
    def test_what_is_no_json_stays_text(self) -> None:
        for text in ('{"x": ', "", "nothing", "[" * 300 + "]" * 300, "[" * 5000 + "]" * 5000):
            self.assertTrue(parse(text) is text, text[:20])
        self.assertEqual(json.dumps(parse("[" * 90 + "]" * 90)), "[" * 90 + "]" * 90)

    def test_nan_becomes_a_text_so_that_json_stays_json(self) -> None:
        self.assertEqual(parse("[NaN, -Infinity]"), ["NaN", "-Infinity"])

    def test_times_of_both_releases_are_read(self) -> None:
        self.assertEqual(times.moment("2026-11-22T10:00:00.5+07:00"), times.moment("2026-11-22T03:00:00.500000Z"))
        self.assertEqual(times.moment("2026-11-22T10:00:00"), datetime(2026, 11, 22, 10).astimezone())
        for text in ("", "yesterday", None, 5, "0001-01-01T00:00:00+14:00"):
            self.assertIsNone(times.moment(text))

    def test_an_age_or_a_date_is_understood(self) -> None:
        now = datetime.now().astimezone()
        self.assertAlmostEqual((now - times.parse_since("2h")).total_seconds(), 7200, delta=5)
        self.assertAlmostEqual((now - times.parse_since(" 1.5d ")).total_seconds(), 129_600, delta=5)
        self.assertEqual(times.parse_since("2026-01-31"), datetime(2026, 1, 31).astimezone())
        for far in ("1900-01-01", "9999-12-31"):  # not every system knows local times so far away
            self.assertEqual(str(times.parse_since(far))[:4], far[:4])
        for text in ("2", "h", "-2h", "999999999w", "31.01.2026", ""):
            with self.assertRaisesRegex(ValueError, "must be an age"):
                times.parse_since(text)

    def test_durations_read_well(self) -> None:
        for ms, text in (
            (0, "0 ms"), (999, "999 ms"), (1000, "1.00 s"), (9994, "9.99 s"), (9996, "10.0 s"), (59_949, "59.9 s"),
            (59_951, "1m 00s"), (3_599_999, "1h 00m"), (7_620_000, "2h 07m"),
        ):  # fmt: skip
            self.assertEqual(times.lasted(ms), text)
        self.assertEqual(times.lasted(None), "")

    def test_a_duration_without_an_end_is_not_known(self) -> None:
        self.record(execution())
        db = sqlite3.connect(str(self.path), isolation_level=None)
        db.execute("UPDATE execution_facts SET duration_ms = 9e999")
        db.close()
        (record,) = self.found()
        self.assertEqual(record.duration_ms, 1500)  # from the two times


class PruningTest(HistoryTest):
    def setUp(self) -> None:
        super().setUp()
        self.record(*(execution({"blob": f"needle-{n} " * 500}, started_s=NOON_S + 60 * n) for n in range(10)))

    def test_what_ended_before_is_deleted_with_its_facts(self) -> None:
        self.assertEqual(prune(self.path, NOON + timedelta(minutes=5), dry_run=False), 5)
        self.assertEqual([record.id for record in self.found()], [10, 9, 8, 7, 6])
        db = sqlite3.connect(str(self.path))
        self.assertEqual(db.execute("SELECT min(id), count(*) FROM execution_facts").fetchone(), (6, 5))
        db.close()

    def test_a_dry_run_counts_and_changes_nothing(self) -> None:
        before = self.path.read_bytes()
        self.assertEqual(prune(self.path, NOON + timedelta(minutes=5), dry_run=True), 5)
        self.assertEqual(self.path.read_bytes(), before)

    def test_rows_of_a_clock_that_ran_ahead_keep_nothing_from_being_deleted(self) -> None:
        """A thousand of them, and the file grew without an end."""
        day_s = 86400.0
        self.path.unlink()
        ahead = [execution(started_s=time.time() + 9 * day_s) for _ in range(5)]
        self.record(*ahead, *(execution(started_s=time.time() - 9 * day_s) for _ in range(5)))
        with mock.patch.object(store, "DISORDER_ROWS", 3):
            self.assertEqual(prune(self.path, datetime.now().astimezone() - timedelta(days=1), dry_run=False), 5)

    def test_what_is_deleted_is_gone_from_the_disk_and_the_file_shrinks(self) -> None:
        for _ in range(50):
            self.record(execution(output={"filler": "x" * 5000}))
        before = self.path.stat().st_size
        prune(self.path, NOON + timedelta(days=1), dry_run=False)
        content = b"".join(path.read_bytes() for path in Path(self.folder).iterdir())
        self.assertEqual(content.count(b"needle"), 0)
        self.assertLess(self.path.stat().st_size, before / 4)  # on 3.11 a single page was given back

    def test_what_others_deleted_before_is_gone_then_too(self) -> None:
        """Where SQLite does not overwrite what is deleted (on Windows, say), 0.2.0's files keep parts of old inputs."""
        old = self.path.with_name("old.db")
        with contextlib.closing(sqlite3.connect(str(old), isolation_level=None)) as db:
            db.execute("PRAGMA secure_delete=OFF")
            db.execute(SEED_TABLE)
            for number in range(200):
                values = ("2026-01-01", f"needle-{number} " * 100) if number % 2 else ("2099-01-01", "kept")
                db.execute("INSERT INTO execution_history (ended_at, input_data) VALUES (?, ?)", values)
            db.execute("DELETE FROM execution_history WHERE id % 4 = 0")
        self.assertIn(b"needle-3 ", old.read_bytes())
        self.assertEqual(prune(old, NOON, dry_run=False), 50)
        self.assertEqual(old.read_bytes().count(b"needle"), 0)
        with History(old) as history:
            self.assertEqual([record.input_data for record in history.find()], ["kept"] * 100)

    def test_a_page_that_breaks_under_a_prune_is_an_error_of_the_file(self) -> None:
        # The fuzzer saw "this is a bug" for a damaged disk: the table is there, but its rows can't be walked.
        data = bytearray(self.path.read_bytes())
        for start in range(len(data) // 4, len(data)):
            data[start] ^= 0x55
        self.path.write_bytes(bytes(data))
        with self.assertRaises(StorageError):
            prune(self.path, NOON, dry_run=True)

    def test_ids_are_not_used_again(self) -> None:
        prune(self.path, NOON + timedelta(days=1), dry_run=False)
        self.record(execution())
        self.assertEqual(self.found()[0].id, 11)

    def test_a_row_whose_time_can_t_be_read_stays(self) -> None:
        self.seed({"task_id": "timeless", "started_at": "once", "status": "success"})
        prune(self.path, NOON + timedelta(days=1), dry_run=False)
        self.assertEqual([record.task_id for record in self.found()], ["timeless"])


class OldFilesTest(HistoryTest):
    def test_a_file_of_1_0_0_is_read_as_it_is_and_written_on(self) -> None:
        """It has an offset in the columns of 0.2.0, and no instants in the facts."""
        began = "2026-11-20T10:00:00.250000+01:00"
        self.seed({"started_at": began, "ended_at": began, "status": "success", "output_data": '{"result": 1}'})
        db = sqlite3.connect(str(self.path), isolation_level=None)
        self.addCleanup(db.close)
        db.execute(
            """CREATE TABLE execution_facts (id INTEGER PRIMARY KEY, duration_ms INTEGER, attempt INTEGER,
            worker_id TEXT, workflow_id TEXT, wire_task_id TEXT, platform_status TEXT, logs TEXT, altered TEXT)"""
        )
        db.execute("INSERT INTO execution_facts (id, duration_ms, attempt) VALUES (1, 7, 2)")
        [old] = self.found()
        self.assertEqual((old.started_at, old.duration_ms, old.attempt), (began, 7, 2))
        self.record(execution(started_s=NOON_S))
        new, again = self.found()
        self.assertEqual(again, old)
        self.assertEqual(times.moment(new.started_at).timestamp(), NOON_S)  # type: ignore[union-attr]
        stream = io.StringIO()
        views.write_csv([new, again], stream)
        for line in stream.getvalue().splitlines()[1:]:
            self.assertIsNone(datetime.fromisoformat(line.split(",")[4]).tzinfo)
