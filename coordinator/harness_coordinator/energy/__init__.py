"""Energy: from samples to joules per query. Pure functions over numpy arrays, no I/O, no server."""
