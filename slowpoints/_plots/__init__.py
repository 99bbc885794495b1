"""Figures of points, their spectra, branches and lines, a file for each public function.

What they share is in `_drawing`, and figures of where states go are in `_phase_portraits`.
"""
