"""One site's edge and its reals: checks, the plan, the data plane's maps, and the daemons."""
