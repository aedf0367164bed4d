"""The audit log: JSON lines, each with the hash of the one before. The gateway keeps one, the controller another."""
