"""What the dynamics near points say about a mechanism.

A file for each public function: `linear_modes`, `slow_manifold`, `line_attractor`, `passage_time`,
`low_rank`, `rank_needed`.
"""
