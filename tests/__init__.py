"""The suite: kernel without a database, the rest on SQLite and PostgreSQL, real parts beside."""
