"""The command `cluster-ai`."""
