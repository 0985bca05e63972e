"""URLs on a command line: secrets are hidden, and a store that is only read is not created."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from agentx_persistence.errors import ConfigurationError
from agentx_persistence.storage import SESSIONS


def secret_free(text: str, *urls: str) -> str:
    """Return the text without the passwords that these URLs hold."""
    for url in urls:
        rest = url.partition("://")[2]
        # The text up to the last @, in case the special characters in the password are not encoded,
        # and its pieces, which an error may quote.
        password = "" if rest.startswith("/") else rest.rpartition("@")[0].partition(":")[2]
        secrets = [password, *re.split(r"[/?#@:\[\]]", password)]
        try:
            parts = urlsplit(url)
            secrets.append(parts.password or "")
        except ValueError:
            parts = urlsplit("")
        secrets += [
            value
            for name, _, value in (pair.partition("=") for pair in parts.query.split("&"))
            if "pass" in name.lower()
        ]
        # Replacing a shorter one would damage other words.
        for secret in (form for each in secrets for form in (each, unquote(each))):
            if len(secret) > 2:
                text = text.replace(secret, "***")
    return text


def require_existing(url: str) -> None:
    """Refuse the URL of a file that does not exist, or of a folder without a store, where a driver
    would make one.

    :raises ConfigurationError: naming it
    """
    if not exists(url):
        path = path_of(url)
        what = "no store in the folder" if Path(path).exists() else "nothing at"
        raise ConfigurationError(url.partition(":")[0], f"there is {what} {path}")


def exists(url: str) -> bool:
    """Tell whether there is a store at the file or folder of the URL; True for that of a server."""
    path = path_of(url)
    if path and url.lower().startswith("file:") and Path(path).is_dir():
        return (Path(path) / SESSIONS.name).is_dir()
    return not path or Path(path).exists()


def unchanging(url: str) -> dict[str, bool]:
    """Return the options with which opening a SQLite file does not upgrade its tables."""
    return {"migrate": False} if url.lower().startswith("sqlite") and path_of(url) else {}


def path_of(url: str) -> str:
    """Return the path of the file or folder; "" if there is none."""
    scheme, _, rest = url.partition(":")
    if scheme.lower() == "file":
        try:
            return unquote(urlsplit(url).path)
        except ValueError:
            return ""  # the driver refuses it
    if scheme.lower().partition("+")[0] == "sqlite":
        path = rest.partition("?")[0].removeprefix("//").removeprefix("/")
        return "" if path == ":memory:" else path
    return ""
