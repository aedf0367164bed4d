"""Dask as the cluster's membership: what workers and the scheduler run of ours, and the client that reads it."""
