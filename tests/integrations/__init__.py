"""The integrations with frameworks for agents, tested with the frameworks' real packages.

A framework is a folder here, named like its module in ``agentx_persistence/integrations/``;
``langchain`` has no module: only what it has written is imported.

* ``requirements.txt``: the framework's packages, pinned. An environment is made with them, with
  pytest, mypy and the client libraries (``requirements.txt`` beside this file; `environments`).
* ``sources.txt``, optional: packages whose source distribution is unpacked, for their own tests.
* ``test_*.py``: an inner suite, which pytest runs in that environment, once for each backend. Its
  fixtures are in `inner`: ``backend`` is an empty store, which other processes can open,
  ``persistence`` is that store, open, ``sources`` the folder of the unpacked source distributions,
  ``tries`` how often to repeat a race. Async tests need no mark.

`test_integrations` starts the servers and the inner suites.

* The short form is in the ordinary suite: a few pairs of a framework and a backend, ten tries of
  each race, two files of LangGraph's tests of graphs. mypy reads the framework's own packages.
* The long form is ``scripts/test-integrations [FRAMEWORK ...]``: all pairs, 200 tries, nine files
  of those tests. mypy reads all that the framework imports.

uv makes the environments, from the index and with the certificates that pip is configured to use.
While you work on one:
``./scripts/test tests/integrations -k "sqlite and openai_agents"``. What the variable
``AGENTX_TEST_INNER`` holds goes to the inner pytest, such as ``-x -k pop``.
"""
