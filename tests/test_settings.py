# SPDX-License-Identifier: Apache-2.0
"""Where settings come from, and what is refused before anything is sent."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import traceback
import unittest
from pathlib import Path
from typing import Any

from user_agent_sdk.agents import Agent
from user_agent_sdk.errors import ConfigError, UsageError
from user_agent_sdk.settings import TABLE, Settings, load
from user_agent_sdk.values import switch

CANARY = "canary-s3cret"
GOOD = {"clientId": "me", "clientSecret": CANARY, "agentId": "0000#user-agent"}


class SettingsTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.folder)  # no credentials.json here but what a test writes

    def write(self, given: Any, name: str = "credentials.json", mode: int = 0o600) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(given if isinstance(given, bytes) else json.dumps(given).encode())
        path.chmod(mode)
        return path

    def load(self, given: Any = None, environ: dict[str, str] | None = None, **flags: Any) -> Settings:
        if given is not None:
            self.write(given)
        return load(flags, environ=environ or {})

    def refused(self, given: Any = None, environ: dict[str, str] | None = None, **flags: Any) -> str:
        with self.assertRaises(ConfigError) as caught:
            self.load(given, environ, **flags)
        self.assertNotIn(CANARY, caught.exception.message + "".join(caught.exception.hints))
        return caught.exception.message

    # Order

    def test_a_flag_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default(self) -> None:
        self.assertEqual(self.load(GOOD).sources["platform"], "default")
        self.assertEqual(self.load(GOOD).agent_id, "0000#user-agent")
        found = self.load(GOOD, {"USERAGENT_AGENT_ID": "from-env"})
        self.assertEqual(
            (found.agent_id, found.sources["agent_id"]), ("from-env", "environment variable USERAGENT_AGENT_ID")
        )
        found = self.load(GOOD, {"USERAGENT_AGENT_ID": "from-env"}, agent_id="from-flag")
        self.assertEqual((found.agent_id, found.sources["agent_id"]), ("from-flag", "--agent-id"))

    def test_an_environment_variable_set_to_nothing_is_not_set(self) -> None:
        self.assertEqual(
            self.load(GOOD, {"USERAGENT_AGENT_ID": "", "USERAGENT_WORKERS": " "}).agent_id, "0000#user-agent"
        )

    def test_an_agent_gets_flag_then_environment_then_decorator_then_default(self) -> None:
        agent = Agent(lambda: None, workers=3, domain="declared", poll_interval_ms=250, worker_id="mine")
        bare = Agent(lambda: None)
        plain = self.load(GOOD)
        self.assertEqual(plain.resolve(agent)[1:], ("mine", "declared", 250, 3, None))
        self.assertEqual(plain.resolve(bare)[2:], (None, 1000, 1, None))
        self.assertTrue(plain.resolve(bare).worker_id)
        there = self.load(None, None, conductor="http://localhost:8080/api")
        self.assertEqual(there.resolve(bare).poll_interval_ms, 200)
        env = {
            "USERAGENT_WORKERS": "5",
            "USERAGENT_DOMAIN": "env",
            "USERAGENT_WORKER_ID": "w",
            "USERAGENT_POLL_INTERVAL": "9",
        }
        self.assertEqual(self.load(GOOD, env).resolve(agent)[1:5], ("w", "env", 9, 5))
        self.assertEqual(self.load(GOOD, env, workers="7", domain="flag").resolve(agent)[1:5], ("w", "flag", 9, 7))

    def test_a_functions_own_time_limit_wins_over_the_general_one(self) -> None:
        found = self.load(GOOD, task_timeout_s="20")
        self.assertEqual(found.resolve(Agent(lambda: None, timeout_s=5)).timeout_s, 5)
        self.assertEqual(found.resolve(Agent(lambda: None)).timeout_s, 20)

    def test_the_environment_names_of_0_2_0_are_honoured(self) -> None:
        first, second = Agent(lambda: None, "First", domain="declared"), Agent(lambda: None, "second")
        env = {
            "conductor_worker_domain": "all",
            "CONDUCTOR_WORKER_First_DOMAIN": "one",
            "conductor_worker_polling_interval": "50.0",
        }
        found = self.load(GOOD, env)
        self.assertEqual((found.resolve(first).domain, found.resolve(second).domain), ("one", "all"))
        self.assertEqual(found.resolve(first).poll_interval_ms, 50)
        newer = self.load(GOOD, {**env, "USERAGENT_DOMAIN": "new"})
        self.assertEqual((newer.resolve(first).domain, newer.resolve(second).domain), ("one", "new"))
        self.assertEqual(self.load(GOOD, env, domain="flag").resolve(first).domain, "flag")

    def test_no_domain_is_conductors_word_for_none(self) -> None:
        """Where another would be chosen otherwise: a decorator's, or that of all agents."""
        first, second = Agent(lambda: None, "first", domain="declared"), Agent(lambda: None, "second")
        env = {"conductor_worker_domain": "all", "conductor_worker_second_domain": "NO_DOMAIN"}
        self.assertIsNone(self.load(GOOD, env).resolve(second).domain)
        self.assertIsNone(self.load(GOOD, {"USERAGENT_DOMAIN": "NO_DOMAIN"}).resolve(first).domain)
        self.assertIsNone(self.load(GOOD).resolve(Agent(lambda: None, domain="NO_DOMAIN")).domain)

    def test_an_interval_of_the_environment_that_is_none_is_overlooked_and_said_as_in_0_2_0(self) -> None:
        """It let no worker start."""
        agent = Agent(lambda: None, "first", poll_interval_ms=300)
        for name in ("conductor_worker_polling_interval", "CONDUCTOR_WORKER_First_POLLING_INTERVAL"):
            for text in ("soon", "-1", "nan"):
                found = self.load(GOOD, {name: text})
                self.assertEqual(found.resolve(agent).poll_interval_ms, 300)
                said = f"environment variable {name.lower()} must be a number of milliseconds from 0 to 3,600,000"
                self.assertEqual(found.warnings, (f"{said}, not '{text}': it is not used",))

    # The credentials file

    def test_the_credentials_file_is_looked_for_in_the_documented_order(self) -> None:
        for name in ("flag.json", "env.json", "systemd/credentials.json", "agent/credentials.json"):
            self.write({**GOOD, "agentId": name}, name)
        script = self.folder / "agent" / "agent.py"
        self.assertEqual(load({}, environ={}, script=script).agent_id, "agent/credentials.json")
        self.write({**GOOD, "agentId": "here"})
        self.assertEqual(load({}, environ={}, script=script).agent_id, "here")
        env = {"CREDENTIALS_DIRECTORY": str(self.folder / "systemd")}
        self.assertEqual(load({}, environ=env, script=script).agent_id, "systemd/credentials.json")
        env["USERAGENT_CONFIG_FILE"] = "env.json"
        self.assertEqual(load({}, environ=env, script=script).agent_id, "env.json")
        self.assertEqual(load({"config_file": "flag.json"}, environ=env, script=script).agent_id, "flag.json")

    def test_a_file_that_was_named_must_exist(self) -> None:
        self.write(GOOD)
        with self.assertRaisesRegex(ConfigError, r"absent.json does not exist \(from --config-file\)") as caught:
            self.load(config_file="absent.json")
        self.assertEqual((caught.exception.code, caught.exception.exit_code), ("config-missing", 3))
        self.assertIn("can't be read", self.refused(None, {"USERAGENT_CONFIG_FILE": "."}))
        said = "home folder" if os.name == "posix" else "does not exist"  # Windows looks beside one's own
        self.assertIn(said, self.refused(None, {"USERAGENT_CONFIG_FILE": "~nobody-here/x"}))

    def test_without_any_credentials_the_message_says_where_they_may_be(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            self.load()
        self.assertEqual(caught.exception.code, "config-missing")
        self.assertIn("--conductor", "".join(caught.exception.hints))

    def test_credentials_may_come_from_the_environment_alone(self) -> None:
        found = self.load(None, {"USERAGENT_CLIENT_ID": "a", "USERAGENT_CLIENT_SECRET": "b"})
        self.assertEqual((found.client_id, found.client_secret, found.config_file), ("a", "b", None))
        self.assertEqual(found.service_url, "https://external-api.next.akabot.io/api")
        self.assertEqual(found.auth_url, "https://auth.next.akabot.io/realms/user-agent/protocol/openid-connect/token")

    def test_a_missing_key_is_named_and_a_misspelt_one_is_hinted_at(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            self.load({"clientId": "a", "clientSecert": CANARY, "agentId": None})
        self.assertEqual(caught.exception.code, "config-missing")
        self.assertIn("has no clientSecret", caught.exception.message)
        self.assertIn("did you mean 'clientSecret'?", "".join(caught.exception.hints))

    def test_a_mistake_in_the_json_is_located(self) -> None:
        said = self.refused(b'{"clientId": "a",\n "clientSecret": "x"\n')
        self.assertRegex(said, r"credentials\.json is not JSON: .*: line 3 column 1 ")
        for raw, said in (
            (b"[]", "not a list"),
            (b"\xff\xfe\x00", "is not JSON"),
            (b"[" * 99999, "is not JSON"),
            (b"9" * 5000, "is not JSON" if hasattr(sys, "get_int_max_str_digits") else "not a number"),
        ):
            self.assertIn(said, self.refused(raw))

    def test_a_value_of_the_wrong_type_is_named(self) -> None:
        self.assertIn("agentId in", self.refused({**GOOD, "agentId": 5}))
        self.assertIn("must be a string, not a number", self.refused({**GOOD, "agentId": 5}))
        self.assertIn("must be a string, not a list", self.refused({**GOOD, "clientSecret": [CANARY]}))

    def test_what_windows_editors_write_is_read(self) -> None:
        text = json.dumps(GOOD)
        for raw in (b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16")):
            self.assertEqual(self.load(raw).client_id, "me")

    def test_unknown_keys_are_a_warning(self) -> None:
        found = self.load({**GOOD, "somethingNew": {"a": 1}})
        self.assertEqual([w for w in found.warnings if "somethingNew" in w][:1], list(found.warnings))

    @unittest.skipUnless(os.name == "posix", "file modes are of POSIX")
    def test_a_file_that_others_can_read_or_change_is_a_warning(self) -> None:
        self.write(GOOD, mode=0o644)
        self.assertIn("chmod 600", "".join(load({}, environ={}).warnings))
        self.write(GOOD, mode=0o640)
        self.assertEqual(load({}, environ={}).warnings, ())
        self.write(GOOD, mode=0o660)
        self.assertIn("changed by other users", "".join(load({}, environ={}).warnings))
        self.write(GOOD, mode=0o602)
        self.assertIn("changed by other users", "".join(load({}, environ={}).warnings))

    def test_the_secret_may_stand_in_a_file_of_its_own(self) -> None:
        self.write(CANARY.encode() + b"\r\n", "secrets/it")
        given = {"clientId": "me", "clientSecretFile": "secrets/it"}
        self.assertEqual(self.load(given).client_secret, CANARY)
        self.assertIn("keep one", self.refused({**given, "clientSecret": CANARY}))
        self.write(b"\n", "secrets/it")
        self.assertIn("is empty", self.refused(given))
        self.assertIn("does not exist", self.refused({**given, "clientSecretFile": "nowhere"}))

    def test_the_secret_shows_in_no_repr_log_or_traceback(self) -> None:
        found = self.load({**GOOD, "proxy": f"http://joe:{CANARY}@proxy:3128"})
        self.assertEqual(found.client_secret, CANARY)
        self.assertNotIn(CANARY, repr(found) + f"{found.client_secret!r}" + repr(found._asdict()))
        self.assertEqual(found.secrets, (CANARY, CANARY))
        try:
            self.load(GOOD, {"USERAGENT_CLIENT_SECRET": CANARY + "\n" + "x"})
        except ConfigError:
            self.assertNotIn(CANARY, traceback.format_exc())
        with self.assertLogs(level=logging.INFO) as logged:
            logging.getLogger().info("%r", found)
        self.assertNotIn(CANARY, logged.output[0])

    def test_what_reads_the_secret_once_more_shows_no_environment(self) -> None:
        """Its repr, a partial's, had all variables in it, and the words of the command line."""
        found = self.load(GOOD, {"USERAGENT_CLIENT_SECRET": CANARY, "PASSWORD": CANARY})
        assert found.again is not None
        self.assertEqual(str(found.again()), CANARY)
        self.assertNotIn(CANARY, repr(found.again) + repr(found._asdict()))

    # Addresses

    def test_base_url_keeps_its_host(self) -> None:
        """0.2.0 cut the address with lstrip("https://"), a set of characters: ``https://stage.…`` became
        ``age.…``, another host, which was sent the secret."""
        for base, host in (
            ("https://next.akabot.io", "next.akabot.io"),
            ("https://stage.akabot.io/", "stage.akabot.io"),
            ("https://https.example:8443", "https.example:8443"),
            ("https://Test.Example", "test.example"),
        ):
            found = self.load({**GOOD, "baseUrl": base})
            self.assertEqual(found.service_url, f"https://external-api.{host}/api")
            self.assertEqual(found.auth_url, f"https://auth.{host}/realms/user-agent/protocol/openid-connect/token")

    def test_explicit_addresses_win_over_base_url_unless_it_is_closer(self) -> None:
        given = {**GOOD, "baseUrl": "https://a.example", "serviceUrl": "https://service.example/x/"}
        found = self.load(given)
        self.assertEqual(found.service_url, "https://service.example/x")
        self.assertTrue(str(found.auth_url).startswith("https://auth.a.example/"))
        found = self.load(given, {"USERAGENT_BASE_URL": "https://b.example"})
        self.assertEqual(found.service_url, "https://external-api.b.example/api")

    def test_a_base_url_that_is_more_than_a_host_is_refused(self) -> None:
        for base in ("https://a.example/path", "https://10.0.0.1", "https://[::1]", "ftp://a.example", "a b"):
            self.assertIn("baseUrl in", self.refused({**GOOD, "baseUrl": base}), base)

    def test_a_base_url_is_read_as_0_3_0_reads_it(self) -> None:
        for base in ("a.example", "https://a.example/api", "https://a.example/auth/", "http://a.example", "A.example/"):
            found = self.load({**GOOD, "baseUrl": base})
            self.assertEqual(found.service_url.lower(), "https://external-api.a.example/api", base)
            self.assertTrue((found.auth_url or "").startswith("https://auth."), base)

    def test_a_base_url_that_is_not_needed_is_not_looked_at(self) -> None:
        addresses = {"serviceUrl": "https://s.example/api", "authUrl": "https://s.example/token"}
        self.assertEqual(self.load({**GOOD, **addresses, "baseUrl": "no address"}).auth_url, "https://s.example/token")

    def test_addresses_that_are_no_safe_web_address_are_refused(self) -> None:
        for bad in (
            "file:///etc/passwd", "ftp://h/x", "h.example/api", "https://", "https://h:99999/", "https://h:0/",
            "https://h ost/",
            "https://good.example\\@evil.example/", "https://h/\r\nX: y", "https://h/?a=1", "https://h/#f",
            "https://ex\u00e4mple/",
            "https://h/\u202e", "javascript:1", "https://-h/", "https://a@b/",
        ):  # fmt: skip
            message = self.refused({**GOOD, "serviceUrl": bad})
            self.assertIn("serviceUrl in", message, bad)
            self.assertTrue(message.isprintable(), message)

    def test_an_address_with_a_password_is_refused_without_repeating_it(self) -> None:
        self.refused({**GOOD, "serviceUrl": f"https://joe:{CANARY}@h.example/"})
        self.refused(None, {"CONDUCTOR_SERVER_URL": f"http://{CANARY}@h.example/api"})

    def test_plain_http_is_for_this_machine_only(self) -> None:
        for url in ("http://localhost:1/api", "http://127.0.0.1/api", "http://127.8.9.1:1/api", "http://[::1]:1/api"):
            self.assertEqual(self.load({**GOOD, "serviceUrl": url, "authUrl": url}).service_url, url)
        far = ("http://h.example/api", "http://127.evil.example/api", "http://localhost.evil.example/api")
        for url in (*far, "http://127.999.1.1/api"):  # no address, so a name to look up, and it passed for this machine
            self.assertIn("plain http", self.refused({**GOOD, "serviceUrl": url}))
            self.assertIn("plain http", self.refused({**GOOD, "authUrl": url}))

    # Conductor

    def test_a_conductor_needs_no_credentials_and_sees_none(self) -> None:
        found = self.load(None, None, conductor="http://localhost:8080/api/")
        self.assertEqual((found.platform, found.service_url), ("conductor", "http://localhost:8080/api"))
        other = {"agentId": "0000#user-agent", "serviceUrl": "https://else.example/api"}
        found = self.load(other, {"CONDUCTOR_SERVER_URL": "https://c.example/api"})
        self.assertEqual(
            (found.platform, found.service_url, found.agent_id),
            ("conductor", "https://c.example/api", "0000#user-agent"),
        )
        self.assertEqual((found.client_id, found.client_secret, found.auth_url), (None, None, None))
        self.assertEqual(found.sources["service_url"], "environment variable CONDUCTOR_SERVER_URL")

    def test_a_variable_that_names_a_conductor_is_no_match_for_akabots_credentials(self) -> None:
        """Left over from another program, it had a worker of akaBot poll that server."""
        address = "https://c.example/api"
        found = self.load(GOOD, {"CONDUCTOR_SERVER_URL": address})
        self.assertEqual((found.platform, found.client_id), ("akabot", GOOD["clientId"]))
        self.assertIn("CONDUCTOR_SERVER_URL is not used", "".join(found.warnings))
        for environ, flag in (
            ({"CONDUCTOR_SERVER_URL": address, "USERAGENT_PLATFORM": "conductor"}, None),
            ({"CONDUCTOR_SERVER_URL": "https://d.example/api"}, address),
        ):
            found = self.load(GOOD, environ, conductor=flag)
            self.assertEqual((found.platform, found.service_url), ("conductor", address))

    def test_plain_http_to_a_far_conductor_is_a_warning_and_with_a_key_an_error(self) -> None:
        url = "http://conductor.example:8080/api"
        self.assertIn("can be read and changed", "".join(self.load(None, None, conductor=url).warnings))
        key = {"CONDUCTOR_AUTH_KEY": "k", "CONDUCTOR_AUTH_SECRET": CANARY}
        self.assertIn("plain http", self.refused(None, key, conductor=url))
        found = self.load(None, key, conductor="https://conductor.example/api")
        self.assertEqual((found.auth_key, found.auth_secret, found.secrets), ("k", CANARY, (CANARY,)))
        self.assertIn("go together", self.refused(None, {"CONDUCTOR_AUTH_KEY": "k"}, conductor="https://c.example/api"))

    def test_the_credentials_file_may_name_a_conductor_too(self) -> None:
        found = self.load({"platform": "conductor", "serviceUrl": "https://c.example/api", "agentId": "a"})
        self.assertEqual((found.platform, found.agent_id, found.client_id), ("conductor", "a", None))
        self.assertIn("no serviceUrl", self.refused({"platform": "conductor"}))
        self.assertIn("must be one of akabot, conductor", self.refused({**GOOD, "platform": "temporal"}))

    # Values

    def test_numbers_out_of_range_name_the_flag_or_variable(self) -> None:
        for name, flag, bad in (
            ("workers", "--workers", "1001"), ("workers", "--workers", "1e3"), ("workers", "--workers", "--5"),
            ("poll_interval_ms", "--poll-interval", "-1"), ("drain_timeout_s", "--drain-timeout", "nan"),
            ("drain_timeout_s", "--drain-timeout", "inf"), ("task_timeout_s", "--task-timeout", "0"),
            ("max_tasks", "--max-tasks", "none"), ("log_level", "--log-level", "LOUD"),
            ("status_port", "--status-port", "70000"),
            ("status_port", "--status-port", "http://x:1"), ("journal_sync", "--journal-sync", "off"),
        ):  # fmt: skip
            with self.assertRaisesRegex(UsageError, f"^{flag} must be .*{bad}"):
                self.load(GOOD, None, **{name: bad})
        self.assertIn(
            "variable USERAGENT_WORKERS must be a whole number from 1", self.refused(GOOD, {"USERAGENT_WORKERS": "x"})
        )

    def test_no_workers_and_no_pause_mean_what_they_meant_in_0_2_0(self) -> None:
        for few in ("0", "-3"):
            found = self.load(GOOD, None, workers=few, poll_interval_ms="0")
            self.assertEqual((found.workers, len(found.warnings)), (1, 1))
            self.assertEqual(found.resolve(Agent(lambda: None)).poll_interval_ms, 100)
        found = self.load(GOOD, {"conductor_worker_polling_interval": "0"})
        self.assertEqual(found.resolve(Agent(lambda: None, poll_interval_ms=0)).poll_interval_ms, 100)

    def test_every_value_has_its_documented_form(self) -> None:
        environ = {"USERAGENT_REDACT": "iban, name", "USERAGENT_RECORD": "yes"}
        found = self.load(GOOD, environ, drain_timeout_s="0", status_port="8080", log_level="warning")
        self.assertEqual((found.drain_timeout_s, found.status_port, found.log_level), (0, "127.0.0.1:8080", "WARNING"))
        self.assertEqual((found.redact, found.record), (("iban", "name"), True))
        self.assertEqual(self.load(GOOD, None, redact=["a", "b"]).redact, ("a", "b"))
        self.assertEqual(self.load(GOOD, None, status_port="[::1]:0").status_port, "[::1]:0")
        self.assertEqual(found.journal_dir, Path(".useragent/journal").absolute())
        self.assertIsNone(self.load(GOOD, None, journal_dir="off").journal_dir)
        self.assertEqual(found.db_path, Path("execution_history.db").absolute())
        self.assertEqual((found.log_format, found.color), ("text", "auto"))

    def test_debug_and_quiet_choose_the_log_level_unless_it_is_given(self) -> None:
        self.assertEqual(self.load({**GOOD, "debug": True}).log_level, "DEBUG")
        self.assertEqual(self.load({**GOOD, "debug": True}, None, debug="off").log_level, "INFO")
        self.assertEqual(self.load(GOOD, None, quiet="true").log_level, "WARNING")
        self.assertEqual(self.load(GOOD, None, quiet="true", log_level="error").log_level, "ERROR")

    def test_the_nearest_of_what_names_the_log_level_wins(self) -> None:
        """-d and -q lost to a level in the environment, and -q to "debug" in credentials.json."""
        loud, level = {**GOOD, "debug": True}, {"USERAGENT_LOG_LEVEL": "ERROR"}
        self.assertEqual(self.load(GOOD, level, debug="true").log_level, "DEBUG")
        self.assertEqual(self.load(GOOD, level, quiet="true").log_level, "WARNING")
        self.assertEqual(self.load(loud, None, quiet="true").log_level, "WARNING")
        self.assertEqual(self.load(loud, level).log_level, "ERROR")
        self.assertEqual(self.load(GOOD, {"USERAGENT_DEBUG": "1"}, quiet="true").log_level, "WARNING")
        self.assertEqual(self.load(loud, {"USERAGENT_QUIET": "1"}, quiet="false").log_level, "DEBUG")

    def test_files_for_tls_must_exist_and_are_relative_to_the_credentials(self) -> None:
        self.write(b"pem", "conf/ca.pem")
        self.write({**GOOD, "caFile": "ca.pem"}, "conf/credentials.json")
        self.assertEqual(self.load(config_file="conf/credentials.json").ca_file, Path("conf/ca.pem").absolute())
        self.assertIn("caFile in", self.refused({**GOOD, "caFile": "ca.pem"}))
        self.assertIn("no clientCert", self.refused({**GOOD, "clientKey": "conf/ca.pem"}))

    def test_control_characters_are_refused_in_what_becomes_a_header(self) -> None:
        for key in ("clientId", "clientSecret", "agentId"):
            self.assertIn("control characters", self.refused({**GOOD, key: f"a\r\nX-Evil: {CANARY}"}))
        self.assertEqual(self.load(GOOD, {"USERAGENT_CLIENT_ID": "a\n"}).client_id, "a")

    def test_a_proxy_may_carry_a_password_and_nothing_else(self) -> None:
        self.assertEqual(self.load({**GOOD, "proxy": "proxy.example:3128"}).proxy, "http://proxy.example:3128")
        for bad in (f"socks5://joe:{CANARY}@h:1", f"http://joe:{CANARY}@h:1/path", "http://h:1?x"):
            self.assertIn("proxy in", self.refused({**GOOD, "proxy": bad}))

    def test_an_address_is_not_repeated_where_it_may_have_a_secret_in_it(self) -> None:
        """Without its @, or with %40 in its place, an address was shown with the password, in `check` too."""
        for key, address in (
            ("proxy", f"joe:{CANARY}"),
            ("proxy", f"socks5://{CANARY}"),
            ("proxy", f"http://joe:{CANARY}%40h:1"),
            ("proxy", f"{CANARY}\\h"),
            ("serviceUrl", f"https://joe:{CANARY}"),
            ("serviceUrl", f"https://joe:{CANARY}%40h/api"),
            ("serviceUrl", f"https://{CANARY}%40h/api"),
            ("serviceUrl", f"ftp://joe:{CANARY}%40h/api"),
            ("serviceUrl", f"https://h/api?token={CANARY}"),
            ("baseUrl", f"joe:{CANARY}"),
        ):
            with self.subTest(address):
                self.assertIn(f"{key} in", self.refused({**GOOD, key: address}))

    # The table

    def test_a_command_that_talks_to_no_platform_needs_no_credentials(self) -> None:
        self.write(b"{broken")
        found = load({}, environ={}, target=False)
        self.assertEqual((found.service_url, found.client_id), ("", None))
        given = {**GOOD, "serviceUrl": "http://127.0.0.1:1/api", "authUrl": "http://127.0.0.1:1/token"}
        there = found.on_sandbox(given, None)
        self.assertEqual(
            (there.service_url, there.client_id, there.agent_id), (given["serviceUrl"], "me", "0000#user-agent")
        )
        self.assertNotIn(CANARY, repr(there))

    def test_every_row_of_the_table_is_documented_and_unique(self) -> None:
        for names in ([row.name for row in TABLE], [row.env for row in TABLE]):
            self.assertEqual(len(names), len(set(names)))
        flags = [flag for row in TABLE for flag in (*row.flags, row.off) if flag]
        self.assertEqual(len(flags), len(set(flags)))
        for row in TABLE:
            self.assertTrue(not row.flags or (row.help and (row.metavar or row.parse is switch)), row.name)
            self.assertFalse("secret" in row.name and row.flags, "the secret is never a flag")


if __name__ == "__main__":
    unittest.main()
