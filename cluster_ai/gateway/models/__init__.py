"""What changes the models of a cluster: on which workers, from which files, and how it is told to the client."""
