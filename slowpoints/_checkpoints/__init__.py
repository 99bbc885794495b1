"""`save_checkpoint` and `load_checkpoint`: the weights of BrainPy models in files."""
