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
    scheme, _, rest = url.partition(":")
    scheme = scheme.lower()
    if scheme == "file":
        path = unquote(urlsplit(url).path)
    elif scheme.partition("+")[0] == "sqlite":
        path = rest.partition("?")[0].removeprefix("//").removeprefix("/")
    else:
        return
    if path and path != ":memory:" and not Path(path).exists():
        raise ConfigurationError(scheme, f"there is nothing at {path}")
