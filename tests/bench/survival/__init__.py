"""Which connections survive: load balancers by their own rules, over the same changes and flows.

`traffic` makes the flows, `changes` what happens to servers and balancers, `tables` the rings, and
`systems`, `remembering` and `owner_chains` decide as each balancer would; `run` drives all of them.
"""
