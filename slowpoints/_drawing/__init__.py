"""What figures are made of: `PlotConfig`, planes, marks, colours, layouts.

To read first: `drawing`. The figures that users call are in `_plots` and
`_phase_portraits`.
"""
