"""URLs on a command line: secrets are not repeated, and what is only read is not made."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from agentx_persistence.errors import ConfigurationError


def secret_free(text: str, *urls: str) -> str:
    """Return the text without the passwords that these URLs hold."""
    for url in urls:
        try:
            parts = urlsplit(url)
            secrets = [parts.password or ""]
        except ValueError:
            parts, secrets = urlsplit(""), [url.partition("@")[0].rpartition(":")[2]]
        secrets += [
            value
            for name, _, value in (pair.partition("=") for pair in parts.query.split("&"))
            if "pass" in name.lower()
        ]
        # A shorter one would tear other words, and drivers show none.
        for secret in (secret for secret in secrets if len(secret) > 2):
            text = text.replace(secret, "***").replace(unquote(secret), "***")
    return text


def require_existing(url: str) -> None:
    """Refuse the URL of a file or folder that does not exist, where a driver would make it.

    :raises ConfigurationError: naming it
    """
    if not exists(url):
        raise ConfigurationError(url.partition(":")[0], f"there is nothing at {_path(url)}")


def exists(url: str) -> bool:
    """Tell whether the file or folder of the URL exists; True for the URL of a server."""
    path = _path(url)
    return path in ("", ":memory:") or Path(path).exists()


def _path(url: str) -> str:
    scheme, _, rest = url.partition(":")
    if scheme.lower() == "file":
        return unquote(urlsplit(url).path)
    if scheme.lower().partition("+")[0] == "sqlite":
        return rest.partition("?")[0].removeprefix("//").removeprefix("/")
    return ""
