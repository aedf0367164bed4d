"""What the native API keeps over restarts, in SQLite: sessions, templates, an administrator's changes at run time."""
