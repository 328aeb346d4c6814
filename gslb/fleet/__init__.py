"""The fleet's nouns: what a site, a VIP, a real, a pool and a report are."""
