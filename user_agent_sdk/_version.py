# SPDX-License-Identifier: Apache-2.0
"""The version, in one place that needs no package metadata: a copied folder has none. And which files are run, since
two copies may say the same version."""

# Nothing is imported here, as in __init__.py: the current folder may still be on the path.

__version__ = "1.1.0"
_digest = ""


def hashes():
    # type: () -> dict[str, str]
    """The SHA-256 of each file of this copy, by the name that a release's SHA256SUMS has for it; of an archive its own.
    Line ends count as released: a clone on Windows may have others. Raises OSError."""
    import hashlib
    import os

    root, found = os.path.dirname(os.path.realpath(__file__)), {}
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name != "__pycache__"]
        place = "user_agent_sdk" + folder[len(root) :].replace(os.sep, "/")
        found.update({f"{place}/{name}": os.path.join(folder, name) for name in names})
    if os.path.isfile(os.path.dirname(root)):
        found = {os.path.basename(os.path.dirname(root)): os.path.dirname(root)}
    for name, path in found.items():
        with open(path, "rb", 0) as file:  # unbuffered: each start reads all files of this copy
            data = file.read()
        if b"\r\n" in data and b"\0" not in data:
            data = data.replace(b"\r\n", b"\n")
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def digest():
    # type: () -> str
    """Twelve digits for the copy that was first asked: of the lines that SHA256SUMS has for its files. "unknown" where
    no file of it can be read, as in a frozen program."""
    global _digest
    if not _digest:
        import hashlib

        try:
            lines = "".join(f"{sha}  {name}\n" for name, sha in sorted(hashes().items()))
        except OSError:
            lines = ""
        _digest = hashlib.sha256(lines.encode("utf-8", "replace")).hexdigest()[:12] if lines else "unknown"
    return _digest
