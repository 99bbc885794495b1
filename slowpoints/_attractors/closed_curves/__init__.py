"""Trajectories on a closed curve.

`rotation` tells from the states of one, on plain arrays, whether it is on a closed curve and how
often it turns; `returning` follows a trajectory of a flow until it is back where it was.
"""
