"""The store of the fleet: one schema, over SQLite and PostgreSQL."""
