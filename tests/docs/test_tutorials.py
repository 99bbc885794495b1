"""What the tutorials say of their networks holds: their Python runs, and the claims are checked."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import slowpoints

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
TUTORIALS = DOCS / "tutorials"


def run(name):
    """Run the Python of a tutorial in one namespace, as the site's build does, and return that."""
    for framework in ("optax", *(["torch"] if name == "pytorch" else [])):
        pytest.importorskip(framework, reason=f"{framework} is not installed (see the extras)")
    spec = importlib.util.spec_from_file_location("run_page", DOCS / "run_page.py")
    run_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run_page)
    page = TUTORIALS / f"{name}.md"
    namespace = {"__name__": "__main__"}
    for code in run_page.blocks(page.read_text(encoding="utf-8")):
        exec(compile(code, str(page), "exec"), namespace)
    return namespace


def signs(fps):
    """The sum over the points of the signs of det(I - J)."""
    return np.sign(np.linalg.det(np.eye(fps.n_states) - fps.J_xstar.astype(np.float64))).sum()


@pytest.mark.exhaustive
def test_integration_that_depends_on_context():
    page = run("context")
    assert page["explained"] > 0.98

    # Choices follow the relevant coherence, and not the other.
    coherence, context, levels = page["coherence"], page["context"], page["levels"]
    chose_positive = page["outputs"][:, -1] > 0
    for k in (0, 1):
        share = np.array(
            [
                [chose_positive[(context == k) & (coherence[:, m] == c)].mean() for c in levels]
                for m in (0, 1)
            ]
        )
        assert share[k, 0] < 0.1 and share[k, -1] > 0.9
        assert np.ptp(share[1 - k]) < 0.2

    # A search ends at a handful of points, which are slow.
    fps, all_fps = page["fps"], page["all_fps"]
    assert fps.n <= 20
    assert fps.hits.sum() > 0.7 * all_fps.n
    fixed = fps.status == slowpoints.Status.FIXED_POINT
    assert np.all(0.02 * np.abs(fps.time_constants()[fixed, 0]) > 1)  # in seconds

    # They lie on a line attractor in each context, at right angles to what is not relevant.
    for k, name in enumerate(page["names"]):
        line, modes = page["lines"][name], page["modes"][name]
        assert line.is_one_dimensional and not line.is_closed
        assert np.median(line.angle) < 10
        assert np.median(np.abs(line.time_constant)) > 2000  # ms
        assert 300 * np.abs(line.drift).max() < 0.05 * line.length
        assert np.median(modes.input_angle[:, k]) < 75
        assert abs(np.median(modes.input_angle[:, 1 - k]) - 90) < 5
        assert np.median(np.linalg.norm(modes.selection, axis=1)) > 1.2

        # Both pulses arrive, and only the relevant one stays.
        of_relevant = page["responses"][name, name]
        of_other = page["responses"][name, page["names"][1 - k]]
        assert 0.5 < of_other[0] / of_relevant[0] < 2
        assert of_other[25] < 0.2 * of_other[0] and of_relevant[-1] > 0.4 * of_relevant[0]
    assert np.corrcoef(page["x"], page["y"])[0, 1] > 0.95


@pytest.mark.exhaustive
def test_sine_wave_generator():
    page = run("sine_wave")
    np.testing.assert_allclose(page["measured"], page["frequencies"], rtol=0.1)

    # Under each input there is one fixed point, unstable in one plane, with the frequency.
    fps = page["fps"]
    assert sorted(fps.cond_id) == list(range(10))
    assert set(fps.types()) == {"saddle of index 2, spiral"}
    assert np.all(fps.n_unstable() == 2)
    np.testing.assert_allclose(page["turns"], page["measured"], rtol=0.15)

    # It is left at the rate of the unstable pair.
    distance, expected = page["distance"], page["expected"]
    early = distance < 0.1
    ratio = np.log(distance[early] / expected[early])
    assert np.abs(np.diff(ratio[[20, -1]])) < 1 and early.sum() > 50

    # The rhythm ends where the point becomes stable, and the branch has no folds.
    branch, events = page["branch"], page["branches"].events
    assert {event.kind for event in events} == {"neimark_sacker"}
    inputs, order = np.asarray(page["others"])[:, 0], np.argsort(branch.s)
    far = np.abs(inputs[:, None] - [event.s for event in events]).min(axis=1) > 0.1
    index = np.interp(inputs, branch.s[order], branch.index[order])
    np.testing.assert_array_equal(page["oscillates"][far], index[far] > 0)


@pytest.mark.exhaustive
def test_ring_attractor_in_brainpy():
    page = run("ring_brainpy")
    shown, head = page["shown"], page["head"]
    assert np.abs(shown - head)[100:].max() < 0.02

    # Silence, bumps and small bumps, of which hardly any counts as a fixed point by itself.
    fps, peak = page["fps"], page["peak"]
    assert np.sum(peak < 0.1) == 1 and np.sum(peak > 0.6) > 50
    assert np.mean(fps.status == slowpoints.Status.FIXED_POINT) < 0.1
    small = page["small"]
    assert small.n >= 3 and np.all(np.abs(small.eigval_J_xstar[:, 0]) > 1.01)
    assert page["ends"].min() > 0.6  # after a step from a small bump towards more activity

    # The neutral direction shifts the bump, and velocity drives it.
    modes = page["modes"]
    assert page["ring"].is_closed and page["cosine"].min() > 0.999
    np.testing.assert_allclose(np.abs(modes.eigenvalues[:, 0]), 1, atol=1e-5)
    assert np.all(np.abs(modes.eigenvalues[:, 1]) < 0.97)
    np.testing.assert_allclose(page["gain"], 1, atol=0.01)

    # On the imperfect ring, attractors and saddles alternate, and none is missing.
    some, bumps = page["some"], page["bumps"]
    assert np.all(some.status == slowpoints.Status.FIXED_POINT) and signs(some) == 1
    around = bumps.is_stable[np.argsort(page["imperfect"].angle(bumps.xstar))]
    assert 2 <= bumps.n <= 30 and np.all(around != np.roll(around, 1))
    tau = bumps.time_constants()[:, 0]  # in steps of 1 ms
    assert np.all((tau > 0) == bumps.is_stable) and np.all(np.abs(tau) > 100)
    assert page["broken_ring"].is_closed and page["broken_ring"].is_one_dimensional
    assert np.corrcoef(page["drift"], page["measured"])[0, 1] > 0.95


def test_decision_in_pytorch():
    page = run("pytorch")
    assert page["fixates"] > 0.98 and page["correct"] > 0.95  # after the delay of 200 steps

    # Two attractors, for the two choices, and a saddle whose sides lead to them.
    fps = page["fps"]
    assert sorted(fps.n_unstable()) == [0, 0, 1]
    preferred = page["preferred"](fps.xstar)
    first, second = preferred[fps.is_stable].max(), preferred[fps.is_stable].min()
    assert second < preferred[~fps.is_stable].item() < first and second < -1 and first > 1
    assert set(page["links"].edges.attractor) == set(np.flatnonzero(fps.is_stable))
    by_saddle = np.mean(page["side"] == page["chose_first"])
    assert by_saddle > 0.95 and by_saddle > page["by_evidence"]

    # Strong evidence leaves one attractor, for the choice that it favours.
    branches = page["branches"]
    folds = sorted(event.s for event in branches.events if event.kind == "fold")
    assert len(folds) == 2 and folds[0] < folds[1]
    for s, sign in ((0, -1), (1, 1)):
        points = branches.at(s)
        assert points.n == 1 and points.is_stable.item()
        assert np.sign(page["preferred"](points.xstar)).item() == sign

    # Without fixation, the network chooses what it remembers.
    chosen = np.where(preferred[fps.is_stable] > 0, 1, 2)
    assert np.all(page["before"].numpy() == 0)
    np.testing.assert_array_equal(page["after"].numpy()[:, -1], chosen)
