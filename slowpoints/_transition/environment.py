"""What the environments of BrainState and BrainPy hold, such as the time step, at one moment.

A model may read from them in every step. They belong to one thread, so that another thread has to
be given them; and since they are no part of a model, two models that are equal but for them have to
be told apart.
"""

import contextlib
import hashlib
import sys
from collections.abc import Hashable, Iterator
from typing import Any

import jax
import numpy as np
from jax.core import Tracer


class Environment:
    """The settings of all frameworks with an environment that are imported, as they are now.

    Two of them are equal if all settings are.
    """

    def __init__(self) -> None:
        # By name, because the environments themselves can be neither copied nor pickled.
        self._held = {framework: _settings_of(env) for framework, env in _environments().items()}
        self._key = tuple(
            (framework, name, _key_of(value))
            for framework, values in self._held.items()
            for name, value in sorted(values.items(), key=lambda item: str(item[0]))
        )

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Environment) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return "Environment()"

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Let these settings hold in this thread, and none that were made in between or elsewhere.

        Nobody is told of the change, since what follows a setting, such as JAX's precision, is not
        to change here.
        """
        environments = _environments()
        held = [(environments[framework], values) for framework, values in self._held.items()]
        before = [(env, dict(env.settings), dict(env.contexts)) for env, _ in held]
        try:
            for env, values in held:
                env.contexts.clear()
                env.settings.clear()
                env.settings.update(values)
            yield
        finally:
            for env, settings, contexts in before:
                env.settings.clear()
                env.settings.update(settings)
                env.contexts.clear()
                env.contexts.update(contexts)


def _environments() -> dict[str, Any]:
    """Return the environments of the frameworks that are imported."""
    found = {}
    if "brainstate.environ" in sys.modules:
        of_brainstate = sys.modules["brainstate.environ"]
        held = vars(of_brainstate).values()
        found["brainstate"] = next(
            env for env in held if isinstance(env, of_brainstate.EnvironmentState)
        )
    if "brainpy.math.defaults" in sys.modules:
        found["brainpy"] = sys.modules["brainpy.math.defaults"].env
    return found


def _settings_of(env: Any) -> dict[Any, Any]:
    """Return an environment's settings; those that are made in a `with` statement come first."""
    made_within = {name: values[-1] for name, values in env.contexts.items() if values}
    return env.settings | made_within


def _key_of(value: Any) -> Hashable:
    """Return what is equal for equal numbers, texts and arrays, and for the same object else."""
    if value is None or isinstance(value, (str, bytes, bool, int, float, complex, type)):
        return type(value), value
    if isinstance(value, (np.ndarray, np.generic, jax.Array)) and not isinstance(value, Tracer):
        array = np.asarray(value)
        if array.dtype != object:
            digest = hashlib.sha256(array.tobytes()).digest()
            return array.shape, array.dtype.str, digest
    return Identity(value)


class Identity:
    """Equal only to the same object, which it keeps alive."""

    def __init__(self, obj: Any):
        self._obj = obj

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Identity) and self._obj is other._obj

    def __hash__(self) -> int:
        return id(self._obj)
