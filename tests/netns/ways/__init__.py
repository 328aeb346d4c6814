"""Every way of forwarding from end to end: a client, a router, an edge and reals with true agents.

One site for all tests of this folder, because its making takes seconds: a test puts back
what it changes.
"""
