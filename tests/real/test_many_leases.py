# SPDX-License-Identifier: Apache-2.0
"""A thousand leases at once, at a platform that takes 300 ms for each request. No server of others is needed, but
half a minute is."""

from __future__ import annotations

import json
import threading
import time
import unittest
from collections import defaultdict

from user_agent_sdk.conductor.client import Client
from user_agent_sdk.conductor.paths import DIALECTS
from user_agent_sdk.conductor.transport import Transport
from user_agent_sdk.worker.keeping.held import Held
from user_agent_sdk.worker.keeping.journal_file import TAKEN, Entry
from user_agent_sdk.worker.keeping.lease import SENDERS_MOST, Lease, LeaseKeeper
from user_agent_sdk.worker.polling.backoff import Pace

from ..support import Peer, Server
from . import WANTED

LEASES, LEASE_S, REQUEST_S = 1000, 15.0, 0.3
SPAN_S = 2 * LEASE_S  # six extensions of each


@unittest.skipUnless(WANTED, "half a minute, so only with USERAGENT_REAL=1")
class ManyLeasesTest(unittest.TestCase):
    def test_a_thousand_leases_of_15_s_are_kept_at_300_ms_a_request(self) -> None:
        """They take 200 extensions a second; four senders, which once were all there were, make 13."""
        came: defaultdict[str, list[float]] = defaultdict(list)  # by task: when each extension was taken
        pause, most_threads = threading.Event(), 0

        def platform(peer: Peer) -> None:
            while (request := peer.request()) is not None:
                pause.wait(REQUEST_S)
                came[json.loads(request.body)["taskId"]].append(time.monotonic())
                peer.reply()

        with Server(platform) as server:
            transport = Transport()
            self.addCleanup(transport.close)
            client = Client(transport, DIALECTS["conductor"], server.url, None)
            keeper = LeaseKeeper(client, Pace(time.monotonic))
            keeper.start()
            self.addCleanup(keeper.join, 5.0)
            self.addCleanup(keeper.close)
            began = time.monotonic()
            held = [Held(Entry(TAKEN, f"t-{number}", "w", "a", "me"), Lease(LEASE_S)) for number in range(LEASES)]
            for each in held:
                each.lease.renewed(time.monotonic(), time.monotonic(), time.time())
                keeper.track(each)
            while time.monotonic() < began + SPAN_S:
                pause.wait(0.5)
                keeper.watch()
                threads = [one for one in threading.enumerate() if one.name.startswith("lease-")]
                most_threads = max(most_threads, len(threads))
            ended = time.monotonic()
        gaps = [max(b - a for a, b in zip([began, *times], [*times, ended])) for times in came.values()]
        self.assertEqual(len(came), LEASES)
        self.assertLess(max(gaps), LEASE_S, "this lease was over before it was extended")
        lapsed = [each.ids[0] for each in held if each.lease.has_lapsed(keeper.clock(), keeper.wall())]
        self.assertEqual(lapsed, [])
        self.assertLessEqual(most_threads, SENDERS_MOST)
        print(json.dumps({"leases": LEASES, "longest gap_s": round(max(gaps), 1), "threads": most_threads}))


if __name__ == "__main__":
    unittest.main()
