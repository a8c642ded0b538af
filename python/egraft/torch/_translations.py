"""What ops of PyTorch become in ONNX for which `torch.onnx.export` has no translation, or one that takes much time."""

import numpy
import onnxscript
import torch
from onnxscript import opset18 as op


def _grouped_mm(rows, weights, ends, bias=None, out_dtype=None):
    """Rows in the order of their groups, each times the matrix of its group; group g ends before row `ends[g]`.

    Rows of no group, which only transformers' expert parallelism has, are left out.
    """
    if bias is not None or out_dtype is not None:
        raise NotImplementedError("a grouped product with a bias, or in another type than its operands")
    ends = op.Cast(ends, to=onnxscript.INT64.dtype)
    start, parts = op.Constant(value_int=0), []
    for group in range(weights.shape[0]):
        number = op.Constant(value_int=group)
        end = op.Gather(ends, number)
        part = op.Gather(rows, op.Range(start, end, op.Constant(value_int=1)))
        parts.append(op.MatMul(part, op.Gather(weights, number)))
        start = end
    return op.Concat(*parts, axis=0)


def _histc(x, bins=100, min=0.0, max=0.0):
    """How many elements each of some bins of equal width has; as the exporter's, but without comparing each with each bin.

    What is in no bin is counted in one more, which is left out then.
    """
    if min == max:
        raise NotImplementedError("a histogram over the range of its elements")
    kind = x.dtype.numpy()
    x = op.Reshape(x, op.Constant(value_ints=[-1]))

    def number(value, dtype=kind):
        return op.Constant(value=onnxscript.ir.tensor(numpy.array(value, dtype)))

    is_in_range = op.And(op.GreaterOrEqual(x, number(min)), op.LessOrEqual(x, number(max)))
    place = op.Cast(op.Div(op.Sub(x, number(min)), number((max - min) / bins)), to=onnxscript.INT64.dtype)
    place = op.Min(place, number(bins - 1, numpy.int64))  # the last bin has its end, too
    place = op.Where(is_in_range, place, number(bins, numpy.int64))
    ones = op.Expand(number(1), op.Shape(x))
    counts = op.ScatterElements(number([0] * (bins + 1)), place, ones, axis=0, reduction="add")
    return op.Slice(counts, op.Constant(value_ints=[0]), op.Constant(value_ints=[bins]))


def table():
    """Translations, as `torch.onnx.export` takes them."""
    known = {torch.ops.aten._grouped_mm.default: _grouped_mm, torch.ops.aten.histc.default: _histc}
    if hasattr(torch.ops.transformers, "grouped_mm_fallback"):  # where transformers is imported
        known[torch.ops.transformers.grouped_mm_fallback.default] = _grouped_mm
    return known
