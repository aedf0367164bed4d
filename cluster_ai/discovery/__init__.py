"""From a machine somewhere on the network to a worker: find it, check it, add it to cluster.yaml. docs/discovery.md."""
