# SPDX-License-Identifier: Apache-2.0
"""The one opener of SQLite files."""

from __future__ import annotations

import contextlib
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
        with contextlib.closing(storage.open_shared(self.path)) as db:
            db.execute("CREATE TABLE t(x)")
            for written in self.folder.glob("a.db*"):
                self.assertEqual(stat.S_IMODE(written.stat().st_mode), 0o600, written)

    def test_nothing_passes_through_the_temporary_folder(self) -> None:
        """An insert of many rows had its undo, outputs and all, in /var/tmp/etilqs_… for its duration."""
        for opener in (storage.open_shared, storage.open_existing):
            db = opener(self.path)
            with self.subTest(opener.__name__):
                self.assertEqual(db.execute("PRAGMA temp_store").fetchone()[0], 2)  # MEMORY
            db.close()

    def test_a_file_that_another_process_makes_meanwhile_is_opened(self) -> None:
        """Of two workers that recorded for the first time together one found it locked, and that is not waited for."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with contextlib.closing(storage.open_shared(self.path)) as db:
                other.execute("CREATE TABLE t(x)")
                other.execute("COMMIT")
                db.execute("INSERT INTO t VALUES (1)")

    def test_what_is_no_database_is_told_from_what_is_locked(self) -> None:
        for name, content in (("zeros", b"\0" * 8192), ("text", b"not a database at all" * 500)):
            path = self.folder / name
            path.write_bytes(content)
            with self.subTest(name), self.assertRaisesRegex(StorageError, "is damaged or not a database"):
                storage.open_shared(path)

    def test_a_header_that_a_disk_has_changed_is_damage(self) -> None:
        """SQLite calls it an operational error."""
        db = storage.open_shared(self.path)
        db.execute("CREATE TABLE t(x)")
        db.close()
        content = bytearray(self.path.read_bytes())
        content[47] = 9  # the schema's format
        self.path.write_bytes(content)
        with self.assertRaisesRegex(StorageError, "is damaged or not a database"):
            storage.open_shared(self.path).execute("SELECT * FROM t")

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

    def test_a_damaged_schema_is_damage_though_pythons_own_message_about_it_fails(self) -> None:
        # SQLite names the broken table, the fuzzer broke the name, and sqlite3 raised UnicodeDecodeError.
        db = sqlite3.connect(str(self.path))
        db.execute("CREATE TABLE qqqq(x)")
        db.close()
        self.path.write_bytes(self.path.read_bytes().replace(b"qqqq", b"q\xff q"))
        with self.assertRaisesRegex(StorageError, "is damaged or not a database"):
            storage.open_shared(self.path)
        with self.assertRaisesRegex(StorageError, "can't be read as a database"):
            storage.open_existing(self.path)

    def test_a_name_that_is_too_long_is_no_database(self) -> None:
        with self.assertRaises(StorageError) as caught:
            storage.open_existing(Path("x" * 5000))
        self.assertEqual(caught.exception.code, "db-missing")


if __name__ == "__main__":
    unittest.main()
