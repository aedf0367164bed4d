"""The native API, /api/v1: what neither Ollama's nor OpenAI's can say."""
