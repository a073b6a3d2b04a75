# SPDX-License-Identifier: Apache-2.0
"""The journal: what is written survives, what can't be written stops nothing."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import struct
import tempfile
import threading
import time
import unittest
import unittest.mock
from collections.abc import Iterator
from pathlib import Path

from user_agent_sdk import private
from user_agent_sdk.conductor.wire import Task, parse_tasks
from user_agent_sdk.worker.keeping import journal as journal_module
from user_agent_sdk.worker.keeping import journal_file, log_file
from user_agent_sdk.worker.keeping.journal import Journal, work_hash
from user_agent_sdk.worker.keeping.journal_file import HEADER, LATE, ONCE, REJECTED, RESULT, TAKEN, Entry

from .workerbox import FullFile, hasten

LOG = "user_agent_sdk.worker.keeping.journal"
FILE_LOG = "user_agent_sdk.worker.keeping.log_file"
DAY_S = 86400.0


def entry(task_id: str, state: str = TAKEN, **changes: object) -> Entry:
    return Entry(state, task_id, "w", "agent", "me", work_hash="h")._replace(**changes)  # type: ignore[arg-type]


def done(task_id: str, body: bytes = b"{}", **changes: object) -> Entry:
    return entry(task_id, RESULT, status="COMPLETED", body=body, **changes)


def keep_late(journal: Journal, late: Entry) -> None:
    journal.write(late._replace(state=LATE), journal.write(late))


def file_of(journal: Journal) -> log_file.LogFile:
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
        journal = Journal(self.folder, **options)  # type: ignore[arg-type]
        journal._clock = lambda: self.now
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

    def stored(self, name: str = "1.log") -> tuple[dict[int, Entry], list[str]]:
        """The rows that are no late results, and the ids of those that are."""
        file = log_file.take(self.folder / name)
        assert file is not None
        with contextlib.closing(file):
            rows = file.read()
        return {row: one for row, one in rows.items() if one.state != LATE}, late_in(rows)

    @property
    def path(self) -> Path:
        return self.folder / "1.log"

    def content(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.folder.iterdir())


class RowsTest(Kept):
    def test_a_row_survives_its_process_in_every_state(self) -> None:
        journal = self.opened()
        for state in (TAKEN, RESULT, ONCE, REJECTED):
            journal.write(entry(state, state, body=b'{"a": 1}', lease_s=2.5, reason="why", task=b"{}", taken_ms=7))
        before = journal.live()
        self.die(journal)
        self.assertEqual(self.journal().open(), before)

    def test_one_row_a_slot_is_replaced_in_place(self) -> None:
        journal = self.opened()
        for number in range(500):
            row = journal.write(entry(str(number)))
            journal.write(done(str(number)), row)
            journal.free(row)
        self.assertEqual(row, 1)
        journal.write(entry("last"))
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["last"])

    def test_a_delivered_row_is_gone_from_the_disk_within_two_sweeps(self) -> None:
        journal = self.opened()
        row = journal.write(done("t", b"SECRET-OUTPUT" * 50))
        self.assertIn(b"SECRET-OUTPUT", self.content())
        journal.free(row)
        journal.sweep()
        journal.sweep()
        self.assertNotIn(b"SECRET-OUTPUT", self.content())

    def test_many_rows_go_at_once(self) -> None:
        """After an outage thousands of results are delivered in a moment; one statement that named them
        all was refused by older SQLite (999 variables), and the journal was thought broken."""
        journal = self.opened()
        rows = [journal.write(done(str(number))) for number in range(2500)]
        for row in rows:
            journal.free(row)
        journal.sweep()
        journal.sweep()
        self.assertTrue(journal.is_on_disk)
        self.die(journal)
        self.assertEqual(self.stored()[0], {})

    def test_the_file_shrinks_when_all_is_delivered_though_a_rejected_result_stays(self) -> None:
        journal = self.opened()
        kept = journal.write(done("kept"))
        journal.write(entry("kept", REJECTED), kept)
        rows = [journal.write(done(str(number), b"x" * 5000)) for number in range(50)]
        journal.sweep()
        self.assertGreater(self.path.stat().st_size, 100_000)
        for row in rows:
            journal.free(row)
        journal.sweep()
        self.assertLess(self.path.stat().st_size, 1000)
        self.assertEqual([one.task_id for one in journal.live().values()], ["kept"])

    def test_beside_much_that_stays_a_delivered_row_is_gone_after_ten_seconds(self) -> None:
        """A day's late results are not written anew for each small result, but now and then they are."""
        journal = self.opened()
        keep_late(journal, done("large", b"x" * 100_000))
        journal.sweep()  # of which the row of its delivery was replaced
        row = journal.write(done("small", b"SECRET-OUTPUT"))
        journal.free(row)
        self.now += journal_module.REWRITE_EVERY_S - 1
        journal.sweep()
        self.assertIn(b"SECRET-OUTPUT", self.content())
        self.now += 1
        journal.sweep()
        self.assertNotIn(b"SECRET-OUTPUT", self.content())
        inode = self.path.stat().st_ino
        self.now += 100
        journal.sweep()
        self.assertEqual(self.path.stat().st_ino, inode, "it was rewritten though nothing in it was done with")

    def test_closing_leaves_nothing_that_was_delivered(self) -> None:
        journal = self.opened()
        rows = [journal.write(done(str(size), b"SECRET-OUTPUT" * size)) for size in (1, 300, 20_000)]
        journal.write(entry("rejected", REJECTED), journal.write(done("rejected")))
        for row in rows:
            journal.free(row)
        journal.close()
        self.assertNotIn(b"SECRET-OUTPUT", self.content())

    @unittest.skipUnless(os.name == "posix", "file modes are POSIX")
    def test_folder_and_files_are_private(self) -> None:
        self.opened().write(entry("t"))
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        for path in self.folder.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)

    def test_a_folder_that_another_process_makes_meanwhile_is_used(self) -> None:
        """Of two workers that were started together in a fresh folder one had no journal for five seconds."""
        real = os.mkdir

        def makes_it_first(path: Path, mode: int) -> None:
            real(path, mode)
            real(path, mode)

        folder = self.folder / "fresh" / "one"
        with unittest.mock.patch("os.mkdir", makes_it_first):
            private.make_folder(folder)
        (self.folder / "file").touch()
        with self.assertRaises(FileExistsError):
            private.make_folder(self.folder / "file")

    def test_without_a_folder_it_is_kept_in_memory(self) -> None:
        journal = Journal(None)
        self.assertEqual((journal.open(), journal.adopt()), ({}, {}))
        row = journal.write(done("t"))
        self.assertFalse(journal.is_on_disk)
        journal.free(row)
        journal.sweep()
        self.assertEqual(journal.live(), {})
        journal.close()

    def test_an_id_that_is_half_a_character_costs_neither_the_next_start_nor_another_row(self) -> None:
        """The fuzzer found it: the report of such a task could not be encoded, and no later worker started."""
        journal = self.opened()
        journal.write(entry("\ud800"))
        journal.write(entry("good"))
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["?", "good"])

    def test_threads_that_add_while_it_is_rewritten_lose_nothing(self) -> None:
        hasten(self, journal_LOG_MAX_BYTES=2000)
        journal = self.opened()

        def work(name: int) -> None:
            for number in range(200):
                row = journal.write(entry(f"{name}-{number}"))
                journal.write(done(f"{name}-{number}", b"x" * 200), row)
                if number % 3:
                    journal.free(row)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            journal.sweep()
        for thread in threads:
            thread.join()
        self.assertTrue(journal.is_on_disk)
        self.die(journal)
        left = {f"{name}-{number}" for name in range(4) for number in range(0, 200, 3)}
        found = {one.task_id: one.state for one in self.stored()[0].values() if one.task_id in left}
        self.assertEqual(found, dict.fromkeys(left, RESULT))


class LogTest(Kept):
    """The file: records, which a kill cuts off and a disk damages."""

    def reopened(self, journal: Journal) -> dict[str, str]:
        """The state of each task in the file after the process died."""
        self.die(journal)
        again = self.journal()
        found = {one.task_id: one.state for one in again.open().values()}
        self.assertTrue(again.is_on_disk)
        again.close()
        return found

    def test_what_came_changed_or_went_is_known_to_the_next_process(self) -> None:
        journal = self.opened()
        changed, replaced = journal.write(entry("changed")), journal.write(entry("went"))
        journal.write(done("stayed", b'{"a":"\\u00e9"}'))
        gone = journal.write(entry("gone"))
        journal.write(done("changed"), changed)
        journal.free(gone)
        journal._write()
        journal.free(replaced)
        self.assertEqual(journal.write(entry("came", task=b'[{\n"taskId": "came"}]\n')), replaced)
        before = journal.live()
        self.die(journal)
        self.assertEqual(self.journal().open(), before)

    def test_it_is_rewritten_when_it_grows(self) -> None:
        hasten(self, journal_LOG_MAX_BYTES=10_000)
        journal = self.opened()
        row = journal.write(done("t"))
        for _ in range(100):
            journal.write(done("t", b"x" * 1000), row)
            self.assertLess(self.path.stat().st_size, 15_000)
        self.assertEqual(self.reopened(journal), {"t": RESULT})

    def test_a_log_that_could_not_be_opened_once_it_was_rewritten_keeps_its_rows(self) -> None:
        """As on Windows, where a scanner may have the new file open: then the rows were cut off until the next rewrite,
        and a kill took them."""
        hasten(self, journal_LOG_MAX_BYTES=10_000)
        journal = self.opened()
        journal.write(done("kept"))
        row = journal.write(done("t"))
        with self.assertLogs(LOG), unittest.mock.patch.object(log_file.LogFile, "_open", side_effect=OSError("busy")):
            for _ in range(20):
                journal.write(done("t", b"x" * 1000), row)
        self.assertFalse(journal.is_on_disk)
        with self.assertLogs(LOG):
            self.assertTrue(journal.sweep(at_once=True))
        self.assertEqual(self.reopened(journal), {"kept": RESULT, "t": RESULT})

    def test_what_is_all_live_is_not_rewritten_again_and_again(self) -> None:
        hasten(self, journal_LOG_MAX_BYTES=10_000)
        journal = self.opened()
        with unittest.mock.patch.object(log_file, "encode", wraps=log_file.encode) as encoded:
            for number in range(200):
                journal.write(done(str(number), b"x" * 1000))
        self.assertLess(encoded.call_count, 200 * 200 / 12)
        self.assertEqual(len(self.reopened(journal)), 200)

    def test_wherever_a_kill_or_a_power_cut_ended_it_the_records_before_are_used(self) -> None:
        """And it is no damage: nothing is said, nothing is set aside, and what comes next can be read."""
        journal = self.opened()
        journal.write(done("a"))
        first = self.path.stat().st_size
        journal.write(done("b"))
        self.die(journal)
        log = self.path.read_bytes()
        for size in range(len(log) + 1):
            with self.subTest(size), self.silence():
                self.path.write_bytes(log[:size])
                expected = [task_id for task_id, end in (("a", first), ("b", len(log))) if size >= end]
                again = self.journal()
                self.assertEqual([one.task_id for one in again.open().values()], expected)
                again.write(done("next"))
                self.assertTrue(again.is_on_disk)
                self.die(again)
                self.assertEqual([one.task_id for one in self.stored()[0].values()], [*expected, "next"])
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["1.lock", "1.log"])

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        with unittest.mock.patch("logging.Logger.handle") as handled:
            yield
        self.assertEqual([call.args[0].getMessage() for call in handled.call_args_list], [])

    def test_a_damaged_one_is_set_aside_and_said_and_the_sound_records_are_used(self) -> None:
        mark, head = len(journal_file._MARK), journal_file._HEAD.size
        for where, change in (("content", mark + head + 9), ("length", mark + head - 1), ("long length", mark + 4),
                              ("checksum", mark), ("mark", 0)):  # fmt: skip
            with self.subTest(where):
                self.folder = self.folder.with_name(where)
                journal = self.opened()
                journal.write(done("a"))
                first = self.path.stat().st_size
                journal.write(done("b"))
                journal.write(done("c"))
                log = bytearray(self.path.read_bytes())
                log[first + change] ^= 1
                self.path.write_bytes(log)
                inode = self.path.stat().st_ino
                with self.assertLogs(FILE_LOG, "ERROR") as said:
                    lengths = {"b": RESULT} if "length" in where else {}
                    self.assertEqual(self.reopened(journal), {"a": RESULT, **lengths, "c": RESULT})
                self.assertEqual(len(said.output), 1)
                [kept] = self.folder.glob("1.log.corrupt-*")
                self.assertEqual(kept.read_bytes(), log)
                self.assertEqual(kept.stat().st_ino, inode, "a copy took the room that its rows needed on a full disk")

    def test_what_follows_a_record_that_found_no_room_is_used(self) -> None:
        """A full disk cuts a record off; another thread's, a moment later, may find room again. One that was cut within
        its first bytes once made the log a damaged one, which was set aside: found by a simulation."""
        for room_bytes in (*range(16), 30):
            with self.subTest(room_bytes=room_bytes):
                first, cut, last = (journal_file.encode(row, done(name)) for row, name in enumerate("abc", 1))
                found = journal_file.decode(HEADER + first + cut[:room_bytes] + last)
                self.assertEqual([one.task_id for one in found.rows.values()], ["a", "c"])
                self.assertIsNone(found.damaged)

    def test_a_damaged_log_of_16_mb_opens_at_once(self) -> None:
        """Each bracket in it could begin a record, and all that followed was copied to see: that took 36 s."""
        record = journal_file.encode(1, done("a"))
        mark, crc_and_length = journal_file._MARK, struct.pack(">II", 1, 8 * 2**20)
        for name, damage in (("brackets", b"[" * 2**24), ("heads", (mark + crc_and_length) * 2**17),
                             ("records", (record[:-1] + b"?") * (2**22 // len(record)))):  # fmt: skip
            with self.subTest(name):
                began = time.process_time()
                found = journal_file.decode(HEADER + b"\xff" * 9 + damage + record)
                self.assertLess(time.process_time() - began, 2.0)  # 0.2 s at most on a quiet machine
                self.assertEqual([one.task_id for one in found.rows.values()], ["a"])
                self.assertEqual(found.damaged, 0)

    def test_a_length_of_gigabytes_costs_nothing(self) -> None:
        huge = journal_file._MARK + b"\xff" * 8 + b"x"
        found = journal_file.decode(HEADER + huge + journal_file.encode(1, done("a")))
        self.assertEqual([one.task_id for one in found.rows.values()], ["a"])

    def test_zeros_at_its_end_are_damage(self) -> None:
        """A file system may have made room for what a power cut then kept from the disk."""
        journal = self.opened()
        journal.write(done("a"))
        with self.path.open("ab") as log:
            log.write(b"\0" * 100)
        with self.assertLogs(FILE_LOG, "ERROR"):
            self.assertEqual(self.reopened(journal), {"a": RESULT})

    def test_killed_between_setting_a_damaged_one_aside_and_replacing_it_nothing_is_lost(self) -> None:
        journal = self.opened()
        journal.write(done("a"))
        self.die(journal)
        self.path.rename(self.folder / "1.log.new")
        self.assertEqual(self.reopened(self.opened_with("a")), {"a": RESULT})
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["1.lock", "1.log"])

    def opened_with(self, *task_ids: str) -> Journal:
        journal = self.journal()
        self.assertEqual([one.task_id for one in journal.open().values()], list(task_ids))
        return journal

    def test_killed_before_the_new_one_is_in_its_place_the_old_one_counts(self) -> None:
        journal = self.opened()
        journal.write(done("a"))
        (self.folder / "1.log.new").write_bytes(HEADER)
        self.assertEqual(self.reopened(journal), {"a": RESULT})

    def test_with_sync_full_each_change_is_flushed_to_the_disk(self) -> None:
        journal = self.journal(sync="full")
        journal.open()
        with unittest.mock.patch.object(log_file, "_flush", wraps=log_file._flush) as flushed:
            row = journal.write(entry("t"))
            self.assertEqual(flushed.call_count, 1)
            journal.write(done("t"), row)
            self.assertEqual(flushed.call_count, 2)
        self.assertEqual(self.reopened(journal), {"t": RESULT})

    def test_what_has_been_there_for_a_while_is_flushed_before_its_file_is_replaced(self) -> None:
        """A power cut takes the last moments only, whatever --journal-sync says."""
        journal = self.opened()
        with unittest.mock.patch.object(log_file, "_flush", wraps=log_file._flush) as flushed:
            journal.write(done("stays"))
            for expected in (0, 1):
                row = journal.write(entry("t"))
                journal.write(done("t", b"x" * 500), row)
                journal.free(row)
                self.now += journal_module.REWRITE_EVERY_S
                journal.sweep()
                self.assertEqual(flushed.call_count, expected)

    def test_a_task_whose_bytes_would_pass_for_a_record_is_left_out(self) -> None:
        journal = self.opened()
        journal.write(entry("t", task=b"a" + journal_file._MARK + b"b"))
        self.die(journal)
        self.assertEqual([one.task for one in self.stored()[0].values()], [b""])

    def test_what_no_release_writes_is_damage_though_its_checksum_is_right(self) -> None:
        for odd in (b"", b"[]", b"{}", b"[1,2]", b"7", b'["1","taken"]', b"[" * 5000, b'[1,"no","t","w","a","m"]'):
            content = odd + b"\n"
            head = journal_file._HEAD.pack(journal_file.zlib.crc32(content), len(content))
            found = journal_file.decode(HEADER + journal_file._MARK + head + content)
            self.assertEqual((found.rows, found.damaged), ({}, len(HEADER)), odd)

    def test_a_file_that_is_adopted_is_empty_afterwards(self) -> None:
        dead, mine = self.opened(), self.opened()
        dead.write(done("theirs", b"SECRET-OUTPUT"))
        self.die(dead)
        self.assertEqual([one.task_id for one in mine.adopt().values()], ["theirs"])
        self.assertEqual(self.path.read_bytes(), HEADER)
        self.assertEqual(self.stored(), ({}, []))


class HashTest(unittest.TestCase):
    def task(self, given: object) -> Task:
        return Task({"taskId": "t", "workflowInstanceId": "w", "inputData": given})

    def test_the_order_of_keys_does_not_matter_the_values_do(self) -> None:
        self.assertEqual(work_hash(self.task({"a": 1, "b": [2]})), work_hash(self.task({"b": [2], "a": 1})))
        self.assertNotEqual(work_hash(self.task({"a": 1})), work_hash(self.task({"a": 2})))
        self.assertEqual(work_hash(self.task({"a": 1, "__task_id__": "x"})), work_hash(self.task({"a": 1})))

    def test_each_step_of_each_workflow_is_work_of_its_own_and_all_tries_of_one_are_the_same(self) -> None:
        def of(**wire: str) -> str:
            return work_hash(Task({"taskId": "t", "workflowInstanceId": "w", "referenceTaskName": "one", **wire}))

        self.assertEqual(of(taskId="t2"), of())
        self.assertNotIn(of(), (of(workflowInstanceId="v"), of(referenceTaskName="two")))

    def test_input_that_no_json_can_hold_is_like_no_other(self) -> None:
        deep: object = []
        for _ in range(100_000):
            deep = [deep]
        self.assertEqual(work_hash(self.task({"a": deep})), "")
        while deep:  # taken apart by hand: its destructor would recurse
            deep = deep[0]  # type: ignore[index]

    def test_a_task_with_nan_and_half_a_surrogate_is_kept(self) -> None:
        """Its wire object was once encoded as strictly as a report: the poll's reply broke the slot and
        the task was held, and its lease extended, by nobody for ever."""
        (task,) = parse_tasks(rb'[{"taskId":"t","workflowInstanceId":"w","inputData":{"a":NaN,"b":"\ud800"}}]')
        self.assertTrue(work_hash(task))
        again = journal_file.task_of(entry("t", task=task.raw))
        self.assertEqual((again.task_id, again.input_data["b"]), ("t", "\ud800"))

    def test_a_task_that_was_not_kept_or_was_damaged_has_its_ids(self) -> None:
        for kept in (b"", b"[", b'{"taskId":"other","workflowInstanceId":"w"}', b"\xff\xfe", b"3"):
            again = journal_file.task_of(entry("t", task=kept))
            self.assertEqual((again.task_id, again.workflow_instance_id, again.input_data), ("t", "w", {}))


class FilesTest(Kept):
    def test_each_process_has_a_file_of_its_own(self) -> None:
        first, second = self.opened(), self.opened()
        first.write(entry("1"))
        second.write(entry("2"))
        self.assertEqual(second.adopt(), {})  # the first lives
        self.assertEqual([path.name for path in journal_file.files_of(self.folder)], ["1.log", "2.log"])

    def test_a_row_that_is_done_with_hides_no_row_of_the_same_task_that_a_dead_process_left(self) -> None:
        """One process put a task back and was done with it; another had it then, and died with its result. The first
        took that for a copy of its own row, and the result was gone."""
        journal, other = self.opened(), self.opened()
        row = journal.write(entry("t"))
        other.write(done("t"))
        self.die(other)
        journal.free(row)
        self.assertEqual([one.state for one in journal.adopt().values()], [RESULT])

    def test_the_rows_of_the_dead_are_adopted_once(self) -> None:
        first, second, third = self.opened(), self.opened(), self.opened()
        first.write(done("1"))
        second.write(entry("2"))
        keep_late(first, done("late"))
        mine = third.write(entry("3"))
        self.die(first)
        self.die(second)
        found = third.adopt()
        self.assertEqual(sorted(one.task_id for one in found.values() if one.is_pending), ["1", "2"])
        self.assertNotIn(mine, found)
        self.assertEqual(third.adopt(), {})
        self.assertEqual(late_in(found), ["late"])
        self.die(third)
        self.assertEqual(len(self.stored("3.log")[0]), 3)
        self.assertEqual(self.stored("1.log"), ({}, []))

    def test_no_file_is_removed_by_adopting(self) -> None:
        first, second = self.opened(), self.opened()
        self.die(first)
        second.adopt()
        self.assertTrue((self.folder / "1.log").exists())

    def test_a_newer_file_is_left_alone_and_that_is_said_once(self) -> None:
        self.folder.mkdir()
        self.path.write_bytes(newer := b"useragent journal 99\nnobody knows")
        self.path.chmod(0o600)
        other = self.journal()
        with self.assertLogs(FILE_LOG, "WARNING") as said:
            self.assertEqual(other.open(), {})
            other.adopt()
            other.adopt()
        self.assertEqual(len(said.output), 1)
        self.assertIn("newer", said.output[0])
        self.assertEqual(file_of(other).path.name, "2.log")
        self.assertEqual(self.path.read_bytes(), newer)

    def test_a_damaged_or_foreign_file_is_set_aside_and_never_deleted(self) -> None:
        self.folder.mkdir()
        contents = {"zeros": b"\0" * 5000, "noise": bytes(range(1, 256)) * 40, "foreign": b"SQLite format 3\0" * 9,
                    "text": b"useragent"[::-1], "almost": HEADER[:-1] + b"x"}  # fmt: skip
        for name, content in contents.items():
            with self.subTest(name), self.assertLogs(FILE_LOG, "ERROR") as said:
                for path in self.folder.glob("1.log*"):
                    path.unlink()
                self.path.write_bytes(content)
                self.path.chmod(0o600)
                journal = self.journal()
                self.assertEqual(journal.open(), {})
                journal.write(entry("t"))
                self.assertTrue(journal.is_on_disk)
                self.assertEqual(len(said.output), 1)
                kept = list(self.folder.glob("1.log.corrupt-*"))
                self.assertEqual([path.read_bytes() for path in kept], [content])
                journal.close()

    def test_an_empty_file_is_a_new_one(self) -> None:
        self.folder.mkdir()
        self.path.touch(0o600)
        self.assertTrue(self.opened().is_on_disk)

    def test_a_damaged_file_of_a_dead_process_is_set_aside_and_the_others_are_adopted(self) -> None:
        dead = self.opened()
        (self.folder / "7.log").write_bytes(b"noise" * 1000)
        (self.folder / "7.log").chmod(0o600)
        dead.write(done("t"))
        mine = self.opened()
        self.die(dead)
        with self.assertLogs(FILE_LOG, "ERROR"):
            self.assertEqual([one.task_id for one in mine.adopt().values()], ["t"])
        self.assertEqual(len(list(self.folder.glob("7.log.corrupt-*"))), 1)

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
        before, file._log = file._log, FullFile(self.path, "ab")
        full = OSError(errno.ENOSPC, "No space left on device")
        with unittest.mock.patch.object(log_file.LogFile, "rewrite", side_effect=full):
            yield
        file._log.close()
        file._log = before

    @contextlib.contextmanager
    def read_only_disk(self) -> Iterator[None]:
        open_own = private.open_own

        def refuse(path: Path, flags: int) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise OSError(errno.EROFS, "Read-only file system")
            return open_own(path, flags)

        with unittest.mock.patch.object(private, "open_own", refuse):
            yield

    def test_a_full_disk_is_said_once_and_what_was_kept_in_memory_is_written_later(self) -> None:
        journal = self.opened()
        kept = journal.write(entry("kept"))
        with self.assertLogs(LOG, "WARNING") as said:
            with self.full_disk(journal):
                rows = [journal.write(done(str(number), b"x" * 5000)) for number in range(20)]
                keep_late(journal, done("late", b"y" * 9000))
                self.assertFalse(journal.is_on_disk)
                self.assertEqual(len(journal.live()), 22)
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
        journal.write(entry("after"))
        self.die(journal)
        rows_kept, late = self.stored()
        self.assertEqual(sorted(one.task_id for one in rows_kept.values()), sorted([*map(str, range(10, 20)), "after"]))
        self.assertEqual(late, ["late"])

    def test_a_stop_writes_what_was_kept_in_memory_without_waiting_for_the_next_try(self) -> None:
        """There was room again, but a worker that was stopped within 5 s of the trouble took its results along."""
        journal = self.opened()
        with self.assertLogs(LOG, "WARNING"):
            with self.full_disk(journal):
                journal.write(done("t", b"x" * 9000))
                self.assertFalse(journal.sweep(at_once=True))
            journal.close()
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["t"])

    def test_a_disk_that_its_own_dead_rows_fill_is_no_trouble_once_none_lives(self) -> None:
        """Nothing was cut off while the journal could not be written: on a small disk that was for ever."""

        class SmallDisk(io.FileIO):
            def write(self, data: bytes) -> int:  # type: ignore[override]
                return super().write(data[: max(0, 8000 - os.fstat(self.fileno()).st_size)])

        journal = self.opened()
        file = file_of(journal)
        assert file._log is not None
        file._log.close()
        file._log = SmallDisk(self.path, "ab")
        with self.assertLogs(LOG, "WARNING") as said:
            for row in [journal.write(done(str(number), b"x" * 5000)) for number in range(3)]:
                journal.free(row)
            self.assertFalse(journal.sweep())
            self.now += journal_module.REOPEN_EVERY_S
            self.assertTrue(journal.sweep())
        self.assertIn("written again", said.output[-1])
        journal.write(done("t"))
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["t"])

    def test_a_log_that_was_emptied_on_a_full_disk_is_whole_again_once_there_is_room(self) -> None:
        """Somebody emptied all logs of a full disk, this one too. There was no room yet to begin it anew, and what came
        later followed on no header: the next start said that the journal was damaged, and set it aside."""
        self.folder.mkdir()
        self.path.touch(0o600)
        journal = self.journal()
        with self.assertLogs(LOG, "WARNING") as said:
            full = OSError(errno.ENOSPC, "No space left on device")
            append = unittest.mock.patch.object(log_file.LogFile, "append", side_effect=full)
            with append, unittest.mock.patch.object(os, "replace", side_effect=full):
                journal.open()
            self.assertTrue(journal.sweep(at_once=True))
        self.assertEqual(len(said.output), 2)
        journal.write(done("t"))
        self.die(journal)
        self.assertIsNone(log_file.read(self.path).damaged)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["t"])

    def test_only_what_is_not_on_disk_is_written_again(self) -> None:
        """All rows were: a day's late results took more room than there was, and each try filled the disk."""
        journal = self.opened()
        for number in range(20):
            keep_late(journal, done(str(number), b"x" * 5000))
        with self.assertLogs(LOG, "WARNING"):
            with self.full_disk(journal):
                journal.write(done("t"))
            before = self.path.stat().st_size
            self.assertTrue(journal.sweep(at_once=True))
        self.assertLess(self.path.stat().st_size - before, 1000)

    def test_room_for_a_record_is_enough(self) -> None:
        """That a file can't be rewritten for want of room is no trouble: what comes is still appended."""
        journal = self.opened()
        full = OSError(errno.ENOSPC, "No space left on device")
        keep_late(journal, done("late"))
        with unittest.mock.patch.object(file_of(journal), "rewrite", side_effect=full) as tried:
            for number in range(3):
                journal.free(journal.write(entry(str(number))))
                self.now += journal_module.REWRITE_EVERY_S
                journal.sweep()
                self.assertTrue(journal.is_on_disk)
            self.assertTrue(tried.called)
            journal.write(done("t"))
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["t"])

    def test_what_lies_on_a_read_only_disk_is_delivered_and_written_when_that_can_be(self) -> None:
        """Opening a journal wrote to it: results on such a disk were not delivered, their tasks ran again."""
        dead, other = self.opened(), self.opened()
        dead.write(done("mine"))
        other.write(done("adopted"))
        self.die(dead)
        self.die(other)
        before = [(self.folder / f"{number}.log").read_bytes() for number in (1, 2)]
        journal = self.journal()
        with self.assertLogs(LOG, "WARNING") as said:
            with self.read_only_disk():
                self.assertEqual([one.task_id for one in journal.open().values()], ["mine"])
                self.assertEqual([one.task_id for one in journal.adopt().values()], ["adopted"])
                self.assertEqual(journal.adopt(), {})
                self.assertFalse(journal.sweep(at_once=True))
                journal.free(min(journal.live()))
                self.now += journal_module.REOPEN_EVERY_S
                journal.sweep()
                self.assertEqual(before, [(self.folder / f"{number}.log").read_bytes() for number in (1, 2)])
                self.assertIsNone(log_file.take(self.folder / "2.log"), "another process could deliver it too")
            self.now += journal_module.REOPEN_EVERY_S
            journal.sweep()
        self.assertEqual(len(said.output), 2)
        self.assertEqual(self.stored("2.log"), ({}, []))
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["adopted"])

    def test_what_lies_damaged_on_a_full_disk_is_delivered_and_stays_for_the_next_process(self) -> None:
        dead = self.opened()
        dead.write(done("t"))
        self.die(dead)
        self.path.write_bytes(damaged := self.path.read_bytes() + bytes(100))
        for _ in range(2):
            journal = self.journal()
            full = OSError(errno.ENOSPC, "No space left on device")
            no_room = unittest.mock.patch.object(log_file.LogFile, "rewrite", side_effect=full)
            with self.assertLogs(LOG, "ERROR"), no_room:
                self.assertEqual([one.task_id for one in journal.open().values()], ["t"])
                self.assertEqual(self.path.read_bytes(), damaged)
                self.die(journal)

    def test_while_it_cannot_write_it_adopts_and_leaves_their_file_as_it_is(self) -> None:
        dead, journal = self.opened(), self.opened()
        dead.write(done("t", b"x" * 9000))
        self.die(dead)
        journal.write(entry("own"))
        before = self.path.read_bytes()
        with self.assertLogs(LOG, "WARNING"):
            file = file_of(journal)
            with unittest.mock.patch.object(file, "append", side_effect=OSError(errno.ENOSPC, "No space left")):
                self.assertEqual([one.task_id for one in journal.adopt().values()], ["t"])
                self.assertEqual(self.path.read_bytes(), before)
            self.assertTrue(journal.sweep(at_once=True))
        self.assertEqual(self.stored(), ({}, []))
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored("2.log")[0].values()], ["own", "t"])

    def test_a_folder_that_cannot_be_made_is_memory_until_it_can(self) -> None:
        self.folder.write_text("a file is in the way")
        journal = self.journal()
        with self.assertLogs(LOG, "WARNING") as said:
            self.assertEqual(journal.open(), {})
            journal.write(done("t"))
            for _ in range(3):
                self.now += 6
                journal.sweep()
            self.folder.unlink()
            self.now += 6
            journal.sweep()
        self.assertEqual(len(said.output), 2)
        self.die(journal)
        self.assertEqual([one.task_id for one in self.stored()[0].values()], ["t"])

    def test_rows_found_when_the_file_is_opened_late_are_adopted_and_no_id_is_taken_twice(self) -> None:
        for is_free in (False, True):  # a number may be free again: a new row with it hid what was found under it
            with self.subTest(is_free=is_free):
                self.folder = self.folder.with_name(f"late-{is_free}")
                dead = self.opened()
                dead.write(done("theirs"))
                self.die(dead)
                self.folder.rename(self.folder.with_name("away"))
                self.folder.write_text("in the way")
                journal = self.journal()
                with self.assertLogs(LOG, "WARNING"):
                    journal.open()
                    mine = journal.write(done("mine"))
                    if is_free:
                        journal.free(mine)
                    self.folder.unlink()
                    self.folder.with_name("away").rename(self.folder)
                    self.now += 6
                    journal.sweep()
                found = journal.adopt()
                self.assertEqual([one.task_id for one in found.values()], ["theirs"])
                self.assertNotIn(mine, found)
                journal.write(done("later"))
                self.die(journal)
                names = ["later", *(["mine"] if not is_free else []), "theirs"]
                self.assertEqual(sorted(one.task_id for one in self.stored()[0].values()), names)

    def test_what_could_not_be_read_is_read_later_and_not_cleared(self) -> None:
        dead = self.opened()
        dead.write(done("t"))
        self.die(dead)
        journal = self.journal()
        broken = OSError(errno.EIO, "the disk does not answer")
        with self.assertLogs(LOG, "WARNING"):
            with unittest.mock.patch.object(log_file, "read", side_effect=broken):
                self.assertEqual(journal.open(), {})
                journal.write(entry("own"))
            self.now += journal_module.REOPEN_EVERY_S
            journal.sweep()
        self.assertEqual([one.task_id for one in journal.adopt().values()], ["t"])

    def test_why_no_lock_can_be_made_is_said(self) -> None:
        """On a read-only disk without a journal the worker said that there is no such file, not why none is made."""
        self.folder.mkdir()
        journal = self.journal()
        with self.assertLogs(LOG, "ERROR") as said, self.read_only_disk():
            journal.open()
        self.assertIn("Read-only file system", said.output[0])

    def test_a_file_system_without_locks_ends_in_memory(self) -> None:
        for name, answer in (("says so", OSError(errno.ENOLCK, "No locks available")), ("refuses all", None)):
            with self.subTest(name), self.assertLogs(LOG, "ERROR") as said:
                journal = self.journal()
                with unittest.mock.patch.object(log_file, "_lock", side_effect=answer, return_value=False):
                    journal.open()
                    journal.write(done("t"))
                self.assertEqual((len(said.output), journal.is_on_disk), (1, False))
                self.assertEqual([one.body for one in journal.live().values()], [b"{}"])


class GoneTest(Kept):
    """An open descriptor is no proof that a next process finds what is written through it: the folder was removed while
    a worker ran, nobody was told, and its results were gone with it."""

    def found_anew(self, journal: Journal, *task_ids: str) -> None:
        """After what was done to its files, they are written anew in the next sweep, and that is said."""
        with self.assertLogs(LOG, "ERROR") as said:
            journal.sweep()
        self.assertIn("removed or replaced", said.output[0])
        self.assertTrue(journal.is_on_disk)
        self.assertEqual(journal.adopt(), {})
        self.assertEqual(sorted(one.task_id for one in journal.live().values()), sorted(task_ids))
        row = journal.write(done("after"))
        self.die(journal)
        self.assertEqual(sorted(one.task_id for one in self.stored()[0].values()), sorted([*task_ids, "after"]))
        self.assertTrue(row)

    def with_rows(self) -> Journal:
        journal = self.opened()
        journal.write(done("a"))
        journal.write(entry("b"))
        return journal

    @unittest.skipUnless(os.name == "posix", "Windows removes and moves no open file")
    def test_whatever_is_removed_or_moved_is_written_anew(self) -> None:
        base = self.folder.parent

        def replaced() -> None:
            (self.folder / "other").write_bytes(self.path.read_bytes())
            (self.folder / "other").chmod(0o600)
            os.replace(self.folder / "other", self.path)

        for name, harm in {
            "folder": lambda: shutil.rmtree(self.folder),
            "its parent": lambda: shutil.rmtree(self.folder.parent),
            "log": lambda: self.path.unlink(),
            "lock": lambda: self.path.with_suffix(".lock").unlink(),
            "moved": lambda: self.folder.rename(self.folder.with_name("elsewhere")),
            "replaced": replaced,
            "cut": lambda: os.truncate(self.path, 30),
        }.items():
            with self.subTest(name):
                self.folder = base / name / "journal"
                journal = self.with_rows()
                harm()
                self.found_anew(journal, "a", "b")

    @unittest.skipUnless(os.name == "posix", "Windows removes and moves no open file")
    def test_kept_in_the_journal_is_said_only_of_what_a_next_process_finds(self) -> None:
        journal = self.with_rows()
        shutil.rmtree(self.folder)
        self.folder.write_text("in the way")
        with self.assertLogs(LOG, "ERROR"):
            self.assertFalse(journal.sweep(at_once=True))
            self.folder.unlink()
            self.assertTrue(journal.sweep(at_once=True))
        self.die(journal)
        self.assertEqual(len(self.stored()[0]), 2)

    def test_two_sweeps_with_nothing_done_to_it_say_nothing(self) -> None:
        journal = self.with_rows()
        inode = self.path.stat().st_ino
        for _ in range(2):
            journal.sweep()
        self.assertEqual(self.path.stat().st_ino, inode)

    @unittest.skipUnless(hasattr(os, "fork"), "there is no fork")
    def test_a_forked_child_that_outlives_its_worker_holds_no_lock(self) -> None:
        journal = self.with_rows()
        ready, go = os.pipe(), os.pipe()
        pid = os.fork()
        if not pid:
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            os._exit(0)
        try:
            os.read(ready[0], 1)
            self.die(journal)
            self.assertEqual(len(self.stored()[0]), 2)
        finally:
            os.write(go[1], b"x")
            os.waitpid(pid, 0)
            for descriptor in (*ready, *go):
                os.close(descriptor)


@unittest.skipUnless(os.name == "posix", "owners and modes are POSIX")
class ForeignTest(Kept):
    """What another user may have put into a shared folder is not trusted for its name: a forged COMPLETED was sent, a
    foreign file was truncated, and a FIFO hung the start."""

    def setUp(self) -> None:
        super().setUp()
        self.folder.mkdir()
        forged = self.opened()
        forged.write(done("forged"))
        self.die(forged)
        self.theirs = self.folder.with_name("theirs")
        self.theirs.write_bytes(self.path.read_bytes())

    def is_left_alone(self) -> None:
        """It is named, untouched, and the worker has a file of its own."""
        before = self.theirs.read_bytes()
        journal = self.journal()
        with self.assertLogs(FILE_LOG, "WARNING") as said:
            self.assertEqual(journal.open(), {})
            journal.write(entry("t"))
            self.assertEqual(journal.adopt(), {})
            journal.sweep()
        self.assertEqual((len(said.output), self.theirs.read_bytes()), (1, before))
        self.assertIn(str(self.folder / "1.log"), said.output[0])
        self.assertEqual(file_of(journal).path.name, "2.log")
        journal.close()

    def test_links_fifos_and_what_others_can_write_are_left_alone(self) -> None:
        for name in ("1.log", "1.lock"):
            path = self.folder / name
            for kind, make in {
                "symlink": lambda path=path: path.symlink_to(self.theirs),
                "dangling": lambda path=path: path.symlink_to(self.folder / "nothing"),
                "hard link": lambda path=path: os.link(self.theirs, path),
                "FIFO": lambda path=path: os.mkfifo(path, 0o600),
                "folder": lambda path=path: path.mkdir(0o700),
                "writable": lambda path=path: (path.write_bytes(self.theirs.read_bytes()), path.chmod(0o602)),
            }.items():
                with self.subTest(f"{kind} {name}"):
                    for one in [*self.folder.iterdir()]:
                        one.rmdir() if one.is_dir() else one.unlink()
                    if name == "1.lock":
                        (self.folder / "1.log").write_bytes(self.theirs.read_bytes())
                    make()
                    self.is_left_alone()
                    self.assertFalse((self.folder / "nothing").exists())

    def test_a_file_of_another_user_is_left_alone(self) -> None:
        owner = os.stat_result([0o100600, *os.stat(self.path)[1:4], os.geteuid() + 1, *os.stat(self.path)[5:]])
        fstat, inode = os.fstat, self.path.stat().st_ino

        def another(descriptor: int) -> os.stat_result:
            found = fstat(descriptor)
            return owner if found.st_ino == inode else found

        with unittest.mock.patch.object(os, "fstat", another):
            self.is_left_alone()

    def test_in_a_folder_of_another_user_nothing_is_kept_and_that_is_said(self) -> None:
        stranger = os.geteuid() + 1
        journal = self.journal()
        with unittest.mock.patch.object(os, "geteuid", lambda: stranger), self.assertLogs(LOG, "ERROR") as said:
            self.assertEqual(journal.open(), {})
            journal.write(done("t"))
            self.assertFalse(journal.sweep(at_once=True))
        self.assertIn(f"belongs to user {stranger - 1}", said.output[0])

    def test_whatever_the_umask_folders_and_files_are_for_the_owner_alone(self) -> None:
        for umask in (0, 0o777):
            with self.subTest(oct(umask)):
                self.folder = self.folder.parent / f"{umask}" / "journal" / "id"
                before = os.umask(umask)
                try:
                    journal = self.opened()
                    journal.write(entry("t"))
                finally:
                    os.umask(before)
                for path in (self.folder, self.folder.parent, self.folder.parent.parent):
                    self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700, path)
                self.die(journal)
                self.assertEqual(len(self.stored()[0]), 1)

    def test_a_folder_of_ours_that_others_may_enter_is_closed_to_them(self) -> None:
        self.folder.chmod(0o777)
        self.journal().open()
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)

    def test_what_kubernetes_does_to_a_volume_is_no_threat(self) -> None:
        """A pod's fsGroup: each file may be written by a group that the worker is in."""
        self.path.chmod(0o660)
        self.assertEqual([one.task_id for one in self.journal().open().values()], ["forged"])


if __name__ == "__main__":
    unittest.main()
