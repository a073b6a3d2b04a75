# SPDX-License-Identifier: Apache-2.0
"""Finds, boots and stops the real servers: Conductor OSS and Keycloak, on loopback, as child processes.

Both come from Maven Central through the ``mvn`` client. Conductor wants a JDK of 25 or later
(``JAVA25_HOME`` names one), its releases before 3.20 and Keycloak 17 to 24 (``JAVA17_HOME``); without
these the usual folders are searched. ``USERAGENT_REAL_CONDUCTOR`` chooses one of ``releases.RELEASES``. With
``USERAGENT_REAL_CACHE`` naming a folder, Keycloak's own first-start build (20 s) is kept there for later boots.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ..releases import RELEASES

KEYCLOAK = ("org.keycloak", "keycloak-quarkus-dist", "26.0.0", "zip", "")
REALM = "user-agent"
FETCH_TIMEOUT_S = 900
BOOT_TIMEOUT_S = 300
STOP_TIMEOUT_S = 30
REDIS = ("redis-server", "/usr/bin/redis-server", "/usr/local/bin/redis-server")
VERSION = os.environ.get("USERAGENT_REAL_CONDUCTOR") or "3.32.1"


class ServerError(Exception):
    """A real server is missing, or does not come up; the message holds the end of its log."""


def artifact(group: str, name: str, version: str, kind: str, classifier: str) -> Path:
    """The file in the local Maven repository; fetched from Maven Central when it is not there."""
    file_name = "-".join(part for part in (name, version, classifier) if part) + "." + kind
    relative = Path(*group.split("."), name, version, file_name)
    found = Path.home() / ".m2" / "repository" / relative
    if found.is_file():
        return found
    coordinates = ":".join(part for part in (group, name, version, kind, classifier) if part)
    _mvn("dependency:get", f"-Dartifact={coordinates}", "-Dtransitive=false")
    repository = _mvn("help:evaluate", "-Dexpression=settings.localRepository", "-DforceStdout").strip()
    found = Path(repository) / relative
    if not found.is_file():
        raise ServerError(f"mvn fetched {coordinates}, but {found} is not there")
    return found


def _mvn(*arguments: str) -> str:
    mvn = shutil.which("mvn")
    if mvn is None:
        raise ServerError("the mvn client is needed to fetch the real servers, and is not on the PATH")
    done = subprocess.run(
        [mvn, "-q", "-B", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=FETCH_TIMEOUT_S
    )
    output = re.sub(r"\x1b\[\d*m", "", done.stdout.decode("utf-8", "replace"))  # some put colours around a path
    if done.returncode:
        raise ServerError(f"mvn {' '.join(arguments)} ended with {done.returncode}:\n{output[-2000:]}")
    return output


def java_home(least: int, below: int = 1000) -> Path:
    """The home of the oldest installed JDK with ``least`` <= major version < ``below``."""
    found = sorted((_major(home), str(home)) for home in _java_homes(least))
    for major, home in found:
        if least <= major < below:
            return Path(home)
    raise ServerError(f"no Java {least} was found (JAVA{least}_HOME names one); there are: {found}")


def _java_homes(least: int) -> Iterator[Path]:
    named = os.environ.get(f"JAVA{least}_HOME")
    if named:
        yield Path(named)
        return
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path).resolve().parent.parent
    for folder, pattern in (
        ("/usr/lib/jvm", "*"),
        ("/opt", "*j*"),
        ("/opt/hostedtoolcache", "Java_*/*/*"),
        ("/Library/Java/JavaVirtualMachines", "*/Contents/Home"),
        (str(Path.home() / ".sdkman/candidates/java"), "*"),
    ):
        yield from Path(folder).glob(pattern)


def _major(home: Path) -> int:
    """The major version that a JDK's own ``release`` file states; 0 where there is none."""
    try:
        stated = (home / "release").read_text("utf-8", "replace")
    except OSError:
        return 0
    match = re.search(r'^JAVA_VERSION="(\d+)', stated, re.MULTILINE) if (home / "bin" / "java").exists() else None
    return int(match.group(1)) if match else 0


def free_port() -> int:
    """A free port below the ephemeral range, so that no outgoing connection takes it while its server is down."""
    for port in random.sample(range(20000, 30000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerError("no free port between 20000 and 30000")


class Server:
    """One child process, in a session of its own; ``start`` after ``stop`` boots it again as it was."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, ready_url: str
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._ready_url = ready_url
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=str(self.log.parent),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Until the server answers; ServerError with the end of its log when it dies or takes too long."""
        deadline = time.monotonic() + timeout_s
        never = threading.Event()
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                ended = self._process.returncode if self._process else "nothing"
                raise ServerError(f"{self.name} ended with {ended} while it booted{self._tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not answer within {timeout_s:.0f} s{self._tail()}")
            never.wait(0.25)

    def stop(self, *, kill: bool = False) -> None:
        """Ends the process and what it started: SIGTERM (``kill``: SIGKILL), and SIGKILL when that is not enough."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None and not kill:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the whole group is gone
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_TIMEOUT_S)

    def _answers(self) -> bool:
        address = urlsplit(self._ready_url)
        if address.scheme == "redis":
            with contextlib.suppress(OSError), socket.create_connection((address.hostname, address.port), 5) as redis:
                redis.sendall(b"PING\r\n")
                return redis.recv(7) == b"+PONG\r\n"
            return False
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self._ready_url, timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def _tail(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()[-60:]
        return "; the end of its log:\n" + "\n".join(line[:300] for line in lines)


def conductor(
    folder: Path, port: int, *, indexing: bool, version: str = VERSION, redis: tuple[int, str] | None = None
) -> Server:
    """Conductor on ``port``. What it stores outlives a restart: an SQLite file in ``folder``, or what lies in the
    :func:`redis` at a port, under a prefix."""
    release = RELEASES[version]
    folder.mkdir(parents=True, exist_ok=True)
    properties = {
        "server.address": "127.0.0.1",
        "server.port": str(port),
        **(_on_redis(*redis) if redis else _on_sqlite(folder, indexing)),
        "conductor.grpc-server.enabled": "false",
        "conductor.app.taskExecutionPostponeDuration": "1s",  # of what a limit holds back: 60 s by default
        "conductor.scheduler.enabled": "false",
        "conductor.integrations.ai.enabled": "false",
        "logging.level.root": "WARN",
    }
    command = [
        str(java_home(*release.java) / "bin" / "java"),
        "-Xmx768m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        f"-Djava.io.tmpdir={folder}",
        "-jar",
        str(artifact(release.group, "conductor-server", version, "jar", "boot")),
        *(f"--{name}={value}" for name, value in properties.items()),
    ]
    ready_url = f"http://127.0.0.1:{port}/api/metadata/taskdefs"
    return Server(f"Conductor {version}", command, {}, folder / "conductor.log", ready_url)


def _on_sqlite(folder: Path, indexing: bool) -> dict[str, str]:
    return {
        "spring.datasource.url": f"jdbc:sqlite:{folder / 'conductor.db'}"
        "?busy_timeout=15000&journal_mode=WAL&synchronous=NORMAL",
        "conductor.db.type": "sqlite",
        "conductor.queue.type": "sqlite",
        # The task logs live in the index: without it they are taken and thrown away.
        "conductor.indexing.enabled": str(indexing).lower(),
        "conductor.indexing.type": "sqlite" if indexing else "none",
        "management.health.elasticsearch.enabled": "false",
    }


def _on_redis(port: int, prefix: str) -> dict[str, str]:
    return {
        "conductor.db.type": "redis_standalone",
        "conductor.queue.type": "redis_standalone",
        "conductor.redis.hosts": f"127.0.0.1:{port}:us-east-1c",
        "conductor.redis-lock.serverAddress": f"redis://127.0.0.1:{port}",
        "conductor.redis.workflowNamespacePrefix": f"conductor-{prefix}",
        "conductor.redis.queueNamespacePrefix": f"queues-{prefix}",
        "conductor.indexing.enabled": "false",  # it would want an Elasticsearch
    }


def redis(folder: Path, port: int) -> Server:
    """A Redis of its own on ``port``, whose data outlives a restart."""
    program = next(filter(None, map(shutil.which, REDIS)), None)
    if program is None:
        raise ServerError("redis-server is needed by Conductor before 3.30, and is not on the PATH")
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    return Server("Redis", [program, *options], {}, folder / "redis.log", f"redis://127.0.0.1:{port}")


def keycloak(folder: Path, port: int, clients: Mapping[str, tuple[str, int]]) -> Server:
    """Keycloak on ``port`` with the realm ``user-agent``; ``clients``: id -> (secret, token lifespan in seconds)."""
    home = folder / "keycloak"
    _unpack_keycloak(home)
    (home / "data" / "import").mkdir(parents=True, exist_ok=True)
    realm = {
        "realm": REALM,
        "enabled": True,
        "sslRequired": "none",
        "clients": [_client(name, *about) for name, about in clients.items()],
    }
    (home / "data" / "import" / f"{REALM}-realm.json").write_text(json.dumps(realm), "utf-8")
    environment = {
        "JAVA_HOME": str(java_home(17, below=25)),
        "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m",
        "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
    }
    command = ["sh", str(home / "bin" / "kc.sh"), "start-dev", "--http-host=127.0.0.1", f"--http-port={port}"]
    ready_url = f"http://127.0.0.1:{port}/realms/{REALM}"
    return Server("Keycloak", [*command, "--import-realm"], environment, folder / "keycloak.log", ready_url)


def _client(name: str, secret: str, lifespan_s: int) -> dict[str, object]:
    return {
        "clientId": name,
        "secret": secret,
        "enabled": True,
        "publicClient": False,
        "serviceAccountsEnabled": True,
        "standardFlowEnabled": False,
        "attributes": {"access.token.lifespan": str(lifespan_s)},
    }


def _unpack_keycloak(home: Path) -> None:
    kept = _kept_keycloak()
    if kept is not None and kept.is_dir():
        shutil.copytree(kept, home)
        return
    with zipfile.ZipFile(artifact(*KEYCLOAK)) as archive:
        archive.extractall(home.parent)
    (home.parent / f"keycloak-{KEYCLOAK[2]}").rename(home)


def keep_keycloak(home: Path) -> None:
    """Puts the built Keycloak of ``home``, without its data, into the cache folder, if there is one."""
    kept = _kept_keycloak()
    if kept is None or kept.is_dir():
        return
    partial = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
        shutil.copytree(home, partial, ignore=lambda folder, names: ["data"] if Path(folder) == home else [])
        partial.rename(kept)
    except OSError:  # another process was first, or the folder can't be written: it only saves time
        shutil.rmtree(partial, ignore_errors=True)


def _kept_keycloak() -> Path | None:
    cache = os.environ.get("USERAGENT_REAL_CACHE")
    return Path(cache) / f"keycloak-{KEYCLOAK[2]}" if cache else None
