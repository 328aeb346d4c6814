"""The fleet's truth and the authoritative DNS server that answers from it."""
