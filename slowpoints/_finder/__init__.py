"""`FixedPointFinder`, the class that users of BrainPy know, over `find_fixed_points`.

To read first: `fixed_point_finder`. `given` checks what a search is given, and `progress` and
`printed` are what it shows.
"""
