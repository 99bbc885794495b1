"""`continuation`: points followed in a parameter, their branches, events, and proofs of both.

To read first: `continuation`; `branches` is its result, and `events` locates folds and the like.
"""
