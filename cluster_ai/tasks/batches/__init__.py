"""OpenAI's files and batches: a file of requests becomes tasks, a line each, and what came out of them a file again."""
