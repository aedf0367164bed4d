"""The faces of the gateway: what each API's clients expect, over the same core."""
