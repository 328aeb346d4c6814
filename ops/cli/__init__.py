"""`waypost ...`: the command tree, the admin-socket client, tables and --json."""
