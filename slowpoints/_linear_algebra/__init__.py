"""Decompositions, spectra and signs of determinants, one matrix after another.

To read first: `loops`, which says why, and `lapack`. Nothing here knows a `FixedPoints`.
"""
