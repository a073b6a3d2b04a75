# SPDX-License-Identifier: Apache-2.0
"""The worker's identity: tokens fetched, kept while they live, refreshed by one thread. Two ways to a token: OAuth
client credentials (akaBot's Keycloak) and Conductor's key and secret."""

from __future__ import annotations

import json
import logging
import math
import random
import threading
import time
from typing import Any, Callable, NamedTuple
from urllib.parse import urlencode, urlsplit

from .. import logs
from ..errors import AuthRefusedError, PlatformError
from .renewal import Secret
from .transport import Transport, TransportError, is_loopback
from .wire import json_object

log = logging.getLogger(__name__)

TOKEN_TIMEOUT_S = 15.0
TOKEN_LIMIT_BYTES = 65536
NONSENSE_LIFE_S = 60.0
KEY_TOKEN_LIFE_S = 1800.0  # Conductor's key tokens tell no lifetime; a 401 replaces them sooner
FAILED_CAP_S = 30.0
LOCAL_CAP_S = 2.0  # on loopback: a sandbox that is started again
URGENT_CAP_S = 0.5  # for who keeps a lease: an endpoint that is back must not be waited for until the lease is over
REFUSED_CAP_S = 300.0  # a revoked client: somebody must act, and the endpoint must not be hammered meanwhile
# When the endpoint refuses what it was given, and when it gives no token for another reason.
_OF_CLIENT = ("check clientId and clientSecret; a new secret may have been issued", "check authUrl")
_OF_KEY = ("check CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET", "a server that takes no access keys wants them unset")
_REFUSALS = frozenset(("unauthorized_client", "invalid_client", "invalid_grant", "access_denied"))


class Fetched(NamedTuple):
    """A token fresh from its endpoint, and how long it says that it lives."""

    value: str
    life_s: float

    def __repr__(self) -> str:
        return f"Fetched(life_s={self.life_s})"


class Lifetime:
    """When a token is refreshed, when it is dead, and whether a refusal of it is news.

    Pure: ``now`` is monotonic seconds; ``wall`` only tells a machine that slept, where the monotonic clock may have
    stood still. A wall clock that jumps therefore refreshes nothing."""

    def __init__(self, life_s: float, now: float, wall: float, rand: Callable[[], float]) -> None:
        self._life_s, self._born, self._born_wall = life_s, now, wall
        sure_s = life_s - min(1.0, life_s / 2)  # a JWT's times are whole seconds: the token may end a second early
        self.refresh_at = now + sure_s * (0.7 + 0.15 * rand())  # a fleet's tokens don't expire together
        self.expires_at = now + sure_s

    def is_young(self, now: float, wall: float) -> bool:
        """True while a refusal can't be the token's age: asking for another would change nothing."""
        age = max(now - self._born, wall - self._born_wall)
        return age < min(30.0, self._life_s / 4)


class TokenSource:
    """The current token, shared by all threads.

    Before it expires one thread refreshes it and the others go on with the old one; only an expired one makes them
    wait. After a failed fetch nobody asks again until a pause is over. ``header`` and ``prefix`` say how the token is
    sent; ``is_renewed`` is True when another secret was found."""

    def __init__(
        self, fetch: Callable[[], Fetched], header: str, prefix: str = "", *,
        is_renewed: Callable[[], bool] = lambda: False, clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.SystemRandom().random,  # which no script seeds
        wall: Callable[[], float] = time.time, cap_s: float = REFUSED_CAP_S,
    ) -> None:  # fmt: skip
        self._fetch, self._is_renewed = fetch, is_renewed
        self._header, self._prefix = header, prefix
        self._clock, self._wall, self._rand = clock, wall, rand
        self._cap_s = cap_s  # of the pause after a failure
        # Each is held during a fetch, the only HTTP under a lock: the first by whoever fetches, the second by an urgent
        # caller when that fetch hangs. Both may then write what is below. Readers of a living token take neither.
        self._refreshing, self._beside = threading.Lock(), threading.Lock()
        self._current: tuple[dict[str, str], Lifetime] | None = None
        self._failure: PlatformError | None = None
        self._failures = 0
        self._retry_at = self._urgent_at = 0.0

    @property
    def left_s(self) -> float:
        """Seconds until the token expires; 0 without one."""
        current = self._current
        return max(0.0, current[1].expires_at - self._clock()) if current is not None else 0.0

    def headers(self, *, urgent: bool = False) -> dict[str, str]:
        """The authorization header. An ``urgent`` caller (a lease runs out) never stops to refresh a token that is
        still good, waits half a second at most in a pause but for refused credentials, and a second at most for others.
        Raises AuthRefusedError or another PlatformError when no token can be had now."""
        now, current = self._clock(), self._current
        if current is None or now >= current[1].expires_at:
            turn = self._refreshing
            if not turn.acquire(timeout=URGENT_CAP_S if urgent else -1):
                turn = self._beside
                if not turn.acquire(timeout=URGENT_CAP_S):
                    if self._current is not current:
                        return self.headers(urgent=True)
                    raise TransportError("no token yet: its endpoint does not answer", sent=False)
            try:
                return self._newer(current, urgent)
            finally:
                turn.release()
        is_due = now >= current[1].refresh_at and now >= self._retry_at and not urgent
        if is_due and self._refreshing.acquire(blocking=False):
            try:
                return self._newer(current)
            except PlatformError as error:
                log.warning("The token can't be refreshed yet: %s", error, extra={"action": "token_refresh_failed"})
            finally:
                self._refreshing.release()
        return current[0]

    def refused(self, headers: dict[str, str]) -> bool:
        """The service refused these headers' token; True when trying again makes sense."""
        now, current = self._clock(), self._current
        if current is None or current[0] != headers:
            return True
        if current[1].is_young(now, self._wall()):
            return False
        current[1].expires_at = now
        return True

    def _newer(self, known: tuple[dict[str, str], Lifetime] | None, urgent: bool = False) -> dict[str, str]:
        """The header of a token that came after the ``known`` one."""
        if self._current is not None and self._current is not known:
            return self._current[0]
        again_at = self._urgent_at if urgent else self._retry_at
        if (failure := self._failure) is not None and self._clock() < again_at and not self._is_renewed():
            raise _afresh(failure)
        try:
            fetched = self._fetch()
        except PlatformError as error:
            is_refused, now = isinstance(error, AuthRefusedError), self._clock()
            cap_s = min(self._cap_s, REFUSED_CAP_S if is_refused else FAILED_CAP_S)
            self._retry_at = now + self._rand() * min(cap_s, 0.25 * 2.0 ** min(self._failures, 20))
            self._urgent_at = self._retry_at if is_refused else min(self._retry_at, now + URGENT_CAP_S)
            self._failures += 1
            self._failure = _afresh(error)
            raise _afresh(error) from None
        logs.redactor.add(fetched.value, is_token=True)
        self._failure, self._failures, self._retry_at = None, 0, 0.0
        headers = {self._header: self._prefix + fetched.value}
        self._current = (headers, Lifetime(fetched.life_s, self._clock(), self._wall(), self._rand))
        log.debug("New token, good for %.0f s", fetched.life_s, extra={"action": "token_refreshed"})
        return headers


def _afresh(error: PlatformError) -> PlatformError:
    """The same error without a history: one object raised in many threads would mix and keep their frames.
    Whatever became of the plea for a token, the caller's own request was not sent."""
    if isinstance(error, AuthRefusedError):
        return AuthRefusedError(error.message, hints=error.hints)
    return TransportError(error.message, sent=False, code=error.code, hints=error.hints)


def client_credentials(transport: Transport, auth_url: str, client_id: str, secret: Secret) -> TokenSource:
    """Tokens by OAuth 2.0 client credentials (RFC 6749, 4.4), as akaBot's Keycloak gives them."""
    transport.check(auth_url)

    def fetch() -> Fetched:
        secret.is_renewed(at_once=True)
        form = urlencode({"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret.value})
        return _fetched(transport, auth_url, form, "application/x-www-form-urlencoded", "access_token", _OF_CLIENT)

    cap_s = LOCAL_CAP_S if is_loopback(urlsplit(auth_url).hostname or "") else REFUSED_CAP_S
    return TokenSource(fetch, "Authorization", "Bearer ", is_renewed=secret.is_renewed, cap_s=cap_s)


def conductor_key(transport: Transport, base_url: str, key: str, secret: str) -> TokenSource:
    """Tokens for an access key of Conductor: POST {base}/token, sent as X-Authorization."""
    url = base_url + "/token"
    transport.check(url)
    form = json.dumps({"keyId": key, "keySecret": secret})

    def fetch() -> Fetched:
        return _fetched(transport, url, form, "application/json", "token", _OF_KEY, KEY_TOKEN_LIFE_S)

    return TokenSource(fetch, "X-Authorization")


def _fetched(
    transport: Transport, url: str, form: str, media_type: str, name: str, remedies: tuple[str, str],
    untold_s: float = NONSENSE_LIFE_S,
) -> Fetched:  # fmt: skip
    """The token that the endpoint's JSON object has under ``name``. Raises AuthRefusedError or TransportError with one
    of the ``remedies``, never with the secret."""
    headers, body = {"Content-Type": media_type, "Accept": "application/json"}, form.encode("ascii")
    reply = transport.send(
        "POST", url, headers=headers, body=body, timeout_s=TOKEN_TIMEOUT_S, limit_bytes=TOKEN_LIMIT_BYTES
    ).fetch()
    answer = json_object(reply.body)
    error = logs.redactor.brief(str(answer.get("error", "")), 80)
    if reply.status == 401 or (reply.status in (400, 403) and str(answer.get("error")) in _REFUSALS):
        what = f"{url} refused the credentials (HTTP {reply.status} {error})".replace(" )", ")")
        raise AuthRefusedError(what, hints=remedies[:1])
    token: Any = answer.get(name)
    if reply.status != 200:
        problem = f"{url} gave no token: HTTP {reply.status} {error}".rstrip()
    elif not _is_usable(token):
        problem = f"{url} gave no usable token"
    else:
        return Fetched(token, life_s(answer.get("expires_in", untold_s)))
    raise TransportError(problem, sent=True, hints=remedies[1:])


def _is_usable(token: object) -> bool:
    """Whether it can stand in a header: anything else would be an injection or a crash later."""
    return isinstance(token, str) and token.isascii() and token.isprintable() and " " not in token and token != ""


def life_s(expires_in: object) -> float:
    """``expires_in`` in seconds, between 1 s and a day; a minute for what is no number."""
    try:
        life = float(str(expires_in))
    except ValueError:
        life = math.nan
    return NONSENSE_LIFE_S if math.isnan(life) else min(max(life, 1.0), 86400.0)
