"""`sample_states` and `sample_inputs_and_states`: what is drawn, and what is added to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import compilations

from slowpoints import ContinuousTime, find_fixed_points, sample_inputs_and_states, sample_states

KEY = jax.random.key(0)
TRIALS, TIME, N_STATES = 6, 7, 3
# Few sizes, as each is compiled: fewer than there are states, as many, and more.
FEW, ALL, MANY = 20, 42, 5000


def numbered(trials=TRIALS, time=TIME, n_states=N_STATES):
    """Return trajectories whose states tell their own number: row `k` is `(k, k + 0.25, ...)`."""
    number = np.arange(trials * time, dtype=np.float32).reshape(trials, time, 1)
    return number + 0.25 * np.arange(n_states, dtype=np.float32)


def numbers(states):
    return np.asarray(states)[:, 0].astype(int)


def some_valid():
    """Return a mask that leaves `FEW` states."""
    order = np.random.default_rng(0).permutation(TRIALS * TIME)
    return (order < FEW).reshape(TRIALS, TIME)


# ---- which states ------------------------------------------------------------------------------


def test_drawn_states_are_states_of_the_trajectories():
    traj = numbered()
    states = np.asarray(sample_states(KEY, traj, FEW, noise_scale=0.0))
    np.testing.assert_array_equal(states, traj.reshape(-1, N_STATES)[numbers(states)])


@pytest.mark.parametrize("n_inits", [FEW, ALL])
def test_no_state_is_drawn_twice_if_there_are_enough(n_inits):
    drawn = numbers(sample_states(KEY, numbered(), n_inits, noise_scale=0.0))
    assert len(set(drawn)) == n_inits


def test_states_are_drawn_again_if_there_are_too_few():
    drawn = numbers(sample_states(KEY, numbered(), MANY, noise_scale=0.0))
    counts = np.bincount(drawn, minlength=TRIALS * TIME)
    assert counts.sum() == MANY and counts.min() > 0


def test_only_valid_states_are_drawn_without_replacement():
    valid = some_valid()
    drawn = numbers(sample_states(KEY, numbered(), FEW, 0.0, valid))
    assert sorted(drawn) == np.flatnonzero(valid).tolist()


def test_only_valid_states_are_drawn_with_replacement():
    valid = some_valid()
    drawn = numbers(sample_states(KEY, numbered(), MANY, 0.0, valid))
    assert sorted(set(drawn)) == np.flatnonzero(valid).tolist()


def test_one_valid_state_is_enough():
    valid = np.zeros((TRIALS, TIME), bool)
    valid[4, 2] = True
    assert set(numbers(sample_states(KEY, numbered(), FEW, 0.0, valid))) == {4 * TIME + 2}


def test_masked_states_may_be_nan():
    traj, valid = numbered(), some_valid()
    traj[~valid] = np.nan
    assert np.isfinite(sample_states(KEY, traj, MANY, 0.1, valid)).all()


@pytest.mark.slow
@pytest.mark.parametrize("n_inits", [5, 100], ids=["without replacement", "with replacement"])
def test_every_state_is_equally_likely(n_inits):
    """Chi-squared over 2000 draws, at 5 standard deviations."""
    n_draws, n_candidates = 2000, TRIALS * TIME
    keys = jax.random.split(jax.random.key(1), n_draws)
    draw = jax.jit(jax.vmap(lambda key: sample_states(key, jnp.asarray(numbered()), n_inits, 0.0)))
    counts = np.bincount(np.asarray(draw(keys))[..., 0].ravel().astype(int), minlength=n_candidates)
    expected = n_draws * n_inits / n_candidates
    chi_squared = np.sum((counts - expected) ** 2 / expected)
    freedom = n_candidates - 1
    assert abs(chi_squared - freedom) < 5 * np.sqrt(2 * freedom)


@pytest.mark.slow
def test_every_place_in_the_draw_is_equally_likely():
    """The first of two drawn states is no other than the second."""
    keys = jax.random.split(jax.random.key(2), 4000)
    traj = jnp.asarray(numbered(1, 4))
    draw = jax.jit(jax.vmap(lambda key: sample_states(key, traj, 2, 0.0)[:, 0]))
    pairs = np.asarray(draw(keys)).astype(int)
    counts = np.bincount(4 * pairs[:, 0] + pairs[:, 1], minlength=16).reshape(4, 4)
    assert (np.diag(counts) == 0).all()
    assert np.abs(counts[~np.eye(4, dtype=bool)] - 4000 / 12).max() < 5 * np.sqrt(4000 / 12)


# ---- noise -------------------------------------------------------------------------------------


def test_noise_is_gaussian_of_the_given_scale():
    noise = (
        np.asarray(sample_states(KEY, np.zeros((TRIALS, TIME, N_STATES), np.float32), MANY, 0.3))
        / 0.3
    )
    n = noise.size
    assert abs(noise.mean()) < 5 / np.sqrt(n)
    assert abs(noise.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((noise**4).mean() - 3) < 5 * np.sqrt(96 / n)


def test_noise_differs_between_rows_and_dimensions():
    noise = np.asarray(sample_states(KEY, np.zeros((TRIALS, TIME, N_STATES), np.float32), FEW, 1.0))
    assert len(np.unique(noise)) == noise.size


def test_noise_is_added_to_the_states_that_are_drawn_without_it():
    quiet = np.asarray(sample_states(KEY, numbered(), FEW, 0.0))
    noisy = np.asarray(sample_states(KEY, numbered(), FEW, 1e-3))
    assert 0 < np.abs(noisy - quiet).max() < 1e-2


def test_the_default_scale_is_a_tenth():
    zeros = np.zeros((TRIALS, TIME, N_STATES), np.float32)
    assert np.std(sample_states(KEY, zeros, MANY)) == pytest.approx(0.1, rel=0.03)


# ---- form --------------------------------------------------------------------------------------


def test_the_same_key_draws_the_same_states():
    first, second = (sample_states(jax.random.key(5), numbered(), FEW) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_another_key_draws_other_states():
    first, second = (
        numbers(sample_states(jax.random.key(k), numbered(), FEW, 0.0)) for k in (5, 6)
    )
    assert set(first) != set(second)


def test_old_style_keys_will_do():
    assert sample_states(jax.random.PRNGKey(0), numbered(), FEW).shape == (FEW, N_STATES)


@pytest.mark.parametrize("seed", [5, -1, 2**40])
def test_a_whole_number_is_the_seed_of_a_key(seed):
    drawn = sample_states(seed, numbered(), FEW)
    np.testing.assert_array_equal(drawn, sample_states(jax.random.key(seed), numbered(), FEW))


def test_precision_is_that_of_the_trajectories():
    assert sample_states(KEY, numbered(), FEW).dtype == np.float32
    with jax.enable_x64(True):
        assert sample_states(KEY, numbered().astype(float), FEW).dtype == np.float64


def test_the_trajectories_are_left_as_they_are():
    traj = numbered()
    sample_states(KEY, traj, FEW, 1.0)
    np.testing.assert_array_equal(traj, numbered())


def test_jit_draws_what_a_plain_call_draws():
    valid = some_valid()
    plain = sample_states(KEY, numbered(), FEW, 0.5, valid)
    jitted = jax.jit(sample_states, static_argnums=2)(KEY, numbered(), FEW, 0.5, valid)
    np.testing.assert_allclose(jitted, plain, rtol=1e-6)


def test_jit_draws_with_replacement_where_the_mask_leaves_too_few():
    valid = np.zeros((TRIALS, TIME), bool)
    valid[:2] = True  # 14 states
    draw = jax.jit(lambda valid: sample_states(KEY, numbered(), FEW, 0.0, valid))
    assert set(numbers(draw(valid))) <= set(range(2 * TIME))


# ---- steps of the network ----------------------------------------------------------------------


def halve(x, u):
    return 0.5 * x + u


def test_the_network_takes_its_steps_after_the_noise():
    drawn = np.asarray(sample_states(KEY, numbered(), FEW, 0.3))
    for n_steps in (0, 1, 3):
        states = sample_states(
            KEY, numbered(), FEW, 0.3, F=halve, inputs=np.zeros(3), n_steps=n_steps
        )
        np.testing.assert_allclose(states, drawn * 0.5**n_steps, rtol=1e-6)


def test_each_state_steps_under_its_own_input():
    u = np.arange(FEW, dtype=np.float32)[:, None] * np.ones(N_STATES, np.float32)
    drawn = np.asarray(sample_states(KEY, numbered(), FEW, 0.0))
    states = sample_states(KEY, numbered(), FEW, 0.0, F=halve, inputs=u, n_steps=2)
    np.testing.assert_allclose(states, drawn / 4 + 1.5 * u, rtol=1e-6)


def test_steps_inside_jit_are_those_of_a_plain_call():
    def draw(traj, weight):
        F = lambda x, u: weight * x + u  # noqa: E731
        return sample_states(KEY, traj, FEW, 0.1, F=F, inputs=jnp.ones((1, N_STATES)), n_steps=3)

    np.testing.assert_allclose(
        jax.jit(draw)(numbered(), 0.3), draw(numbered(), jnp.float32(0.3)), rtol=1e-6
    )


def test_steps_keep_the_precision_of_the_trajectories():
    double = lambda x, u: 2 * x.astype(jnp.float32)  # noqa: E731
    with jax.enable_x64(True):
        traj = numbered().astype(float)
        states = sample_states(KEY, traj, FEW, F=double, inputs=np.zeros(1), n_steps=2)
    assert states.dtype == np.float64


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points")  # of slow points that are dropped
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_some_steps_bring_random_states_to_the_memories_of_a_hopfield_network(seed):
    """From uniform states a search goes to saddles, though 64 units hold four memories."""
    rng = np.random.default_rng(seed)
    memories = rng.choice([-1.0, 1.0], (4, 64)).astype(np.float32)
    W = 2 * memories.T @ memories / 64
    F = lambda x, u: jnp.tanh(W @ x)  # noqa: E731
    u = np.zeros(0, np.float32)
    states = rng.uniform(-1, 1, (1, 256, 64)).astype(np.float32)
    overlaps, n_points = {}, {}
    for n_steps in (0, 4):
        x = sample_states(KEY, states, 256, 0.0, F=F, inputs=u, n_steps=n_steps)
        fps, _ = find_fixed_points(F, x, u, mesh=None, compute_jacobians=False)
        overlaps[n_steps] = np.sign(fps.xstar) @ np.concatenate([memories, -memories]).T / 64
        n_points[n_steps] = fps.n
    assert (overlaps[0].max(axis=0) == 1).sum() < 4  # of eight memories, with their negatives
    assert (overlaps[4].max(axis=0) == 1).all() and n_points[4] > 8  # saddles are found as well


# ---- wrong input -------------------------------------------------------------------------------


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"state_traj": np.zeros((3, 2))}, ValueError, ["state_traj", "(3, 2)", "(trials, time"]),
        ({"state_traj": np.zeros((0, 5, 2))}, ValueError, ["state_traj", "empty", "(0, 5, 2)"]),
        ({"state_traj": np.zeros((2, 5, 2), int)}, TypeError, ["state_traj", "int64"]),
        ({"n_inits": 0}, ValueError, ["n_inits", "is 0", "at least 1"]),
        ({"n_inits": -3}, ValueError, ["n_inits", "-3"]),
        ({"n_inits": 2.5}, TypeError, ["n_inits", "2.5", "whole number"]),
        ({"n_inits": True}, TypeError, ["n_inits", "True"]),
        ({"noise_scale": -0.1}, ValueError, ["noise_scale", "-0.1", "at least 0"]),
        ({"noise_scale": np.nan}, ValueError, ["noise_scale", "nan"]),
        ({"noise_scale": np.inf}, ValueError, ["noise_scale", "inf"]),
        ({"noise_scale": np.ones(3)}, TypeError, ["noise_scale"]),
        ({"valid_bxt": np.ones((5, 2), bool)}, ValueError, ["valid_bxt", "(5, 2)", "(2, 5)"]),
        ({"valid_bxt": np.ones(10, bool)}, ValueError, ["valid_bxt", "(10,)", "(2, 5)"]),
        ({"valid_bxt": np.zeros((2, 5), bool)}, ValueError, ["valid_bxt", "False everywhere"]),
        ({"state_traj": np.full((2, 5, 2), np.nan)}, ValueError, ["state_traj", "20 values"]),
        ({"state_traj": np.full((2, 5, 2), np.inf)}, ValueError, ["state_traj", "infinite"]),
        ({"n_steps": -1}, ValueError, ["n_steps", "-1", "at least 0"]),
        ({"n_steps": 2.5}, TypeError, ["n_steps", "2.5", "whole number"]),
        ({"n_steps": True}, TypeError, ["n_steps", "True"]),
        ({"n_steps": 2}, ValueError, ["`F` is None"]),
        ({"n_steps": 2, "F": halve}, ValueError, ["`inputs` is None"]),
        (
            {"n_steps": 2, "F": halve, "inputs": np.zeros((3, 2))},
            ValueError,
            ["`inputs` has shape (3, 2)", f"({FEW}, n_inputs)"],
        ),
        (
            {"n_steps": 2, "F": halve, "inputs": np.zeros((1, 1, 2))},
            ValueError,
            ["`inputs` has shape (1, 1, 2)"],
        ),
        ({"n_steps": 2, "F": 3, "inputs": np.zeros(2)}, TypeError, ["int"]),
        (
            {"n_steps": 2, "F": ContinuousTime(halve), "inputs": np.zeros(2)},
            TypeError,
            ["continuous"],
        ),
        (
            {"n_steps": 2, "F": lambda x, u: x[:1], "inputs": np.zeros(2)},
            ValueError,
            ["(2,)", "(1,)"],
        ),
    ],
)
def test_wrong_input_is_named(changes, error, words):
    arguments = {"state_traj": np.zeros((2, 5, 2)), "n_inits": FEW} | changes
    with pytest.raises(error) as caught:
        sample_states(KEY, **arguments)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.checks_input
def test_a_mask_of_numbers_is_a_mask():
    """If all of them are 0 or 1; what NaN or 3 would mean, nobody knows."""
    valid = np.zeros((TRIALS, TIME))
    valid[0, 0] = 1
    assert set(numbers(sample_states(KEY, jnp.asarray(numbered()), FEW, 0.0, valid))) == {0}
    for unclear in (np.nan, 3):
        valid[0, 0] = unclear
        with pytest.raises(ValueError, match=f"`valid_bxt` holds {unclear}"):
            sample_states(KEY, jnp.asarray(numbered()), FEW, 0.0, valid)


@pytest.mark.checks_input
def test_states_that_may_not_be_drawn_need_not_be_finite_and_others_must():
    traj, valid = numbered(), some_valid()
    traj[~valid] = np.nan
    sample_states(KEY, traj, FEW, 0.0, valid)
    traj[tuple(np.argwhere(valid)[-1])] = np.inf  # which the draw need not hit
    with pytest.raises(ValueError, match=r"`state_traj` holds .* infinite"):
        sample_states(KEY, traj, 1, 0.0, valid)


# ---- inputs and states -------------------------------------------------------------------------


def numbered_inputs():
    """Return inputs that tell the number of the state at their time."""
    return -numbered(n_states=2)


@pytest.mark.parametrize("n_inits", [FEW, MANY])
def test_each_state_comes_with_the_input_of_its_time_step(n_inits):
    inputs, states = sample_inputs_and_states(KEY, numbered_inputs(), numbered(), n_inits, 0.0)
    assert inputs.shape == (n_inits, 2) and states.shape == (n_inits, N_STATES)
    np.testing.assert_array_equal(inputs[:, 0], -states[:, 0])
    np.testing.assert_array_equal(inputs[:, 1], -states[:, 1])


def test_noise_is_added_to_the_states_only():
    quiet = sample_inputs_and_states(KEY, numbered_inputs(), numbered(), FEW, 0)
    noisy = sample_inputs_and_states(KEY, numbered_inputs(), numbered(), FEW, 0.5)
    np.testing.assert_array_equal(noisy[0], quiet[0])
    assert 0.3 < np.std(noisy[1] - quiet[1]) < 0.7


def test_the_states_are_those_that_are_drawn_without_inputs():
    for valid in (None, some_valid()):
        _, states = sample_inputs_and_states(KEY, numbered_inputs(), numbered(), FEW, 0.1, valid)
        np.testing.assert_array_equal(states, sample_states(KEY, numbered(), FEW, 0.1, valid))


def test_pairs_that_are_not_valid_are_not_drawn():
    inputs = numbered_inputs()
    inputs[~some_valid()] = np.nan
    drawn, _ = sample_inputs_and_states(KEY, inputs, numbered(), FEW, 0.0, some_valid())
    assert np.isfinite(drawn).all()


def test_jit_draws_the_pairs_of_a_plain_call():
    plain = sample_inputs_and_states(KEY, numbered_inputs(), numbered(), FEW)
    draw = jax.jit(sample_inputs_and_states, static_argnums=3)
    for jitted, expected in zip(draw(KEY, numbered_inputs(), numbered(), FEW), plain, strict=True):
        np.testing.assert_allclose(jitted, expected, rtol=1e-6)


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs_traj": np.zeros((5, 2, 1))}, ["inputs_traj", "(5, 2, 1)", "(2, 5, n_inputs)"]),
        ({"inputs_traj": np.zeros((2, 5))}, ["inputs_traj", "(2, 5)"]),
        ({"inputs_traj": np.full((2, 5, 1), np.nan)}, ["inputs_traj", "10 values"]),
        ({"state_traj": np.full((2, 5, 2), np.nan)}, ["state_traj", "20 values"]),
        ({"n_inits": 0}, ["n_inits"]),
    ],
)
def test_wrong_pairs_are_named(changes, words):
    arguments = {"inputs_traj": np.zeros((2, 5, 1)), "state_traj": np.zeros((2, 5, 2))}
    with pytest.raises(ValueError) as caught:
        sample_inputs_and_states(KEY, **(arguments | {"n_inits": FEW} | changes))
    missing = [word for word in words if word not in str(caught.value)]
    assert missing == [] and "sample_inputs_and_states" in str(caught.value)


def test_another_number_of_states_compiles_nothing_and_keeps_the_first():
    """The states are those that as many would be inside `jit`."""
    traj = np.random.default_rng(0).normal(size=(3, 30, 7)).astype(np.float32)
    most = sample_states(KEY, traj, 80, 0.3)
    with compilations() as compiled:
        few = np.asarray(sample_states(KEY, traj, 5, 0.3))
        still = np.asarray(sample_states(KEY, traj, 63, 0.0))
        many = np.asarray(sample_states(KEY, traj, 500, 0.3))
    assert not compiled
    assert np.array_equal(few, most[:5]) and still.shape == (63, 7)
    inside = jax.jit(lambda key: sample_states(key, traj, 5, 0.3))(KEY)
    assert np.allclose(few, inside, atol=1e-6)
    assert len(np.unique(many.round(4), axis=0)) == 500
