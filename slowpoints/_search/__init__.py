"""From many states to a result for each: `sample` chooses states, `optimize_batch` searches.

To read first: `optimize_batch`, and `verdict`, which decides each row's status.
"""
