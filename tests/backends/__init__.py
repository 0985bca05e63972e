"""One module per backend: how to get a real server, and an empty store on it for each test.

A module has a session-wide fixture `<name>_server`, where the backend needs one, a fixture
`<name>_backend`, which gives a `Backend`, and two functions:

    def corrupt(backend, persistence, kind, id, position, raw: bytes) -> bool
    def stored(backend, persistence, kind, id, position) -> object

The first one overwrites what is stored, behind the package's back, and returns False if the backend
cannot hold such bytes; the second one returns it. `kind` is "containers", "images" or "sessions";
with a position it is the message at that position of the session `id`. `tests/conftest.py` lists
the names.
"""
