"""Cycles of a network: `cycles`, from points of an iterate, and `find_cycles`, a search."""
