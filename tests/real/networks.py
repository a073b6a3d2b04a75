# SPDX-License-Identifier: Apache-2.0
"""A company's network on loopback: real squid with and without a password, and real nginx with TLS, as child processes.

    with Networks(upstream_port) as networks:                # a second: nginx and squid start, certificates are made
        networks.url("company")                              # https://127.0.0.1:PORT, passed on to the upstream
        networks.url("mutual", "platform.test")              # asks for a client certificate; only squid knows it
        networks.file("ca")                                  # the private authority, for caFile
        networks.proxy, networks.locked_proxy                # of squid; the second wants USER and PASSWORD
        networks.arrived()                                   # what nginx served: by which connection, for which client
        networks.passed()                                    # what squid passed on

Each of ``SITES`` is one port of nginx with one certificate; all are made anew by the openssl command.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from . import servers
from .stack import wait_until

NAME = "platform.test"  # resolved by squid alone
USER, PASSWORD = "worker", "squid: p@ss/1"
MARK = "/mark-of-the-test/"
# site -> the file of its certificate
SITES = {
    "company": "server",
    "mutual": "server",
    "expired": "expired",
    "elsewhere": "elsewhere",
    "self_signed": "self_signed",
    "lax_authority": "by_lax_ca",
    "no_key_id": "no_key_id",
}
_OPENSSL_CNF = f"""
[req]
distinguished_name = none
[none]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[lax_ca]
basicConstraints = CA:TRUE
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, DNS:{NAME}, IP:127.0.0.1, IP:::1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[elsewhere]
subjectAltName = DNS:elsewhere.test
authorityKeyIdentifier = keyid
[no_key_id]
subjectAltName = DNS:localhost, DNS:{NAME}, IP:127.0.0.1
authorityKeyIdentifier = none
[self_signed]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, DNS:{NAME}, IP:127.0.0.1
subjectKeyIdentifier = hash
[client]
extendedKeyUsage = clientAuth
authorityKeyIdentifier = keyid
[db]
default_ca = here
[here]
database = index
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
"""


class Arrived(NamedTuple):
    """A request, as nginx logged it."""

    site: str
    connection: str  # one number a connection
    client: str  # its address
    verified: str  # NONE, SUCCESS or FAILED:why; of the client's certificate
    status: str
    line: str


class Passed(NamedTuple):
    """A request, or a tunnel that has ended, as squid logged it."""

    connection: str  # the client's port
    status: str
    method: str
    target: str
    user: str


class Networks:
    """squid and nginx from ``start`` to ``stop``; all files are in one temporary folder."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._children: list[_Child] = []
        self._marks = self._arrived_before = self._passed_before = 0

    def start(self) -> None:
        """Raises servers.ServerError, with nothing left running."""
        self.folder = Path(tempfile.mkdtemp(prefix="real-networks-"))
        try:
            self._arrived_log = self.folder / "arrived.log"
            self._passed_log = self.folder / "squid" / "passed.log"
            self.folder.chmod(0o755)  # squid's own user passes through it
            self._certify()
            self.has_ipv6 = _can_bind_ipv6()
            self._ports = dict(zip((*SITES, "plain", "proxy", "locked"), _free_ports(len(SITES) + 3)))
            self.proxy = f"http://127.0.0.1:{self._ports['proxy']}"
            self.locked_proxy = f"http://127.0.0.1:{self._ports['locked']}"
            self._start_squid()
            self._start_nginx()
            for child in self._children:
                child.wait_ready(60)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for child in self._children:
            child.stop()  # by SIGKILL squid would leave its shared memory
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Networks:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, site: str, host: str = "127.0.0.1") -> str:
        """``plain`` is http, without TLS."""
        return f"{'http' if site == 'plain' else 'https'}://{host}:{self._ports[site]}"

    def file(self, name: str) -> str:
        """A certificate, its key in the same file."""
        return str(self.folder / f"{name}.pem")

    def arrived(self, site: str | None = None) -> list[Arrived]:
        """What nginx answered so far."""
        lines = self._arrived_log.read_text("utf-8").splitlines()[self._arrived_before :]
        sites = {str(self._ports[name]): name for name in (*SITES, "plain")}
        found = []
        for line in lines:
            port, *rest = line.split("\t")
            found.append(Arrived(sites[port], *rest))
        return [one for one in found if site in (None, one.site)]

    def passed(self) -> list[Passed]:
        """All that squid was asked for; a tunnel is logged when it ends, as with the process at its other end."""
        self._mark()
        found = [Passed(*line.split("\t")) for line in self._passed_log.read_text("utf-8").splitlines()]
        return [one for one in found[self._passed_before :] if MARK not in one.target and one.method != "-"]

    def forget(self) -> None:
        """What both logs hold is of the past."""
        self._mark()
        self._arrived_before = len(self._arrived_log.read_text("utf-8").splitlines())
        self._passed_before = len(self._passed_log.read_text("utf-8").splitlines())

    def _mark(self) -> None:
        """One more request through squid: once it is in the log, so is all that ended before."""
        self._marks += 1
        mark = f"{self.url('plain')}{MARK}{self._marks}"
        with socket.create_connection(("127.0.0.1", self._ports["proxy"]), 60) as client:
            client.sendall(f"GET {mark} HTTP/1.0\r\n\r\n".encode("ascii"))
            while client.recv(4096):
                pass
        if not wait_until(lambda: f"{mark}\t" in self._passed_log.read_text("utf-8"), 60):
            raise servers.ServerError(f"squid has not logged {mark}")

    # -- certificates ------------------------------------------------------------------------------------

    def _certify(self) -> None:
        (self.folder / "openssl.cnf").write_text(_OPENSSL_CNF, "ascii")
        (self.folder / "index").touch()
        for name in ("ca", "lax_ca", "self_signed"):
            self._make(name)
        for name, issuer in (("server", "ca"), ("elsewhere", "ca"), ("no_key_id", "ca"), ("client", "ca")):
            self._make(name, issuer)
        self._make("by_lax_ca", "lax_ca", "server")
        self._make("expired", "ca", "server", ("20200101000000Z", "20210101000000Z"))
        self._make("stranger", "lax_ca", "client")  # a client that nobody knows

    def _make(
        self, name: str, issuer: str | None = None, section: str | None = None, span: tuple[str, str] | None = None
    ) -> None:
        """``name.pem``; self-signed without an ``issuer``. ``span`` is from when until when, else a day."""
        key, request, made = f"{name}.key", f"{name}.csr", f"{name}.crt"
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        subject = ("-subj", f"/CN={name}", "-keyout", key, "-out", request)
        self._openssl("req", "-config", "openssl.cnf", "-new", "-nodes", *curve, *subject)
        by = ["-cert", f"{issuer}.crt", "-keyfile", f"{issuer}.key"] if issuer else ["-selfsign", "-keyfile", key]
        dates = ["-startdate", span[0], "-enddate", span[1]] if span else ["-days", "1"]
        self._openssl("ca", "-batch", "-notext", "-config", "openssl.cnf", "-name", "here", *by, *dates,
                      "-extensions", section or name, "-in", request, "-out", made)  # fmt: skip
        pem = self.folder / f"{name}.pem"
        pem.write_text("".join((self.folder / part).read_text("ascii") for part in (made, key)), "ascii")
        pem.chmod(0o600)

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(
            [_found("openssl"), *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        if done.returncode:
            raise servers.ServerError(f"openssl {arguments[0]}: {done.stdout.decode('utf-8', 'replace')[-1000:]}")

    # -- servers -----------------------------------------------------------------------------------------

    def _start_squid(self) -> None:
        folder = self.folder / "squid"
        folder.mkdir()
        hashed = subprocess.run(
            [_found("openssl"), "passwd", "-apr1", PASSWORD], stdout=subprocess.PIPE, check=True, timeout=60
        )
        (folder / "users").write_text(f"{USER}:{hashed.stdout.decode('ascii').strip()}\n", "ascii")
        (folder / "hosts").write_text(f"127.0.0.1 localhost {NAME}\n", "ascii")
        helper = next((str(path) for path in Path("/usr").glob("lib*/squid/basic_ncsa_auth")), "basic_ncsa_auth")
        config = f"""
            http_port {self.proxy[7:]} name=open
            http_port {self.locked_proxy[7:]} name=locked
            auth_param basic program {helper} {folder}/users
            auth_param basic children 1
            acl open myportname open
            acl known proxy_auth REQUIRED
            acl forbidden dstdomain -n forbidden.test
            http_access deny forbidden
            http_access allow open
            http_access allow known
            http_access deny all
            hosts_file {folder}/hosts
            dns_nameservers 127.0.0.1
            logformat fields %>p\t%>Hs\t%rm\t%ru\t%un
            access_log stdio:{self._passed_log} logformat=fields
            cache_log {folder}/cache.log
            cache deny all
            cache_mem 8 MB
            memory_cache_shared off
            coredump_dir {folder}
            netdb_filename none
            pid_filename none
            pinger_enable off
            max_filedescriptors 1024
            shutdown_lifetime 0 seconds
            visible_hostname squid.test
            """
        (folder / "squid.conf").write_text("\n".join(line.strip() for line in config.splitlines()), "ascii")
        if os.geteuid() == 0:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, "proxy")  # which squid, started by root, becomes
        service = f"test{os.getpid()}at{self._ports['proxy']}"  # its shared memory is named so
        self._child("squid", "-N", "-n", service, "-f", f"{folder}/squid.conf", port="proxy")

    def _start_nginx(self) -> None:
        folder = self.folder / "nginx"
        folder.mkdir()
        sites = "".join(self._site(site, certificate) for site, certificate in SITES.items())
        config = f"""
            {"user root;" if os.geteuid() == 0 else ""}
            daemon off;
            pid {folder}/pid;
            error_log {self.folder}/nginx.log warn;
            worker_processes 1;
            events {{ worker_connections 256; }}
            http {{
                log_format fields "$server_port\t$connection\t$remote_addr\t$ssl_client_verify\t$status\t$request";
                access_log {self._arrived_log} fields;
                client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
                fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
                upstream platform {{ server 127.0.0.1:{self._upstream_port}; keepalive 16; }}
                ssl_protocols TLSv1.2 TLSv1.3;
                server {{ {self._listen("plain")} {self._location} location {MARK} {{ access_log off; return 204; }} }}
                {sites}
            }}
            """
        (folder / "nginx.conf").write_text(config, "ascii")
        self._child("nginx", "-p", str(folder), "-c", f"{folder}/nginx.conf", port="plain")

    def _site(self, site: str, certificate: str) -> str:
        asks = f"ssl_verify_client on; ssl_client_certificate {self.folder}/ca.crt;" if site == "mutual" else ""
        files = f"ssl_certificate {self.file(certificate)}; ssl_certificate_key {self.file(certificate)};"
        return f"server {{ {self._listen(site, ' ssl')} {files} {asks} {self._location} }}\n"

    def _listen(self, site: str, kind: str = "") -> str:
        hosts = ("127.0.0.1", "[::1]") if self.has_ipv6 else ("127.0.0.1",)
        return " ".join(f"listen {host}:{self._ports[site]}{kind};" for host in hosts)

    @property
    def _location(self) -> str:
        passes = f"proxy_pass http://platform; proxy_set_header Host 127.0.0.1:{self._upstream_port};"
        return f'location / {{ {passes} proxy_http_version 1.1; proxy_set_header Connection ""; }}'

    def _child(self, name: str, *arguments: str, port: str) -> None:
        child = _Child(name, [_found(name), *arguments], {}, self.folder / f"{name}.log", str(self._ports[port]))
        self._children.append(child)
        child.start()


class _Child(servers.Server):
    """It is ready when its port takes connections."""

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", int(self._ready_url)), 5).close()
        except OSError:
            return False
        return True


def _found(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise servers.ServerError(f"{name} is needed and not installed; in Debian: apt-get install {name}")
    return found


def _free_ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(servers.free_port())
    return sorted(found)


def _can_bind_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
