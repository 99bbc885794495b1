"""A family of closed orbits, followed through a parameter by pseudo-arclength continuation.

The unknowns are the curve at its phases, its rotation number or frequency, and the parameter as a
part of the span. The tangent predicts, and Newton's method corrects in the plane across it (Keller
1977), in which the phase is held to that of the prediction. The number of harmonics follows the
curve: more where the last of them are not small, fewer where they are not needed.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from slowpoints._closed_orbits.equations import (
    FEWEST_PHASES,
    at_phases,
    curve_radius,
    filtered,
    harmonics,
    phase_counts,
    solve_bordered,
)
from slowpoints._closed_orbits.evaluated import NetworkOfOrbits
from slowpoints._closed_orbits.floquet import Growth, growth_of

_FIRST_STEP, _SHORTEST_STEP = 0.02, 1e-6
"""In sizes of the curve, of its number, and of the span."""

_LEAST_SIZE = 0.1
"""A curve's size, in units of states, counts for no less than this, so that one which shrinks to a
fixed point gets there."""

_LARGEST_PART = 0.05
"""A step passes no more than this part of the span."""

_AT_ONE_PARAMETER = 1e-10
"""A step that lengthens the period by a percent or more and passes less than this part of the span
comes no closer to where the period has no bound."""

_LONGER, _WIDER = 0.01, 0.02
"""The period is longer by more than the first of these parts, and the orbit wider by less than the
second part of that."""

_NEWTON_STEPS, _FEW = 8, 3
"""A step is halved if Newton's method needs more than the first, and may be longer if it needs no
more than the second."""

_NO_BETTER = 0.9
"""Newton's method has failed if a step is no shorter than this part of the one before."""

_LEAST_PRODUCT = 0.95
"""A step is halved if the tangent turns so far that its product with the one before is smaller."""

_CROSSES = 2e-5
"""A step that changes the orientation is a jump to another family close by, and is halved, unless
it is shorter than this: then another family crosses here."""

_NEEDED, _SILENT = 1e-8, 1e-13
"""There are more harmonics if the last quarter of them are larger than the first of these, as a
part of the curve's size, and half as many if the last three quarters are below the second."""

_MANY_PHASES, _MOST_UNKNOWNS = 127, 2048
"""A curve is taken at more phases than the first of these only if it has no more than so many
numbers: a step takes about a second then."""

_ROUNDED = 30
"""Harmonics of so many units in the last place are rounding."""

_SMALLEST, _MUCH_SMALLER = 5e-3, 0.25
"""A curve of this size, in units of states, has shrunk to a fixed point, unless the first one was
not much larger: then one of this part of its size."""

_SAME = 1e-5
"""Two orbits at one parameter are the same if they differ by less than this part of their size."""

N_EXPONENTS = 16
"""So many exponents of circles are given: each takes as long as all others together."""

_CIRCLE_STEPS = 1000
"""Exponents of circles are averaged over so many steps, at least."""

SPAN, CLOSED = "span", "closed"
HOMOCLINIC = "homoclinic"
FIXED_POINT, PERIOD_DOUBLING = "fixed_point", "period_doubling"
STUCK, UNRESOLVED, MAX_STEPS = "stuck", "unresolved", "max_steps"


@dataclasses.dataclass(frozen=True)
class OrbitPoint:
    """An orbit of the family.

    Attributes:
        x: `[n_phases, n_states]` its states at equal distances in phase, in their units.
        number: the rotation number, or the frequency.
        sigma: the parameter, as a part of the span.
        tangent: `[n_phases * n_states + 2]` the direction of the family, of length 1 in `weights`.
        orientation: the sign of the determinant of the equations with the tangent as the last row.
            It is the same all along a family, up to where another one crosses it; 0 if unknown.
    """

    x: Float[np.ndarray, "n d"]
    number: float
    sigma: float
    tangent: Float[np.ndarray, " k"]
    orientation: float = 0.0

    @property
    def flat(self) -> Float[np.ndarray, " k"]:
        """`[n_phases * n_states + 2]` all unknowns."""
        return np.append(self.x.ravel(), [self.number, self.sigma])

    def moved(self, y: Float[np.ndarray, " k"]) -> "OrbitPoint":
        """Return another orbit, with the same tangent."""
        x = y[:-2].reshape(self.x.shape)
        return dataclasses.replace(self, x=x, number=float(y[-2]), sigma=float(y[-1]))

    def weights(self) -> Float[np.ndarray, " k"]:
        """Return the weights of products: changes count as parts of the sizes here."""
        size = max(curve_radius(self.x), _LEAST_SIZE)
        weights = np.full(self.x.size + 2, 1 / (len(self.x) * size**2))
        weights[-2:] = 1 / self.number**2, 1.0
        return weights


class FailedError(Exception):
    """A step did not lead to an orbit of the family."""


@dataclasses.dataclass(frozen=True)
class Path:
    """The equations of a family.

    Attributes:
        network: the network, of one input.
        span: the parameter at both ends.
    """

    network: NetworkOfOrbits
    span: tuple[float, float]

    def input_at(self, sigma: float) -> Float[np.ndarray, " 1"]:
        """Return the input at a part of the span."""
        low, high = self.span
        return np.array([low + sigma * (high - low)])

    def growth(self, point: OrbitPoint) -> Growth:
        """Return how deviations from an orbit grow."""
        equations = self.network.at(self.input_at(point.sigma))
        return growth_of(equations, point.x, point.number, N_EXPONENTS, _CIRCLE_STEPS)

    def solved(self, guess: OrbitPoint, row: Float[np.ndarray, " k"]) -> tuple[OrbitPoint, int]:
        """Return the orbit in the plane across `row` through a guess, and how many steps it took.

        Args:
            guess: with the direction in which the new tangent is to point.
            row: by which changes from the guess are multiplied; the product stays zero.

        Raises:
            FailedError: if Newton's method does not converge, or the series does not end.
        """
        d = guess.x.shape[1]
        needed = max(_NEEDED, _ROUNDED * float(np.finfo(self.network.dtype).eps))
        for n in phase_counts(d, len(guess.x)):
            if n > max(_MANY_PHASES, len(guess.x), _MOST_UNKNOWNS / d):
                break
            guess, row = _at_phases(guess, row, n)
            found, n_steps = self._newton(guess, row)
            if _tail(found.x, 0.75) <= needed * curve_radius(found.x):
                return found, n_steps
            guess = found
        raise FailedError(UNRESOLVED)

    def _newton(self, guess: OrbitPoint, row: Float[np.ndarray, " k"]) -> tuple[OrbitPoint, int]:
        n, d = guess.x.shape
        weights = guess.weights()
        small = np.sqrt(np.finfo(self.network.dtype).eps)  # the next step would be its square
        phase = np.append(filtered(2j * np.pi * harmonics(n), guess.x).ravel(), [0, 0])
        start, y, before = guess.flat, guess.flat, np.inf
        for n_steps in range(1, _NEWTON_STEPS + 1):
            x, number, sigma = y[:-2].reshape(n, d), y[-2], y[-1]
            residual = self.network.at(self.input_at(sigma)).residual(x, number)
            target = -np.append(residual.ravel(), [phase @ (y - start), row @ (y - start)])
            ahead = np.append(np.zeros(n * d + 1), 1.0)
            found, sign = self._solved(y, n, np.stack([phase, row]), target, ahead)
            change, tangent = found
            moved = np.sqrt(weights @ change**2)
            if not np.isfinite(moved) or moved > _NO_BETTER * before:
                break
            y, before = y + change, moved
            if moved <= small:
                turned = float(np.sign(weights @ (tangent * guess.tangent))) or 1.0
                tangent = turned * tangent / np.sqrt(weights @ tangent**2)
                point = dataclasses.replace(
                    guess.moved(y), tangent=tangent, orientation=turned * sign
                )
                return point, n_steps
        raise FailedError(STUCK)

    def _solved(
        self,
        y: Float[np.ndarray, " k"],
        n: int,
        rows: Float[np.ndarray, "2 k"],
        *targets: Float[np.ndarray, " k"],
    ) -> tuple[list[Float[np.ndarray, " k"]], float]:
        """Return the solutions of the linear equations, and the sign of their determinant."""
        x, number, sigma = y[:-2].reshape(n, -1), y[-2], y[-1]
        u = self.input_at(sigma)
        equations = self.network.at(u)
        by_sigma = (self.span[1] - self.span[0]) * self.network.by_input(x, u)[:, :, 0]
        by_number = filtered(equations.factors_by_number(number, n), x)
        columns = np.stack([by_number.ravel(), -by_sigma.ravel()], axis=1)
        try:
            return solve_bordered(equations, number, equations.slopes(x), columns, rows, *targets)
        except np.linalg.LinAlgError:
            raise FailedError(STUCK) from None

    def stepped(self, here: OrbitPoint, step: float) -> tuple[OrbitPoint, int]:
        """Return the orbit a step further along the tangent."""
        x, n = here.x, len(here.x)
        if n > FEWEST_PHASES and _tail(x, 0.25) <= _SILENT * curve_radius(x):
            here = _at_phases(here, here.tangent, (n - 1) // 2)[0]
        guess = here.moved(here.flat + step * here.tangent)
        return self.solved(guess, here.weights() * here.tangent)

    def at(self, a: OrbitPoint, b: OrbitPoint, sigma: float) -> OrbitPoint:
        """Return the orbit at a parameter between those of two neighbours of the family."""
        guess = part_of_the_way(a, b, (sigma - a.sigma) / (b.sigma - a.sigma))
        return dataclasses.replace(self.solved(guess, held_parameter(guess))[0], sigma=sigma)

    def between(self, a: OrbitPoint, b: OrbitPoint, part: float) -> OrbitPoint:
        """Return the orbit at a part of the way from one of the family to the next."""
        guess = part_of_the_way(a, b, part)
        a = _alike(a, b)[0]
        return self.solved(guess, a.weights() * a.tangent)[0]

    def followed(
        self, start: OrbitPoint, longest: float, max_steps: int
    ) -> tuple[list[OrbitPoint], str]:
        """Follow the family from an orbit in the direction of its tangent.

        Returns:
            The orbits after the first one, and why they end.
        """
        points, step = [start], min(_FIRST_STEP, longest)
        smallest = min(_SMALLEST, _MUCH_SMALLER * curve_radius(start.x))
        while len(points) <= max_steps:
            here = points[-1]
            step = min(step, longest, _LARGEST_PART / max(abs(here.tangent[-1]), 1e-12))
            try:
                there, n_steps = self.stepped(here, step)
                end = min(max(there.sigma, 0.0), 1.0)
                at_end = there if there.sigma == end else self.at(here, there, end)
            except FailedError as failure:
                step /= 2
                if step < (_FIRST_STEP if str(failure) == UNRESOLVED else _SHORTEST_STEP):
                    return points[1:], str(failure)
                continue
            a, b = _alike(here, there)
            turns = a.weights() @ (a.tangent * b.tangent) < _LEAST_PRODUCT
            jumps = a.orientation * b.orientation < 0
            if (turns and step > _SHORTEST_STEP) or (jumps and step > _CROSSES):
                step /= 2
                continue
            if np.sum(_odd(a.x) * _odd(b.x)) < 0 or curve_radius(b.x) < smallest:
                shrunk = curve_radius(b.x) < _LEAST_SIZE
                return points[1:], FIXED_POINT if shrunk else PERIOD_DOUBLING
            if _is_homoclinic(a, b):
                return points[1:], HOMOCLINIC
            if there is not at_end:
                if here.sigma != end:
                    points.append(at_end)
                return points[1:], SPAN
            if len(points) > 2 and (again := self.between_them(here, there, start)):
                return [*points[1:], again], CLOSED
            points.append(there)
            step *= 1.5 if n_steps <= _FEW else 1.0
        return points[1:], MAX_STEPS

    def between_them(self, a: OrbitPoint, b: OrbitPoint, other: OrbitPoint) -> OrbitPoint | None:
        """Return an orbit again, if it is that between two neighbours of the family."""
        if not min(a.sigma, b.sigma) <= other.sigma <= max(a.sigma, b.sigma) or a.sigma == b.sigma:
            return None
        try:
            own = self.at(a, b, other.sigma)
        except FailedError:
            return None
        return own if are_same(own, other) else None


def _is_homoclinic(a: OrbitPoint, b: OrbitPoint) -> bool:
    """Return whether only the period still changes from one orbit to the next.

    Next to a saddle, an orbit that takes longer goes the same way. Where orbits grow at nearly one
    parameter, as canards do, it goes another one.
    """
    longer = a.number / b.number - 1
    wider = np.abs(np.ptp(b.x, axis=0) - np.ptp(a.x, axis=0)).max() / np.ptp(a.x, axis=0).max()
    at_one = abs(b.sigma - a.sigma) < _AT_ONE_PARAMETER
    return bool(at_one and longer > _LONGER and wider < _WIDER * longer)


def are_same(a: OrbitPoint, b: OrbitPoint) -> bool:
    """Return whether two orbits at one parameter are the same, at whatever phase each begins."""
    from scipy.optimize import minimize_scalar

    a, b = _alike(a, b)
    size = max(curve_radius(a.x), curve_radius(b.x))
    n = len(a.x)
    first, second = np.fft.fft(a.x, axis=0) / n, np.fft.fft(b.x, axis=0) / n
    turns = 2j * np.pi * harmonics(n)

    def distance(phase: float) -> float:
        return float(np.linalg.norm(np.exp(turns * phase)[:, None] * first - second))

    phases = np.arange(4 * n) / (4 * n)
    best = phases[np.argmin([distance(phase) for phase in phases])]
    around = (best - 1 / (4 * n), best + 1 / (4 * n))
    found = minimize_scalar(distance, bounds=around, method="bounded", options={"xatol": 1e-10})
    return bool(found.fun < _SAME * size and abs(a.number - b.number) < _SAME * abs(b.number))


def held_parameter(point: OrbitPoint) -> Float[np.ndarray, " k"]:
    """Return what changes of an orbit are multiplied by, if the parameter is not to change."""
    row = np.zeros(point.x.size + 2)
    row[-1] = 1.0
    return row


def part_of_the_way(a: OrbitPoint, b: OrbitPoint, part: float) -> OrbitPoint:
    """Return what is between two neighbours of a family, nearly an orbit of it."""
    a, b = _alike(a, b)
    return a.moved(a.flat + part * (b.flat - a.flat))


def _alike(a: OrbitPoint, b: OrbitPoint) -> tuple[OrbitPoint, OrbitPoint]:
    """Return two orbits at as many phases."""
    n = max(len(a.x), len(b.x))
    return _at_phases(a, a.tangent, n)[0], _at_phases(b, b.tangent, n)[0]


def _at_phases(
    point: OrbitPoint, row: Float[np.ndarray, " k"], n: int
) -> tuple[OrbitPoint, Float[np.ndarray, " m"]]:
    """Return an orbit, and what changes of it are multiplied by, at another number of phases."""
    old, d = point.x.shape
    if n == old:
        return point, row

    def padded(v: Float[np.ndarray, " k"]) -> Float[np.ndarray, " m"]:
        return np.append(at_phases(v[:-2].reshape(old, d), n).ravel(), v[-2:])

    scaled = np.append(row[:-2] * (old / n), row[-2:])
    finer = dataclasses.replace(point, x=at_phases(point.x, n), tangent=padded(point.tangent))
    return finer, padded(scaled)


def _tail(x: Float[np.ndarray, "n d"], part: float) -> float:
    """Return the largest of the harmonics after a part of them."""
    n = len(x)
    size = np.linalg.norm(np.fft.fft(x, axis=0) / n, axis=1)
    return float(size[np.abs(harmonics(n)) > part * ((n - 1) // 2)].max())


def _odd(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Return the odd harmonics of a curve, which vanish if it goes round another one twice.

    A family that ends at a fixed point or at a period doubling would go on as the same orbits in
    reverse order, half a turn ahead: with these harmonics of the other sign.
    """
    return filtered(np.abs(harmonics(len(x))) % 2 + 0j, x)
