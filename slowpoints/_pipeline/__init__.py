"""From the rows of a search to the points that are returned, and an account of all rows.

To read first: `find_fixed_points`, which calls all the stages in order.
"""
