"""A module of PyTorch as a JAX program, made of the graph of core ATen operations of its step.

To read first: `snapshot`, which copies a module, finds how it is called and has its `step`
exported. `read_graph` makes a `program` of the graph, and `aten` has a rule for each operation.
"""
