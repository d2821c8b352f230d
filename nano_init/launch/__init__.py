"""Start programs: from a plan to the process that runs under it."""
