"""The parts of the SQLite, MySQL and PostgreSQL backends, which share their tables."""
