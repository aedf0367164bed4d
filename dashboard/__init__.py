"""The cluster's web pages: they know Prometheus and the gateway's public API, and nothing else of the cluster."""
