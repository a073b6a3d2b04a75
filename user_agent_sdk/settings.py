# SPDX-License-Identifier: Apache-2.0
"""Every setting, declared once, as a field of ``Settings``: the command line's options, the environment, the
credentials file and the checks all follow from ``TABLE``, which is made of those.

Where a value comes from: flag > environment > decorator > credentials.json > default. ``load`` reads it all into a
frozen ``Settings`` and opens no connection; ``Settings.resolve`` adds what one agent's decorator says."""

from __future__ import annotations

import os
import socket
from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple
from urllib.parse import unquote, urlsplit

from . import credentials
from .credentials import url
from .errors import ConfigError, UsageError, UserAgentError
from .values import Secret, age, choice, existing_file, from_home, host_and_port, journal_folder, milliseconds

from .values import name_list, number, parsed, plain, secret, switch, whole, worker_count  # isort: skip

RUN = ("run", "dev")
WORK = (*RUN, "invoke", "sandbox")  # the commands that run tasks
AGENT = (*WORK, "check")  # the commands that load an agent
TARGET = (*RUN, "check")  # the commands that talk to a platform
EVERY = ("*",)
NO_PAUSE_MS = 100.0  # used for a poll interval of 0, as in 0.2.0
NO_DOMAIN = "NO_DOMAIN"  # Conductor's word for no domain


class Setting(NamedTuple):
    """One row of the table. ``parse`` takes text and raises ValueError saying what it must be."""

    name: str
    help: str
    env: str
    parse: Callable[[str], Any] = plain
    default: Any = None
    key: str = ""  # of credentials.json
    flags: tuple[str, ...] = ()
    commands: tuple[str, ...] = RUN  # that have the flags
    metavar: str = ""  # of a flag's argument; one without it takes none, and says "true"
    off: str = ""  # the flag that says the opposite
    group: str = "running"  # of the flags in a command's help


Given = Iterable[tuple[Setting, str, str]]  # (setting, its text, name of the place) for all settings of one place


def _row(*values: Any, **more: Any) -> Any:
    """The row of a field of Settings: a Setting without its name, which is the field's."""
    return Setting("", *values, **more)


class AgentSettings(NamedTuple):
    """The settings that hold for one agent, everything decided. ``timeout_s`` None = no limit."""

    agent_id: str | None
    worker_id: str
    domain: str | None
    poll_interval_ms: float
    workers: int
    timeout_s: float | None


class Settings(NamedTuple):  # a dataclass costs each start 3 ms
    """All settings of one process. None = not set, for what an agent's decorator may say. ``sources`` says where each
    value came from: a flag (``--workers``), an environment variable, a key of the credentials file, or ``default``.
    ``warnings`` are sentences for the operator's log."""

    # fmt: off
    # credentials: who we are and whom we talk to
    config_file: Path | None = _row("credentials file to use", "USERAGENT_CONFIG_FILE", from_home,
        flags=("-c", "--config-file"), commands=AGENT, metavar="FILE", group="platform")
    conductor: str | None = _row("talk to a plain Conductor server, such as http://host:8080/api",
        "CONDUCTOR_SERVER_URL", url, flags=("--conductor",), commands=TARGET, metavar="URL", group="platform")
    agent_id: str | None = _row("id for agents whose decorator names none", "USERAGENT_AGENT_ID", key="agentId",
        flags=("-a", "--agent-id"), commands=AGENT, metavar="ID", group="platform")
    platform: str = _row("", "USERAGENT_PLATFORM", choice("akabot", "conductor"), "akabot", key="platform")
    base_url: str | None = _row("", "USERAGENT_BASE_URL", key="baseUrl")
    service_url: str = _row("", "USERAGENT_SERVICE_URL", url, "", key="serviceUrl")
    auth_url: str | None = _row("", "USERAGENT_AUTH_URL", url, key="authUrl")
    client_id: str | None = _row("", "USERAGENT_CLIENT_ID", key="clientId")
    client_secret: Secret | None = _row("", "USERAGENT_CLIENT_SECRET", secret, key="clientSecret")
    client_secret_file: Path | None = _row("", "USERAGENT_CLIENT_SECRET_FILE", existing_file, key="clientSecretFile")
    auth_key: str | None = _row("", "CONDUCTOR_AUTH_KEY")
    auth_secret: Secret | None = _row("", "CONDUCTOR_AUTH_SECRET", secret)
    ca_file: Path | None = _row("", "USERAGENT_CA_FILE", existing_file, key="caFile")
    client_cert: Path | None = _row("", "USERAGENT_CLIENT_CERT", existing_file, key="clientCert")
    client_key: Path | None = _row("", "USERAGENT_CLIENT_KEY", existing_file, key="clientKey")
    proxy: Secret | None = _row("", "USERAGENT_PROXY", credentials.proxy, key="proxy")
    # running
    workers: int | None = _row("tasks to run at once, for each agent (else the decorator's, else 1)",
        "USERAGENT_WORKERS", worker_count, flags=("-w", "--workers"), commands=(*RUN, "sandbox"), metavar="N")
    poll_interval_ms: float | None = _row("idle pause between polls (else the decorator's; 1000, Conductor 200)",
        "USERAGENT_POLL_INTERVAL", milliseconds, flags=("--poll-interval",), metavar="MS")
    domain: str | None = _row("task domain to poll in", "USERAGENT_DOMAIN", flags=("--domain",), metavar="NAME")
    worker_id: str | None = _row("name of this worker (else the host's name)", "USERAGENT_WORKER_ID",
        flags=("--worker-id",), metavar="NAME")
    drain_timeout_s: float = _row("how long a stop waits for running tasks; 0 = for ever", "USERAGENT_DRAIN_TIMEOUT",
        number(0, 10**6, "seconds"), 30.0, flags=("--drain-timeout",), metavar="S")
    task_timeout_s: float | None = _row("longest run of a task, for agents without a timeout_s of their own",
        "USERAGENT_TASK_TIMEOUT", number(0.001, 10**7, "seconds"), flags=("--task-timeout",), metavar="S")
    max_tasks: int | None = _row("stop after this many tasks", "USERAGENT_MAX_TASKS", whole(1, 10**9),
        flags=("--max-tasks",), metavar="N")
    status_port: str | None = _row("serve /healthz, /readyz and /metrics there", "USERAGENT_STATUS_PORT", host_and_port,
        flags=("--status-port",), metavar="[HOST:]PORT")
    register: bool = _row("define task types that the Conductor server lacks, as the decorators say",
        "USERAGENT_REGISTER", switch, False, flags=("--register",))
    # journal and history
    journal_dir: Path | None = _row("folder of the results not yet delivered; off = none", "USERAGENT_JOURNAL",
        journal_folder, Path(".useragent") / "journal", flags=("--journal",), commands=(*RUN, "check", "journal"),
        metavar="DIR", off="--no-journal", group="records")
    journal_sync: str = _row("full also survives a power cut", "USERAGENT_JOURNAL_SYNC", choice("normal", "full"),
        "normal", flags=("--journal-sync",), metavar="normal|full", group="records")
    record: bool = _row("keep every execution in the history", "USERAGENT_RECORD", switch, False,
        flags=("-r", "--record-execution-logs"), commands=WORK, off="--no-record-execution-logs", group="records")
    db_path: Path = _row("history database", "USERAGENT_DB_PATH", from_home, Path("execution_history.db"),
        flags=("-db", "--db-path"), metavar="PATH", group="records",
        commands=(*WORK, "history", "history-detail", "history-prune"))
    keep_history_s: float | None = _row("take executions out of the history at that age, such as 30d (else never)",
        "USERAGENT_KEEP_HISTORY", age, flags=("--keep-history",), metavar="AGE", group="records")
    redact: tuple[str, ...] = _row("blank this key's value in records; may be repeated", "USERAGENT_REDACT", name_list,
        (), flags=("--redact",), commands=WORK, metavar="KEY", group="records")
    # output
    log_level: str = _row("DEBUG, INFO, WARNING or ERROR", "USERAGENT_LOG_LEVEL",
        choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "INFO",
        flags=("-l", "--log-level"), commands=AGENT, metavar="LEVEL", group="output")
    log_format: str = _row("text or json", "USERAGENT_LOG_FORMAT", choice("text", "json"), "text",
        flags=("--log-format",), commands=AGENT, metavar="text|json", group="output")
    log_file: Path | None = _row("write the log there, not to stderr; may be moved or removed meanwhile",
        "USERAGENT_LOG_FILE", from_home,
        flags=("--log-file",), commands=(*RUN, "sandbox"), metavar="PATH", group="output")
    quiet: bool = _row("log warnings and errors only", "USERAGENT_QUIET", switch, False,
        flags=("-q", "--quiet"), commands=AGENT, group="output")
    debug: bool = _row("log everything, and print tracebacks", "USERAGENT_DEBUG", switch, False, key="debug",
        flags=("-d", "--debug"), commands=EVERY, off="--no-debug", group="output")
    capture_output: bool = _row("put print() and the lines of other loggers into the task's log, too",
        "USERAGENT_CAPTURE_OUTPUT", switch, False,
        flags=("--capture-output",), commands=WORK, off="--no-capture-output", group="output")
    color: str = _row("auto, always or never", "USERAGENT_COLOR", choice("auto", "always", "never"), "auto",
        flags=("--color",), commands=EVERY, metavar="WHEN", group="output")
    # fmt: on
    sources: Mapping[str, str] = {}
    warnings: tuple[str, ...] = ()
    again: Callable[[], Secret] | None = None  # the client's secret as its file has it now
    worker_env: Mapping[str, str] = {}  # conductor_worker_* variables, in lower case

    @property
    def names_db(self) -> bool:
        """Whether somebody said which file is the history, or it is found by its name alone."""
        return self.sources["db_path"] != "default"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets, which must appear in no output."""
        password = unquote(urlsplit(self.proxy or "").password or "")
        return tuple(text for text in (self.client_secret, self.auth_secret, password) if text)

    def resolve(self, agent: Any) -> AgentSettings:
        """The settings of one ``agents.Agent``. Raises ConfigError when a ``conductor_worker_…`` variable makes no
        sense."""
        interval = self._of(agent, "poll_interval_ms", "polling_interval", milliseconds)
        idle_ms = 1000 if self.platform == "akabot" else 200  # on a Conductor that keeps no poll
        workers, domain = self._of(agent, "workers"), self._of(agent, "domain", "domain")
        return AgentSettings(
            agent_id=agent.agent_id or self.agent_id,
            worker_id=self._of(agent, "worker_id") or socket.gethostname() or "worker",
            domain=None if domain == NO_DOMAIN else domain,
            poll_interval_ms=idle_ms if interval is None else interval or NO_PAUSE_MS,
            workers=1 if workers is None else workers,
            timeout_s=self.task_timeout_s if agent.timeout_s is None else agent.timeout_s,
        )

    def _of(self, agent: Any, name: str, prop: str = "", parse: Callable[[str], Any] = plain) -> Any:
        own = getattr(self, name)
        general = f"conductor_worker_{prop}"
        named = f"conductor_worker_{(agent.agent_id or self.agent_id or '').lower()}_{prop}"
        if own is not None and self.sources[name].startswith("-"):
            return own
        for key in (named, general) if own is None else (named,):  # a variable that names this agent wins
            if self.worker_env.get(key, "").strip():
                return parsed(parse, self.worker_env[key], f"environment variable {key}", ConfigError)
        return getattr(agent, name) if own is None else own

    def on_sandbox(self, given: Mapping[str, Any], journal_dir: Path | None = None) -> Settings:
        """The same settings, pointed at an embedded platform; ``given`` is shaped like credentials.json. That
        platform ends with the process, so what is not delivered by then need not be on disk."""
        return self._replace(
            platform="akabot", service_url=given["serviceUrl"], auth_url=given["authUrl"], proxy=None, again=None,
            client_id=given["clientId"], client_secret=Secret(given["clientSecret"]), journal_dir=journal_dir,
            agent_id=self.agent_id or given.get("agentId"), sources=dict(self.sources, service_url="embedded platform"),
        )  # fmt: skip


_ROWS = Settings._field_defaults.items()
TABLE: tuple[Setting, ...] = tuple(row._replace(name=name) for name, row in _ROWS if isinstance(row, Setting))


def load(
    flags: Mapping[str, Any], *, environ: Mapping[str, str] = os.environ, script: Path | None = None,
    target: bool = True,
) -> Settings:  # fmt: skip
    """Read and check everything. ``flags`` maps a setting's name to the text that the command line gave (a list for a
    flag that may be repeated), or None; ``script`` is the agent's file, whose folder is searched for credentials.json;
    without ``target`` no credentials are read or needed.

    Raises UsageError for a flag, ConfigError for anything else."""
    warnings: list[str] = []
    layers = ChainMap(_layer(_in_flags(flags), UsageError), _layer(_in_environment(environ)))
    nearer = [name for name in layers if name.startswith("client_")]
    path = credentials.find(layers.get("config_file"), environ, script) if target else None
    owners = () if "config_file" in layers else credentials.trusted_owners(script)  # a named file is trusted
    if path is not None:
        layers.maps.append(_layer(_in_file(path, layers, warnings, owners)))
    for layer in layers.maps:
        credentials.fold(layer, warnings)
        for name, level in (("debug", "DEBUG"), ("quiet", "WARNING")):
            if name in layer and layers[name][0]:  # no nearer layer undoes it
                layer.setdefault("log_level", (level, layer[name][1]))
    layers.maps.append({row.name: (row.default, "default") for row in TABLE})
    values = {name: value for name, (value, _) in layers.items()}
    sources = {name: source for name, (_, source) in layers.items()}
    if values["workers"] == 0:
        values["workers"] = 1
        warnings.append(f"{sources['workers']} asks for less than one worker: one is meant")
    if target:
        credentials.complete(values, sources, path, warnings)
    values["config_file"] = path
    for name, value in values.items():
        if isinstance(value, Path):  # a script may change the folder
            values[name] = value.absolute()
    worker_env = {k.lower(): v for k, v in environ.items() if k.lower().startswith("conductor_worker_")}
    for name in [name for name, text in worker_env.items() if name.endswith("_polling_interval") and text.strip()]:
        try:
            milliseconds(worker_env[name])
        except ValueError as reason:
            warnings.append(f"environment variable {name} {reason}: it is not used")
            del worker_env[name]

    own = {name: (values[name], sources[name]) for name in nearer}

    def again() -> Secret:  # a partial's repr would show the secrets
        return _secret(values, own, owners)

    return Settings(**values, sources=sources, warnings=tuple(warnings), worker_env=worker_env, again=again)


def _secret(values: Mapping[str, Any], own: credentials.Layer, owners: Collection[int]) -> Secret:
    """The client's secret as its file has it now: the one that ``values`` name, or of the ``own`` layer of variables,
    since a script may have changed the folder and the variables. Raises ConfigError."""
    path = values["config_file"]
    found = ChainMap({**own}, _layer(_in_file(path, ChainMap(), [], owners)) if path else {})
    for layer in found.maps:
        credentials.fold(layer, [])
    if found.get("client_id", ("", ""))[0] != values["client_id"]:
        raise ConfigError("there is another clientId now: that takes a restart")
    return Secret(found.get("client_secret", ("", ""))[0])


def _layer(given: Given, error: type[UserAgentError] = ConfigError) -> credentials.Layer:
    return {row.name: (parsed(row.parse, text, source, error), source) for row, text, source in given}


def _in_flags(flags: Mapping[str, Any]) -> Given:
    for row in TABLE:
        given = flags.get(row.name)
        if given is not None and row.flags:
            yield row, ",".join(given) if isinstance(given, list) else given, row.flags[-1]


def _in_environment(environ: Mapping[str, str]) -> Given:
    for row in TABLE:
        text = environ.get(row.env, "")
        if text.strip():  # an empty variable counts as unset: container files unset variables so
            yield row, text, f"environment variable {row.env}"


def _in_file(path: Path, closer: ChainMap[str, tuple[Any, str]], warnings: list[str], owners: Collection[int]) -> Given:
    """Beside ``--conductor`` only the agent's id is taken from the file; credentials of akaBot win over a variable."""
    rows = {row.key: row for row in TABLE if row.key}
    texts = credentials.read(path, rows, warnings, owners)
    source = closer.get("conductor", (None, ""))[1]
    is_akabot = "clientId" in texts and texts.get("platform", "akabot").lower() == "akabot"
    if source.startswith("env") and is_akabot and "platform" not in closer:
        warnings.append(f"{source} is not used: {path} has credentials of akaBot (--conductor URL would win)")
        del closer.maps[1]["conductor"]
    only_agent_id = "conductor" in closer
    for key, text in texts.items():
        row = rows[key]
        if key == "agentId" or not only_agent_id:
            yield row, str(path.parent / from_home(text)) if row.parse is existing_file else text, f"{key} in {path}"
