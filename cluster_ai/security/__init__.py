"""The cluster's own CA, and the vault that keeps its key."""
