"""Arithmetic whose results are certain, and what it proves about a state. All on plain arrays.

To read first: `certificates`. Below it are Krawczyk's test (`krawczyk`), the walk through a
network's program (`interpreter`) with a rule for each of JAX's operations (`rules`), and balls.
"""
