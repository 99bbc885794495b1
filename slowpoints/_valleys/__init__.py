"""Where `q` is low along a way and not at a point only: curves of points, valleys, and tails.

To read first: `valleys`, which follows rows to a valley's end, and `reduction`, which tells how `q`
changes on the way. `way_back` tells curves of points from tails, and `tails` does for large
networks.
"""
