"""A whole world on one machine: namespaces, a router with ECMP, edges, reals, a DNS node."""
