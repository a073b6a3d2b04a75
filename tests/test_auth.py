# SPDX-License-Identifier: Apache-2.0
"""One token for all threads, fetched as seldom as can be; no clock that jumps and no endpoint that lies undoes it."""

from __future__ import annotations

import json
import math
import threading
import traceback
import unittest
from typing import Any, Callable
from unittest import mock
from urllib.parse import parse_qs

from user_agent_sdk.conductor import auth as rooms
from user_agent_sdk.conductor.auth import Fetched, Lifetime, TokenSource, client_credentials, conductor_key, life_s
from user_agent_sdk.conductor.renewal import Secret
from user_agent_sdk.conductor.transport import Transport, TransportError
from user_agent_sdk.errors import AuthRefusedError, ConfigError, PlatformError

from .support import PATIENCE_S, Arrivals, FakeClock, Handler, Peer, Request, Server, answering, at_once

SECRET = "canary-secret-77"
DAY_S = 86400.0


class Endpoint:
    """A token endpoint without a network: counts what it is asked, and fails or waits when told to."""

    def __init__(self, life: float = 100.0) -> None:
        self.life = life
        self.error: PlatformError | None = None
        self.asked = Arrivals()
        self.open = threading.Event()
        self.open.set()

    def __call__(self) -> Fetched:
        opened, number = self.open, self.asked.arrived()
        assert opened.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return Fetched(f"token{number}", self.life)


class TokenSourceTest(unittest.TestCase):
    def setUp(self) -> None:
        self.clock, self.wall = FakeClock(), FakeClock(1.8e9)
        self.endpoint = Endpoint()
        self.random = 0.5
        self.source = TokenSource(
            self.endpoint, "Authorization", "Bearer ", clock=self.clock, wall=self.wall, rand=lambda: self.random
        )

    def token(self, **options: bool) -> str:
        return self.source.headers(**options)["Authorization"]

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall.advance(seconds)

    def fetching(self, number: int, **options: bool) -> threading.Thread:
        """A caller whose fetch hangs: the endpoint's second, say."""
        self.endpoint.open.clear()
        caller = threading.Thread(target=self.token, kwargs=options, daemon=True)
        caller.start()
        self.endpoint.asked.wait(number)
        return caller

    def assert_token(self, number: int) -> None:
        self.assertEqual(self.token(), f"Bearer token{number}")
        self.assertEqual(self.endpoint.asked.count, number)


class Living(TokenSourceTest):
    def test_it_is_fetched_when_it_is_first_needed_and_kept(self) -> None:
        self.assertEqual((self.endpoint.asked.count, self.source.left_s), (0, 0.0))
        for _ in range(3):
            self.assert_token(1)
            self.pass_time(20)
        self.assertTrue(self.source.left_s)

    def test_it_is_refreshed_before_it_expires_not_by_the_whole_fleet_at_once(self) -> None:
        for share, due_s in ((0.0, 0.7 * 99), (0.999, 0.85 * 99)):
            self.random = share
            self.setUp()
            self.random = share
            self.assert_token(1)
            self.pass_time(due_s - 0.5)
            self.assert_token(1)
            self.pass_time(1.0)
            self.assert_token(2)

    def test_one_of_a_few_seconds_is_refreshed_before_its_second_is_cut_off(self) -> None:
        """Keycloak gives whole seconds: a token of 3 s that was issued at 10.9 is refused from 13.0 on, and the worker,
        which took it for 3 s, sent polls with a dead token for the most of a second of each one's life."""
        self.endpoint.life = 3.0
        self.random = 0.999
        self.assert_token(1)
        self.pass_time(1.65)
        self.assert_token(1)
        self.pass_time(0.1)
        self.assert_token(2)
        self.pass_time(1.95)
        self.assertTrue(self.source.left_s)
        self.pass_time(0.1)
        self.assertFalse(self.source.left_s)

    def test_one_thread_refreshes_early_and_the_others_go_on_with_the_old_one(self) -> None:
        self.assert_token(1)
        self.pass_time(90)
        refreshing = self.fetching(2)
        self.assertEqual(at_once(4, self.token), ["Bearer token1"] * 4)
        self.endpoint.open.set()
        refreshing.join(PATIENCE_S)
        self.assert_token(2)

    def test_an_urgent_caller_never_stops_for_an_early_refresh(self) -> None:
        """A lease was lost while its sender waited for a token endpoint that hung, with a good token in hand."""
        self.assert_token(1)
        self.pass_time(90)
        self.assertEqual(self.token(urgent=True), "Bearer token1")
        self.assertEqual(self.endpoint.asked.count, 1)

    def test_an_urgent_caller_asks_beside_a_fetch_that_hangs(self) -> None:
        """One request for a token hung for its 15 s, and every lease of the worker waited for it behind a lock."""
        self.assert_token(1)
        self.pass_time(101)
        hanging, hung = self.fetching(2), self.endpoint.open
        self.endpoint.open = threading.Event()
        self.endpoint.open.set()
        with mock.patch.object(rooms, "URGENT_CAP_S", 0.01):
            self.assertEqual(at_once(4, lambda: self.token(urgent=True)), ["Bearer token3"] * 4)
        self.assertEqual(self.endpoint.asked.count, 3, "one asks beside it, not each")
        self.assertEqual((self.token(), hanging.is_alive()), ("Bearer token3", True), "which serves everybody")
        hung.set()
        hanging.join(PATIENCE_S)

    def test_while_two_fetches_hang_no_other_urgent_caller_does(self) -> None:
        """All that keep leases stood behind the second one, though the first had brought a token."""
        self.assert_token(1)
        self.pass_time(101)
        with mock.patch.object(rooms, "URGENT_CAP_S", 0.01):
            hanging = [self.fetching(2), self.fetching(3, urgent=True)]
            with self.assertRaisesRegex(TransportError, "no token yet"):
                self.token(urgent=True)
        self.assertTrue(all(each.is_alive() for each in hanging))
        self.endpoint.open.set()
        for each in hanging:
            each.join(PATIENCE_S)
        self.assertEqual((self.endpoint.asked.count, self.token()[:12]), (3, "Bearer token"))

    def test_an_expired_one_makes_all_wait_for_one_fetch(self) -> None:
        self.assert_token(1)
        self.pass_time(101)
        self.assertFalse(self.source.left_s)
        self.assertEqual(at_once(8, self.token), ["Bearer token2"] * 8)
        self.assertEqual(self.endpoint.asked.count, 2)

    def test_the_first_one_is_fetched_once_for_all(self) -> None:
        self.assertEqual(at_once(8, self.token), ["Bearer token1"] * 8)
        self.assertEqual(self.endpoint.asked.count, 1)

    def test_a_wall_clock_that_jumps_refreshes_nothing_and_lengthens_nothing(self) -> None:
        self.assert_token(1)
        for jump_s in (DAY_S, -2 * DAY_S, DAY_S):
            self.wall.advance(jump_s)
            self.assert_token(1)
        self.pass_time(101)
        self.wall.advance(-DAY_S)
        self.assert_token(2)

    def test_lives_of_any_length_make_progress(self) -> None:
        for life in (1.0, DAY_S):
            self.setUp()
            self.endpoint.life = life
            for number in range(1, 4):
                self.assert_token(number)
                self.pass_time(life * 0.9)


class Failing(TokenSourceTest):
    def fail(self, error: PlatformError | None = None) -> PlatformError:
        with self.assertRaises(PlatformError) as caught:
            self.token()
        if error is not None:
            self.assertEqual((type(caught.exception), str(caught.exception)), (type(error), str(error)))
        return caught.exception

    def test_without_a_token_it_fails_and_never_goes_without(self) -> None:
        self.endpoint.error = TransportError("down", sent=False)
        self.fail(self.endpoint.error)
        self.endpoint.error = None
        self.pass_time(1)
        self.assertEqual(self.token(), "Bearer token2")

    def test_after_a_failure_nobody_asks_until_a_pause_is_over(self) -> None:
        self.endpoint.error = TransportError("down", sent=False)
        self.assertEqual({str(error) for error in at_once(8, self.token)}, {"down"})
        self.assertEqual(self.endpoint.asked.count, 1)
        self.pass_time(0.124)
        self.fail()
        self.assertEqual(self.endpoint.asked.count, 1)
        self.pass_time(0.002)
        self.fail()
        self.assertEqual(self.endpoint.asked.count, 2)

    def pauses(self, count: int) -> list[float]:
        """How long each failure in a row keeps everybody from asking, at the most."""
        self.random = 1.0
        found = []
        for _ in range(count):
            self.fail()
            found.append(self.source._retry_at - self.clock())
            self.pass_time(found[-1])
        return found

    def test_pauses_double_up_to_half_a_minute_or_five_minutes_when_refused(self) -> None:
        self.endpoint.error = TransportError("down", sent=False)
        self.assertEqual(self.pauses(10), [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30])
        self.setUp()
        self.endpoint.error = AuthRefusedError("revoked")
        self.assertEqual(self.pauses(13)[-3:], [256, 300, 300])
        self.assertEqual(self.endpoint.asked.count, 13)

    def test_who_keeps_a_lease_waits_for_half_a_second_at_most_but_for_refused_credentials(self) -> None:
        """The endpoint was back, and a lease lapsed in the pause that an outage had grown to: the task ran twice."""
        for error, is_asked in ((TransportError("down", sent=False), True), (AuthRefusedError("revoked"), False)):
            self.setUp()
            self.endpoint.error = error
            self.pauses(6)
            self.fail()
            asked = self.endpoint.asked.count
            for pause_s, is_asked_then in ((0.4, False), (0.2, is_asked)):
                self.pass_time(pause_s)
                with self.assertRaises(type(error)):
                    self.token(urgent=True)
                self.assertEqual(self.endpoint.asked.count - asked, is_asked_then)
            self.fail()
            self.assertEqual(self.endpoint.asked.count - asked, is_asked, "any other caller waits on")

    def test_a_success_forgets_the_failures(self) -> None:
        self.endpoint.error = TransportError("down", sent=False)
        self.pauses(6)
        self.endpoint.error = None
        self.token()
        self.pass_time(101)
        self.endpoint.error = TransportError("down", sent=False)
        self.assertEqual(self.pauses(1), [0.25])

    def test_a_failed_early_refresh_keeps_the_old_one_and_says_so(self) -> None:
        self.assert_token(1)
        self.pass_time(90)
        self.endpoint.error = TransportError("down", sent=False)
        with self.assertLogs(rooms.log, "WARNING") as logs:
            self.assertEqual([self.token() for _ in range(3)], ["Bearer token1"] * 3)
        self.assertEqual(len(logs.output), 1)
        self.assertEqual(self.endpoint.asked.count, 2)
        self.pass_time(11)
        self.fail(self.endpoint.error)

    def test_each_caller_gets_an_error_of_its_own(self) -> None:
        """One object raised over and over kept the frames of all who had met it."""
        self.endpoint.error = AuthRefusedError("revoked", hints=("ask for a new secret",))
        errors = [self.fail(self.endpoint.error) for _ in range(3)] + list(at_once(3, self.token))
        self.assertEqual(len({id(error) for error in errors}), 6)
        self.assertEqual({error.hints for error in errors}, {("ask for a new secret",)})
        self.assertEqual(self.endpoint.asked.count, 1)

    def test_a_surprise_leaves_it_usable(self) -> None:
        self.endpoint.error = KeyError("a bug")  # type: ignore[assignment]
        self.assertRaises(KeyError, self.token)
        self.endpoint.error = None
        self.assertEqual(self.token(), "Bearer token2")


class Refused(TokenSourceTest):
    def test_sixteen_threads_refused_at_once_make_one_refresh(self) -> None:
        sent = self.source.headers()
        self.pass_time(40)

        def refused() -> str:
            self.assertTrue(self.source.refused(sent))
            return self.token()

        self.assertEqual(at_once(16, refused), ["Bearer token2"] * 16)
        self.assertEqual(self.endpoint.asked.count, 2)

    def test_news_of_an_older_token_refreshes_nothing(self) -> None:
        old = self.source.headers()
        self.pass_time(101)
        self.assert_token(2)
        self.assertTrue(self.source.refused(old), "trying again with the newer one makes sense")
        self.assert_token(2)

    def test_a_young_one_is_not_replaced_as_its_age_can_not_be_why(self) -> None:
        for life, young_s in ((100.0, 25.0), (3600.0, 30.0), (4.0, 1.0)):
            self.setUp()
            self.endpoint.life = life
            sent = self.source.headers()
            self.pass_time(young_s - 0.1)
            self.assertFalse(self.source.refused(sent))
            self.assert_token(1)
            self.pass_time(0.2)
            self.assertTrue(self.source.refused(sent))
            self.assert_token(2)

    def test_refused_again_and_again_it_asks_at_most_every_half_minute(self) -> None:
        self.endpoint.life = 3600.0
        for _ in range(600):
            sent = self.source.headers()
            self.source.refused(sent)
            self.pass_time(1)
        self.assertLessEqual(self.endpoint.asked.count, 600 / 30 + 1)

    def test_a_machine_that_slept_is_healed_by_the_first_refusal(self) -> None:
        """Linux's monotonic clock stands still in suspend: the token looks fresh and is a day old."""
        sent = self.source.headers()
        self.wall.advance(DAY_S)
        self.assert_token(1)
        self.assertTrue(self.source.refused(sent))
        self.assert_token(2)

    def test_refused_with_the_endpoint_down_it_waits_for_a_new_one(self) -> None:
        sent = self.source.headers()
        self.pass_time(40)
        self.endpoint.error = TransportError("down", sent=False)
        self.assertTrue(self.source.refused(sent))
        for _ in range(3):
            self.assertRaises(PlatformError, self.token)
        self.assertEqual(self.endpoint.asked.count, 2)
        self.endpoint.error = None
        self.pass_time(1)
        self.assertEqual(self.token(), "Bearer token3")


class Lives(unittest.TestCase):
    def test_expires_in_is_clamped_and_nonsense_is_a_minute(self) -> None:
        for given, expected in (
            (300, 300.0),
            (0.5, 1.0),
            (0, 1.0),
            (-1, 1.0),
            (1e308, DAY_S),
            (10**400, DAY_S),
            (math.inf, DAY_S),
            (-math.inf, 1.0),
            (math.nan, 60.0),
            ("3600", 3600.0),
            ("nan", 60.0),
            ("inf", DAY_S),
            ("soon", 60.0),
            ("", 60.0),
            (None, 60.0),
            (True, 60.0),
            ([300], 60.0),
            ({}, 60.0),
        ):
            with self.subTest(given=given):
                self.assertEqual(life_s(given), expected)

    def test_nothing_of_a_token_is_shown(self) -> None:
        self.assertNotIn("canary", repr(Fetched("canary", 1.0)))
        source = TokenSource(lambda: Fetched("canary", 60.0), "Authorization")
        source.headers()
        self.assertNotIn("canary", repr(source) + repr(Lifetime(1.0, 0.0, 0.0, lambda: 0.0)))


class Endpoints(unittest.TestCase):
    def serve(self, handler: Handler) -> Server:
        server = Server(handler)
        self.addCleanup(server.close)
        return server

    def source(self, url: str, make: Callable[..., TokenSource] = client_credentials) -> TokenSource:
        transport = Transport()
        self.addCleanup(transport.close)
        secret: Any = Secret(SECRET) if make is client_credentials else SECRET
        return make(transport, url, "the client", secret)

    def error_of(self, answer: Any, status: int = 200, head: str = "") -> PlatformError:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        server = self.serve(answering(lambda request: (status, body, head)))
        with self.assertRaises(PlatformError) as caught:
            self.source(server.url + "/token").headers()
        shown = "".join(traceback.format_exception(None, caught.exception, caught.exception.__traceback__))
        self.assertNotIn(SECRET, shown + "".join(caught.exception.hints))
        self.assertLess(len(str(caught.exception)), 300)
        self.assertNotIn("\n", str(caught.exception))
        return caught.exception

    def test_oauth_client_credentials(self) -> None:
        server = self.serve(answering(lambda request: b'{"access_token": "abc", "expires_in": 300}'))
        headers = self.source(server.url + "/realms/r/token").headers()
        self.assertEqual(headers, {"Authorization": "Bearer abc"})
        (request,) = server.requests
        self.assertEqual((request.method, request.target), ("POST", "/realms/r/token"))
        self.assertEqual(request.headers["content-type"], "application/x-www-form-urlencoded")
        form = {"grant_type": ["client_credentials"], "client_id": ["the client"], "client_secret": [SECRET]}
        self.assertEqual(parse_qs(request.body.decode()), form)

    def test_a_conductor_key(self) -> None:
        server = self.serve(answering(lambda request: b'{"token": "abc"}'))
        headers = self.source(server.url + "/api", conductor_key).headers()
        self.assertEqual(headers, {"X-Authorization": "abc"})
        (request,) = server.requests
        self.assertEqual((request.method, request.target), ("POST", "/api/token"))
        self.assertEqual(json.loads(request.body), {"keyId": "the client", "keySecret": SECRET})

    def test_refused_credentials_are_told_from_an_endpoint_in_trouble(self) -> None:
        for status, error in (
            (401, "unauthorized_client"),
            (401, "invalid_client"),
            (401, ""),
            (400, "invalid_client"),
            (400, "unauthorized_client"),
            (403, "access_denied"),
        ):
            with self.subTest(status=status, error=error):
                self.assertIsInstance(self.error_of({"error": error}, status), AuthRefusedError)
        for status, answer in (
            (400, {"error": "invalid_request"}),
            (403, b"<html>a firewall"),
            (404, {"error": "Realm does not exist"}),
            (429, {}),
            (500, {"error": "unknown_error"}),
            (503, b"<html>down"),
        ):
            with self.subTest(status=status, answer=answer):
                self.assertNotIsInstance(self.error_of(answer, status), AuthRefusedError)

    def test_the_remedy_is_about_what_was_sent(self) -> None:
        """Whose CONDUCTOR_AUTH_KEY was refused was told to check a clientId, and an authUrl where a server that takes
        no access keys said 404: a Conductor's settings have neither."""
        for make, status, remedy in (
            (client_credentials, 401, "check clientId and clientSecret"),
            (client_credentials, 404, "check authUrl"),
            (conductor_key, 401, "check CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET"),
            (conductor_key, 404, "a server that takes no access keys"),
        ):
            server = self.serve(answering(lambda request, status=status: (status, b"{}")))
            with self.subTest(remedy), self.assertRaises(PlatformError) as caught:
                self.source(server.url, make).headers()
            self.assertIn(remedy, "".join(caught.exception.hints))

    def test_a_200_that_gives_no_token_is_a_failure(self) -> None:
        for answer in (
            b"",
            b"<html>portal",
            b"null",
            b"[]",
            b'"abc"',
            b"\xff\xfe",
            b"[" * 60000,
            b"9" * 9000,
            {},
            {"access_token": None},
            {"access_token": 5},
            {"access_token": ["abc"]},
            {"access_token": ""},
            {"access_token": "a b"},
            {"access_token": "a\r\nX-Evil: b"},
            {"access_token": "a\nb"},
            {"access_token": "a\0b"},
            {"access_token": "caf\xe9"},
            {"access_token": "\u20ac"},
            {"access_token": "\ud800"},
            {"access_token": "a" * 1_000_000},
        ):
            with self.subTest(answer=answer[:30] if isinstance(answer, bytes) else str(answer)[:60]):
                self.assertNotIsInstance(self.error_of(answer), AuthRefusedError)

    def test_an_endpoint_that_repeats_the_secret_or_breaks_the_line_does_not_reach_the_log(self) -> None:
        answer = {"error": "invalid_client\r\n\tat x" + "y" * 500, "error_description": f"{SECRET} is wrong"}
        self.assertIsInstance(self.error_of(answer, 401), AuthRefusedError)

    def test_a_redirect_of_the_secret_is_not_followed(self) -> None:
        other = self.serve(answering(lambda request: b'{"access_token": "abc"}'))
        error = self.error_of(b"", 307, f"Location: {other.url}/token")
        self.assertEqual((other.connections.count, "HTTP 307" in str(error)), (0, True))

    def test_a_broken_endpoint_is_an_error_like_any_other(self) -> None:
        server = self.serve(Peer.reset)
        source = self.source(server.url + "/token")
        self.assertRaises(TransportError, source.headers)

    def test_an_address_that_can_not_be_used_is_said_before_anything_is_sent(self) -> None:
        for make in (client_credentials, conductor_key):
            self.assertRaises(ConfigError, self.source, "file:///etc/hostname", make)

    def test_odd_lives_from_the_wire(self) -> None:
        bodies = iter((b'"nonsense"', b"NaN", b"1e999", b"null"))

        def answer(request: Request) -> bytes:
            return b'{"access_token": "abc", "expires_in": %s}' % next(bodies)

        source = self.source(self.serve(answering(answer)).url + "/token")
        lives = [round(source._fetch().life_s) for _ in range(4)]
        self.assertEqual(lives, [60, 60, 86400, 60])


if __name__ == "__main__":
    unittest.main()
