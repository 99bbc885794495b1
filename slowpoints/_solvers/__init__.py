"""How a state is taken to a fixed point or a slow point, and how many are at a time."""
