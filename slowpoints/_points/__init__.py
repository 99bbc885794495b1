"""`FixedPoints`, and what is read from points alone."""
