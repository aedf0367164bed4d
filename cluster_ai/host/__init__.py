"""The agent that a release carries: makes its models be there, says whether the host is healthy, and what drifted."""
