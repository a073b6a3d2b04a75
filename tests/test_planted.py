# SPDX-License-Identifier: Apache-2.0
"""Another user prepares a shared folder in which a worker then starts: nothing of theirs is taken for ours, written
through, or waited for. A file under a name that we look for is somebody's word, until its owner says whose."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import textwrap
import unittest
from pathlib import Path
from typing import Any, Callable
from unittest import mock

from tests.cli import SUM, CliTest, Ended
from tests.historybox import execution
from tests.support import entered
from user_agent_sdk import private
from user_agent_sdk.cli.watch import Watch
from user_agent_sdk.errors import StorageError
from user_agent_sdk.history import recorder as rooms
from user_agent_sdk.history.recorder import recording
from user_agent_sdk.sandbox.server import Sandbox
from user_agent_sdk.worker.keeping.journal_file import folder_of

STRANGER = 54321
AGENT_ID = "0000#user-agent"


def foreign(path: Path) -> Path:
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    return path


@unittest.skipIf(sys.platform == "win32" or os.geteuid() != 0, "only root can make files that are another user's")
class PlantedTest(CliTest):
    def setUp(self) -> None:
        super().setUp()
        self.folder.chmod(0o755)
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        self.shared.chmod(0o1777)
        self.victim = self.write("victim", "precious")
        os.chdir(self.shared)

    def assert_nothing_happened(self) -> None:
        self.assertEqual(self.victim.read_text(), "precious")


class HistoryTest(PlantedTest):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.shared / "execution_history.db"

    def history(self, statement: str = "") -> Path:
        with recording(self.path, ()) as record:
            record(execution({"first": 1}, {}))
        if statement:
            db = sqlite3.connect(self.path)
            db.execute(statement)
            db.close()
        return self.path

    def beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def assert_not_recorded(self, why: str) -> None:
        with self.assertLogs(rooms.logger, "ERROR") as said, recording(self.path, ()) as record:
            record(execution({"password": "x"}, {}))  # comes back at once, whatever becomes of it
        [line] = said.output
        self.assertIn("Executions are not recorded", line)
        self.assertIn(str(self.path), line)
        self.assertRegex(line, why)
        self.assert_nothing_happened()

    def test_what_is_not_ours_is_named_and_left_alone(self) -> None:
        def link(path: Path) -> None:
            path.symlink_to(self.victim)
            foreign(path)

        def second_name() -> None:
            os.link(self.victim, self.path)
            self.victim.chmod(0o600)

        def fifo(path: Path) -> None:
            os.mkfifo(path)
            foreign(path)

        plantings: list[tuple[Callable[[], Any], str]] = [
            (lambda: foreign(self.history()), f"belongs to user {STRANGER}"),
            (lambda: link(self.path), "is no regular file"),
            (lambda: fifo(self.path), "is no regular file"),
            (second_name, "second name"),
            (lambda: self.history().chmod(0o666), "can be written by others"),
            (lambda: link(self.beside("-wal")), "-wal is no regular file"),
            (lambda: foreign(self.write("shared/execution_history.db-journal", "")),
             f"-journal belongs to user {STRANGER}"),
            (lambda: fifo(self.beside("-shm")), "-shm is no regular file"),
        ]  # fmt: skip
        for plant, why in plantings:
            with self.subTest(why):
                plant()
                self.assert_not_recorded(why)
                for path in self.shared.iterdir():
                    path.unlink()

    def test_a_history_that_would_do_more_than_keep_a_row_is_not_written_to(self) -> None:
        """A trigger of somebody's ran with each execution: it could drop rows, or copy them out."""
        for what in ("TRIGGER t AFTER INSERT ON execution_history BEGIN DELETE FROM execution_history; END",
                     "VIEW v AS SELECT * FROM execution_history"):  # fmt: skip
            self.history(f"CREATE {what}")
            self.assert_not_recorded(f"it has a {what.split()[0].lower()} called '{what.split()[1]}'")
            ended = self.run_main("history-prune", "--older-than", "2100-01-01")
            self.assertEqual(ended.code, 1)
            db = sqlite3.connect(self.path)
            self.assertEqual(db.execute("SELECT count(*) FROM execution_history").fetchone(), (1,))
            db.close()
            self.path.unlink()

    def test_what_is_not_ours_is_read_only_if_it_is_named(self) -> None:
        """What somebody had put there was shown as what the user's agents did, and `--replay` ran their input."""
        agent = str(self.write("agent.py", SUM))
        plantings: list[tuple[Callable[[], Any], str]] = [
            (lambda: foreign(self.path), f"belongs to user {STRANGER}"),
            (lambda: foreign(self.write("shared/execution_history.db-wal", "")), f"-wal belongs to user {STRANGER}"),
            (lambda: self.path.chmod(0o666), "can be written by others"),
        ]
        commands = (("history",), ("hd", "last"), ("invoke", agent, "--replay", "last"),
                    ("history-prune", "--older-than", "1d", "--dry-run"))  # fmt: skip
        for plant, why in plantings:
            for words in commands:
                with self.subTest(why, words=words):
                    self.history()
                    plant()
                    ended = self.run_main(*words)
                    self.assertEqual((ended.code, ended.out), (1, ""))
                    self.assertIn(why, ended.err)
                    self.assertIn("name it with -db if you trust it", ended.err)
                    self.assertEqual(self.run_main(*words, "-db", self.path.name).code, 0)
                    for path in self.shared.iterdir():
                        path.unlink()

    def test_a_history_that_would_do_more_than_hold_rows_is_not_read(self) -> None:
        """A view in the place of a table, over a recursion without an end, held `history` up for ever."""
        self.history()
        db = sqlite3.connect(self.path)
        db.execute("ALTER TABLE execution_history RENAME TO rows_of_it")
        db.execute("CREATE VIEW execution_history AS SELECT * FROM rows_of_it")
        db.close()
        for words in (("history",), ("hd", "last"), ("history", "-db", self.path.name)):
            ended = self.run_main(*words)
            self.assertEqual((ended.code, ended.out), (1, ""))
            self.assertIn("it has a view called 'execution_history'", ended.err)

    def test_a_link_of_our_own_is_followed(self) -> None:
        """To a larger disk, say."""
        elsewhere = self.folder / "elsewhere.db"
        self.path.symlink_to(elsewhere)
        elsewhere.touch(0o600)
        self.history()
        self.assertGreater(elsewhere.stat().st_size, 0)
        self.assertEqual(self.run_main("history").code, 0)


class JournalTest(PlantedTest):
    """Somebody else made .useragent, or what is in it, before the worker came."""

    def setUp(self) -> None:
        super().setUp()
        self.open = self.folder / "open"  # a folder without the sticky bit, where Linux follows any link
        self.open.mkdir()
        os.chdir(self.open)
        self.theirs = self.folder / "victims"
        self.theirs.mkdir()
        self.theirs.chmod(0o755)

    def link(self, *names: str, target: Path, owner: int = STRANGER) -> Path:
        place = self.open.joinpath(*names)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
        os.chown(place, owner, owner, follow_symlinks=False)
        return place

    def test_a_link_of_another_user_is_not_followed_to_a_folder_of_ours(self) -> None:
        """The folder behind a link of the journal's name was set to 0700 and written into; so was that behind
        .useragent itself."""
        names = (".useragent", "journal", "0123456789ab")
        for depth in (1, 2, 3):
            with self.subTest("/".join(names[:depth])):
                place = self.link(*names[:depth], target=self.theirs)
                folder = self.open.joinpath(*names)
                with self.assertRaisesRegex(StorageError, f"{place} is a link of user {STRANGER}"):
                    private.make_folder(folder)
                self.assertEqual(self.theirs.stat().st_mode & 0o777, 0o755)
                self.assertEqual(list(self.theirs.iterdir()), [])
                place.unlink()

    def test_links_of_our_own_and_of_root_are_followed(self) -> None:
        """To a larger disk, say."""
        folder = self.link(".useragent", "journal", target=self.theirs, owner=0) / "0123456789ab"
        private.make_folder(folder)
        self.assertEqual((self.theirs / folder.name).stat().st_mode & 0o777, 0o700)

    def test_a_look_at_the_journal_follows_no_such_link_and_changes_no_mode(self) -> None:
        """`journal` set whatever folder a link there led to to 0700, its lock file beside the victim's own files."""
        for name, text in (("1.log", "precious"), ("notes.txt", "precious")):
            self.theirs.joinpath(name).write_text(text)
        place = self.link(".useragent", "journal", "any name", target=self.theirs)
        ended = self.run_main("journal", "--exit-code")
        self.assertEqual(ended.code, 7)
        self.assertIn(f"{place} is a link of user {STRANGER}", ended.err)
        self.assertEqual(sorted(os.listdir(self.theirs)), ["1.log", "notes.txt"])
        place.unlink()
        self.link(".useragent", "journal", "any name", target=self.theirs, owner=0)
        self.run_main("journal")
        self.assertEqual(self.theirs.stat().st_mode & 0o777, 0o755)


    def test_check_says_that_there_will_be_no_journal(self) -> None:
        """It said that the folder can be written, and the worker that came then kept its results in memory."""
        url = "http://127.0.0.1:9/api"
        own = Path(".useragent", "journal", folder_of(Path(), "conductor", url, "").name)

        def assert_said(why: str) -> None:
            ended = self.run_main("check", "--offline", "--conductor", url)
            self.assertEqual(ended.code, 3)
            self.assertIn(f"can't be written: {why}", ended.out)

        for depth in (1, 2, 3):
            with self.subTest(depth):
                place = self.link(*own.parts[:depth], target=self.theirs)
                assert_said(f"{place} is a link of user {STRANGER}")
                place.unlink()
        own.mkdir()
        foreign(own)
        assert_said(f"{own.absolute()} belongs to user {STRANGER}")


class CredentialsTest(PlantedTest):
    def setUp(self) -> None:
        super().setUp()
        self.sandbox = entered(self, Sandbox())
        self.agent = str(self.write("agent.py", SUM))
        self.planted = self.shared / "credentials.json"

    def fill(self, path: Path) -> Path:
        path.write_text(json.dumps(self.sandbox.credentials(AGENT_ID)))
        path.chmod(0o600)
        return path

    def run_one(self, *words: str) -> Any:
        self.sandbox.submit(AGENT_ID, {"num1": 1})
        return self.run_main("run", self.agent, *words, "--max-tasks", "1", "--drain-timeout", "0", "--no-journal")

    def assert_refused(self, why: str) -> None:
        ended = self.run_one()
        self.assertEqual(ended.code, 3, ended.err)
        self.assertIn(f"{self.planted} {why}", ended.err)
        self.assertEqual(self.sandbox.engine.agents()[0]["queued"], 1, "the task was taken")

    def test_those_of_another_user_are_not_used_unless_they_are_named(self) -> None:
        """They won over the user's own beside the script: all results went to whoever had put them there."""
        self.fill(self.folder / "credentials.json")
        foreign(self.fill(self.planted))
        self.assert_refused(f"belongs to user {STRANGER}")
        self.assertEqual(self.run_one("-c", "credentials.json").code, 0)

    def test_a_link_of_another_user_is_not_followed_to_ours(self) -> None:
        self.planted.symlink_to(self.fill(self.folder / "of_another_tenant.json"))
        foreign(self.planted)
        with open("/proc/sys/fs/protected_symlinks") as setting:
            protected = setting.read().strip() == "1"  # then Linux itself follows none of them there
        if protected:
            self.assertEqual(self.run_one().code, 3)
            self.assertEqual(self.sandbox.engine.agents()[0]["queued"], 1, "the task was taken")
        else:
            self.assert_refused(f"belongs to user {STRANGER}")

    def test_those_of_whoever_owns_the_script_are_as_good_as_the_script(self) -> None:
        foreign(Path(self.agent))
        foreign(self.fill(self.planted))
        self.assertEqual(self.run_one().code, 0)

    def test_a_fifo_is_passed_over(self) -> None:
        os.mkfifo(self.planted)
        self.assertEqual(self.run_one().code, 3)
        self.fill(self.folder / "credentials.json")
        self.assertEqual(self.run_one().code, 0)


class WrittenTest(PlantedTest):
    def test_an_export_is_for_its_owner_and_goes_through_no_link(self) -> None:
        """The temporary name was NAME.PID.partial: a link of that name had its target overwritten."""
        with recording(self.shared / "execution_history.db", ()) as record:
            record(execution({"first": 1}, {}))
        for option, name in (("--html", "page.html"), ("-e", "out.csv")):
            planted = [self.shared / f"{name}.{os.getpid()}.partial", self.shared / name]
            for path in planted:
                path.symlink_to(self.victim)
                foreign(path)
            self.assertEqual(self.run_main("history", option, name).code, 0)
            self.assert_nothing_happened()
            self.assertEqual((planted[1].is_symlink(), planted[1].stat().st_mode & 0o777), (False, 0o600))

    def test_init_replaces_a_link_and_not_what_it_leads_to(self) -> None:
        (self.shared / "agent.py").symlink_to(self.victim)
        self.assertEqual(self.run_main("init", "--force").code, 0)
        self.assert_nothing_happened()
        self.assertFalse((self.shared / "agent.py").is_symlink())


class LockedTest(PlantedTest):
    """What somebody looks at who may not."""

    def as_stranger(self, *words: str) -> Ended:
        self.run_main(*words)  # imports what the stranger may not read
        os.seteuid(STRANGER)
        try:
            return self.run_main(*words)
        finally:
            os.seteuid(0)

    def locked(self, *names: str) -> Path:
        folder = self.shared.joinpath(*names)
        folder.mkdir(parents=True)
        self.shared.joinpath(names[0]).chmod(0o700)
        return folder

    def test_the_journal_of_a_service_is_not_said_to_be_empty(self) -> None:
        """"Nothing undelivered", exit 0, was the answer about a folder that could not be read."""
        self.locked("journal", "0123456789ab")
        for folder in ("journal", "journal/0123456789ab"):
            ended = self.as_stranger("journal", "--exit-code", "--journal", folder)
            self.assertEqual(ended.code, 7, folder)
            self.assertIn("Permission denied", ended.err)
        self.shared.joinpath("journal").chmod(0o755)
        self.shared.joinpath("journal", "0123456789ab").chmod(0o700)
        self.assertEqual(self.as_stranger("journal", "--exit-code", "--journal", "journal").code, 7)

    def test_a_script_of_somebody_else_is_said_to_be_unreadable(self) -> None:
        """PermissionError, "this is a bug", exit 1."""
        self.write("agent.py", SUM).chmod(0o600)
        ended = self.as_stranger("invoke", "../agent.py")
        self.assertEqual(ended.code, 6)
        self.assertIn("agent.py can't be read: Permission denied", ended.err)

    def test_what_lies_in_a_folder_that_may_not_be_searched_is_not_said_to_be_missing(self) -> None:
        """"There is no database: run the agent with -r", "there is no file", or "this is a bug" of Path.exists()."""
        locked = self.locked("locked")
        for name, text in (("agent.py", SUM), ("c.json", "{}"), ("i.json", "{}")):
            locked.joinpath(name).write_text(textwrap.dedent(text))
        with recording(self.shared / "execution_history.db", ()) as record:
            record(execution({}, {}))
        self.shared.joinpath("execution_history.db").rename(locked / "h.db")
        self.write("shared/agent.py", SUM)
        self.run_main("invoke", "agent.py", "-r")
        self.shared.joinpath("execution_history.db").chmod(0o644)
        for words, code in (
            (("history", "-db", "locked/h.db"), 1), (("hd", "last", "-db", "locked/h.db"), 1),
            (("history", "--html", "locked/r.html"), 1), (("invoke", "locked/agent.py"), 6),
            (("run", "agent.py", "-c", "locked/c.json"), 3), (("invoke", "agent.py", "-i", "locked/i.json"), 1),
            (("sandbox", "--port", "0", "--credentials", "locked/new/c.json"), 1), (("init", "locked/new"), 1),
        ):  # fmt: skip
            with self.subTest(words):
                ended = self.as_stranger(*words)
                self.assertEqual(ended.code, code, ended.err)
                self.assertRegex(ended.err, "Permission denied|unable to open database file")
                self.assertNotIn("this is a bug", ended.err)

    def test_a_folder_beside_the_script_that_may_not_be_searched_ends_no_dev_session(self) -> None:
        """lost+found, a database's: PermissionError, "this is a bug"; of check too, for one on the import path."""
        locked = self.locked("locked")
        script = self.write("shared/agent.py", SUM)
        with mock.patch.object(sys, "path", [*sys.path, str(locked)]):
            self.assertIn("sum_agent", self.as_stranger("check", "agent.py", "--offline").out)
        os.seteuid(STRANGER)
        try:
            self.assertEqual(Watch([self.shared])._base.keys(), {str(script)})
        finally:
            os.seteuid(0)


if __name__ == "__main__":
    unittest.main()
