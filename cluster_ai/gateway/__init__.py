"""The gateway: authenticate, admit, choose a worker, relay the stream, meter; each is one module."""
