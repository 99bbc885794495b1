"""Figures of where states go: flow fields, basins, connections, attractors and closed orbits.

A file for each public function; what they share is in `_drawing`.
"""
