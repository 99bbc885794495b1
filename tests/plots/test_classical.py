"""Figures of classical results, for networks whose points, rings and angles are known."""

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection

from slowpoints import (
    FixedPoints,
    PlotConfig,
    plot_context_integration,
    plot_flip_flop,
    plot_ring_attractor,
    simulate,
)
from slowpoints._classical.searched import for_paper

matplotlib.use("Agg")


def hidden(**settings):
    return PlotConfig(show=False, **settings)


def marks(ax):
    kinds = [a for a in ax.collections if isinstance(a, PathCollection)]
    return {a.get_label(): a for a in kinds}


def assert_text_stays_text(path):
    content = path.read_bytes()
    assert b"/Type3" not in content and b"/CIDFontType2" in content


# ---- two bits ------------------------------------------------------------------------------------


def two_bits(x, u):
    """Two units that each have a memory at both sides of 0, and a third one that follows them."""
    bits = jnp.tanh(2 * x[:2] + u)
    return jnp.concatenate([bits, 0.3 * x[2:] + 0.1 * x[:1] * x[1:2]])


MEMORY = 0.957504
"""Where tanh(2 x) is x."""


def pulses(trials=12, time=40):
    rng = np.random.default_rng(0)
    is_pulse = rng.random((trials, time, 2)) < 0.1
    return np.where(is_pulse, rng.choice([-2.0, 2.0], is_pulse.shape), 0).astype(np.float32)


@pytest.mark.slow
def test_two_bits_have_four_memories_four_saddles_and_a_point_between_them(tmp_path):
    states = simulate(two_bits, pulses(), np.zeros(3, np.float32))
    config = hidden(save_path=tmp_path / "bits.pdf")
    fig, fps = plot_flip_flop(two_bits, states, np.zeros(2), config)
    assert plot_flip_flop(two_bits, states, np.zeros(2), hidden(), points=fps)[1] is fps
    grid = MEMORY * np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 2)
    grid = np.concatenate([grid, grid[:, :1] * grid[:, 1:] / 7], axis=1)
    away = np.linalg.norm(fps.xstar[:, None] - grid, axis=2)
    assert fps.n == 9 and (away.min(axis=0) < 1e-4).all()
    assert sorted(fps.n_unstable().tolist()) == [0] * 4 + [1] * 4 + [2]
    (ax,) = fig.axes
    names = {"stable fixed point (4)", "saddle, index 1 (4)", "saddle, index 2 (1)"}
    assert set(marks(ax)) == names and hasattr(ax, "get_zlim")
    # Each saddle has a segment for each unstable direction.
    assert sum(len(line.get_data_3d()[0]) > 0 for line in ax.lines if line.get_path_effects()) == 6
    assert_text_stays_text(tmp_path / "bits.pdf")
    # In the plane of the bits, memories are at the corners.
    axes = {"bit 1": np.eye(3)[0], "bit 2": np.eye(3)[1]}
    options = {"dimensions": 2, "projection": axes, "random_seed": 3}
    pair = (states[..., :1], states[..., 1:])
    fig, again = plot_flip_flop(two_bits, pair, np.zeros((1, 2)), hidden(), **options)
    assert again.n == 9
    (ax,) = fig.axes
    corners = np.asarray(marks(ax)["stable fixed point (4)"].get_offsets())
    np.testing.assert_allclose(np.abs(corners), MEMORY, atol=1e-4)
    assert len({tuple(corner) for corner in np.sign(corners).tolist()}) == 4
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("bit 1", "bit 2")


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": 3}, "`model` "),
        ({"state_traj": np.ones((2, 3))}, r"`state_traj` has shape \(2, 3\); expected \(trials,"),
        ({"state_traj": np.full((2, 3, 3), np.nan)}, "plot_flip_flop: `state_traj` holds 18 val"),
        ({"inputs": np.zeros((2, 2))}, r"plot_flip_flop: `inputs` has shape \(2, 2\); expected"),
        ({"inputs": np.zeros(3)}, "`inputs` "),
        ({"dimensions": 4}, "`dimensions` is 4; expected a whole number"),
        ({"random_seed": -1}, "`random_seed` is -1; expected"),
        ({"config": 3}, "`config` is 3; expected a slowpoints.PlotConfig or None"),
    ],
)
def test_bad_input_of_bits_is_named(arguments, message):
    given = {"model": two_bits, "state_traj": np.zeros((2, 3, 3), np.float32)}
    given |= {"inputs": np.zeros(2), "config": hidden()}
    with pytest.raises((TypeError, ValueError), match=message):
        plot_flip_flop(**(given | arguments))


# ---- a ring --------------------------------------------------------------------------------------

TURN = 0.01


def on_a_ring(x, u):
    """States come to the ring of radius 1 and turn along it by `TURN * sin(3 * angle)`."""
    a, b, c = x
    turn = TURN * (3 * a**2 * b - b**3)  # of states on the ring
    grow = 1 + 0.5 * (1 - a**2 - b**2)
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    return jnp.stack([grow * (a * cos - b * sin), grow * (a * sin + b * cos), 0.3 * c]) + 0 * u[0]


@pytest.mark.slow
def test_a_ring_has_three_memories_and_drift_in_degrees_that_is_known(tmp_path):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 64)
    x0 = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    x0 += 0.05 * rng.normal(size=x0.shape)
    states = simulate(on_a_ring, np.zeros((64, 12, 1), np.float32), x0.astype(np.float32))[:, 4:]
    config = hidden(save_path=tmp_path / "ring.pdf")
    axes = {"cosine": np.eye(3)[0], "sine": np.eye(3)[1]}
    options = {"projection": axes, "q_max": TURN**2, "unit": "10 ms"}
    fig, fps, ring = plot_ring_attractor(on_a_ring, states, np.zeros(1), config, **options)
    assert_text_stays_text(tmp_path / "ring.pdf")
    assert ring.is_closed and ring.length == pytest.approx(2 * np.pi, rel=0.01)
    assert sorted(fps.n_unstable().tolist()) == [0] * 3 + [1] * 3 + [2]  # and one in the middle
    by_label = {ax.get_ylabel().split("\n")[0]: ax for ax in fig.axes}
    assert [label.split()[0] for label in list(by_label)[:3]] == ["drift", "sine", "time"]
    plane, drift = by_label["sine"], by_label["drift"]
    names = {"stable fixed point (3)", "saddle, index 1 (3)", "saddle, index 2 (1)"}
    assert {name for name in marks(plane) if "on the curve" not in name} == names
    stable = np.asarray(marks(plane)["stable fixed point (3)"].get_offsets())
    at = np.degrees(np.angle(stable @ [1, 1j])) % 360
    np.testing.assert_allclose(np.sort(at), [60, 180, 300], atol=1e-3)
    assert drift.get_ylabel() == "drift\n(degrees per 10 ms)"
    (line,) = (a for a in drift.lines if a.get_marker() == ".")
    expected = np.degrees(TURN * np.sin(3 * np.radians(line.get_xdata())))
    np.testing.assert_allclose(line.get_ydata(), expected, atol=0.05)
    rests = [np.asarray(a.get_offsets())[:, 0] for a in marks(drift).values()]
    rests = [places for places in rests if len(places) == 3]
    np.testing.assert_allclose(np.sort(rests[0] % 360), [60, 180, 300], atol=2)
    np.testing.assert_allclose(np.sort(np.abs(rests[1])), [0, 120, 120], atol=2)
    one_column = PlotConfig.for_column(show=False)
    found = {"points": fps, "ring": ring}
    again, *same = plot_ring_attractor(on_a_ring, states, np.zeros(1), one_column, **found)
    assert same[0] is fps and same[1] is ring
    again.draw_without_rendering()  # a warning that panels have no room is an error
    drift, plane, lasting = (ax.get_position() for ax in again.axes[:3])
    assert plane.height > drift.height > 0.1 and lasting.height > 0.1
    assert all(box.width > 0.6 for box in (drift, lasting))


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state_traj": np.ones((2, 3))}, r"plot_ring_attractor: `state_traj` has shape \(2, 3\)"),
        ({"inputs": np.full(1, np.nan)}, "plot_ring_attractor: `inputs` holds 1 values"),
        ({"q_max": 0}, "`q_max` is 0; expected"),
        ({"random_seed": 0.5}, "`random_seed` is 0.5; expected"),
        ({"config": 3}, "`config` is 3; expected a slowpoints.PlotConfig or None"),
        ({"points": np.ones(3)}, "`points` is .*; expected a slowpoints.FixedPoints"),
        ({"points": FixedPoints(xstar=np.ones((1, 2)))}, "`points` has 2 states; expected 3"),
        ({"ring": 3}, "`ring` is 3; expected a slowpoints.LineAttractor"),
    ],
)
def test_bad_input_of_a_ring_is_named(arguments, message):
    given = {"model": on_a_ring, "state_traj": np.zeros((2, 3, 3), np.float32)}
    given |= {"inputs": np.zeros(1), "config": hidden()}
    with pytest.raises((TypeError, ValueError), match=message):
        plot_ring_attractor(**(given | arguments))


# ---- evidence that is read in one of two contexts ------------------------------------------------

READS = {
    "motion": np.array([1, 2, 0, 0.5]),
    "colour": np.array([1, 0.1, 0.5, 0]),
}
"""What the network adds up along its first state in each context: its selection vectors."""

EFFECTS = {"motion": np.array([0, 0.1, 0, 0]), "colour": np.array([0, 0, 0.1, 0.05])}
CUES = {"motion": np.array([0, 0, 0.0]), "colour": np.array([0, 0, 1.0])}


def integrator(x, u):
    """Whatever is read stays along the first axis for ever; all else is halved at each step."""
    reads = (1 - u[2]) * READS["motion"] + u[2] * READS["colour"]
    effects = np.stack(list(EFFECTS.values()), axis=1)
    return 0.5 * x + 0.5 * jnp.eye(4)[0] * (reads @ x) + effects @ u[:2]


def trials_of_two_contexts(n=512):
    rng = np.random.default_rng(0)
    context = rng.choice(list(CUES), n)
    evidence = {name: rng.choice([-1.0, -0.25, 0.25, 1.0], n) for name in EFFECTS}
    inputs = np.zeros((n, 25, 3), np.float32)
    for k, strength in enumerate(evidence.values()):
        inputs[:, :18, k] = strength[:, None]  # and then the sum is held
    inputs[:, :, 2] = (context == "colour")[:, None]
    states = simulate(integrator, inputs, np.zeros(4, np.float32))
    choice = np.sign(states[:, -1, 0])
    return states, {"context": context, "evidence": evidence, "choice": choice}


def angle_between(a, b):
    return np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))


@pytest.mark.slow
def test_each_context_reads_its_own_evidence_at_the_angle_that_is_known(tmp_path):
    states, trials = trials_of_two_contexts()
    config = hidden(save_path=tmp_path / "contexts.pdf", title="Two contexts")
    axes = {"choice": np.eye(4)[0], "motion": np.eye(4)[1], "colour": np.eye(4)[2]}
    fig, points, lines = plot_context_integration(
        integrator, states, CUES, config, axes=axes, **trials
    )
    assert_text_stays_text(tmp_path / "contexts.pdf")
    assert list(lines) == list(points) == list(CUES)
    found = {"axes": axes, "points": points, "lines": lines}
    _, *same = plot_context_integration(integrator, states, CUES, hidden(), **trials, **found)
    for new, old in zip(same, (points, lines), strict=True):
        assert all(new[name] is old[name] for name in CUES)
    for name, line in lines.items():
        unit = READS[name] / np.linalg.norm(READS[name])
        own = line.selection / np.linalg.norm(line.selection, axis=1, keepdims=True)
        np.testing.assert_allclose(own, np.broadcast_to(unit, own.shape), atol=2e-3)
        np.testing.assert_allclose(line.curve[:, 1:], 0, atol=5e-3)
    panels = {
        (kind, name): fig.axes[2 * row + column]
        for row, kind in enumerate(EFFECTS)
        for column, name in enumerate(CUES)
    }
    for (kind, name), ax in panels.items():
        angle = angle_between(READS[name], EFFECTS[kind])
        words = [text.get_text() for text in ax.texts if text.get_text()]
        assert words == [f"selection and {kind}: {angle:.0f}°"]
        # The averages by this evidence and by choice in this context, coloured by the evidence.
        # Those of negative evidence are dashed, since both ends of the scale are alike in grey.
        drawn = [a for a in ax.collections if isinstance(a, LineCollection)]
        assert [each.get_linestyle()[0][1] is None for each in drawn] == [True, False]
        own, levels = trials["context"] == name, np.unique(trials["evidence"][kind])
        by_both = [
            (level, own & (trials["evidence"][kind] == level) & (trials["choice"] == choice))
            for level in levels
            for choice in (-1, 1)
        ]
        by_both = [(level, rows) for level, rows in by_both if rows.sum() >= 20]
        by_both.sort(key=lambda each: each[0] < 0)
        assert len(by_both) == (4 if kind == name else 8)  # what is relevant decides the choice
        strength = np.concatenate([each.get_array() for each in drawn])
        assert strength.tolist() == [level for level, _ in by_both]
        assert {(each.get_clim(), each.cmap.name) for each in drawn} == {((-1, 1), "coolwarm")}
        plane = np.stack([axes["choice"], axes[kind]], axis=1)
        means = [states[rows].mean(axis=0) @ plane for _, rows in by_both]
        segments = [segment for each in drawn for segment in each.get_segments()]
        np.testing.assert_allclose(segments, means, atol=1e-5)
        (ends,) = [line for line in ax.lines if line.get_label() == "ends of trials"]
        there = states[own, -1] @ plane
        some = np.linspace(0, len(there) - 1, min(len(there), 300)).round().astype(int)
        np.testing.assert_allclose(ends.get_xydata(), there[some], atol=1e-5)
    assert [panels["motion", name].get_title() for name in CUES] == [
        "motion context",
        "colour context",
    ]
    assert [panels[kind, "motion"].get_ylabel() for kind in EFFECTS] == [
        "motion axis",
        "colour axis",
    ]
    # Below, how far a pulse of 1 moves the state along the line, where it does all the way.
    for ax, name in zip(fig.axes[4:6], CUES, strict=True):
        assert ax.get_xlabel() == "choice axis"
        read = {
            line.get_label(): line.get_ydata() for line in ax.lines if "pulse" in line.get_label()
        }
        assert list(read) == ["pulse of motion", "pulse of colour"]
        for kind in EFFECTS:
            np.testing.assert_allclose(
                read[f"pulse of {kind}"], READS[name] @ EFFECTS[kind], atol=1e-3
            )
    assert fig.get_suptitle() == "Two contexts"
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    assert set(names) >= {"averages (dashed: negative)", "ends of trials", "slow points"}
    assert set(names) >= {"selection vector", "effect of evidence"}

    looks = hidden(kwargs={"ls": ":"})  # then dashes tell nothing apart
    fig, *_ = plot_context_integration(integrator, states, CUES, looks, axes=axes, **trials)
    assert "averages" in [text.get_text() for text in fig.legends[0].get_texts()]


@pytest.mark.parametrize(("columns", "wide"), [(1, 85), (2, 180)])
def test_a_figure_for_a_column_has_a_height_of_its_own(columns, wide):
    config = PlotConfig.for_column(columns, show=False)
    found = for_paper("f", config, 180 / 25.4, 7.8).figsize
    np.testing.assert_allclose(found, [wide / 25.4, 7.8 * wide / 180])
    own = PlotConfig.for_column(columns, figsize=(5, 4))
    assert for_paper("f", own, 180 / 25.4, 7.8) is own
    found = for_paper("f", config, 180 / 25.4, 7.8, columns=(2,)).figsize
    assert (found == config.figsize) == (columns == 1)


@pytest.mark.slow
def test_axes_by_default_are_choice_and_effects_beside_it_and_contexts_may_be_numbers():
    states, trials = trials_of_two_contexts()
    cues = {k: cue for k, cue in enumerate(CUES.values())}
    trials["context"] = (trials["context"] == "colour").astype(int)
    held = np.arange(states.shape[1]) >= states.shape[1] - 4  # in all trials
    options = {"held": held, "evidence_inputs": {"motion": 0, "colour": np.array([0, 1.0, 0])}}
    looks = {"lw": 2, "ls": ":"}  # as Matplotlib's short names have it
    config = hidden(norm=np.array([-2, 2]), cmap="viridis", show_legend=False, kwargs=looks)
    fig, _, lines = plot_context_integration(integrator, states, cues, config, **trials, **options)
    assert list(lines) == [0, 1] and len(fig.axes) == 6 and fig.legends == []
    averages = [a for ax in fig.axes for a in ax.collections if isinstance(a, LineCollection)]
    assert {each.get_linewidth()[0] for each in averages} == {2}
    assert [ax.get_title() for ax in fig.axes[:2]] == ["0 context", "1 context"]
    angles = [angle_between(READS[name], EFFECTS[kind]) for kind in EFFECTS for name in CUES]
    words = [text.get_text() for ax in fig.axes for text in ax.texts if text.get_text()]
    assert [text.split(": ")[1] for text in words] == [f"{angle:.0f}°" for angle in angles]
    drawn = [a for ax in fig.axes for a in ax.collections if isinstance(a, LineCollection)]
    assert {(each.get_clim(), each.cmap.name) for each in drawn} == {((-2, 2), "viridis")}
    assert isinstance(lines[0], type(lines[1])) and lines[0].points.n >= 5


STATES = np.zeros((4, 10, 4), np.float32)
TRIALS = {
    "context": ["motion", "motion", "colour", "colour"],
    "evidence": {"motion": np.array([-1, 1, -1, 1]), "colour": np.array([1, 1, -1, -1])},
    "choice": np.array([-1, 1, -1, 1]),
}


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": {}}, "`inputs` has 0 inputs"),
        ({"inputs": np.zeros((2, 3))}, "`inputs` is .*; expected a dict of contexts and inputs"),
        ({"inputs": CUES | {"colour": np.zeros(2)}}, r"`inputs` has 2 inputs of lengths \[2, 3\]"),
        ({"inputs": CUES | {"colour": np.full(3, np.nan)}}, r"`inputs\['colour'\]` holds 3"),
        (
            {"inputs": {"motion": CUES["motion"]}},
            "`context` has 'colour', which `inputs` does not have; expected one of motion",
        ),
        ({"inputs": {0: CUES["motion"]}}, "`context` has 'colour', .*; expected one of 0"),
        ({"context": ["motion"] * 3}, r"`context` has shape \(3,\); expected a context for each"),
        ({"evidence": {}}, "`evidence` is empty; expected one kind or more"),
        ({"evidence": np.ones(4)}, "`evidence` is .*; expected a dict of names and values"),
        ({"evidence": {"motion": np.ones(3)}}, r"`evidence\['motion'\]` has shape \(3,\)"),
        (
            {"evidence": {name: np.ones(4) for name in "abcd"}},
            "`evidence_inputs` has no 'd'; expected each kind of evidence",
        ),
        ({"evidence_inputs": {"motion": 0}}, "`evidence_inputs` has no 'colour'"),
        ({"evidence_inputs": 3}, "`evidence_inputs` is 3; expected a dict of names and inputs"),
        (
            {"evidence_inputs": {"motion": 0, "colour": 3}},
            r"`evidence_inputs\['colour'\]` is 3; expected a whole number",
        ),
        (
            {"evidence_inputs": {"motion": 0, "colour": np.ones(2)}},
            r"`evidence_inputs\['colour'\]` has shape \(2,\); expected \(3,\)",
        ),
        ({"choice": np.ones(4)}, "`choice` holds 1.0 in all trials; expected two choices or more"),
        ({"choice": np.ones(3)}, r"`choice` has shape \(3,\); expected \(4,\)"),
        ({"axes": {"choice": np.ones(4)}}, "`axes` has no 'motion'; expected choice, motion, col"),
        ({"axes": np.ones((4, 3))}, "`axes` is .*; expected a dict of names and directions"),
        ({"held": np.ones((4, 9))}, r"`held` has shape \(4, 9\); expected \(4, 10\)"),
        ({"held": np.full((4, 10), 0.5)}, "`held` holds 0.5; expected True and False"),
        ({"q_max": -1.0}, "`q_max` is -1.0; expected"),
        ({"state_traj": STATES * np.nan}, "`state_traj` holds 160 values that are NaN"),
        ({"config": 3}, "`config` is 3; expected a slowpoints.PlotConfig or None"),
        ({"lines": 3}, "`lines` is 3; expected a dict by context, or None"),
        ({"points": {"motion": 3}}, "`points` has no 'colour'; expected each context"),
        (
            {"points": dict.fromkeys(CUES, 3)},
            r"`points\['motion'\]` is 3; expected a slowpoints.Fi",
        ),
    ],
)
def test_bad_input_of_contexts_is_named(arguments, message):
    given = {"model": integrator, "state_traj": STATES, "inputs": CUES, "config": hidden()}
    with pytest.raises((TypeError, ValueError), match=message):
        plot_context_integration(**(given | TRIALS | arguments))


@pytest.mark.slow
def test_a_context_without_held_states_is_named():
    states, trials = trials_of_two_contexts()
    held = np.ones(states.shape[:2], bool) & (trials["context"] == "motion")[:, None]
    message = "`held` has no held state in the context 'colour'; expected some in each context"
    with pytest.raises(ValueError, match=message):
        plot_context_integration(integrator, states, CUES, hidden(), held=held, **trials)


@pytest.mark.slow
def test_states_of_another_input_are_noticed():
    states = simulate(two_bits, pulses(), np.zeros(3, np.float32))
    with pytest.warns(UserWarning, match="Is it the input under which they were visited?"):
        plot_flip_flop(two_bits, states, np.array([3.0, 0.0]), hidden())
