"""What the native API keeps over restarts, in SQLite: sessions, templates, what an administrator changed at run time."""
