"""What happens when a worker fails: who is trusted, when a stream counts as lost, and how it goes on elsewhere.

All of it is pure but watch.py, which looks at the clock; the relay does what is decided here.
"""
