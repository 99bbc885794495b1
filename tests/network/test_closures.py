"""Plain functions that close over the arguments of `grad`, `vmap` and `jit`."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import compilations

from slowpoints import LevenbergMarquardt, as_transition, find_fixed_points, optimize_batch

NONE = np.zeros(0, np.float32)
SLOPES = jnp.asarray([0.5, 0.25])


def found(F):
    return optimize_batch(F, jnp.ones((2, 1)), NONE, solver=LevenbergMarquardt()).xstar[0, 0]


def by_lambda(a):
    """`x = a x + 1` has the solution `1 / (1 - a)`, with the derivative `1 / (1 - a)^2`."""
    return found(lambda x, u: a * x + 1)


def by_nested_functions(a):
    weights = {"slope": a, "name": "linear"}

    def slope(x, factor=1.0):
        return factor * weights["slope"] * x

    def step(x, u, *, offset=1.0):
        return slope(x) + offset

    return found(step)


def by_partial(a):
    return found(partial(lambda x, u, slope: slope * x + 1, slope=a))


def by_default_value(a):
    return found(lambda x, u, slope=a: slope * x + 1)


def by_recursion(a):
    def step(x, u, depth=1):
        return a * x + 1 if depth == 0 else step(x, u, depth - 1)

    return found(step)


every_kind = pytest.mark.parametrize(
    "solution", [by_lambda, by_nested_functions, by_partial, by_default_value, by_recursion]
)


@pytest.mark.one_in(2)
@pytest.mark.slow
@every_kind
def test_derivatives_reach_what_a_function_closes_over(solution):
    assert jax.grad(solution)(0.5) == pytest.approx(4.0, rel=1e-5)
    assert jax.jvp(solution, (0.5,), (1.0,))[1] == pytest.approx(4.0, rel=1e-5)


@pytest.mark.one_in(3)
@every_kind
@pytest.mark.slow
def test_batches_of_what_a_function_closes_over(solution):
    expected = 1 / (1 - SLOPES)
    np.testing.assert_allclose(jax.vmap(solution)(SLOPES), expected, rtol=1e-6)
    derivatives = jax.jit(jax.vmap(jax.grad(solution)))(SLOPES)
    np.testing.assert_allclose(derivatives, expected**2, rtol=1e-5)


@pytest.mark.slow
def test_a_second_function_of_the_same_code_does_not_recompile():
    jax.grad(by_lambda)(0.5)
    with compilations() as compiled:
        assert jax.grad(by_lambda)(0.25) == pytest.approx(16 / 9, rel=1e-5)
    assert "_search" not in str(compiled)


@pytest.mark.slow
def test_the_whole_pipeline_is_differentiable():
    def largest_eigenvalue(a):
        fps, _ = find_fixed_points(lambda x, u: jnp.tanh(a * x), jnp.full((1, 1), 0.01), NONE)
        return jnp.sum(jnp.where(fps.valid, fps.eigval_J_xstar.real[:, 0], 0))

    # At the origin the eigenvalue is the slope itself.
    assert jax.jit(jax.grad(largest_eigenvalue))(1.5) == pytest.approx(1.0, rel=1e-5)


def test_a_function_that_closes_over_nothing_traced_stays_itself():
    W = jnp.eye(2)

    def step(x, u):
        return W @ x

    assert as_transition(step).model.fn is step


@pytest.mark.slow
def test_modules_may_hold_lists_and_dictionaries():
    class Layers(eqx.Module):
        layers: list
        gains: dict

        def __call__(self, x, u):
            for layer in self.layers:
                x = jnp.tanh(self.gains["all"] * layer(x))
            return x

    keys = jax.random.split(jax.random.key(0), 2)
    model = Layers([eqx.nn.Linear(2, 2, key=key) for key in keys], {"all": 0.5})
    fps, _ = find_fixed_points(as_transition(model), jnp.ones((4, 2)), NONE)
    assert fps.n == 1 and fps.is_stable.all()


# NumPy's arrays are float64 unless one asks for something else, and a search traces a network in
# float32 and in float64.
SHIFT, TURN = np.array([0.3, 0.1]), np.array([1, 0])
WEIGHTS = {"W": np.array([[0.5, 0.2], [0.1, 0.4]]), "b": SHIFT}


def _shifted(x):
    return x + SHIFT


def _with_local_arrays():
    shift = np.array([0.3, 0.1])
    return lambda x, u: jnp.tanh(WEIGHTS["W"] @ x + shift + u)


@pytest.mark.parametrize(
    "F",
    [
        lambda x, u: jnp.tanh(WEIGHTS["W"] @ x + SHIFT + u),
        lambda x, u: jnp.tanh(WEIGHTS["W"] @ x + WEIGHTS["b"] + u),
        lambda x, u: jnp.tanh(_shifted(WEIGHTS["W"] @ x) + u),
        lambda x, u: jnp.tanh(WEIGHTS["W"] @ x[TURN][TURN] + SHIFT + u),
        lambda x, u, shift=SHIFT: jnp.tanh(WEIGHTS["W"] @ x + shift + u),
        partial(lambda x, u, shift: jnp.tanh(WEIGHTS["W"] @ x + shift + u), shift=SHIFT),
        _with_local_arrays(),
    ],
    ids=["global", "dict", "helper", "indices", "default", "partial", "local"],
)
@pytest.mark.slow
def test_arrays_of_numpy_in_double_precision_may_be_closed_over(F):
    found = {}
    for dtype in (np.float32, np.float64, np.float32):
        with jax.enable_x64(dtype == np.float64):
            x, u = np.full((3, 2), 0.1, dtype), np.zeros((1, 2), dtype)
            fps = optimize_batch(F, x, u)
            assert fps.xstar.dtype == dtype and np.all(np.asarray(fps.status) == 1)
            found[dtype] = np.asarray(fps.xstar[0])
    np.testing.assert_allclose(found[np.float32], found[np.float64], atol=1e-6)
    x = found[np.float64]
    np.testing.assert_allclose(np.tanh(WEIGHTS["W"] @ x + SHIFT), x, atol=1e-12)


@pytest.mark.slow
def test_functions_with_the_same_arrays_of_numpy_compile_once():
    def search():
        optimize_batch(
            lambda x, u: jnp.tanh(WEIGHTS["W"] @ x + SHIFT + u), jnp.ones((2, 2)), jnp.zeros(2)
        )

    search()
    with compilations() as compiled:
        search()
    assert compiled == []


SLOPE, ONE = None, np.array([1.0])  # the tests let SLOPE stand for one number after the other


def _sloped(x):
    return SLOPE * x


@pytest.mark.slow_cases
@pytest.mark.parametrize("helped", [False, True], ids=["itself", "helper"])
@pytest.mark.parametrize("traced", [False, True], ids=["array", "traced"])
def test_a_name_that_stands_for_something_else_is_seen(monkeypatch, helped, traced):
    """As where a cell of a notebook runs again, with other weights of the same shape."""

    def solution(one):
        return found(lambda x, u: (_sloped(x) if helped else SLOPE * x) + one)

    def solution_with_an_array(one):
        return found(lambda x, u: (_sloped(x) if helped else SLOPE * x) + ONE)

    for slope in (0.5, 0.25):
        monkeypatch.setitem(globals(), "SLOPE", jnp.array(slope))
        value = jax.jvp(solution, (1.0,), (1.0,))[0] if traced else solution_with_an_array(1.0)
        assert value == pytest.approx(1 / (1 - slope), rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64:UserWarning")  # JAX's own
def test_derivatives_reach_what_is_multiplied_with_an_array_of_double_precision():
    W = 3.0 * np.eye(2)  # float64

    def total(gain):
        fps = optimize_batch(
            lambda x, u: jnp.tanh((gain * W) @ x + u), jnp.ones((1, 2)), jnp.zeros(2)
        )
        return fps.xstar.sum()

    gain = jnp.float32(0.5)
    x = float(total(gain)) / 2  # of each unit: x = tanh(3 gain x)
    slope = 1 - x**2
    expected = 2 * slope * 3 * x / (1 - slope * 3 * 0.5)
    np.testing.assert_allclose(jax.grad(total)(gain), expected, rtol=1e-4)


class Kept:
    """Something mutable that a step writes to: by a name, by a closure, or as a model does."""

    def __init__(self):
        self.values = [1.0]


KEPT = Kept()


def _keep(x):
    KEPT.values.append(x)


def by_name(x, u):
    KEPT.last = x
    _keep(x)
    return 0.5 * x


def by_closure():
    kept = Kept()

    def step(x, u):
        kept.last = x
        kept.values.append(x)
        return 0.5 * x

    return step, kept


class Keeps(eqx.Module):
    def __call__(self, x, u):
        return by_name(x, u)


@pytest.mark.parametrize("how", ["name", "closure", "model"])
def test_what_a_step_writes_while_it_is_traced_is_put_back(how):
    step, kept = by_closure() if how == "closure" else (by_name, KEPT)
    find_fixed_points(Keeps() if how == "model" else step, np.ones((1, 2)), NONE)
    assert vars(kept) == {"values": [1.0]}


@pytest.mark.parametrize(
    ("module", "file", "kept"),
    [
        ("package.step", "/lib/site-packages/package/step.py", ["computed"]),
        ("slowpoints.step", "/home/user/slowpoints/step.py", ["computed"]),  # installed with `-e`
        ("step", "/home/user/step.py", []),
    ],
)
def test_what_an_installed_package_keeps_is_its_own(module, file, kept):
    """After an error all that is the user's is put back; a cache of a package may stay filled."""
    scope = {"KEPT": [], "__name__": module}
    source = "def step(x, u):\n    KEPT.append('computed')\n    raise RuntimeError('no network')"
    exec(compile(source, file, "exec"), scope)
    with pytest.raises(ValueError, match="no network"):
        find_fixed_points(scope["step"], np.ones((1, 2)), NONE)
    assert scope["KEPT"] == kept
