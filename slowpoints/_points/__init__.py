"""`FixedPoints`, its files and summary, and what fills or thins it out row by row.

To read first: `fixed_points`. `unique`, `jacobians` and `decompose` are stages of the pipeline,
`covering`, `neighbours` and `unique_by_certificate` what they are made of. `rows` and `pytree` are
what the class is made of.
"""
