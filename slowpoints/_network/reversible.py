"""`reversible`: derivatives in reverse mode for what has them in forward mode alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from slowpoints._network.derivative import has_tangent, with_zeros

_MOST_DERIVATIVES = 2**22
"""A Jacobian has so many entries at most: that of 2,048 numbers, or that of the Jacobian of 161."""


def reversible(function: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    """Return a function that has derivatives in reverse mode where another one does not.

    JAX has those of loops whose length is not known, as of `jax.lax.while_loop`, in forward mode
    alone. Their Jacobian is computed so, in as many passes as there are numbers that change; then
    it is a matrix, which may be transposed. It has derivatives of its own in the same way.

    Args:
        function: from a pytree of arrays to a list of arrays. It closes over no traced array.
    """

    @jax.custom_jvp
    def whole(arguments: Any) -> list[Any]:
        return function(arguments)

    def rule(primals: Any, tangents: Any) -> tuple[list[Any], list[Any]]:
        arguments, treedef = jax.tree.flatten(primals[0])
        changes = jax.tree.leaves(tangents[0], is_leaf=lambda t: isinstance(t, SymbolicZero))
        changing = [i for i, t in enumerate(changes) if not isinstance(t, SymbolicZero)]
        changes = [changes[i] for i in changing]

        def of_changing(arguments: list[Any]) -> Callable[[list[Any]], tuple[list[Any], list[Any]]]:
            def real_and_all(values: list[Any]) -> tuple[list[Any], list[Any]]:
                given = dict(zip(changing, values, strict=True))
                leaves = [given.get(i, a) for i, a in enumerate(arguments)]
                results = function(jax.tree.unflatten(treedef, leaves))
                return [a for a in results if has_tangent(a.dtype)], results

            return real_and_all

        def with_jacobian(arguments: list[Any]) -> list[Any]:
            at = [arguments[i] for i in changing]
            J, results = jax.jacfwd(of_changing(arguments), has_aux=True)(at)
            return [*results, *jax.tree.leaves(J)]

        at = [arguments[i] for i in changing]
        real, results = jax.eval_shape(of_changing(arguments), at)
        n_derivatives = sum(a.size for a in real) * sum(a.size for a in at)
        is_complex = any(jnp.issubdtype(a.dtype, np.complexfloating) for a in (*real, *at))
        if is_complex or n_derivatives > _MOST_DERIVATIVES:
            _, of_real, results = jax.jvp(of_changing(arguments), (at,), (changes,), has_aux=True)
            return results, [*with_zeros(results, of_real)]
        flat = reversible(with_jacobian)(arguments)
        n = len(results)
        rows = iter(flat[n:])
        of_real = [
            sum(jnp.tensordot(next(rows), change, change.ndim) for change in changes) for _ in real
        ]
        return flat[:n], [*with_zeros(flat[:n], of_real)]

    whole.defjvp(rule, symbolic_zeros=True)
    return whole
