# SPDX-License-Identifier: Apache-2.0
"""The Conductors that were tried, and the one table of what they do otherwise than the newest.

``real/test_conformance.py`` runs the whole suite against each: a test named below must fail there, so that a row that
is no longer true is noticed. The README's table is :func:`markdown`.
"""

from __future__ import annotations

import functools
import unittest
from typing import Any, Callable, NamedTuple

NEWEST = "3.32.3"
FAILS_IN_S = 3.0  # how long a test that must fail waits for what will not come


class Release(NamedTuple):
    """Where Maven Central has it, the JDK that boots it (at least, and below), and where it keeps its data."""

    group: str
    java: tuple[int, int]
    store: str


RELEASES = {
    "3.13.8": Release("com.netflix.conductor", (17, 25), "Redis"),
    "3.21.14": Release("org.conductoross", (25, 1000), "Redis"),
    "3.32.1": Release("org.conductoross", (25, 1000), "SQLite"),
    "3.32.3": Release("org.conductoross", (25, 1000), "SQLite"),
}


class Difference(NamedTuple):
    """``what`` the releases in ``on`` do otherwise, what the worker makes of it, and the tests of the suite that show
    it: they fail there or, with ``patience_s``, hold only after so long."""

    what: str
    on: tuple[str, ...]
    so: str
    tests: tuple[str, ...]
    patience_s: float | None = None


_NETFLIX, _OLDER = ("3.13.8",), ("3.13.8", "3.21.14")
DIFFERENCES = (
    Difference(
        "no `update-v2`; says so with a 500 that calls itself final",
        _NETFLIX,
        "plain reports from the first on",
        (
            "test_report_and_poll_ends_one_task_and_leases_the_next",
            "test_report_and_poll_brings_the_next_after_a_failure_too",
            "test_report_and_poll_keeps_to_the_tasks_domain",
            "test_report_and_poll_brings_the_retry_of_what_it_reports_as_failed",
            "test_a_repeated_report_and_poll_takes_one_more_task",
            "test_report_and_poll_refuses_what_a_report_refuses",
        ),
    ),
    Difference(
        "a missing route is a 404 in Spring's own words",
        _NETFLIX,
        "only a 404 that names the task is one about the task",
        ("test_a_route_that_is_missing_is_a_404_that_names_no_task",),
    ),
    Difference(
        "JSON of any depth and numbers of any length are taken",
        _NETFLIX,
        "the worker's own limits hold there too",
        ("test_nonsense_in_the_json_is_a_500_that_is_final",),
    ),
    Difference(
        "an output over 3 MB gets a 500 as in trouble: there is no store for it",
        _NETFLIX,
        "its task fails for good when extensions of it are taken meanwhile, after ten minutes",
        (),
    ),
    Difference("a definition may have 10 retries at most", _NETFLIX, "`--register` logs what the server said", ()),
    Difference(
        "its Redis queue is not looked at while a poll is kept",
        _OLDER,
        "noticed when `update-v2` is missing or two tasks came late; then polls are plain, 200 ms apart",
        ("test_a_long_poll_gets_the_task_that_comes_while_it_waits",),
    ),
    Difference(
        "a task without a report is taken back up to 30 s after its response timeout, not 1 s",
        _OLDER,
        "nothing: leases are extended as everywhere",
        ("test_a_task_not_reported_in_time_is_retried_and_its_late_result_ignored",),
        patience_s=60.0,
    ),
    Difference(
        "`CANCELED` is no status that a worker may report",
        _OLDER,
        "the result is refused and kept in the journal: return `FAILED_WITH_TERMINAL_ERROR` there",
        ("test_a_cancelled_task_terminates_the_execution_without_a_retry",),
    ),
    Difference(
        "`logs: null` in a report is a 500",
        _OLDER,
        "what is empty is left out",
        ("test_fields_that_nobody_knows_are_ignored_and_null_is_absence",),
    ),
    Difference(
        "the joint call brings a task for a hand-back too (3.21)",
        _OLDER,
        "never asked for then",
        ("test_report_and_poll_brings_nothing_for_a_lease_or_a_hand_back",),
    ),
    Difference(
        "task logs are kept only with Elasticsearch, which was not tried",
        _OLDER,
        "nothing: they are sent",
        ("test_logs_are_kept_in_order_over_all_reports_of_a_task",),
    ),
)


def hold_differences(version: str, *suites: type[unittest.TestCase]) -> None:
    """Turn the tests of ``suites`` round in which ``version`` differs."""
    for difference in DIFFERENCES:
        for name in difference.tests if version in difference.on else ():
            found = [suite for suite in suites if hasattr(suite, name)]
            assert found, name
            for suite in found:
                test = _patient(getattr(suite, name), difference.patience_s or FAILS_IN_S)
                setattr(suite, name, test if difference.patience_s else unittest.expectedFailure(test))


def _patient(test: Callable[[Any], None], patience_s: float) -> Callable[[Any], None]:
    @functools.wraps(test)
    def patient(self: Any) -> None:
        self.patience_s = patience_s
        test(self)

    return patient


def markdown() -> str:
    """The README's table."""
    lines = ["| Conductor | does | the worker |", "|---|---|---|"]
    lines += [f"| {', '.join(row.on)} | {row.what} | {row.so} |" for row in DIFFERENCES]
    return "\n".join(lines) + "\n"
