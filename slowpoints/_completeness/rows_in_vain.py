"""How long a search has found nothing new, and what this says about its coverage."""

import dataclasses

_ERROR = 0.05
"""How probable it is at most that the coverage of a search is ever less than what is said."""


@dataclasses.dataclass(frozen=True)
class Vain:
    """The rows that have found nothing new lately, and what they say about the coverage.

    The rows since a round that found something are a run. During a run nothing that is known
    changes, nor the way in which starts are drawn. If the coverage is less than `c`, the run comes
    to `log(error) / log(c)` rows only with the probability `error`, so that one run may be looked
    at as often as one likes (Clopper & Pearson 1934 for one look). But each run is a new chance to
    be wrong. So the k-th one is granted the part `1 / (k (k + 1))` of the error: these add up to 1
    over however many runs, and by Boole's inequality the search as a whole is wrong with no more
    than the probability `_ERROR` (Lan & DeMets 1983, "Discrete sequential boundaries for clinical
    trials", call this spending the error).

    Attributes:
        n_rows: the length of the run so far.
        run: its number, from 1.
    """

    n_rows: int = 0
    run: int = 1

    def after(self, n_rows: int, found: bool) -> "Vain":
        """Return what is known after a round of so many rows."""
        return Vain(0, self.run + 1) if found else Vain(self.n_rows + n_rows, self.run)

    def coverage(self) -> float:
        """Return a lower bound of the share of starts that would find nothing new."""
        error = _ERROR / (self.run * (self.run + 1))
        return error ** (1 / self.n_rows) if self.n_rows else 0.0
