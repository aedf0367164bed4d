"""How policies compare: conversations, a simulator of many workers, and the same on a few real engines."""
