"""Small programs with other people's clients, run by a Python that has those, against a gateway's address.

Each does what its users do, and prints what came of it as one JSON object.
"""
