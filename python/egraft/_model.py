"""Inputs and outputs of a model."""

from typing import NamedTuple


class Port(NamedTuple):
    """An input or an output: its name, the name of its element type in NumPy, and its sizes.

    A size is a number, or an expression as text where the model takes several sizes: "batch", "2*n".
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
