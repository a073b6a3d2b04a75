# SPDX-License-Identifier: Apache-2.0
"""The paths of the platform's API, in the dialects of akaBot and of Conductor. No I/O."""

from __future__ import annotations

import functools
from typing import NamedTuple
from urllib.parse import quote, urlencode

from ..errors import PlatformError


class Dialect(NamedTuple):
    """The paths under the base URL in which akaBot and Conductor differ; None where there is none."""

    name: str
    poll: str
    report: str
    batch_poll: str | None
    report_and_poll: str | None
    task: str | None

    @functools.lru_cache(maxsize=256)  # noqa: B019 - there are two dialects
    def poll_path(self, agent_id: str, worker_id: str, domain: str | None, wait_ms: int = 0) -> str:
        """With ``wait_ms``, a batch poll waits in the server, for one task: larger counts sit on tasks until they have
        that many."""
        if not wait_ms:
            return self.poll + segment(agent_id) + _query(workerid=worker_id, domain=domain)
        query = _query(workerid=worker_id, domain=domain, count="1", timeout=str(wait_ms))
        return f"{self.batch_poll}{segment(agent_id)}{query}"


AKABOT = Dialect("akabot", "/tasks/external/poll/", "/tasks/external", None, None, None)
CONDUCTOR = Dialect("conductor", "/tasks/poll/", "/tasks", "/tasks/poll/batch/", "/tasks/update-v2", "/tasks/")
DIALECTS = {dialect.name: dialect for dialect in (AKABOT, CONDUCTOR)}
# To a report-and-poll: the server, or whoever stands before it, may lack the route. A Tomcat, a Spring gateway and
# nginx say 404 or 405, a list of allowed paths 403, Conductor 3.13 a 500.
MAYBE_NO_ROUTE = frozenset({403, 404, 405, 500, 501})
NO_ROUTE_OF_3_13 = "HTTP 500: Request method"  # how its reason begins; that server's kept poll sees no task that comes


def segment(text: str) -> str:
    """``text`` as one path segment, nothing left unencoded: ``…#user-agent`` -> ``…%23user-agent``. Raises
    PlatformError for what no server could take apart again (empty, a dot segment, CR or LF)."""
    if text in ("", ".", "..") or not text.isprintable():
        raise PlatformError(f"{text!r} can't be part of an address", code="config-invalid")
    return quote(text, safe="")


def _query(**fields: str | None) -> str:
    given = {name: value for name, value in fields.items() if value}
    return "?" + urlencode(given, quote_via=quote, safe="", errors="replace")
