"""Curves of fixed points by pseudo-arclength continuation, on plain arrays.

To read first: `steps`, one step along many curves at once, then `arcs`, whole curves.
"""
