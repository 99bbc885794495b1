"""What is proven about points and about boxes: `certify` and `find_all`.

To read first: `certify`; then `find_all`, which chooses among `branch_and_prune`, `by_contraction`,
`few_dimensions` and `piecewise_linear`. The arithmetic is in `_intervals`.
"""
