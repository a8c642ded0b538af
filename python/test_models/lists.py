"""Models whose inputs or outputs are sequences or optionals."""

from __future__ import annotations

import numpy as np

from .case import lists


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def count(value: int) -> np.ndarray:
    return np.array(value, np.int64)


@lists({"x": [row(1, 2), row(3, 4, 5)], "y": [row(6, 7), row(8, 9, 10)]})
def pairwise():
    """The elements of two sequences, added pair by pair; the sizes of pairs differ."""
    return """(seq(float[n]) x, seq(float[n]) y) => (seq(float[n]) z)
    { z = SequenceMap (x, y) <body = each (float[n] a, float[n] b) => (float[n] c) { c = Add(a, b) }> }"""


@lists(
    {"n": count(3), "x": row(1, 2), "start": [row(9)]},
    {"n": count(3), "x": row(4, 5, 6), "start": [row(0, 0)]},
)
def grow():
    """A loop that inserts into a sequence as often as an input says."""
    return """(int64 n, float[m] x, seq(float[k]) start) => (seq(float[k]) all, int64 length)
    <bool holds = {1}>
    { all = Loop (n, holds, start) <body = step (int64 i, bool c, seq(float[k]) in) => (bool d, seq(float[k]) out)
        { d = Identity(c) f = Cast <to = 1> (i) y = Mul(x, f) out = SequenceInsert(in, y) }>
      length = SequenceLength(all) }"""


@lists({"given": None, "x": row(1, 2)}, {"given": row(3, 4), "x": row(1, 2)})
def fallback():
    """An optional tensor, or in its absence another one: the sets need two compilations."""
    return """(optional(float[2]) given, float[2] x) => (float[2] y, bool has)
    { has = OptionalHasElement(given)
      y = If (has) <then_branch = yes () => (float[2] a) { a = OptionalGetElement(given) },
                    else_branch = no () => (float[2] b) { b = Neg(x) }> }"""
