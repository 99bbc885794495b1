"""Curves of points, on plain arrays: by pseudo-arclength continuation, and through given points.

To read first: `steps`, one step along many curves at once, then `arcs`, whole curves.
`through_points` stands by itself.
"""
