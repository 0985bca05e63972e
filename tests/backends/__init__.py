"""One module per backend: how to get a real server, and an empty store on it for each test.

A module has a session-wide fixture `<name>_server`, where the backend needs one, and a fixture
`<name>_backend`, which gives a `Backend`. `tests/conftest.py` lists the names.
"""
