# SPDX-License-Identifier: Apache-2.0
"""Every exception of this package, and the tables of error and exit codes.

An error says what happened, with what, and (in ``hints``) what to do next. The command line prints it; nothing here
does any I/O but to look for a file whose name was misspelt."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing takes as long as all other modules that ``--version`` needs
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

EXIT_OK = 0
EXIT_FAILED = 1  # the task failed, the id is unknown, or there is a bug
EXIT_UNDELIVERED = 7  # stopped past the drain timeout, or with results only in the journal
EXIT_INTERRUPTED = 130  # second Ctrl+C

CODES = {  # code: (exit status of a command that ends with this error, meaning)
    "usage": (2, "the command line is not understood"),
    "config-missing": (3, "no credentials were found, or a key is missing"),
    "config-invalid": (3, "a setting or the credentials file can't be used"),
    "auth-refused": (4, "the token endpoint refused the credentials"),
    "platform-unreachable": (5, "no usable answer came from the platform"),
    "tls-untrusted": (5, "the server's certificate is not trusted"),
    "agent-missing": (6, "there is no agent script at that path"),
    "agent-load": (6, "the agent script raised an error while it was loaded"),
    "no-agent": (6, "the script defines no agent, one without an id, or one id twice"),
    "agent-signature": (6, "a parameter of an agent can't be filled from a task"),
    "agent-start": (6, "a start hook of the agent script failed, or was late"),
    "db-missing": (EXIT_FAILED, "the database file does not exist"),
    "db-invalid": (EXIT_FAILED, "the file is not a database that this version can read"),
    "not-found": (EXIT_FAILED, "nothing is known under that id"),
    "exists": (EXIT_FAILED, "a file is in the way and was left alone"),
    "io": (EXIT_FAILED, "a file could not be read or written"),
    "task-failed": (EXIT_FAILED, "the task ended without completing"),
    "undelivered": (EXIT_UNDELIVERED, "results are still waiting in the journal"),
    "internal": (EXIT_FAILED, "a bug in this program"),
}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The entry of ``known`` that was probably meant; case and _ don't count."""
    from difflib import get_close_matches

    folded = {name.lower().replace("_", ""): name for name in known}
    return next((folded[near] for near in get_close_matches(word.lower().replace("_", ""), folded, 1)), None)


def is_hidden(path: Path) -> bool:
    """Whether we can't know if there is such a file: its folder may not be searched, as reading the file will say."""
    try:
        os.stat(path)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def nearest_file(path: Path, suffix: str) -> list[str]:
    """A hint at the file that was probably meant, as a list of at most one."""
    try:
        near = nearest(path.name, [name for name in os.listdir(path.parent) if name.endswith(suffix)])
    except OSError:  # glob() passes over some of them
        near = None
    return [f"did you mean {path.parent / near}?"] if near else []


def json_advice(problem: str) -> list[str]:
    """The remedy for a text that is not JSON, by the error of the parser or of the decoder."""
    advice = {
        "escape": 'in JSON a backslash is written twice, "C:\\\\bills", or as "C:/bills"',
        "utf": "save the file as UTF-8",
        "trailing comma": "the last item has no comma behind it",
        "property name": "names and texts stand in double quotes",
        "control character": "a text ends on its own line: write a line break in it as \\n",
        "NaN": "JSON has no NaN or Infinity: write null",
        "Infinity": "JSON has no NaN or Infinity: write null",
    }
    return [advice[word] for word in advice if word in problem][:1]


class UserAgentError(Exception):
    """Root of everything that this package raises but NonRetryableException, which is a user's. ``code`` is a key of
    :data:`CODES`, which says what it means; ``hints`` are one-line remedies."""

    code = "internal"

    def __init__(self, message: str = "", *, code: str | None = None, hints: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.hints = tuple(hints)

    @property
    def exit_code(self) -> int:
        ended = self.__cause__  # by sys.exit() at the top of a script: a number there is meant
        own = ended.code if isinstance(ended, SystemExit) and type(ended.code) is int else 0
        return own or CODES[self.code][0]


class UsageError(UserAgentError):
    code = "usage"


class ConfigError(UserAgentError):  # nothing was sent
    code = "config-invalid"


class AgentError(UserAgentError):  # nothing was polled
    code = "agent-load"


class StorageError(UserAgentError):  # of the history or the journal
    code = "db-invalid"


class NotFoundError(UserAgentError):
    code = "not-found"


class PlatformError(UserAgentError):
    code = "platform-unreachable"


class AuthRefusedError(PlatformError):
    code = "auth-refused"


class OutputError(UserAgentError):
    """A returned value can't be sent as JSON; the message names the place (``$.items[3].price``)."""

    code = "task-failed"


class NonRetryableException(Exception):
    """Raised by a user's function: the task fails for good and is not retried. It has no attribute of ours, which would
    be the default of a field of that name in a subclass that is a dataclass."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
