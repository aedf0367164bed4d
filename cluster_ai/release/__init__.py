"""What a host's release is, built on the controller: parts, rendered files, manifest, store."""
