"""Valid models whose inputs leave sizes open that nodes fix, and one in which nodes follow the inputs."""

from __future__ import annotations

from .case import valid


@valid(sets=[{"batch": 1}])
def traced_batch():
    """A sample's batch of 1 stands in the shape of a Reshape, while the input leaves it open."""
    return """(float[batch, 6, 4] x) => (float[1, 3] y)
    <float[24, 3] w, int64[2] flat = {1, 24}>
    { a = Reshape(x, flat)
      y = MatMul(a, w) }"""


@valid(sets=[{"batch": 2, "length": 6}])
def traced_length():
    """A table of positions is cut to the length that a sample had."""
    return """(float[batch, length, 4] x) => (float[batch, length, 4] y)
    <float[16, 4] table, int64[1] from = {0}, int64[1] to = {6}, int64[1] axis = {0}>
    { a = Slice(table, from, to, axis)
      y = Add(x, a) }"""


@valid(sets=[{"batch": 2, "length": 3}, {"batch": 6, "length": 1}])
def traced_batch_and_length():
    """The product of batch and length is fixed, neither of them is."""
    return """(float[batch, length, 4] x) => (float[3, 8] y)
    <int64[2] shape = {3, 8}>
    { a = Relu(x)
      y = Reshape(a, shape) }"""


@valid(sets=[{"batch": 1, "length": 6, "width": 4}, {"batch": 2, "length": 3, "width": 4}])
def sizes_of_inputs_kept():
    """Shapes and a table of positions follow the inputs; a width that they leave open is that of a weight."""
    return """(float[batch, length, width] x) => (float[batch, length, 4] y, float[rows, 2] z)
    <float[4, 4] w, float[16, 4] table, int64[1] from = {0}, int64[1] axis = {0}, int64[1] second = {1},
     int64[3] split = {0, -1, 4}, int64[2] pairs = {-1, 2}>
    { a = MatMul(x, w)
      sizes = Shape(a)
      length_now = Gather<axis = 0>(sizes, second)
      positions = Slice(table, from, length_now, axis)
      b = Add(a, positions)
      y = Reshape(b, split)
      z = Reshape(y, pairs) }"""
