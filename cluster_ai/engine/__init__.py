"""The engine's side: Ollama as a client sees it, and the embedded engine for one machine."""
