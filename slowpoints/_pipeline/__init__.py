"""From the rows of a search to the points that are returned, and an account of all rows.

To read first: `find_fixed_points`, which calls all the stages in order; `settings` checks its
arguments. The `account` is made of `rows_of_search`, what became of each row, and of what is said
of `parts` of them, of points that are `told_apart` or not, and of `missing_points`.
"""
