"""Decompositions, spectra and signs of determinants, one matrix after another.

To read first: `loops`, which says why, and `lapack`. `stability` says when a point is stable.
"""
