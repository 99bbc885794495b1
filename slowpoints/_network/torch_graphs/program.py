"""`TorchStep`: a step of a PyTorch module as a JAX program, which needs no PyTorch."""

import dataclasses
import functools
import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from slowpoints._network.base import ModelError
from slowpoints._network.torch_graphs.aten import counterpart


@dataclasses.dataclass(frozen=True)
class Ref:
    """In the arguments of an operation: a value that has been computed before, by its number."""

    number: int


@dataclasses.dataclass(frozen=True)
class Dtype:
    """In the arguments of an operation: a type. All real ones mean the precision of the state."""

    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class TorchProgram:
    """What a module computes for states and inputs of given shapes, with the weights as arguments.

    Programs are equal if all but the weights is equal by value.

    Attributes:
        weights: the names of the weights that are used; they are the first values.
        constants: the next values: arrays that are no weights, such as masks and indices.
        lines: the operations, each with its arguments and its keyword arguments. Their results are
            the values that follow the states and the input.
        outputs: which values are the next state.
    """

    weights: tuple[str, ...]
    constants: tuple[np.ndarray, ...]
    lines: tuple[tuple[str, tuple[Any, ...], tuple[tuple[str, Any], ...]], ...]
    outputs: tuple[Ref, ...]

    @functools.cached_property
    def _key(self) -> str:
        # A text, in which 1, 1.0 and True differ, and -0.0 from 0.0.
        key = hashlib.sha256(repr((self.weights, self.lines, self.outputs)).encode())
        for array in self.constants:
            key.update(f"{array.dtype} {array.shape};".encode() + array.tobytes())
        return key.hexdigest()

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, TorchProgram) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def depends_on_state(self) -> bool:
        """Whether any array of the next state is computed from any array of the state."""
        first = len(self.weights) + len(self.constants)
        reached = set(range(first, first + len(self.outputs)))
        for number, (_, *arguments) in enumerate(self.lines, first + len(self.outputs) + 1):
            if not reached.isdisjoint(_numbers(arguments)):
                reached.add(number)
        return not reached.isdisjoint(ref.number for ref in self.outputs)

    def __call__(self, weights: dict[str, Any], *arguments: jax.Array) -> list[jax.Array]:
        """Return the arrays of the next state.

        Args:
            weights: all weights, by name.
            arguments: the arrays of the state, and the input. Their precision decides.
        """
        real = jnp.result_type(np.float32, *arguments)
        own = functools.partial(_own, real=real)
        values = [own(weights[name]) for name in self.weights]
        values += [own(constant) for constant in self.constants]
        values += [own(argument) for argument in arguments]

        def read(arg: Any) -> Any:
            if isinstance(arg, Ref):
                return values[arg.number]
            if isinstance(arg, Dtype):
                return _dtype(np.dtype(arg.name), real)
            return tuple(map(read, arg)) if isinstance(arg, tuple) else arg

        for name, args, keywords in self.lines:
            compute: Any = counterpart(name)
            value = compute(*read(args), **dict(read(keywords)))
            values.append(jax.tree.map(own, value))
        return [values[ref.number].astype(real) for ref in self.outputs]


def _numbers(arguments: Any) -> Iterator[int]:
    if isinstance(arguments, Ref):
        yield arguments.number
    elif isinstance(arguments, (tuple, list)):
        for argument in arguments:
            yield from _numbers(argument)


def _dtype(dtype: Any, real: Any) -> Any:
    """Return what stands for a type where all real numbers are of the type `real`."""
    if jnp.issubdtype(dtype, np.floating):
        return real
    if jnp.issubdtype(dtype, np.complexfloating):
        return jnp.result_type(real, np.complex64)
    return jax.dtypes.canonicalize_dtype(dtype)


def _own(value: Any, real: Any) -> Any:
    """Return an array in the precision `real`; those of NumPy too, which are arrays of JAX then."""
    if not isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return value
    dtype = _dtype(value.dtype, real)
    # NumPy's numbers are rounded by NumPy, since JAX without x64 remembers an array with its type.
    value = value if value.dtype == dtype else value.astype(dtype)
    # A mask that selects places has to be known while the program is traced.
    return value if isinstance(value, np.ndarray) and dtype.kind in "biu" else jnp.asarray(value)


class Programs:
    """The programs of one module, by the shapes of its state and its input, made when asked for.

    Two are equal if the same shapes have been asked of both, and have given equal programs.
    """

    __slots__ = ("_lock", "_made", "_module", "_name")

    def __init__(self, name: str, module: Any, made: dict[Any, TorchProgram] | None = None):
        self._name, self._module = name, module
        self._made = dict(made or {})
        self._lock = threading.RLock()

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Programs):
            return False
        return self is other or (bool(self._made) and self._made == other._made)

    def __hash__(self) -> int:
        return hash(self._name)  # which never changes

    def __repr__(self) -> str:
        return f"Programs({self._name!r})"

    def __copy__(self) -> "Programs":
        return self

    def __deepcopy__(self, memo: Any) -> "Programs":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Once there is a program, it is all that a pickle needs, and PyTorch is not.
        return Programs, (self._name, None if self._made else self._module, self._made)

    def of(self, treedef: Any, shapes: tuple[Any, ...], n_inputs: int) -> TorchProgram:
        """Return the program for states of this structure, arrays of these shapes, and inputs."""
        key = treedef, shapes, n_inputs
        with self._lock:
            if key not in self._made:
                if self._module is None:
                    raise ModelError(
                        f"{self._name} comes from a file, with its program for the shapes that it "
                        f"was used with: {', '.join(f'{s}, ({n},)' for _, s, n in self._made)}; "
                        f"found {shapes}, ({n_inputs},). Make the transition from the module."
                    )
                self._made[key] = self._module.program(treedef, shapes, n_inputs)
            return self._made[key]


class TorchStep(eqx.Module):
    """A module's step, from a state in its own form and an input, both without a batch axis.

    Attributes:
        weights: the module's parameters, and its other real tensors, by name.
        programs: what is computed with them.
    """

    weights: dict[str, Any]
    programs: Programs = eqx.field(static=True)

    def __call__(self, state: Any, u: jax.Array) -> Any:
        """Return the next state.

        Raises:
            ModelError: if the module cannot be called with these shapes, or is no map from a state
                and an input to the next state.
        """
        leaves, treedef = jax.tree.flatten(state)
        program = self.programs.of(treedef, tuple(tuple(a.shape) for a in leaves), u.shape[0])
        return jax.tree.unflatten(treedef, program(self.weights, *leaves, u))
