"""Long connections through every change: what bench_long_connections.py is made of.

`modes` names the ways of keeping a connection that are compared, `schedule` draws the events of a
seed, `verdict` says which broken connection had a right to break (all three pure); `files`, `world`
and `router` are the hosts, `clients` holds the connections, `conductor` does the events.
"""
