# SPDX-License-Identifier: Apache-2.0
"""The build backend (PEP 517, PEP 660), and the one command that makes a release. No tool, no network.

    python -m user_agent_sdk._build [FOLDER]

writes the wheel, the sdist, useragent.pyz, an SBOM and SHA256SUMS to FOLDER (default: dist). SHA256SUMS lists the
package's files too, for ``useragent version --verify``: ``sha256sum -c`` wants ``--ignore-missing``.

The same tree gives the same bytes on every Python and every machine: files are stored (what deflate
makes of them differs between zlibs), sorted, with LF line ends, fixed modes and owners, and one time:
SOURCE_DATE_EPOCH, or else the day that CHANGES.md gives for the release. The tar and gzip headers are
written here, since those of the standard library differ between its versions.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import locale
import os
import re
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from ._version import __version__

# pyproject.toml says the same, but Python 3.9 and 3.10 have no tomllib to read that file.
NAME = "user-agent-sdk"
SUMMARY = "A dependable worker for akaBot 2.0 and Conductor workflows, on nothing but the standard library"
AUTHOR = "The user-agent-sdk authors"
LICENSE = "Apache-2.0"
REQUIRES_PYTHON = ">=3.9"
SCRIPTS = {"useragent": "user_agent_sdk.cli:program"}
CLASSIFIERS = ("Operating System :: OS Independent", "Programming Language :: Python :: 3 :: Only", "Typing :: Typed")

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "user_agent_sdk"
BASE = f"{PACKAGE}-{__version__}"
DIST_INFO = f"{BASE}.dist-info"
WHEEL = f"{BASE}-py3-none-any.whl"
SBOM = f"{NAME}.cdx.json"
TOP = ("LICENSE", "README.md", "pyproject.toml")
# Suffixes of the files that are packed: not the database that a tried example leaves, nor an editor's copy.
KEPT = (".py", ".typed", ".md", ".html", ".json", ".pem", ".sh",
        ".cmd", ".conf", ".Dockerfile", ".service", ".xml", ".yml")  # fmt: skip
NEVER = "credentials.json"
ZIPAPP_MAIN = b"""\
import sys

if sys.version_info < (3, 9):
    sys.exit("useragent needs Python 3.9 or later, this is " + sys.version.split()[0])
from user_agent_sdk.cli import program

sys.exit(program())
"""

Files = Mapping[str, bytes]  # path in the archive, with /, to content


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: str | None = None) -> str:
    """Write the wheel and return its file name."""
    return _write(Path(wheel_directory), WHEEL, _zip(_with_dist_info(_tree(PACKAGE))))


def build_editable(wheel_directory: str, config_settings: object = None, metadata_directory: str | None = None) -> str:
    """Write a wheel that only points at this tree, and return its file name."""
    # site reads .pth files in the locale's encoding, 3.13 in UTF-8 first.
    pointer = (str(ROOT) + "\n").encode(locale.getpreferredencoding(False))
    return _write(Path(wheel_directory), WHEEL, _zip(_with_dist_info({f"_{PACKAGE}.pth": pointer})))


def build_sdist(sdist_directory: str, config_settings: object = None) -> str:
    """Write the sdist, tests and examples in it, and return its file name."""
    files = {**_tree(*TOP, PACKAGE, "tests", "examples"), "PKG-INFO": _metadata()}
    inside = {f"{BASE}/{name}": files[name] for name in sorted(files)}
    return _write(Path(sdist_directory), f"{BASE}.tar.gz", _gzip(_tar(inside)))


def main(argv: Sequence[str]) -> int:
    """Write all of a release to a folder and print its SHA256SUMS."""
    if not (ROOT / "pyproject.toml").is_file():
        sys.stderr.write(f"{ROOT} is no checkout and no unpacked sdist: there is nothing to build from\n")
        return 1
    folder = Path(argv[0] if argv else "dist")
    folder.mkdir(parents=True, exist_ok=True)
    names = [build_wheel(str(folder)), build_sdist(str(folder))]
    inside = _with_dist_info(_tree(PACKAGE))
    names.append(_write(folder, SBOM, inside[f"{DIST_INFO}/sboms/{SBOM}"]))
    zipapp = _zip({**inside, "__main__.py": ZIPAPP_MAIN}, head=b"#!/usr/bin/env python3\n")
    names.append(_write(folder, "useragent.pyz", zipapp))
    (folder / "useragent.pyz").chmod(0o755)
    made = {name: (folder / name).read_bytes() for name in sorted(names)}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in {**made, **_tree(PACKAGE)}.items())
    _write(folder, "SHA256SUMS", sums.encode("ascii"))
    sys.stdout.write(sums)
    return 0


def _tree(*names: str) -> dict[str, bytes]:
    """The files to ship under these names of the root, by path."""
    found: dict[str, bytes] = {}
    for name in names:
        top = ROOT / name
        for path in [top] if name in TOP else top.rglob("*"):
            parts = path.relative_to(ROOT).parts
            hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
            if name in TOP or (path.suffix in KEPT and path.name != NEVER and not hidden and path.is_file()):
                found["/".join(parts)] = _content(path)
    return dict(sorted(found.items()))


def _content(path: Path) -> bytes:
    """A clone made on Windows may have CRLF line ends; a file with a NUL is no text."""
    data = path.read_bytes()
    return data if b"\0" in data else data.replace(b"\r\n", b"\n")


def _epoch() -> int:
    """The one time in all files, in seconds since 1970. ValueError: SOURCE_DATE_EPOCH is no number."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given:
        return int(given)
    changes = _content(ROOT / PACKAGE / "CHANGES.md").decode("utf-8")
    released = re.search(rf"^## {re.escape(__version__)} \((\d{{4}}-\d\d-\d\d)\)$", changes, re.MULTILINE)
    if released is None:
        raise ValueError(f"CHANGES.md has no line '## {__version__} (YYYY-MM-DD)'")
    return int(datetime.fromisoformat(f"{released[1]}T00:00:00+00:00").timestamp())


def _metadata() -> bytes:
    fields = {"Metadata-Version": "2.4", "Name": NAME, "Version": __version__, "Summary": SUMMARY, "Author": AUTHOR,
              "License-Expression": LICENSE, "License-File": "LICENSE", "Requires-Python": REQUIRES_PYTHON,
              "Description-Content-Type": "text/markdown"}  # fmt: skip
    pairs = [*fields.items(), *(("Classifier", classifier) for classifier in CLASSIFIERS)]
    head = "".join(f"{name}: {value}\n" for name, value in pairs)
    return head.encode("utf-8") + b"\n" + _content(ROOT / "README.md")


def _with_dist_info(files: Files) -> dict[str, bytes]:
    """The content of a wheel that installs ``files``."""
    scripts = "".join(f"{name} = {target}\n" for name, target in SCRIPTS.items())
    wheel = f"Wheel-Version: 1.0\nGenerator: {PACKAGE}._build {__version__}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    inside = {
        **files,
        f"{DIST_INFO}/METADATA": _metadata(),
        f"{DIST_INFO}/WHEEL": wheel.encode("ascii"),
        f"{DIST_INFO}/entry_points.txt": f"[console_scripts]\n{scripts}".encode("ascii"),
        f"{DIST_INFO}/licenses/LICENSE": _content(ROOT / "LICENSE"),
        f"{DIST_INFO}/sboms/{SBOM}": _sbom(files),
    }
    record = ""
    for name, data in inside.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")
        record += f"{name},sha256={digest},{len(data)}\n"
    inside[f"{DIST_INFO}/RECORD"] = (record + f"{DIST_INFO}/RECORD,,\n").encode("utf-8")
    return inside


def _sbom(files: Files) -> bytes:
    """CycloneDX 1.6: this package, each file's SHA-256, and that there is no dependency to list."""
    ref = f"pkg:pypi/{NAME}@{__version__}"
    sums = {name: [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}] for name, data in files.items()}
    component = {
        "type": "library", "bom-ref": ref, "supplier": {"name": AUTHOR}, "name": NAME, "version": __version__,
        "description": SUMMARY, "licenses": [{"license": {"id": LICENSE}}], "purl": ref,
        "components": [{"type": "file", "name": name, "hashes": hashes} for name, hashes in sums.items()],
    }  # fmt: skip
    made = datetime.fromtimestamp(_epoch(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": made, "authors": [{"name": AUTHOR}], "component": component},
        "components": [],
        "dependencies": [{"ref": ref, "dependsOn": []}],
        "compositions": [{"aggregate": "complete", "assemblies": [ref], "dependencies": [ref]}],
    }
    return json.dumps(document, indent=1).encode("ascii") + b"\n"


def _write(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return name


def _zip(files: Files, head: bytes = b"") -> bytes:
    buffer = io.BytesIO(head)
    buffer.seek(len(head))
    moment = time.gmtime(max(_epoch(), 315532800))  # a zip's time begins in 1980
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, moment[:6])
            entry.create_system = 3  # Unix, on Windows too
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data, zipfile.ZIP_STORED)
    return buffer.getvalue()


def _tar(files: Files) -> bytes:
    """POSIX ustar, which the pax format of an sdist includes. ValueError for a path over 100 bytes."""
    blocks = []
    for name, data in files.items():
        if len(name.encode()) > 100:
            raise ValueError(f"the path {name} is too long for the sdist")
        numbers = b"0000644\x000000000\x000000000\x00%011o\x00%011o\x00" % (len(data), _epoch())
        head = struct.pack("100s48s8sc100s255s", name.encode(), numbers, b" " * 8, b"0", b"", b"ustar\x0000")
        checksum = b"%06o\x00 " % sum(head)  # of the header with spaces in the checksum's place
        blocks += [head[:148], checksum, head[156:], data, b"\0" * (-len(data) % 512)]
    content = b"".join(blocks) + b"\0" * 1024
    return content + b"\0" * (-len(content) % 10240)


def _gzip(data: bytes) -> bytes:
    """One gzip member (RFC 1952) of stored deflate blocks (RFC 1951)."""
    parts = [struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, 0, _epoch() & 0xFFFFFFFF, 0, 255)]
    for start in range(0, len(data), 0xFFFF):
        block = data[start : start + 0xFFFF]
        last = start + 0xFFFF >= len(data)
        parts += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    return b"".join(parts) + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
