"""What each chunk of a search starts from."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from slowpoints._core.types import Number, RealArray
from slowpoints._search.sample import sample_states
from slowpoints._storage.search_folder import chunk_paths


@dataclasses.dataclass(frozen=True)
class Chunks:
    """How the initial states of a search are divided and drawn.

    Attributes:
        n_inits: how many there are.
        size: how many of them are in a chunk; in the last one, there may be fewer.
        state_traj: the states to draw from.
        valid_bxt: which of them may be drawn.
        inputs: the inputs of all initial states, or one row for all of them.
        noise_scale: standard deviation of the noise.
        key: what random numbers come from, a part of it for each chunk.
    """

    n_inits: int
    size: int
    state_traj: Float[RealArray, "trials time n_states"]
    valid_bxt: Bool[RealArray, "trials time"] | None
    inputs: Float[RealArray, "_ n_inputs"]
    noise_scale: Number
    key: PRNGKeyArray

    @property
    def n(self) -> int:
        """How many chunks there are in all."""
        return -(-self.n_inits // self.size)

    def rows_of(self, chunk: int) -> tuple[int, int]:
        """Return the first row of a chunk among all, and the one after its last."""
        return chunk * self.size, min((chunk + 1) * self.size, self.n_inits)

    def starts(self, chunk: int) -> Float[Array, "rows n_states"]:
        """Return the states that a chunk starts from."""
        first, end = self.rows_of(chunk)
        key, noise_scale = self._key_of(chunk), self.noise_scale
        return sample_states(key, self.state_traj, end - first, noise_scale, self.valid_bxt)

    def inputs_of(self, chunk: int) -> Float[RealArray, "_ n_inputs"]:
        """Return the inputs of a chunk, or one row for all."""
        first, end = self.rows_of(chunk)
        return self.inputs if self.inputs.shape[0] == 1 else self.inputs[first:end]

    def random_state(self, chunk: int) -> dict[str, Any]:
        """Return what a chunk's states are drawn with, as it is stored."""
        key = self._key_of(chunk)
        implementation, data = jax.random.key_impl(key), jax.random.key_data(key)
        return {"implementation": str(implementation), "key": np.asarray(data).tolist()}

    def _key_of(self, chunk: int) -> PRNGKeyArray:
        return jax.random.fold_in(self.key, chunk)

    def check(self, directory: Path, chunk: int, record: dict[str, Any]) -> None:
        """Check that the stored record of a chunk is that of the chunk here.

        Raises:
            ValueError: if it is not.
        """
        first, end = self.rows_of(chunk)
        if record["n_rows"] != end - first:
            raise ValueError(
                f"Search: `n_inits` is {self.n_inits}, which gives chunk {chunk} {end - first} "
                f"rows, but in {str(directory)!r} it has {record['n_rows']}."
            )
        if record["first_row"] != first:
            path = chunk_paths(directory, chunk)[1]
            raise ValueError(f"{str(path)!r} is damaged: `first_row` is not {first}.")
        if record["random_state"] != self.random_state(chunk):
            raise ValueError(
                f"Search: chunk {chunk} in {str(directory)!r} was drawn by another random "
                f"state: {record['random_state']}, not {self.random_state(chunk)}."
            )
