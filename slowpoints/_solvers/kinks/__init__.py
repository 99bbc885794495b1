"""Minima of `q` at kinks, as of ReLU units.

`sides` reads from a network's program where it has kinks, `corner` looks at a place where several
of them meet, and `kink_newton`, to be read first, is the solver.
"""
