"""A network as one function from a state and an input to the next state.

To read first: `as_transition`, which takes a model of any framework (`frameworks/` has a file for
each), and `trace`, which makes one program of it. `network` evaluates that program in any
precision; `q_fn`, `iterate`, `along` and `continuous_time` are what users make of a network.
"""
