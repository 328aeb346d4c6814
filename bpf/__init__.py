"""The data plane: C programs, and the one Python room that may touch libbpf."""
