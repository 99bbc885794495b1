"""One file per framework: how its models become a `Transition`. Imported only when needed."""
