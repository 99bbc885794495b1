"""What a network does in the end: `attractors`, and the `lyapunov` exponents of trajectories.

To read first: `attractors`, whose rounds call what the other files hold.
"""
