"""The relational family: SQLite, MySQL and PostgreSQL on one set of mappings."""
