"""Where trajectories go: `connections`, `basin_boundary`, `smallest_kick`, `smallest_pulse`.

To read first: `outcome`, which says where trajectories end; the others are built on it.
"""
