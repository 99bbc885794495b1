"""`closed_orbits`: closed orbits that attract or not, as Fourier series.

To read first: `equations`, which says what an orbit obeys and how that is solved.
"""
