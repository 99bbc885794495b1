"""Decompositions of matrices: the same as JAX's, with the same slopes, and never in a batch."""

import ast
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import slowpoints
from slowpoints._linear_algebra import lapack

PACKAGE = Path(slowpoints.__file__).parent

BATCH = np.random.default_rng(0).standard_normal((3, 2, 5, 5)) + 2 * np.eye(5)
GRAM = BATCH @ np.swapaxes(BATCH, -1, -2)
COLUMNS = BATCH[..., :2]


def lu_solve_of(A, b):
    return lapack.lu_solve(lapack.lu_factor(A), b)


def lu_solve_transposed_of(A, b):
    return lapack.lu_solve_transposed(lapack.lu_factor(A), b)


CASES = {
    "eig": (lapack.eig, jnp.linalg.eig, (BATCH,)),
    "eig of complex": (lapack.eig, jnp.linalg.eig, (BATCH + 0.1j * GRAM,)),
    "eigvals": (lapack.eigvals, jnp.linalg.eigvals, (BATCH,)),
    "eigh": (lapack.eigh, jnp.linalg.eigh, (GRAM,)),
    "basis": (lapack.basis, lambda A: jnp.linalg.qr(A)[0], (COLUMNS,)),
    "singular_values": (
        lapack.singular_values,
        lambda A: jnp.linalg.svd(A, compute_uv=False),
        (BATCH,),
    ),
    "svd": (lapack.svd, jnp.linalg.svd, (BATCH,)),
    "inverse": (lapack.inverse, jnp.linalg.inv, (BATCH,)),
    "inverse of complex": (lapack.inverse, jnp.linalg.inv, (BATCH + 0.1j * GRAM,)),
    "lu": (lu_solve_of, jnp.linalg.solve, (BATCH, COLUMNS)),
    "lu transposed": (
        lu_solve_transposed_of,
        lambda A, b: jnp.linalg.solve(jnp.swapaxes(A, -1, -2), b),
        (BATCH, COLUMNS),
    ),
    "cholesky": (lapack.cholesky, jnp.linalg.cholesky, (GRAM,)),
    "cholesky_solve": (
        lambda A, b: lapack.cholesky_solve(lapack.cholesky(A), b),
        jnp.linalg.solve,
        (GRAM, COLUMNS),
    ),
    "solve": (
        lapack.solve,
        lambda A, b: jnp.linalg.solve(A, b[..., None])[..., 0],
        (BATCH, BATCH[..., 0]),
    ),
}
each = pytest.mark.parametrize("name", CASES)


def twice_batched(f):
    return jax.vmap(jax.vmap(f))


@pytest.mark.one_in(4)
@pytest.mark.slow_cases
@each
@pytest.mark.parametrize("wide", [False, True])
def test_batches_of_batches_are_decomposed_as_by_jax(name, wide):
    f, expected, arguments = CASES[name]
    tol = 1e-12 if wide else 2e-4
    with jax.enable_x64(wide):
        arguments = [jnp.asarray(a) for a in arguments]
        for got in (twice_batched(f)(*arguments), jax.jit(twice_batched(f))(*arguments)):
            leaves, others = jax.tree.leaves(got), jax.tree.leaves(expected(*arguments))
            assert len(leaves) == len(others)
            for a, b in zip(leaves, others, strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_allclose(a, b, atol=tol, rtol=tol)


def decompositions_of_batches(f, *arguments):
    """Return the operations of LAPACK that a program for a CPU calls with more than one matrix."""
    text = jax.jit(f).lower(*arguments).as_text()
    calls = re.findall(r"custom_call @(lapack\w+)\(.*?: \(tensor<([\dx]+)x\w", text)
    return [name for name, shape in calls if np.prod([int(k) for k in shape.split("x")[:-2]]) > 1]


@each
def test_no_batch_reaches_lapack(name):
    f, expected, arguments = CASES[name]
    assert decompositions_of_batches(twice_batched(f), *arguments) == []
    if name not in ("solve", "lu", "lu transposed", "cholesky_solve"):  # LU of JAX is one as well
        assert decompositions_of_batches(expected, *arguments)


@each
def test_no_rows_are_no_reason_to_fail(name):
    f, _, arguments = CASES[name]
    empty = [a[:0, 0] for a in arguments]
    assert all(leaf.shape[0] == 0 for leaf in jax.tree.leaves(jax.vmap(f)(*empty)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["svd", "inverse", "solve"])
def test_derivatives_of_both_modes_and_orders(name):
    f, _, arguments = CASES[name]
    with jax.enable_x64(True):
        one = [jnp.asarray(a[0, 0]) for a in arguments]
        check_grads(jax.jit(f), one, order=2)
        check_grads(jax.jit(jax.vmap(f)), [jnp.asarray(a[0]) for a in arguments], order=1)


def test_equal_singular_values_have_finite_derivatives():
    slope = jax.jacrev(lambda A: lapack.svd(A)[1])(jnp.eye(3))
    assert np.isfinite(slope).all()


def test_a_matrix_that_all_rows_share_is_decomposed_once():
    def f(b):
        return jax.vmap(lapack.solve, (None, 0))(A, b)

    A, b = jnp.asarray(BATCH[0, :2])
    np.testing.assert_allclose(f(b) @ A.T, b, atol=1e-4)
    assert jax.jit(f).lower(b).as_text().count("getrf") == 1


# ---- no other module decomposes matrices by JAX --------------------------------------------------


def decompositions_in(source):
    """Return the functions of JAX's `linalg` modules, other than norms, that a module names."""
    named = []
    for node in ast.walk(ast.parse(source)):
        # SciPy's `linalg` runs on the host, and waits for nobody.
        module = getattr(node, "module", None) or ""
        of_scipy = module.startswith(("scipy.linalg", "scipy.sparse.linalg"))
        if isinstance(node, ast.ImportFrom) and "linalg" in module and not of_scipy:
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            root = node.value.value
            is_numpy = isinstance(root, ast.Name) and root.id == "np"
            if node.value.attr == "linalg" and not is_numpy:
                named.append(node.attr)
    return [name for name in named if name != "norm"]


# What users' models compute is theirs: the search of such a network is left to one thread.
MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.name != "lapack.py" and path.parent.name not in ("frameworks", "torch_graphs")
)


def test_no_other_module_decomposes_matrices_by_jax():
    assert len(MODULES) > 100
    for path in MODULES:
        source = path.read_text()
        assert decompositions_in(source) == [], path
        assert "pure_callback" not in source and "io_callback" not in source, path


def test_such_a_function_would_be_noticed():
    for source in ("jnp.linalg.eigh(A)", "jax.scipy.linalg.lu(A)", "jax.lax.linalg.qr(A)"):
        assert decompositions_in(source)
    assert decompositions_in("from jax.scipy.linalg import cho_factor") == ["cho_factor"]
    assert not decompositions_in("np.linalg.svd(A), jnp.linalg.norm(A)")
    assert not decompositions_in("from scipy.linalg.lapack import dgetrf")


def test_rows_may_be_exchanged_in_turn():
    """The order of the rows is not its own inverse."""
    A = jnp.array([[0.1, 3, 0.2], [0.3, 0.1, 2], [4, 0.2, 0.1]])
    b = jnp.array([1.0, -2, 3])
    factors = lapack.lu_factor(A)
    assert not np.array_equal(factors.order, np.argsort(factors.order))
    np.testing.assert_allclose(A @ lapack.lu_solve(factors, b), b, rtol=1e-5)
    np.testing.assert_allclose(A.T @ lapack.lu_solve_transposed(factors, b), b, rtol=1e-5)
