"""The URL of a test's store, as users write it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL

from tests.backends.backend import Backend


def url_of(backend: Backend, scheme: str) -> tuple[str, dict[str, Any]]:
    """Return the URL, with this scheme, of a store on a server, and the options beside it."""
    options = {key: value for key, value in backend.options.items() if key != "cluster"}
    if backend.arguments:
        (place,) = backend.arguments
    else:
        parts = {key: options.pop(key) for key in ("host", "port", "database")}
        login = {"username": options.pop("user"), "password": options.pop("password", None)}
        place = URL.create("any", **parts, **login).render_as_string(hide_password=False)
    if scheme == "mongodb":
        before, _, query = place.partition("?")
        place = f"{before.rstrip('/')}/{options.pop('database_name')}?{query}"
    return f"{scheme}:{place.partition(':')[2]}", options
