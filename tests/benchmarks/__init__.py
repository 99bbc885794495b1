"""How fast and how complete searches are, beside other tools: `python -m tests.benchmarks`."""
