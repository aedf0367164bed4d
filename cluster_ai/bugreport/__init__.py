"""What a bug report needs, in one file that has no secrets: `cluster-ai doctor --bundle`."""
