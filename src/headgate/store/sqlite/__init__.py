"""The SQLite dialect, through apsw. Imported by `headgate.store.open` alone."""
