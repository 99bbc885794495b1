"""States that gated units never leave, as they follow from a network's program.

To read first: `trapping_box`, which says what is proven and how. `interpreter` reads a program with
`sums` for numbers, and `gated_interval` tells from the sum of one unit where that unit stays.
"""
