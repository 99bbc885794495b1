"""The figures, a file for each public `plot_` function. What they share is in `_drawing`."""
