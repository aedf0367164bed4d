"""Open WebUI as a part of the cluster: it runs in an environment of its own, with its own packages."""
