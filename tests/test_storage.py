# SPDX-License-Identifier: Apache-2.0
"""The one opener of SQLite files."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
import unittest
from pathlib import Path

from user_agent_sdk import storage
from user_agent_sdk.errors import StorageError


class StorageTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "a.db"

    @unittest.skipUnless(os.name == "posix", "file modes are POSIX")
    def test_files_are_private_whatever_the_umask(self) -> None:
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        for opener in (storage.open_shared, storage.open_exclusive):
            path = self.folder / f"{opener.__name__}.db"
            db = opener(path)
            assert db is not None
            db.execute("CREATE TABLE t(x)")
            for written in self.folder.glob(f"{path.name}*"):
                self.assertEqual(stat.S_IMODE(written.stat().st_mode), 0o600, written)
            db.close()

    def test_an_exclusive_file_is_one_owners_until_it_is_closed(self) -> None:
        first = storage.open_exclusive(self.path)
        assert first is not None
        self.assertIsNone(storage.open_exclusive(self.path))
        first.execute("CREATE TABLE t(x)")  # and the refused try has not cost the lock
        self.assertIsNone(storage.open_exclusive(self.path))
        first.close()
        second = storage.open_exclusive(self.path)
        assert second is not None
        second.close()

    def test_full_sync_and_secure_delete_are_set(self) -> None:
        for sync, level in (("normal", 1), ("full", 2)):
            db = storage.open_exclusive(self.folder / f"{sync}.db", sync=sync)
            assert db is not None
            self.assertEqual(db.execute("PRAGMA synchronous").fetchone()[0], level)
            self.assertEqual(db.execute("PRAGMA secure_delete").fetchone()[0], 2)  # FAST
            self.assertEqual(db.execute("PRAGMA journal_mode").fetchone()[0], "wal")
            db.close()

    def test_nothing_passes_through_the_temporary_folder(self) -> None:
        """An insert of many rows had its undo, outputs and all, in /var/tmp/etilqs_… for its duration."""
        for opener in (storage.open_shared, storage.open_existing, storage.open_exclusive):
            db = opener(self.path)
            assert db is not None
            with self.subTest(opener.__name__):
                self.assertEqual(db.execute("PRAGMA temp_store").fetchone()[0], 2)  # MEMORY
            db.close()

    def test_what_is_no_database_is_told_from_what_is_locked(self) -> None:
        for name, content in (("zeros", b"\0" * 8192), ("text", b"not a database at all" * 500)):
            path = self.folder / name
            path.write_bytes(content)
            with self.subTest(name), self.assertRaises(storage.UnusableFileError):
                storage.open_exclusive(path)

    def test_flipped_bytes_are_found_when_it_is_opened(self) -> None:
        db = sqlite3.connect(self.path)
        db.execute("CREATE TABLE t(x)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
        db.commit()
        db.close()
        content = bytearray(self.path.read_bytes())
        content[4096 * 2 : 4096 * 2 + 64] = b"\xff" * 64
        self.path.write_bytes(content)
        with self.assertRaises(storage.UnusableFileError):
            storage.open_exclusive(self.path)

    def test_a_header_that_a_disk_has_changed_is_damage(self) -> None:
        """SQLite calls it an operational error; the file was neither used nor set aside."""
        db = storage.open_exclusive(self.path)
        assert db is not None
        db.execute("CREATE TABLE t(x)")
        db.close()
        content = bytearray(self.path.read_bytes())
        content[47] = 9  # the schema's format
        self.path.write_bytes(content)
        with self.assertRaises(storage.UnusableFileError):
            storage.open_exclusive(self.path)

    def test_set_aside_keeps_every_file_under_its_own_name(self) -> None:
        kept = []
        for _ in range(3):
            self.path.write_bytes(b"x")
            Path(f"{self.path}-wal").write_bytes(b"w")
            kept.append(storage.set_aside(self.path))
        self.assertEqual(len(set(kept)), 3)
        for path in kept:
            self.assertEqual(path.read_bytes(), b"x")
            self.assertEqual(Path(f"{path}-wal").read_bytes(), b"w")
        self.assertFalse(self.path.exists())

    def test_reading_makes_no_file_and_changes_none(self) -> None:
        with self.assertRaises(StorageError) as caught:
            storage.open_existing(self.path)
        self.assertEqual(caught.exception.code, "db-missing")
        self.assertEqual(list(self.folder.iterdir()), [])
        self.path.write_bytes(b"nonsense" * 1000)
        with self.assertRaises(StorageError) as caught:
            storage.open_existing(self.path)
        self.assertEqual(caught.exception.code, "db-invalid")

    def test_a_full_disk_or_a_lock_is_no_damage(self) -> None:
        self.assertFalse(storage.is_damage(sqlite3.OperationalError("database or disk is full")))
        self.assertFalse(storage.is_damage(sqlite3.OperationalError("database is locked")))
        self.assertTrue(storage.is_damage(sqlite3.DatabaseError("database disk image is malformed")))
        self.assertTrue(storage.is_locked(sqlite3.OperationalError("database is locked")))
        self.assertFalse(storage.is_locked(sqlite3.OperationalError("disk I/O error")))

    def test_a_damaged_schema_is_damage_though_pythons_own_message_about_it_fails(self) -> None:
        # SQLite names the broken table, the fuzzer broke the name, and sqlite3 raised UnicodeDecodeError.
        db = sqlite3.connect(str(self.path))
        db.execute("CREATE TABLE qqqq(x)")
        db.close()
        self.path.write_bytes(self.path.read_bytes().replace(b"qqqq", b"q\xff q"))
        for opener in (storage.open_shared, storage.open_exclusive):
            with self.subTest(opener.__name__), self.assertRaises(storage.UnusableFileError):
                opener(self.path)
        with self.assertRaisesRegex(StorageError, "can't be read as a database"):
            storage.open_existing(self.path)

    def test_a_name_that_is_too_long_is_no_database(self) -> None:
        with self.assertRaises(StorageError) as caught:
            storage.open_existing(Path("x" * 5000))
        self.assertEqual(caught.exception.code, "db-missing")


if __name__ == "__main__":
    unittest.main()
