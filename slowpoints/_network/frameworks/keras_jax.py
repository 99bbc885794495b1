"""Recurrent layers and cells of Keras 3, on its JAX backend, as transitions.

A cell is called as `call(inputs, states) -> (output, new states)`, on a batch of one, by
`stateless_call`, which takes the values of all variables and writes to none. Keras computes in the
precision of a layer, float32 as a rule, whatever it is given.
"""

import inspect
import threading
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import keras
from jaxtyping import Array, Float

from slowpoints._core.contents import put_back
from slowpoints._network.base import ModelError, Signature
from slowpoints._network.frameworks.calling import CallableTransition
from slowpoints._network.frameworks.layout import StateLayout

_ONE_AT_A_TIME = threading.RLock()
"""Keras' cells keep masks for dropout while they are called, so that no two threads may call."""


def from_module(layer: Any, signature: Signature | None, example_state: Any) -> CallableTransition:
    """Copy the variables of a cell, of the cell of an `RNN` layer, or of another layer.

    The state has the form of Keras' own, but for lists of one array, which stand for that array:
    `h` of a `GRU`, `[h, c]` of an `LSTM`, and a list of these for `StackedRNNCells`. Everything is
    computed as with `training=False`.

    Raises:
        TypeError: if Keras has another backend, or if `layer` is not a cell and `signature` does
            not say how to call it, or if its inputs are not vectors.
        ValueError: if it has no variables yet.
        ModelError: if it draws random numbers in a step, or changes one of its variables.
    """
    if keras.config.backend() != "jax":
        raise TypeError(
            f"as_transition: Keras computes with {keras.config.backend()} here; expected JAX. Set "
            'the environment variable KERAS_BACKEND to "jax" before the first `import keras`, such '
            'as by `os.environ["KERAS_BACKEND"] = "jax"`. A model that was saved under another '
            "backend can be loaded then."
        )
    cell = layer if signature is not None else _cell_of(layer)
    _check_built(cell, layer)
    n_inputs = _n_inputs(cell) if signature is None else None
    # Copies, since `fit` gives the memory of the old values to the new ones.
    variables = {
        kind: {name: jnp.array(v.value) for name, v in _named(own)}
        for kind, own in _by_kind(cell).items()
    }
    held = HeldLayer(variables, cell, _accepts_training(cell))
    name = type(layer).__name__
    if signature is not None:
        layout = None if example_state is None else StateLayout.like(example_state)
        return CallableTransition(held, signature, layout, name)
    states = _states(cell) if example_state is None else example_state
    layout = StateLayout.like(_without_lists_of_one(states))
    treedef = jax.tree.structure(states if isinstance(states, (list, tuple)) else [states])
    step = HeldCell(held, treedef, name)
    if n_inputs is not None:
        _check_that_it_is_a_map(step, layout, n_inputs)
    return CallableTransition(step, "input_state", layout, name, n_inputs)


class HeldLayer(eqx.Module):
    """A layer's variables by their names, and how to call it with them."""

    variables: dict[str, dict[str, Array]]
    layer: Any = eqx.field(static=True)
    accepts_training: bool = eqx.field(static=True)

    def __call__(self, *args: Any) -> Any:
        """Return what the layer returns."""
        return self.with_variables(*args)[0]

    def with_variables(self, *args: Any) -> tuple[Any, list[Any]]:
        """Return what the layer returns, and what it makes of the variables that are not trained.

        All is computed in the layer's own precision, as Keras would cast some arrays to it anyway:
        what mixes float32 and float64 is no more precise than the former, but looks it.
        """
        real = lambda a: hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jnp.floating)  # noqa: E731
        own = jnp.dtype(self.layer.compute_dtype)
        args = jax.tree.map(lambda a: a.astype(own) if real(a) else a, args)
        # By name: a pytree sorts what is in a dictionary.
        given = [
            [self.variables[kind][name] for name, _ in _named(variables)]
            for kind, variables in _by_kind(self.layer).items()
        ]
        off = {"training": False} if self.accepts_training else {}
        with _ONE_AT_A_TIME, put_back(self.layer, all_of_it=True):
            not_built = [part for part in self.layer._flatten_layers() if not part.built]
            try:
                return self.layer.stateless_call(*given, *args, **off)
            finally:
                _check_still_without_variables(self.layer, not_built)


class HeldCell(eqx.Module):
    """A cell that takes one input and one state.

    Attributes:
        held: the cell.
        states: the structure of the states that it takes.
        name: what error messages call it.
    """

    held: HeldLayer
    states: Any = eqx.field(static=True)
    name: str = eqx.field(static=True)

    def __call__(self, u: Float[Array, " n_inputs"], state: Any) -> Any:
        """Return the next state.

        Raises:
            ModelError: if the cell returns something other than an output and the next states.
        """
        return self.with_variables(u, state)[0]

    def with_variables(self, u: Float[Array, " n_inputs"], state: Any) -> tuple[Any, list[Any]]:
        """Return the next state, and what `HeldLayer.with_variables` returns besides."""
        old, treedef = jax.tree.flatten(state)
        batch = self.states.unflatten([leaf[None] for leaf in old])
        out, variables = self.held.with_variables(u[None], batch)
        if not (isinstance(out, (tuple, list)) and len(out) == 2):
            raise ModelError(
                f"{self.name} returned a {type(out).__name__}; expected the pair (output, new "
                "states)."
            )
        new = jax.tree.leaves(out[1])
        found, expected = ([tuple(leaf.shape) for leaf in leaves] for leaves in (new, old))
        if found != [(1, *shape) for shape in expected]:
            raise ModelError(
                f"{self.name}: for states of shapes {[(1, *shape) for shape in expected]}, the new "
                f"states have the shapes {found}; expected the same."
            )
        return treedef.unflatten([leaf[0] for leaf in new]), variables


# ---- which cell --------------------------------------------------------------------------------


def _cell_of(layer: Any) -> Any:
    """Return the cell that makes the steps of a layer."""
    if isinstance(layer, keras.layers.Bidirectional):
        raise TypeError(
            f"as_transition: {type(layer).__name__} is bidirectional. Its backward direction "
            "starts from the end of a sequence, so it is no map from a state to the next. Pass "
            "`layer.forward_layer`."
        )
    if isinstance(layer, keras.layers.RNN):
        if not isinstance(layer.cell, keras.Layer):
            raise TypeError(
                f"as_transition: the cell of {type(layer).__name__} is a "
                f"{type(layer.cell).__qualname__}; expected a keras.Layer, whose variables can be "
                "told."
            )
        own = [name for name in ("call", "inner_loop") if not _is_of_keras(layer, name)]
        if own:
            raise TypeError(
                f"as_transition: {type(layer).__name__} has a `{own[0]}` of its own, whose step "
                "may be another than that of its cell. Pass `layer.cell` if it is that, or a cell, "
                "`call(inputs, states)`, that is the step."
            )
        return layer.cell
    if hasattr(layer, "state_size"):
        return layer
    inside = list(_recurrent_layers(layer, "model"))
    if inside:
        which = inside[0] if len(inside) == 1 else f"one of its layers, {', '.join(inside)}"
        way_out = f"Pass {which}."
    else:
        way_out = (
            "Expected a recurrent layer, such as keras.layers.GRU, or a cell, which has a "
            '`state_size`; or say how it is called: `as_transition(layer, signature="batched")`, '
            "or another signature."
        )
    raise TypeError(
        f"as_transition: `model` is {type(layer).__name__}, a keras.Layer whose step is not known. "
        f"{way_out}"
    )


def _is_of_keras(layer: Any, name: str) -> bool:
    """Return whether a layer's method is none of the user's."""
    places = [cls for cls in type(layer).__mro__ if name in vars(cls)]
    of_keras = all(cls.__module__.split(".")[0] == "keras" for cls in places[:1])
    return of_keras and name not in vars(layer)


def _recurrent_layers(layer: Any, path: str) -> Iterator[str]:
    """Yield how to get at the recurrent layers in a model: `model.layers[1]`."""
    if isinstance(layer, keras.Model):
        parts = [(f"{path}.layers[{i}]", part) for i, part in enumerate(layer.layers)]
    else:
        attributes = vars(layer).items()
        parts = [
            (f"{path}.{name}", part)
            for name, part in attributes
            if isinstance(part, keras.Layer) and not name.startswith("_")
        ]
    for place, part in parts:
        if isinstance(part, keras.layers.RNN) or hasattr(part, "state_size"):
            yield f"`{place}`"
        else:
            yield from _recurrent_layers(part, place)


def _check_built(cell: Any, layer: Any) -> None:
    if not cell.built:
        shape = "(None, n_inputs)" if cell is layer else "(None, None, n_inputs)"
        raise ValueError(
            f"as_transition: {type(layer).__name__} {layer.name!r} has no variables yet. Call it "
            f"once on data, or call `build({shape})`."
        )


def _n_inputs(cell: Any) -> int | None:
    """Return the length of the inputs that a cell was built for, or `None` if it is not known."""
    shapes = list((cell.get_build_config() or {}).values())
    shape = shapes[0] if shapes else None
    if not isinstance(shape, (tuple, list)) or not shape or not isinstance(shape[-1], int):
        return None
    if len(shape) != 2:
        raise TypeError(
            f"as_transition: the inputs of {type(cell).__name__} have {len(shape) - 1} axes "
            "besides the batch; expected a vector. Wrap a step of it in a function F(x, u)."
        )
    return shape[-1]


def _accepts_training(layer: Any) -> bool:
    parameters = inspect.signature(layer.call).parameters.values()
    return any(p.name == "training" or p.kind == p.VAR_KEYWORD for p in parameters)


def _by_kind(layer: Any) -> dict[str, list[Any]]:
    return {"trainable": layer.trainable_variables, "others": layer.non_trainable_variables}


def _named(variables: list[Any]) -> list[tuple[str, Any]]:
    """Return variables with names, those within the layer: `kernel`, not `gru_cell_3/kernel`."""
    names: list[str] = []
    for variable in variables:
        name = variable.path.partition("/")[2] or variable.path
        names.append(name if name not in names else f"{name} ({len(names)})")
    return list(zip(names, variables, strict=True))


# ---- states ------------------------------------------------------------------------------------


def _states(cell: Any) -> Any:
    """Return the shapes of the states of a cell, for one state, in the form that it takes."""
    if hasattr(cell, "get_initial_state"):
        states = jax.eval_shape(lambda: cell.get_initial_state(batch_size=1))
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), states)
    sizes = cell.state_size if isinstance(cell.state_size, (list, tuple)) else [cell.state_size]
    shapes = [tuple(size) if isinstance(size, (list, tuple)) else (size,) for size in sizes]
    return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]


def _without_lists_of_one(states: Any) -> Any:
    if not isinstance(states, (list, tuple)):
        return states
    parts = [_without_lists_of_one(part) for part in states]
    return parts[0] if len(parts) == 1 else type(states)(parts)


# ---- what a step may not do --------------------------------------------------------------------


def _check_still_without_variables(layer: Any, parts: list[Any]) -> None:
    """Check that a call has not made variables, which its caller cannot give values.

    Raises:
        ModelError: if it has, or was about to.
    """
    for part in parts:
        if part.variables:
            raise ModelError(
                f"{type(layer).__name__} makes the variables of its layer `{part.name}` in its "
                "first call; expected a model that has been called. Call it once on data."
            )


def _check_that_it_is_a_map(step: HeldCell, layout: StateLayout, n_inputs: int) -> None:
    """Check that a step draws no random numbers that matter, and keeps nothing for the next one."""
    others = _named(step.held.layer.non_trainable_variables)
    seeds = {id(g.state) for g in _seed_generators(step.held.layer)}
    changed: list[str] = []

    def next_state(u: Any, x: Any) -> Any:
        new, values = step.with_variables(u, layout.unflatten(x))
        for (name, variable), value in zip(others, values, strict=True):
            given = step.held.variables["others"][name]
            if value is not given and id(variable) not in seeds:
                changed.append(name)
        return layout.flatten(new)

    u, x = (jax.ShapeDtypeStruct((n,), jnp.float32) for n in (n_inputs, layout.n_states))
    try:
        program = jax.make_jaxpr(next_state)(u, x)
    except ModelError:
        raise
    except Exception as error:  # the user's code may raise any error
        raise ModelError(
            f"as_transition: {step.name} could not be evaluated for {n_inputs} inputs and "
            f"{layout.n_states} states: {type(error).__name__}: {error}"
        ) from error
    if changed:
        raise ModelError(
            f"as_transition: {step.name} changes its variable `{changed[0]}` in a step, and so "
            "keeps something from one call for the next. Make what changes a part of the state."
        )
    # Masks for dropout are drawn in any case, and not used if it is off.
    if any(_is_random(eqn) for eqn in _used(program.jaxpr)):
        raise ModelError(
            f"as_transition: {step.name} draws random numbers in a step, though it was called with "
            "`training=False`, and has no fixed points then. Switch its noise off."
        )


def _seed_generators(layer: Any) -> Iterator[Any]:
    for part in layer._flatten_layers():
        for value in vars(part).values():
            if isinstance(value, keras.random.SeedGenerator):
                yield value


def _used(jaxpr: Any) -> Iterator[Any]:
    """Yield the operations on which the results of a program depend."""
    wanted = {var for var in jaxpr.outvars if not hasattr(var, "val")}  # other than literals
    for eqn in reversed(jaxpr.eqns):
        if wanted.intersection(eqn.outvars):
            wanted.update(var for var in eqn.invars if not hasattr(var, "val"))
            yield eqn


def _is_random(eqn: Any) -> bool:
    if eqn.primitive.name.startswith(("random_", "threefry", "rng_")):
        return True
    inner = [getattr(p, "jaxpr", p) for p in jax.tree.leaves(list(eqn.params.values()))]
    return any(_is_random(e) for p in inner if hasattr(p, "eqns") for e in p.eqns)
