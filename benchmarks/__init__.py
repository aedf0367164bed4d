"""What is measured on real hosts; docs/benchmarks.md has what came of it."""
