"""`Network`: a program together with its arrays, which can be computed in any precision."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core.digests import digest_of_arrays
from slowpoints._core.mesh_axes import alike
from slowpoints._network.base import ModelError, Transition
from slowpoints._network.derivative import has_tangent, with_zeros
from slowpoints._network.program import CALLS, Line, Number, Program, Value, is_fixed
from slowpoints._network.reversible import reversible


class Network(Transition):
    """What a model computes in one step, with all real numbers in the precision of the state.

    Attributes:
        arrays: the numbers of the network, such as its weights.
        program: what is done with them. It is equal for networks of the same architecture.
    """

    arrays: tuple[Any, ...]
    program: Program = eqx.field(static=True)

    @property
    def n_states(self) -> int:
        """The length of a state."""
        return self.program.arguments[0][0][0]

    @property
    def n_inputs(self) -> int:
        """The length of an input."""
        return self.program.arguments[1][0][0]

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return the state that follows `x` under the input `u`, in the precision of `x`.

        Raises:
            ModelError: if `x` or `u` has another length than the network's.
        """
        for name, value, n in (("x", x, self.n_states), ("u", u, self.n_inputs)):
            if jnp.shape(value) != (n,):
                raise ModelError(f"`{name}` has shape {jnp.shape(value)}; expected ({n},).")
        return _next_state(self.program, self.arrays, x, u)


@functools.partial(jax.jit, static_argnums=0)
def _next_state(program: Program, arrays: tuple[Any, ...], x: Array, u: Array) -> Array:
    # Compiled, because a loop in the program would be compiled anew each time that it is computed.
    (result,) = Evaluation(arrays, np.dtype(x.dtype)).results(program, (x, u))
    return result


def finest(F: Transition) -> np.dtype | None:
    """Return the finest real type that a transition can be computed in; `None` for any type."""
    limits = [program.finest for program in programs_of(F) if program.finest is not None]
    return min(limits, key=lambda dtype: jnp.finfo(dtype).bits, default=None)


def programs_of(F: Transition) -> list[Program]:
    """Return the programs that a traced transition consists of."""
    return [network.program for network in _networks(F)]


def digest_of_network(F: Transition) -> str:
    """Return the SHA-256 of what a traced transition computes, and of its arrays.

    The digest is the same in another process and on another kind of device. It covers the
    operations as JAX traces them, so another version of JAX may give another digest. It does not
    cover what a callback to the host does.
    """
    text = "".join([type(F).__name__, *(program.text() for program in programs_of(F))])
    return digest_of_arrays(np.frombuffer(text.encode(), np.uint8), *jax.tree.leaves(F))


def _networks(F: Transition) -> list[Network]:
    parts = jax.tree.leaves(F, is_leaf=lambda part: isinstance(part, Network))
    return [part for part in parts if isinstance(part, Network)]


class Evaluation:
    """One pass over a program with real numbers of one type.

    Args:
        arrays: the network's arrays, by their places.
        dtype: the type of all real numbers; complex ones are as precise.
        rules: functions whose rules for derivatives are being evaluated, from the outside in.
    """

    def __init__(self, arrays: Any, dtype: np.dtype, rules: tuple[Callable[..., Any], ...] = ()):
        self.arrays, self.dtype, self.rules = arrays, dtype, rules

    def results(self, program: Program, arguments: Sequence[Any]) -> list[Any]:
        """Return what a program makes of its arguments."""
        values = alike([self._cast(a) for a in arguments])

        def read(operand: Any) -> Any:
            if isinstance(operand, Value):
                return values[operand.index]
            if isinstance(operand, Number):
                return self._cast(operand.value)
            return self._cast(self.arrays[operand.index])

        for line in program.lines:
            values += self._line(line, [read(operand) for operand in line.operands])
        return [read(operand) for operand in program.results]

    def _cast(self, a: Any) -> Any:
        dtype = self._type(a.dtype)
        return a if a.dtype == dtype and not isinstance(a, np.ndarray) else jnp.asarray(a, dtype)

    def _type(self, dtype: Any) -> Any:
        if jnp.issubdtype(dtype, np.floating):
            return self.dtype
        if jnp.issubdtype(dtype, np.complexfloating):
            return jnp.result_type(self.dtype, np.complex64)
        return dtype

    def _line(self, line: Line, operands: list[Any]) -> Sequence[Any]:
        name = line.primitive.name
        if name in CALLS or name in _STRUCTURED:
            operands = alike(operands)
        if name in CALLS:
            (program,) = line.parts()
            return self.results(program, operands)
        if name in _STRUCTURED:
            return _STRUCTURED[name](self, line, operands)
        if is_fixed(line):
            operands = [
                a if dtype is None or a.dtype == dtype else jnp.asarray(a, dtype)
                for a, dtype in zip(operands, line.dtypes, strict=True)
            ]
            return [self._cast(a) for a in _bind(line, operands, line.params)]
        params = {key: self._param(value) for key, value in line.params.items()}
        for key, value in line.programs:
            program = self._recast(value)
            params[key] = program if key in line.closed else program.jaxpr
        return _bind(line, operands, params)

    def _param(self, value: Any) -> Any:
        return self._type(value) if isinstance(value, np.dtype) else value

    def _recast(self, program: Program) -> Any:
        """Return a program that an operation keeps, such as a sum, for the types of this pass."""
        specs = [jax.ShapeDtypeStruct(s, self._type(dtype)) for s, dtype in program.arguments]
        traced = jax.make_jaxpr(lambda *args: self.results(program, args))(*specs)
        return traced

    def arrays_of(self, *programs: Program) -> Any:
        """Return the arrays that programs use, by their places, which may be all that there are."""
        if self.rules:  # whose arrays are all that is used inside of them
            return self.arrays
        return {i: self.arrays[i] for i in sorted({i for p in programs for i in p.places})}

    def function(self, program: Program, first: Sequence[Any] = ()) -> Callable[..., list[Any]]:
        return lambda *args: self.results(program, [*first, *args])


def _bind(line: Line, operands: Sequence[Any], params: Any) -> Sequence[Any]:
    out = line.primitive.bind(*alike(operands), **params)
    return out if line.primitive.multiple_results else [out]


# ---- operations that apply programs --------------------------------------------------------------


def _scan(own: Evaluation, line: Line, operands: list[Any]) -> list[Any]:
    n_consts, n_carry = line.params["n_consts"], line.params["n_carry"]
    step = own.function(line.inner["jaxpr"], operands[:n_consts])

    def body(carry: Any, xs: Any) -> Any:
        out = step(*carry, *xs)
        return out[:n_carry], out[n_carry:]

    settings = {name: line.params[name] for name in ("length", "reverse", "unroll")}
    rest = operands[n_consts:]
    carry, ys = jax.lax.scan(body, rest[:n_carry], rest[n_carry:], **settings)
    return [*carry, *ys]


def _while(own: Evaluation, line: Line, operands: list[Any]) -> list[Any]:
    n_cond, n_body = line.params["cond_nconsts"], line.params["body_nconsts"]

    def loop(given: tuple[dict[int, Any], list[Any]]) -> list[Any]:
        arrays, operands = given
        inside = Evaluation(arrays, own.dtype, own.rules)
        goes_on = inside.function(line.inner["cond_jaxpr"], operands[:n_cond])
        step = inside.function(line.inner["body_jaxpr"], operands[n_cond : n_cond + n_body])
        start = operands[n_cond + n_body :]
        return list(jax.lax.while_loop(lambda c: goes_on(*c)[0], lambda c: step(*c), start))

    return reversible(loop)((own.arrays_of(*line.parts()), operands))


def _cond(own: Evaluation, line: Line, operands: list[Any]) -> list[Any]:
    which, *rest = operands
    branches = [own.function(branch) for branch in line.inner["branches"]]
    if len(branches) == 2:  # whose truth value needs no limits, which proofs could not follow
        return jax.lax.cond(which != 0, branches[1], branches[0], *rest)
    return jax.lax.switch(which, branches, *rest)


def _with_rule(own: Evaluation, line: Line, operands: list[Any]) -> list[Any]:
    """Apply a function of `custom_jvp` as one, with its rule in the precision of this pass."""
    call, rule = line.inner["call_jaxpr"], line.inner["rule"]
    if rule is None:
        return own.results(call, operands)
    if isinstance(rule, int):  # used in its own rule
        return own.rules[rule](own.arrays, operands)

    # What such a function closes over has no derivative, so the arrays are arguments as well.
    @jax.custom_jvp
    def function(arrays: dict[int, Any], arguments: list[Any]) -> list[Any]:
        return Evaluation(arrays, own.dtype, own.rules).results(call, arguments)

    @function.defjvp
    def _(primals: Any, tangents: Any) -> tuple[list[Any], list[Any]]:
        (arrays, arguments), (_, changes) = primals, tangents
        changes = [t for a, t in zip(arguments, changes, strict=True) if has_tangent(a.dtype)]
        inside = Evaluation(arrays, own.dtype, (*own.rules, function))
        out = inside.results(rule, [*arguments, *changes])
        results = out[: len(line.out_dtypes)]
        return results, [*with_zeros(results, out[len(results) :])]

    return function(own.arrays_of(call, rule), operands)


def _linear_solve(own: Evaluation, line: Line, operands: list[Any]) -> list[Any]:
    lengths, programs = line.params["const_lengths"], line.inner["jaxprs"]
    solvers, start = [], 0
    for length, program in zip(lengths, programs, strict=True):
        consts = operands[start : start + length]
        solvers.append(None if program is None else own.function(program, consts))
        start += length

    def of_all(solver: Callable[..., list[Any]] | None) -> Any:
        return solver and (lambda b: solver(*b))

    matvec, _, solve, transpose_solve = map(of_all, solvers)
    symmetric = programs[0] == programs[1]
    return jax.lax.custom_linear_solve(
        matvec,
        operands[start:],
        lambda _, b: solve(b),
        (lambda _, b: transpose_solve(b)) if transpose_solve else None,
        symmetric=symmetric,
    )


_STRUCTURED: dict[str, Callable[[Evaluation, Line, list[Any]], Sequence[Any]]] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "custom_jvp_call": _with_rule,
    "custom_linear_solve": _linear_solve,
}
"""Operations that are put together anew, from programs in the types of the pass."""
