"""The methods that take a state to a fixed point or a slow point, and when they end.

To read first: `base`, rows that share lanes, and `termination`, the kinds of reason why a row ends
(each solver has its own rules in `_end`). The default is `krylov_trust_region`, which hands rows
from one method to the next.
"""
