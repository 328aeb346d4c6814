"""The operator's seat: the command line, the lab and live tracing."""
