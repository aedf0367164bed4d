"""Real parts of a cluster for integration tests: engines, TLS fronts, Dask, the gateway, each a process on loopback."""
