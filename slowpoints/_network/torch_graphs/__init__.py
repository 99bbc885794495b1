"""A module of PyTorch as a JAX program: `export` reads its graph of core ATen operations.

To read first: `export`. `aten` has a rule for each operation, and `program` is what results.
"""
