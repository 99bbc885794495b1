"""Proofs about branches: that each is one, and that there are no others.

To read first: `tubes`, around known branches; then `other_branches`.
"""
