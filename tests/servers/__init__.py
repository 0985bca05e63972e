"""Real servers for the tests: on free ports, in temporary folders, as an unprivileged user."""
