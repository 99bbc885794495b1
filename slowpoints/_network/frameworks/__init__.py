"""One file per framework: how its models become a `Transition`. Imported only when needed.

The other files define how a model is called (`calling`), how its state is laid out in a vector
(`layout`), and how an object that holds its numbers in mutable places becomes a pure function
(`held_objects`). No file has the name of a framework that may be missing: type checkers would take
it for that framework.
"""
