# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import sqlite3
import time
import unittest
from datetime import datetime, timezone
from html.parser import HTMLParser
from typing import Any
from unittest import mock

from tests.historybox import HOSTILE, NOON_S, HistoryTest, execution
from user_agent_sdk import tables
from user_agent_sdk.history import charts, report, views
from user_agent_sdk.history.store import Record

IS_CI = os.environ.get("CI") == "true"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str, color: str) -> str:
    return text


def tagged(text: str, color: str) -> str:
    return f"<{color}>{text}</>"


def record(number: int, **fields: Any) -> Record:
    given = dict(dict.fromkeys(Record._fields), id=number, status="success", started_at="2026-11-22T10:00:00+00:00")
    return Record(**{**given, **fields})


class TableTest(HistoryTest):
    def table(self, records: list[Record], total: int = 80) -> list[str]:
        header, line = views.table(records, total, plain, str)
        return [header, *map(line, records)]

    def test_80_columns_hold_a_row_and_always_its_id_and_status(self) -> None:
        """0.2.0's table at 80 columns showed neither an id nor a status."""
        long = {
            "user_agent_id": "0" * 47,
            "task_id": "t" * 36,
            "agent_id": "a" * 36,
            "error_message": "e" * 500,
            "duration_ms": 7_620_000,
        }
        rows = [record(1), record(1_234_567, status="error", **long)]
        for total in (50, 80, 120, 200):
            with self.subTest(total):
                lines = self.table(rows, total)
                self.assertLessEqual(max(map(tables.width, lines)), total)
                self.assertRegex(lines[1], "^      1  success  ")
                self.assertRegex(lines[2], "^1234567  error    ")
        self.assertIn("USER AGENT", self.table(rows)[0])
        self.assertIn("ERROR", self.table(rows)[0])
        self.assertEqual(self.table(rows, 200)[0].split()[5:], ["USER", "AGENT", "TASK", "AGENT", "ERROR"])

    @unittest.skipUnless(hasattr(time, "tzset"), "the zone of a process can't be set on Windows")
    def test_all_times_of_a_table_are_in_the_one_zone_that_its_header_names(self) -> None:
        """A summer's row read at the winter's clock was an hour off, and no zone stood anywhere."""
        self.addCleanup(time.tzset)
        with mock.patch.dict(os.environ, {"TZ": "CET-1CEST,M1.1.0,M1.2.0"}):  # a summer of a week
            time.tzset()
            summer = datetime(2026, 1, 8, 10, tzinfo=timezone.utc)  # 12:00 there
            rows = [record(2, started_at="2026-11-22T10:00:00+00:00"), record(1, started_at=summer.isoformat())]
            header, *lines = self.table(rows)
        [hours] = re.findall(r"  STARTED \+0([12]):00  ", header)
        self.assertEqual([re.findall(r"(\d\d):00:00", line) for line in lines], [[f"1{hours}"]] * 2)

    def test_wide_characters_line_up(self) -> None:
        rows = [
            record(1, user_agent_id="株式会社アクメ 🚀", error_message="x"),
            record(2, user_agent_id="e\u0301te\u0301", error_message="x"),
            record(3, user_agent_id="plain", error_message="x"),
        ]
        lines = self.table(rows)
        at = {tables.width(line[: line.index("x")]) for line in lines[1:]}
        self.assertEqual(len(at), 1, lines)

    def test_what_is_cut_says_so_and_never_in_half_a_character(self) -> None:
        self.assertEqual(tables.fit("abcdef", 4), "abc…")
        self.assertEqual(tables.fit("株式会社", 6), "株式… ")
        self.assertEqual(tables.fit("株式会社", 4, ".."), "株..")
        self.assertEqual(tables.fit("ab", 4), "ab  ")

    def test_an_empty_history_has_a_header(self) -> None:
        self.assertRegex(self.table([])[0], "^ID  STATUS .* USER AGENT")


class HostileTest(HistoryTest):
    def setUp(self) -> None:
        super().setUp()
        self.seed_hostile()
        self.records = self.found()

    def test_no_view_lets_a_control_character_through(self) -> None:
        _, line = views.table(self.records, 200, plain, str)
        for one in self.records:
            for text in (
                line(one), views.piped(one).replace("\t", ""), *views.detail(one, plain, 1000),
            ):  # fmt: skip
                self.assertIsNone(UNSAFE.search(text), text[:200])
            self.assertEqual(views.piped(one).count("\t"), len(Record._fields) - 1)

    def test_a_status_that_no_release_wrote_is_text_too(self) -> None:
        one = self.records[0]._replace(status="\x1b[31m")
        self.assertIsNone(UNSAFE.search("\n".join(views.detail(one, plain, 1000))))

    def test_what_is_stored_is_still_readable(self) -> None:
        shown = "\n".join("\n".join(views.detail(one, plain, 1000)) for one in self.records)
        for text in (
            "[/etc/passwd]",
            r"\x1b[31mred",
            "one\ntwo\\x00three",
            r"\u202etxt.exe",
            "株式会社アクメ 🚀",
            "مرحبا",
        ):
            self.assertIn(text, shown)

    def test_csv_cells_are_not_formulas_and_come_back_as_they_were(self) -> None:
        stream = io.StringIO(newline="")
        self.assertEqual(views.write_csv(self.records, stream), len(HOSTILE))
        text = stream.getvalue()
        self.assertIsNone(re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text))
        self.assertTrue(text.endswith("\r\n"))
        csv.field_size_limit(2**30)
        self.addCleanup(csv.field_size_limit, csv.field_size_limit())
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        self.assertEqual(rows[0].keys(), set(views.TITLES))
        by_task = {row["Task ID"]: row for row in rows}
        self.assertEqual(by_task[r"\u202etxt.exe"]["Error Message"], "'=cmd|' /C calc'!A0")
        self.assertEqual(by_task[r"\x1b[31mred\x1b]0;title\x07"]["Error Message"], "one\r\ntwo\\x00three")
        self.assertEqual(len(by_task["large"]["Input Data"]), 100_012)
        for row in rows:
            self.assertFalse([cell for cell in row.values() if cell.startswith(tuple("=+-@\t\r"))])

    def test_the_report_holds_stored_markup_as_text(self) -> None:
        page = Page(self.report())
        self.assertEqual(page.tags.count("script"), 1)
        self.assertEqual(page.tags.count("img"), 0)
        self.assertEqual(page.title, "Execution report")
        self.assertIsNone(UNSAFE.search(page.text.replace("\r", "")))
        for text in ("[/etc/passwd]", "<script>document.title='HIT'</script>", "株式会社アクメ 🚀", r"\x1b[31mred"):
            self.assertIn(text, page.text)

    def test_the_report_stays_small_whatever_is_stored(self) -> None:
        self.assertLess(len(self.report()), 200_000)

    def test_the_report_loads_nothing(self) -> None:
        page = Page(self.report())
        self.assertFalse(page.loads)
        self.assertRegex(page.policy, r"^default-src 'none'; style-src 'sha256-\S+'; script-src 'sha256-\S+'$")
        self.assertNotIn("url(", self.report())

    def report(self) -> str:
        stream = io.StringIO()
        report.write_report(iter(self.records), stream, "history.db", "all executions", None)
        return stream.getvalue()


class Page(HTMLParser):
    """What a browser would make of a page: its tags, its text, what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.text = self.title = self.policy = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.loads += [name for name in given if name in ("src", "srcset", "data", "background") or name[:2] == "on"]
        self.loads += ["link"] if tag in ("link", "iframe", "object", "base") else []
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""

    def handle_data(self, data: str) -> None:
        if self.tags[-1] not in ("style", "script") or "HIT" in data:
            self.text += data
        if self.tags[-1] == "title" and "svg" not in self.tags:
            self.title += data


class JsonTest(HistoryTest):
    def test_keys_texts_numbers_and_literals_are_painted(self) -> None:
        shown = views.highlighted('{"a": ["x: 1", -2.5e3, true, null]}', tagged, None)
        wanted = '{ <bold>"a"</>: [ <green>"x: 1"</>, <magenta>-2500.0</>, <magenta>true</>, <magenta>null</> ] }'
        self.assertEqual(" ".join(shown.split()), wanted)

    def test_what_is_no_json_is_shown_as_it_is(self) -> None:
        self.assertEqual(views.highlighted('{"a": 1', tagged, None), '{"a": 1')


class ReportTest(HistoryTest):
    def report(self, limit: int | None = None) -> str:
        stream = io.StringIO()
        report.write_report(self.found(limit=limit), stream, "history.db", "all executions", limit)
        return stream.getvalue()

    def test_figures_are_those_of_the_executions(self) -> None:
        self.record(
            *(
                execution(
                    agent_id="mailer" if n == 0 else "reader",
                    started_s=NOON_S + n,
                    lasted_s=n / 10,
                    **({"status": "FAILED", "reason_for_incompletion": "no total\nat all"} if n > 97 else {}),
                )
                for n in range(1, 101)
            )
        )
        text = re.sub(r"<[^>]*>", "|", self.report())
        self.assertRegex(text, r"\|100\|+executions\|")
        self.assertRegex(text, r"\|97 %\|+success rate\|+3\|+failed\|")
        self.assertRegex(text, r"\|5\.00 s\|+median duration\|+9\.50 s\|+95th percentile\|+9\.90 s\|+99th percentile")
        self.assertRegex(text, r"\|reader\|+100\|+97 %\|+3\|+5\.00 s\|+9\.50 s\|+9\.90 s\|+10\.0 s\|")
        self.assertRegex(text, r"\|no total\|+3\|+#100\|")

    def test_errors_that_differ_in_a_number_or_an_id_alone_are_one_kind(self) -> None:
        for n in range(3):
            self.record(execution(status="FAILED", reason_for_incompletion=f"the total {n * 1204.5:,.2f} of "
                                  f"0f8fad5b-d9cb-469f-a165-7086772895{n}e is wrong"))  # fmt: skip
        self.record(execution(status="FAILED", reason_for_incompletion="no invoice 7"))
        page = self.report()
        self.assertIn("<td>the total # of # is wrong</td><td>3</td>", page)
        self.assertIn("<td>no invoice 7</td><td>1</td>", page)

    def test_every_failure_has_a_row_however_old_it_is(self) -> None:
        """Only the newest thousand executions were listed: of the failures before nobody learned more than a count."""
        for n in range(6):
            failed = {"status": "FAILED", "reason_for_incompletion": f"no total in {n}"} if n < 2 else {}
            self.record(execution(given={"n": n}, **failed))
        with mock.patch.object(report, "ROWS_MAX", 3):
            page = self.report()
        self.assertEqual(re.findall(r'class="row (?:brief )?(\w+)" id="e(\d)"', page),
                         [("fine", "6"), ("fine", "5"), ("fine", "4"), ("fail", "2"), ("fail", "1")])  # fmt: skip
        self.assertIn("the newest 3 of 6; of the older ones all 2 that failed", page)
        with mock.patch.object(report, "ROWS_MAX", 3), mock.patch.object(report, "FAILURES_MAX", 1):
            self.assertIn("of the older ones the newest 1 that failed", self.report())

    def test_large_values_are_shortened_so_that_a_browser_still_opens_the_file(self) -> None:
        for _ in range(4):
            self.record(execution({"blob": "y" * 10_000}))
        with mock.patch.object(report, "VALUES_MAX_CHARS", 15_000):
            page = self.report()
        self.assertEqual((page.count("y" * 9_000), page.count("y" * 100) < 210), (2, True))

    def test_an_error_links_to_its_latest_row(self) -> None:
        self.record(execution(status="FAILED", reason_for_incompletion="boom"), execution())
        page = Page(self.report())
        self.assertEqual(page.links, ["#e1"])
        self.assertIn("e1", page.ids)

    def test_a_success_rate_is_never_rounded_to_what_it_is_not(self) -> None:
        for failed, count, shown in ((0, 5, "100 %"), (1, 100_000, "> 99.9 %"), (99_999, 100_000, "< 0.1 %"),
                                     (5, 5, "0 %"), (1, 3, "66.7 %"), (1, 10, "90 %"), (0, 0, "–")):  # fmt: skip
            self.assertEqual(report._rate(failed, count), shown)

    def test_percentiles_are_nearest_ranks(self) -> None:
        for count, expected in ((10, ["5 ms", "10 ms", "10 ms", "10 ms"]), (1, ["1 ms"] * 4), (0, ["–"] * 4)):
            told = report._totals([report.Run(n, "a", False, "", None, n) for n in range(1, count + 1)])
            self.assertEqual([told[name] for name in ("median", "p95", "p99", "longest")], expected)

    def test_an_empty_history_makes_a_page_that_says_so(self) -> None:
        self.seed()
        self.assertIn("Nothing was recorded.", Page(self.report()).text)

    def test_a_limit_that_was_reached_is_said(self) -> None:
        self.record(execution(), execution())
        self.assertIn("the newest 1", Page(self.report(1)).text)
        self.assertNotIn("the newest", Page(self.report(5)).text)

    def test_charts_count_every_execution_once(self) -> None:
        from user_agent_sdk.history.times import moment, stamp

        for count, span_s in ((1, 0.0), (7, 3.0), (500, 90.0), (500, 86_400.0 * 3), (500, 86_400.0 * 4000)):
            points = []
            for n in range(count):
                when = moment(stamp(NOON_S + span_s * n / count))
                assert when is not None
                points.append((when, n % 5 == 0))
            for chart in (charts.timeline(points), charts.histogram([(span_s * n, n % 5 == 0) for n in range(count)])):
                titles = re.findall(r": ([\d,]+), failed ([\d,]+)</title>", chart)
                total = [sum(int(pair[place].replace(",", "")) for pair in titles) for place in (0, 1)]
                self.assertEqual(total, [count, sum(failed for _, failed in points)])
                self.assertLessEqual(chart.count("<g>"), 62)


class LargeTest(HistoryTest):
    def test_megabytes_are_cut_where_people_look_and_whole_in_a_pipe(self) -> None:
        self.seed_hostile(large=2_000_000)
        large = next(one for one in self.found() if one.task_id == "large")
        shown = "\n".join(views.detail(large, plain, 1000))
        self.assertLess(len(shown), 10_000)
        self.assertIn("(cut: 2,000,000 characters in all)", shown)
        self.assertEqual(len(views.highlighted(large.input_data or "", plain, None)), 2_000_016)
        stream = io.StringIO()
        report.write_report([large], stream, "history.db", "all executions", None)
        self.assertLess(len(stream.getvalue()), 100_000)

    def test_a_report_of_very_many_takes_seconds_and_megabytes(self) -> None:
        """Of a hundred thousand in CI, of a tenth of them elsewhere."""
        self.record(*(execution({"n": n}, {"total": n}, logs=["read"]) for n in range(9)),
                    execution({}, {}, status="FAILED", reason_for_incompletion="TimeoutError: closed"))  # fmt: skip
        with contextlib.closing(sqlite3.connect(str(self.path))) as db:
            for table in ("execution_history", "execution_facts"):
                names = ", ".join(row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] != "id")
                for count in (10, 100, 1_000, 10_000)[: 4 if IS_CI else 3]:  # ten times as many each time
                    for n in range(1, 10):
                        db.execute(f"INSERT INTO {table} (id, {names}) SELECT id + {count * n}, {names} FROM {table}"
                                   f" WHERE id <= {count}")  # fmt: skip
            db.commit()
        stream, began = io.StringIO(), time.process_time()
        report.write_report(self.found(), stream, "history.db", "all executions", None)
        self.assertLess(time.process_time() - began, 10 if IS_CI else 4)
        self.assertLess(len(stream.getvalue().encode()), 5_000_000)
        self.assertIn("<b>100,000</b>" if IS_CI else "<b>10,000</b>", stream.getvalue())


class PayloadTest(HistoryTest):
    def test_json_of_a_record_is_json_whatever_is_stored(self) -> None:
        self.seed_hostile()
        for one in self.found():
            text = json.dumps(one.to_json(), allow_nan=False)
            self.assertEqual(json.loads(text)["task_id"], one.task_id)
