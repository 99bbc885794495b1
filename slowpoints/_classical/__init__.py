"""Figures of three classical results, each from a network to the page in one call.

To read first: `searched`, what they share. A file for each public function.
"""
