"""Proofs in ball arithmetic: what a network does to a whole box of states, rounding included."""
