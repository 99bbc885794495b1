"""One file per framework: how its models become a `Transition`. Imported only when needed.

The other files define how a model is called (`calling`), how its state is laid out in a vector
(`layout`), how a function that closes over traced values becomes a pytree (`closure`), and how an
object that holds its numbers in mutable places becomes a pure function (`object_graph`).
"""
