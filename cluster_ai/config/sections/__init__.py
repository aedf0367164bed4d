"""The sections of cluster.yaml, as cerberus rules; schema.py puts them together."""
