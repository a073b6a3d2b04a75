# SPDX-License-Identifier: Apache-2.0
"""The journal: what is written survives, what can't be written stops nothing."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import tempfile
import time
import unittest
import unittest.mock
from collections.abc import Iterator
from pathlib import Path

from user_agent_sdk import storage
from user_agent_sdk.conductor.wire import Task, parse_tasks
from user_agent_sdk.worker.keeping import journal as journal_module
from user_agent_sdk.worker.keeping import journal_file
from user_agent_sdk.worker.keeping.journal import Journal, input_hash
from user_agent_sdk.worker.keeping.journal_file import LATE, ONCE, REJECTED, RESULT, TAKEN, Entry

from .workerbox import FullFile, hasten

LOG = "user_agent_sdk.worker.keeping.journal"
FILE_LOG = "user_agent_sdk.worker.keeping.journal_file"
DAY_S = 86400.0


def entry(task_id: str, state: str = TAKEN, **changes: object) -> Entry:
    return Entry(state, task_id, "w", "agent", "me", input_hash="h")._replace(**changes)  # type: ignore[arg-type]


def done(task_id: str, body: bytes = b"{}", **changes: object) -> Entry:
    return entry(task_id, RESULT, status="COMPLETED", body=body, **changes)


def keep_late(journal: Journal, late: Entry) -> None:
    journal.keep_late(journal.add(late), late)


def file_of(journal: Journal) -> journal_file.File:
    assert journal._file is not None
    return journal._file


def late_in(rows: dict[int, Entry]) -> list[str]:
    return [one.task_id for one in rows.values() if one.state == LATE]


class Kept(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "journal"
        self.now = 1000.0

    def journal(self, **options: object) -> Journal:
        journal = Journal(self.folder, clock=lambda: self.now, wall=lambda: self.now + 1.7e9, **options)  # type: ignore[arg-type]
        self.addCleanup(journal.close)
        return journal

    def opened(self) -> Journal:
        journal = self.journal()
        self.assertEqual(journal.open(), {})
        return journal

    def die(self, journal: Journal) -> None:
        """Its process ends: the lock goes, nothing is tidied up."""
        file_of(journal).close()
        journal._file = None

    def stored(self, name: str = "1.db") -> tuple[dict[int, Entry], list[str]]:
        """The rows that are no late results, and the ids of those that are."""
        file = journal_file.lock(self.folder / name)
        assert file is not None
        with contextlib.closing(file):
            rows = file.read()
        return {row: one for row, one in rows.items() if one.state != LATE}, late_in(rows)

    def content(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.folder.iterdir())


class RowsTest(Kept):
    def test_a_row_survives_its_process_in_every_state(self) -> None:
        journal = self.opened()
        for state in (TAKEN, RESULT, ONCE, REJECTED):
            journal.add(entry(state, state, body=b'{"a": 1}', lease_s=2.5, reason="why", task=b"{}", taken_ms=7))
        before = journal.live()
        self.die(journal)
        self.assertEqual(self.journal().open(), before)

    def test_one_row_a_slot_is_replaced_in_place(self) -> None:
        journal = self.opened()
        for number in range(500):
            row = journal.add(entry(str(number)))
            journal.replace(row, done(str(number)))
            journal.free(row)
        self.assertEqual(row, 1)
        journal.add(entry("last"))
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["last"])

    def test_a_delivered_row_is_gone_from_the_disk_within_two_sweeps(self) -> None:
        journal = self.opened()
        row = journal.add(done("t", b"SECRET-OUTPUT" * 50))
        self.assertIn(b"SECRET-OUTPUT", self.content())
        journal.free(row)
        journal.sweep()
        journal.sweep()
        self.assertNotIn(b"SECRET-OUTPUT", self.content())

    def test_many_rows_go_at_once(self) -> None:
        """After an outage thousands of results are delivered in a moment; one statement that named them
        all was refused by older SQLite (999 variables), and the journal was thought broken."""
        journal = self.opened()
        rows = [journal.add(done(str(number))) for number in range(2500)]
        for row in rows:
            journal.free(row)
        journal.sweep()
        journal.sweep()
        self.assertTrue(journal.is_on_disk)
        self.die(journal)
        self.assertEqual(self.stored()[0], {})

    def test_the_files_shrink_when_all_is_delivered_though_a_rejected_result_stays(self) -> None:
        journal = self.opened()
        kept = journal.add(done("kept"))
        journal.replace(kept, entry("kept", REJECTED))
        rows = [journal.add(done(str(number), b"x" * 5000)) for number in range(50)]
        journal.sweep()
        wal = self.folder / "1.db-wal"
        self.assertGreater(wal.stat().st_size, 100_000)
        for row in rows:
            journal.free(row)
        journal.sweep()
        self.assertEqual(wal.stat().st_size, 0)
        journal.add(done("more"))
        self.now += journal_module.SHRINK_EVERY_S - 1
        journal.sweep()
        journal.free(max(journal.live()))
        journal.sweep()
        self.assertGreater(wal.stat().st_size, 0)  # at most every ten seconds
        self.now += 2
        journal.sweep()
        self.assertEqual(wal.stat().st_size, 0)
        self.assertEqual([one.task_id for one in journal.live().values()], ["kept"])

    def test_closing_leaves_nothing_that_was_delivered(self) -> None:
        journal = self.opened()
        rows = [journal.add(done(str(size), b"SECRET-OUTPUT" * size)) for size in (1, 300, 20_000)]
        journal.replace(journal.add(done("rejected")), entry("rejected", REJECTED))
        for row in rows:
            journal.free(row)
        journal.close()
        self.assertNotIn(b"SECRET-OUTPUT", self.content())

    @unittest.skipUnless(os.name == "posix", "file modes are POSIX")
    def test_folder_and_files_are_private(self) -> None:
        self.opened().add(entry("t"))
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        for path in self.folder.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)

    def test_without_a_folder_it_is_kept_in_memory(self) -> None:
        journal = Journal(None)
        self.assertEqual((journal.open(), journal.adopt()), ({}, {}))
        row = journal.add(done("t"))
        self.assertEqual(journal.find_result("t", done("t2")), b"{}")
        self.assertFalse(journal.is_on_disk)
        journal.free(row)
        journal.sweep()
        self.assertEqual(journal.live(), {})
        journal.close()

    def test_an_id_that_is_no_text_spoils_no_other_row(self) -> None:
        journal = self.opened()
        journal.add(entry("\ud800"))
        journal.add(entry("good"))
        with self.assertLogs(FILE_LOG, "ERROR"):
            journal.sweep()
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["good"])


class LogTest(Kept):
    """What has changed since the database was written lies in a log beside it."""

    @property
    def path(self) -> Path:
        return self.folder / "1.db-log"

    def reopened(self, journal: Journal) -> dict[str, str]:
        """The state of each task in the file after the process died."""
        self.die(journal)
        again = self.journal()
        found = {one.task_id: one.state for one in again.open().values()}
        self.assertTrue(again.is_on_disk)
        self.assertEqual(self.path.stat().st_size, 0)
        again.close()
        return found

    def test_what_came_changed_or_went_since_the_last_sweep_is_known_to_the_next_process(self) -> None:
        journal = self.opened()
        changed, replaced = journal.add(entry("changed")), journal.add(entry("went"))
        journal.add(done("settled", b'{"a":"\\u00e9"}'))
        journal.sweep()
        journal.replace(changed, done("changed"))
        journal.free(replaced)
        self.assertEqual(journal.add(entry("came", task=b'[{\n"taskId": "came"}]\n')), replaced)
        before = journal.live()
        self.die(journal)
        self.assertEqual(self.journal().open(), before)

    def test_a_sweep_empties_it_and_a_kill_after_the_commit_changes_nothing(self) -> None:
        journal = self.opened()
        row = journal.add(entry("a"))
        journal.add(entry("b"))
        journal.replace(row, done("a"))
        log = self.path.read_bytes()
        journal.sweep()
        self.assertEqual(self.path.stat().st_size, 0)
        self.path.write_bytes(log)  # as if killed before it was emptied
        self.assertEqual(self.reopened(journal), {"a": RESULT, "b": TAKEN})

    def test_it_is_emptied_when_it_grows(self) -> None:
        hasten(self, journal_LOG_MAX_BYTES=10_000)
        journal = self.opened()
        for number in range(100):
            journal.add(done(str(number), b"x" * 1000))
            self.assertLess(self.path.stat().st_size, 12_000)
        self.assertEqual(len(self.reopened(journal)), 100)

    def test_wherever_a_power_cut_ended_it_the_records_before_are_used(self) -> None:
        journal = self.opened()
        journal.add(done("a"))
        first = self.path.stat().st_size
        journal.add(done("b"))
        self.die(journal)
        log = self.path.read_bytes()
        self.folder = self.folder.with_name("cut")
        for size in (0, 1, first - 1, first, first + 1, first + 8, len(log) - 1, len(log)):
            with self.subTest(size):
                for path in self.folder.glob("*"):
                    path.unlink()
                self.opened().close()
                self.path.write_bytes(log[:size])
                expected = [task_id for task_id, end in (("a", first), ("b", len(log))) if size >= end]
                self.assertEqual([one.task_id for one in self.stored()[0].values()], expected)

    def test_a_damaged_one_is_set_aside_and_said_and_the_sound_records_are_used(self) -> None:
        for where, change in (("content", 20), ("length", 7), ("checksum", 0)):
            with self.subTest(where):
                self.folder = self.folder.with_name(where)
                journal = self.opened()
                journal.add(done("a"))
                first = self.path.stat().st_size
                journal.add(done("b"))
                journal.add(done("c"))
                log = bytearray(self.path.read_bytes())
                log[first + change] ^= 1
                self.path.write_bytes(log)
                inode = storage.inode(self.path)
                with self.assertLogs(FILE_LOG, "ERROR") as said:
                    self.assertEqual(self.reopened(journal), {"a": RESULT, "c": RESULT})
                self.assertEqual(len(said.output), 1)
                [kept] = self.folder.glob("1.db-log.corrupt-*")
                self.assertEqual(kept.read_bytes(), log)
                self.assertEqual(storage.inode(kept), inode, "a copy took the room that its rows needed on a full disk")

    def test_what_follows_a_record_that_found_no_room_is_used(self) -> None:
        """A full disk cuts a record off; another thread's, a moment later, may find room again."""
        journal = self.opened()
        journal.add(done("a"))
        with self.path.open("ab") as log:
            log.write(journal_file._record(2, done("b"))[:30])
        file_of(journal).append(3, done("c"))
        with self.assertLogs(FILE_LOG, "ERROR"):
            self.assertEqual(self.reopened(journal), {"a": RESULT, "c": RESULT})

    def test_damage_before_many_brackets_is_read_past_at_once(self) -> None:
        """Each could begin a record, and all that followed was copied to see: a start that took hours."""
        data = b"\xff" * 9 + b"[" * 1_000_000 + journal_file._record(1, done("a"))
        began = time.process_time()
        rows, damaged = journal_file._read_log(data)
        self.assertLess(time.process_time() - began, 4.0)  # 0.3 s, and 12 s when all was copied
        self.assertEqual(([one.task_id for one in rows.values()], damaged), (["a"], 0))

    def test_zeros_at_its_end_are_damage(self) -> None:
        """A file system may have made room for what a power cut then kept from the disk."""
        journal = self.opened()
        journal.add(done("a"))
        with self.path.open("ab") as log:
            log.write(b"\0" * 100)
        with self.assertLogs(FILE_LOG, "ERROR"):
            self.assertEqual(self.reopened(journal), {"a": RESULT})

    def test_what_it_holds_is_used_though_its_database_is_gone(self) -> None:
        """Whoever set that aside was killed before it had made a new one, and no other worker looked here."""
        mine, dead = self.opened(), self.opened()
        dead.add(done("a"))
        self.die(dead)
        for path in [*self.folder.glob("2.db"), *self.folder.glob("2.db-wal")]:
            path.unlink()
        self.assertEqual([one.task_id for one in mine.adopt().values()], ["a"])

    def test_what_it_holds_is_used_though_its_database_is_damaged(self) -> None:
        journal = self.opened()
        journal.add(done("a"))
        self.die(journal)
        (self.folder / "1.db").write_bytes(b"noise" * 1000)
        with self.assertLogs(LOG, "ERROR"):
            self.assertEqual([one.task_id for one in self.journal().open().values()], ["a"])

    def test_with_sync_full_each_change_is_in_the_database_at_once(self) -> None:
        journal = self.journal(sync="full")
        journal.open()
        journal.replace(journal.add(entry("t")), done("t"))
        self.assertEqual(self.path.stat().st_size, 0)
        self.assertEqual(self.reopened(journal), {"t": RESULT})

    def test_a_file_that_is_adopted_is_adopted_with_its_log(self) -> None:
        dead, mine = self.opened(), self.opened()
        dead.add(done("theirs"))
        self.die(dead)
        self.assertGreater(self.path.stat().st_size, 0)
        self.assertEqual([one.task_id for one in mine.adopt().values()], ["theirs"])
        self.assertEqual(self.path.stat().st_size, 0)
        self.assertEqual(self.stored(), ({}, []))


class HashTest(unittest.TestCase):
    def task(self, given: object) -> Task:
        return Task({"taskId": "t", "workflowInstanceId": "w", "inputData": given})

    def test_the_order_of_keys_does_not_matter_the_values_do(self) -> None:
        self.assertEqual(input_hash(self.task({"a": 1, "b": [2]})), input_hash(self.task({"b": [2], "a": 1})))
        self.assertNotEqual(input_hash(self.task({"a": 1})), input_hash(self.task({"a": 2})))
        self.assertEqual(input_hash(self.task({"a": 1, "__task_id__": "x"})), input_hash(self.task({"a": 1})))

    def test_input_that_no_json_can_hold_is_like_no_other(self) -> None:
        deep: object = []
        for _ in range(100_000):
            deep = [deep]
        self.assertEqual(input_hash(self.task({"a": deep})), "")
        self.assertFalse(entry("t", input_hash="").is_same_work(entry("u", input_hash="")))
        while deep:  # taken apart by hand: its destructor would recurse
            deep = deep[0]  # type: ignore[index]

    def test_a_task_with_nan_and_half_a_surrogate_is_kept(self) -> None:
        """Its wire object was once encoded as strictly as a report: the poll's reply broke the slot and
        the task was held, and its lease extended, by nobody for ever."""
        (task,) = parse_tasks(rb'[{"taskId":"t","workflowInstanceId":"w","inputData":{"a":NaN,"b":"\ud800"}}]')
        self.assertTrue(input_hash(task))
        again = journal_file.task_of(entry("t", task=task.raw))
        self.assertEqual((again.task_id, again.input_data["b"]), ("t", "\ud800"))

    def test_a_task_that_was_not_kept_or_was_damaged_has_its_ids(self) -> None:
        for kept in (b"", b"[", b'{"taskId":"other","workflowInstanceId":"w"}', b"\xff\xfe", b"3"):
            again = journal_file.task_of(entry("t", task=kept))
            self.assertEqual((again.task_id, again.workflow_instance_id, again.input_data), ("t", "w", {}))


class FilesTest(Kept):
    def test_each_process_has_a_file_of_its_own(self) -> None:
        first, second = self.opened(), self.opened()
        first.add(entry("1"))
        second.add(entry("2"))
        self.assertEqual(second.adopt(), {})  # the first lives
        self.assertEqual([path.name for path in journal_file.files_of(self.folder)], ["1.db", "2.db"])

    def test_the_rows_of_the_dead_are_adopted_once(self) -> None:
        first, second, third = self.opened(), self.opened(), self.opened()
        first.add(done("1"))
        second.add(entry("2"))
        keep_late(first, done("late"))
        mine = third.add(entry("3"))
        self.die(first)
        self.die(second)
        found = third.adopt()
        self.assertEqual(sorted(one.task_id for one in found.values() if one.is_pending), ["1", "2"])
        self.assertNotIn(mine, found)
        self.assertEqual(third.adopt(), {})
        self.assertEqual(third.find_result("late", done("x")), b"{}")
        self.die(third)
        self.assertEqual(len(self.stored("3.db")[0]), 3)
        self.assertEqual(self.stored("1.db"), ({}, []))

    def test_no_file_is_removed_by_adopting(self) -> None:
        first, second = self.opened(), self.opened()
        self.die(first)
        second.adopt()
        self.assertTrue((self.folder / "1.db").exists())

    def test_a_newer_file_is_left_alone_and_that_is_said_once(self) -> None:
        journal = self.opened()
        journal.add(entry("t"))
        file_of(journal)._db.execute("PRAGMA user_version=99")
        self.die(journal)
        before = (self.folder / "1.db").read_bytes()
        other = self.journal()
        with self.assertLogs(LOG, "WARNING") as said:
            self.assertEqual(other.open(), {})
            other.adopt()
            other.adopt()
        self.assertEqual(len(said.output), 1)
        self.assertIn("newer", said.output[0])
        self.assertEqual((other._path or self.folder).name, "2.db")
        self.assertEqual((self.folder / "1.db").read_bytes()[:100], before[:100])

    def test_a_damaged_or_foreign_file_is_set_aside_and_never_deleted(self) -> None:
        self.folder.mkdir()
        whole = self.folder / "whole.sqlite"
        db = sqlite3.connect(whole)
        db.execute("CREATE TABLE theirs(x)")
        db.commit()
        db.close()
        contents = {"zeros": b"\0" * 5000, "noise": bytes(range(1, 256)) * 40, "cut": whole.read_bytes()[:5000],
                    "foreign": whole.read_bytes()}  # fmt: skip
        for name, content in contents.items():
            with self.subTest(name), self.assertLogs(LOG, "ERROR") as said:
                for path in self.folder.glob("1.db*"):
                    path.unlink()
                (self.folder / "1.db").write_bytes(content)
                journal = self.journal()
                self.assertEqual(journal.open(), {})
                journal.add(entry("t"))
                self.assertTrue(journal.is_on_disk)
                self.assertEqual(len(said.output), 1)
                kept = list(self.folder.glob("1.db.corrupt-*"))
                self.assertEqual(len(kept), 1)
                self.assertEqual(kept[0].stat().st_size, len(content))
                journal.close()

    def test_an_empty_file_is_a_new_one(self) -> None:
        self.folder.mkdir()
        (self.folder / "1.db").touch()
        self.assertTrue(self.opened().is_on_disk)

    def test_a_damaged_file_of_a_dead_process_is_set_aside_and_the_others_are_adopted(self) -> None:
        dead, mine = self.opened(), None
        (self.folder / "0.db").write_bytes(b"noise" * 1000)
        dead.add(done("t"))
        mine = self.opened()
        self.die(dead)
        with self.assertLogs(LOG, "ERROR"):
            self.assertEqual([one.task_id for one in mine.adopt().values()], ["t"])

    def test_targets_do_not_share_a_folder(self) -> None:
        names = {
            journal_file.folder_of(Path("j"), *identity).name
            for identity in (("akabot", "https://a/api", "me"), ("akabot", "https://a/api", "you"),
                             ("conductor", "https://a/api", "me"), ("akabot", "https://b/api", "me"))
        }  # fmt: skip
        self.assertEqual(len(names), 4)
        self.assertTrue(all(len(name) == 12 for name in names))


class TroubleTest(Kept):
    @contextlib.contextmanager
    def full_disk(self, journal: Journal) -> Iterator[None]:
        file = file_of(journal)
        before = file._log
        pages = file._db.execute("PRAGMA page_count").fetchone()[0]
        file._db.execute(f"PRAGMA max_page_count={pages}")
        file._log = FullFile(self.folder / "1.db-log", "ab")
        yield
        file._log.close()
        file._log = before
        file._db.execute("PRAGMA max_page_count=1000000")

    def test_a_full_disk_is_said_once_and_what_was_kept_in_memory_is_written_later(self) -> None:
        journal = self.opened()
        kept = journal.add(entry("kept"))
        with self.assertLogs(LOG, "WARNING") as said:
            with self.full_disk(journal):
                rows = [journal.add(done(str(number), b"x" * 5000)) for number in range(20)]
                keep_late(journal, done("late", b"y" * 9000))
                self.assertFalse(journal.is_on_disk)
                self.assertEqual(len(journal.live()), 22)
                self.assertEqual(journal.find_result("late", done("r")), b"y" * 9000)
                for row in rows[:10]:
                    journal.free(row)
                journal.free(kept)
                self.now += journal_module.REOPEN_EVERY_S
                journal.sweep()  # still full
                self.assertEqual(len(said.output), 1)
            self.now += journal_module.REOPEN_EVERY_S - 1
            journal.sweep()
            self.assertFalse(journal.is_on_disk)
            self.now += 1
            journal.sweep()
            self.assertTrue(journal.is_on_disk)
        self.assertEqual(len(said.output), 2)
        self.assertIn("written again", said.output[1])
        journal.add(entry("after"))
        self.die(journal)
        rows_kept, late = self.stored()
        self.assertEqual(sorted(one.task_id for one in rows_kept.values()), sorted([*map(str, range(10, 20)), "after"]))
        self.assertEqual(late, ["late"])

    def test_a_stop_writes_what_was_kept_in_memory_without_waiting_for_the_next_try(self) -> None:
        """There was room again, but a worker that was stopped within 5 s of the trouble took its results along."""
        journal = self.opened()
        with self.assertLogs(LOG, "WARNING"):
            with self.full_disk(journal):
                journal.add(done("t", b"x" * 9000))
                self.assertFalse(journal.save())
            journal.close()
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["t"])

    def test_only_what_is_not_on_disk_is_written_again(self) -> None:
        """All rows were: a day's late results took more room than there was, and each try filled the disk."""
        journal = self.opened()
        for number in range(20):
            keep_late(journal, done(str(number), b"x" * 5000))
        with self.assertLogs(LOG, "WARNING"):
            with self.full_disk(journal):
                journal.add(done("t"))
            written: list[str] = []
            file_of(journal)._db.set_trace_callback(written.append)
            self.assertTrue(journal.save())
        self.assertEqual(len([one for one in written if one.startswith("REPLACE")]), 1)
        self.assertEqual([one for one in written if one.startswith("DELETE")], [])

    def test_of_two_that_find_a_file_damaged_one_sets_it_aside(self) -> None:
        """The second moved the new file of the first away, whose results then were where nobody looks."""
        self.folder.mkdir()
        (self.folder / "1.db").write_bytes(b"noise" * 1000)
        quicker, slower = self.journal(), self.journal()
        lock = journal_file.lock

        def overtaken(path: Path, sync: str) -> journal_file.File | None:
            journal_file.lock = lock
            try:
                return lock(path, sync)
            finally:
                quicker.open()

        self.addCleanup(setattr, journal_file, "lock", lock)
        journal_file.lock = overtaken  # type: ignore[assignment]
        with self.assertLogs(LOG, "ERROR") as said:
            slower.open()
        self.assertEqual(len(said.output), 1)
        self.assertEqual(len(list(self.folder.glob("*.corrupt-*"))), 1)
        self.assertEqual([one._path.name for one in (quicker, slower) if one._path], ["1.db", "2.db"])

    def test_a_file_that_is_set_aside_while_it_is_opened_is_no_trouble(self) -> None:
        journal, lock = self.journal(), journal_file.lock

        def moved(path: Path, sync: str) -> journal_file.File | None:
            journal_file.lock = lock
            raise sqlite3.OperationalError("disk I/O error")

        self.addCleanup(setattr, journal_file, "lock", lock)
        journal_file.lock = moved  # type: ignore[assignment]
        with self.assertLogs(LOG, "WARNING"):
            journal.open()
        self.assertTrue(journal.is_on_disk)

    def test_a_folder_that_cannot_be_made_is_memory_until_it_can(self) -> None:
        self.folder.write_text("a file is in the way")
        journal = self.journal()
        with self.assertLogs(LOG, "WARNING") as said:
            self.assertEqual(journal.open(), {})
            journal.add(done("t"))
            for _ in range(3):
                self.now += 6
                journal.sweep()
            self.folder.unlink()
            self.now += 6
            journal.sweep()
        self.assertEqual(len(said.output), 2)
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["t"])

    def test_a_row_that_can_t_be_stored_costs_no_other_when_it_is_written_again(self) -> None:
        """All were written in one transaction, which failed with it, was taken for good, and was not tried again."""
        self.folder.write_text("a file is in the way")
        journal = self.journal()
        with self.assertLogs(LOG, "WARNING"):
            journal.open()
            journal.add(entry("\ud800"))
            journal.add(done("t"))
            self.folder.unlink()
            self.now += 6
            journal.sweep()
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["t"])

    def test_rows_found_when_the_file_is_opened_late_are_adopted_and_no_id_is_taken_twice(self) -> None:
        dead = self.opened()
        dead.add(done("theirs"))
        self.die(dead)
        self.folder.rename(self.folder.with_name("away"))
        self.folder.write_text("in the way")
        journal = self.journal()
        with self.assertLogs(LOG, "WARNING"):
            journal.open()
            mine = journal.add(done("mine"))
            self.folder.unlink()
            self.folder.with_name("away").rename(self.folder)
            self.now += 6
            journal.sweep()
        found = journal.adopt()
        self.assertEqual([one.task_id for one in found.values()], ["theirs"])
        self.assertNotIn(mine, found)
        self.die(journal)
        self.assertEqual(sorted(one.task_id for one in self.stored()[0].values()), ["mine", "theirs"])

    def test_a_file_damaged_in_use_is_set_aside_and_all_rows_are_written_anew(self) -> None:
        journal = self.opened()
        rows = [journal.add(done(str(number), b"x" * 3000)) for number in range(50)]
        journal.sweep()
        file_of(journal).shrink()
        journal.add(done("in the log"))
        self.now += 60
        with self.assertLogs(LOG, "WARNING") as said:
            journal._failed(sqlite3.DatabaseError("database disk image is malformed"))
            journal.free(rows[0])
            journal.sweep()  # at once: it was on disk, and must be again
            self.assertTrue(journal.is_on_disk)
        self.assertEqual(len(said.output), 3)
        self.assertEqual(len(list(self.folder.glob("*.corrupt-*"))), 1)
        self.die(journal)
        self.assertEqual(len(self.stored()[0]), 50)

    def test_a_disk_that_damages_every_file_is_tried_now_and_then(self) -> None:
        journal = self.opened()
        with self.assertLogs(LOG, "WARNING"):
            for _ in range(100):
                journal._failed(sqlite3.DatabaseError("database disk image is malformed"))
                journal.sweep()
                self.now += 0.5
        self.assertLessEqual(len(list(self.folder.glob("1.db.corrupt-*"))), 11)

    def test_an_append_beside_the_damage_is_not_taken_for_a_dead_processs(self) -> None:
        """It came after the log was emptied and before that was closed, and was adopted as a run that had died."""
        journal = self.opened()
        file, self.now = file_of(journal), self.now + 60
        row = journal.add(entry("t"))
        with self.assertLogs(LOG, "WARNING"):
            journal._failed(sqlite3.DatabaseError("database disk image is malformed"))
            with self.assertRaises(ValueError):
                file.append(row, entry("t"))
            journal.sweep()
        self.assertEqual((journal.adopt(), list(journal.live())), ({}, [row]))

    def test_room_for_the_log_is_enough(self) -> None:
        """A checkpoint that found no room in the database was trouble too: what came then was kept in memory only."""
        journal = self.opened()
        full = sqlite3.OperationalError("database or disk is full")
        with unittest.mock.patch.object(file_of(journal), "shrink", side_effect=full):
            for _ in range(3):
                self.now += journal_module.SHRINK_EVERY_S
                journal.sweep()
                self.assertTrue(journal.is_on_disk)
        journal.add(done("t"))
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["t"])

    def test_while_it_cannot_write_it_adopts_nothing(self) -> None:
        dead, journal = self.opened(), self.opened()
        dead.add(done("t", b"x" * 9000))
        self.die(dead)
        with self.assertLogs(LOG, "ERROR"), self.full_disk(journal):
            self.assertEqual(journal.adopt(), {})
            self.assertEqual(journal.adopt(), {})
        self.assertEqual(len(self.stored()[0]), 1)

    def test_a_file_system_without_locks_ends_in_memory(self) -> None:
        journal = self.journal()
        locked = sqlite3.OperationalError("database is locked")
        before = journal_file.storage.open_exclusive
        self.addCleanup(setattr, journal_file.storage, "open_exclusive", before)
        journal_file.storage.open_exclusive = lambda path, sync: None  # type: ignore[assignment]
        with self.assertLogs(LOG, "ERROR") as said:
            journal.open()
        self.assertIn("could be locked", said.output[0])
        self.assertTrue(journal_file.storage.is_locked(locked))


class LateTest(Kept):
    def test_a_late_result_answers_the_same_work_only(self) -> None:
        journal = self.opened()
        keep_late(journal, done("t1", b"late"))
        self.assertEqual(journal.find_result("t1", entry("t2")), b"late")
        self.assertIsNone(journal.find_result("t1", entry("t2", input_hash="changed")))
        self.assertIsNone(journal.find_result("t1", entry("t2", agent_id="another")))
        self.assertIsNone(journal.find_result("t0", entry("t2")))

    def test_an_undelivered_result_answers_too_but_no_failure_and_none_refused(self) -> None:
        journal = self.opened()
        row = journal.add(done("t1", b"waits"))
        self.assertEqual(journal.find_result("t1", entry("t2")), b"waits")
        for other in (entry("t1"), done("t1")._replace(status="FAILED"), done("t1")._replace(state=REJECTED)):
            journal.replace(row, other)
            self.assertIsNone(journal.find_result("t1", entry("t2")))

    def test_it_survives_the_process_and_goes_when_forgotten(self) -> None:
        journal = self.opened()
        keep_late(journal, done("t1", b"late"))
        self.die(journal)
        again = self.journal()
        again.open()
        self.assertEqual(again.find_result("t1", entry("t2")), b"late")
        again.forget_late("t1")
        again.forget_late("t1")
        self.assertIsNone(again.find_result("t1", entry("t2")))
        for _ in range(2):
            again.sweep()
        self.die(again)
        self.assertEqual(self.stored(), ({}, []))

    def test_after_a_day_a_thousand_or_64_mb_the_oldest_go(self) -> None:
        self.assertEqual(journal_module.LATE_BYTES, 64 * 2**20)
        hasten(self, journal_LATE_BYTES=64 * 2**10)
        journal = self.opened()
        keep_late(journal, done("old"))
        self.now += DAY_S + 1
        journal.sweep()
        self.assertEqual(late_in(journal.live()), [])
        for number in range(1003):
            self.now += 0.01
            keep_late(journal, done(str(number)))
        self.assertEqual(set(late_in(journal.live())), {str(number) for number in range(3, 1003)})
        for name in ("big1", "big2", "big2"):  # the same id twice counts once
            self.now += 0.01
            keep_late(journal, done(name, b"x" * (25 * 2**10)))
        self.assertEqual(len(late_in(journal.live())), 1000)
        self.now += 0.01
        keep_late(journal, done("big3", b"x" * (25 * 2**10)))
        self.assertEqual(sorted(late_in(journal.live())), ["big2", "big3"])
        for _ in range(2):
            journal.sweep()
        self.die(journal)
        self.assertEqual(sorted(self.stored()[1]), ["big2", "big3"])

    def test_a_file_of_the_first_schema_keeps_what_it_held(self) -> None:
        """There late results had a table of their own."""
        self.folder.mkdir()
        db = storage.open_exclusive(self.folder / "1.db")
        assert db is not None
        db.execute(journal_file._TABLE)
        columns = "task_id TEXT PRIMARY KEY, agent_id TEXT, input_hash TEXT, body BLOB, kept_ms INTEGER"
        db.execute(f"CREATE TABLE late({columns})")
        db.execute("INSERT INTO late VALUES ('t1', 'agent', 'h', x'7b7d', 7)")
        db.execute(journal_file._WRITE, (5, *done("t2")))
        db.execute(f"PRAGMA application_id={journal_file.APPLICATION_ID}")
        db.execute("PRAGMA user_version=1")
        db.close()
        journal = self.journal()
        rows = journal.open()
        self.assertEqual(([one.task_id for one in rows.values() if one.is_pending], late_in(rows)), (["t2"], ["t1"]))
        self.assertEqual(journal.find_result("t1", entry("t3")), b"{}")

    def reopened_with(self, version: int) -> list[str]:
        """The tasks in a journal's file after its version was changed; it is opened as one of this release."""
        journal = self.opened()
        journal.add(done("t"))
        journal.sweep()
        file_of(journal)._db.execute(f"PRAGMA user_version={version}")
        self.die(journal)
        again = self.journal()
        found = [one.task_id for one in again.open().values()]
        self.assertEqual(file_of(again)._db.execute("PRAGMA user_version").fetchone()[0], 3)
        return found

    def test_a_file_of_a_release_that_knew_no_log_is_marked_as_one_that_has_it(self) -> None:
        """Else that release, started again, would write past the log, which came back later over newer rows."""
        self.assertEqual(self.reopened_with(version=2), ["t"])

    def test_a_version_that_a_disk_has_changed_costs_no_row(self) -> None:
        """The fuzzer found it: with 1 for its version and no table of late results, a file was never opened again."""
        self.assertEqual(self.reopened_with(version=1), ["t"])


class DamageTest(Kept):
    """What the fuzzer found: SQLite has no checksums, so a disk's changes come to us as odd values."""

    def damaged(self, *statements: str, rows: int = 3) -> Journal:
        """A journal with results that was changed behind our back after its process died, opened again."""
        journal = self.opened()
        for number in range(rows):
            journal.add(done(f"t{number}"))
        keep_late(journal, done("late"))
        journal.sweep()
        self.die(journal)
        db = sqlite3.connect(str(self.folder / "1.db"), isolation_level=None)
        for statement in statements:
            db.execute(statement)
        db.close()
        return self.journal()

    def test_one_row_that_is_no_utf8_once_cost_all_the_others(self) -> None:
        # It could not be read, so the file was "written again" five seconds later: emptied, that is.
        journal = self.damaged("UPDATE entry SET reason = CAST(x'ff41' AS TEXT) WHERE id = 2")
        rows = journal.open()
        self.assertEqual([one.task_id for one in rows.values()], ["t0", "t1", "t2", "late"])
        self.now += journal_module.REOPEN_EVERY_S
        journal.sweep()
        self.die(journal)
        self.assertEqual(len(self.stored()[0]), 3)

    def test_what_could_not_be_read_is_read_later_and_not_cleared(self) -> None:
        journal = self.damaged()
        broken = OSError("the disk does not answer")
        with self.assertLogs(LOG, "ERROR"), unittest.mock.patch.object(journal_file.File, "read", side_effect=broken):
            self.assertEqual(journal.open(), {})
        self.now += journal_module.REOPEN_EVERY_S
        journal.sweep()
        self.assertEqual([one.task_id for one in journal.adopt().values()], ["t0", "t1", "t2", "late"])

    def test_a_result_that_is_no_json_any_more_is_kept_for_a_human_and_never_sent(self) -> None:
        changes = ("body = 1e308", "body = x'7b'", "state = 'resulu'", "task_id = NULL", "workflow_id = ''")
        for number, change in enumerate(changes):
            self.folder = self.folder.with_name(str(number))
            with self.subTest(change):
                rows = self.damaged(f"UPDATE entry SET {change} WHERE id = 1", rows=1).open()
                one = rows[1]
                self.assertEqual((one.state, one.reason), (REJECTED, journal_file.DAMAGED))

    def test_numbers_that_are_none_stop_nothing(self) -> None:
        changes = "taken_ms = 'x', lease_until_ms = NULL, lease_s = 9e999, task = x'7b', agent_id = x'ff'"
        journal = self.damaged(f"UPDATE entry SET {changes}")
        one = journal.open()[1]
        self.assertEqual(one[2:], ("w", "\ufffd", "me", "COMPLETED", b"{}", "h", 0, 0, None, "", b"{"))
        keep_late(journal, done("another"))  # sorted beside the damaged one

    def test_a_file_without_its_tables_is_set_aside(self) -> None:
        for change in ("ALTER TABLE entry ADD COLUMN more", "ALTER TABLE entry RENAME TO entri"):
            with self.subTest(change):
                journal = self.damaged(change)
                with self.assertLogs(LOG, "ERROR"):
                    journal.open()
                self.assertTrue(journal.is_on_disk)
                self.assertEqual(len(list(self.folder.glob("1.db.corrupt-*"))), 1)
            self.folder = self.folder.with_name(change)

    def test_after_the_last_number_that_sqlite_has_rows_are_still_written(self) -> None:
        journal = self.damaged("UPDATE entry SET id = 9223372036854775807 WHERE id = 3")
        journal.open()
        journal.add(entry("next"))
        self.die(journal)
        self.assertEqual(sorted(one.task_id for one in self.stored()[0].values()), ["next", "t0", "t1", "t2"])


if __name__ == "__main__":
    unittest.main()
