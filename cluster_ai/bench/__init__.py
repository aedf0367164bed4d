"""How fast models answer on each worker: measured, kept, and compared with what was measured before."""
