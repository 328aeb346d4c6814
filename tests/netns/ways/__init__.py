"""Every way of forwarding from end to end: a client, a router, an edge and reals with true daemons.

One site for all tests of this folder, because its daemons take seconds to start: a test puts back
what it changes.
"""
