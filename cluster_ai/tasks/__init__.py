"""Tasks on Dask that survive everybody's death: journalled before they are acknowledged, run once where that matters.

A process of its own on the head host (`python3 -m cluster_ai.tasks`): it speaks Dask's protocol, which unpickles, and
works hard at times; the gateway, which streams, passes its clients' words on to it over a Unix socket.
"""
