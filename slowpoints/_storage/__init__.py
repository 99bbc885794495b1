"""What is stored and read again: `Search`, which can go on later, and models' checkpoints.

To read first: `search`, and `checkpoints` for `save_checkpoint` and `load_checkpoint`.
"""
