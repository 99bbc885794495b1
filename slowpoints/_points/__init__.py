"""`FixedPoints`, its files and summary, and what fills or thins it out row by row.

To read first: `fixed_points`. `unique`, `jacobians` and `decompose` are stages of the pipeline,
`covering`, `neighbours` and `same_points` what they are made of.
"""
