"""What ops of PyTorch become in ONNX for which `torch.onnx.export` has no translation, a wrong one, or one that takes much
time.
"""

import contextlib
import math
from unittest import mock

import numpy
import onnxscript
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as ops
from torch.onnx._internal.exporter import _registration


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


def _constant(value, dtype):
    return op.Constant(value=onnxscript.ir.tensor(value, dtype))


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Attention of any rank. A query that may see no key gets zeros, as in PyTorch; the exporter's sees all keys then."""
    if dropout_p:
        raise NotImplementedError("an attention with dropout")
    rank, width, dtype = len(query.shape), query.shape[-1], query.dtype
    scale = width**-0.5 if scale is None else scale
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        key, value = _for_heads(query, key), _for_heads(query, value)
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    # Both are scaled, as in PyTorch, so that 16-bit floats hold their products.
    root = abs(scale) ** 0.5
    query = op.Mul(query, _constant(root if scale > 0 else -root, dtype))
    key = op.Mul(op.Transpose(key, perm=swapped), _constant(root, dtype))
    scores = op.MatMul(query, key)
    is_choice = is_causal or attn_mask is not None and attn_mask.dtype == onnxscript.ir.DataType.BOOL
    if is_causal:
        attn_mask = op.GreaterOrEqual(op.Unsqueeze(_places(scores, -2), op.Constant(value_ints=[1])), _places(scores, -1))
    if attn_mask is None:
        return op.MatMul(op.Softmax(scores, axis=-1), value)
    if is_choice:
        scores = op.Where(attn_mask, scores, _constant(float("-inf"), dtype))
    else:
        scores = op.Add(scores, attn_mask)
    weights = op.Softmax(scores, axis=-1)
    if not is_causal:
        weights = op.Where(op.IsNaN(weights), _constant(0.0, dtype), weights)
    return op.MatMul(weights, value)


def _for_heads(query, x):
    """Keys or values, repeated for all heads of a group."""
    rank, heads = len(x.shape), query.shape[-3]
    one = op.Unsqueeze(x, op.Constant(value_ints=[rank - 2]))
    shape = [1] * (rank - 2) + [heads // x.shape[-3], 1, 1]
    shared = op.Expand(one, op.Constant(value_ints=shape))
    return op.Reshape(shared, op.Constant(value_ints=[*[0] * (rank - 3), heads, -1, x.shape[-1]]))


def _places(x, axis):
    """0, 1, and so on, along an axis from the end."""
    size = op.Gather(op.Shape(x), op.Constant(value_int=axis))
    return op.Range(op.Constant(value_int=0), size, op.Constant(value_int=1))


def _resize(mode):
    """Interpolation with antialiasing; as the exporter's, but by the scales, where these are given and not the sizes."""

    def translated(x, output_size, align_corners, scales_h=None, scales_w=None):
        options = {
            "mode": mode,
            "antialias": 1,
            "exclude_outside": 1,
            "coordinate_transformation_mode": "align_corners" if align_corners else "half_pixel",
            "cubic_coeff_a": -0.5,
        }
        if scales_h is None or scales_w is None:
            if not isinstance(output_size, (list, tuple)) or not all(isinstance(size, int) for size in output_size):
                raise NotImplementedError("an interpolation with antialiasing to sizes that are not constant")
            sizes = op.Concat(op.Shape(x, start=0, end=2), op.Constant(value_ints=list(output_size)), axis=0)
            return op.Resize(x, None, None, sizes, **options)
        return op.Resize(x, None, op.Constant(value_floats=[1.0, 1.0, scales_h, scales_w]), **options)

    return translated


def _scatter_reduce(x, dim, index, src, reduce, include_self=True):
    """The mean of what is put at a place; the exporter leaves the last one there."""
    if reduce != "mean":
        return ops.aten_scatter_reduce(x, dim, index, src, reduce, include_self)
    zero, one = _constant(0, x.dtype), _constant(1, x.dtype)
    zeros, ones, met = op.Expand(zero, op.Shape(x)), op.Expand(one, op.Shape(x)), op.Expand(one, op.Shape(index))
    if not include_self:
        x = op.Where(op.Equal(op.ScatterElements(zeros, index, met, axis=dim), zero), x, zeros)
    count = op.ScatterElements(ones if include_self else zeros, index, met, axis=dim, reduction="add")
    total = op.ScatterElements(x, index, op.Slice(src, *_corner(src, index)), axis=dim, reduction="add")
    return op.Div(total, op.Max(count, ones))


def _corner(src, index):
    """Where the part of a source begins and ends that an index of the same rank speaks of."""
    return op.Constant(value_ints=[0] * len(src.shape)), op.Shape(index)


def _sort(x, stable=False, dim=-1, descending=False):
    """A sort that keeps the order of equal elements; they come in the order of their places anyway."""
    size = op.Shape(x, start=dim, end=dim + 1 if dim != -1 else None)
    return op.TopK(x, size, axis=dim, largest=int(descending), sorted=1)


def _kth(x, k, dim=-1, keepdim=False):
    """The element that has k - 1 before it in order, and its place."""
    found = op.TopK(x, op.Constant(value_ints=[k]), axis=dim, largest=0, sorted=1)
    last = op.Constant(value_ints=[k - 1]) if keepdim else op.Constant(value_int=k - 1)
    return tuple(op.Gather(each, last, axis=dim) for each in found)


def _median(x, dim=-1, keepdim=False):
    """The lower one of the two in the middle, and its place."""
    return _kth(x, (_size(x.shape[dim]) + 1) // 2, dim, keepdim)


def _median_of_all(x):
    count = 1
    for size in x.shape:
        count *= _size(size)
    return _kth(op.Reshape(x, op.Constant(value_ints=[-1])), (count + 1) // 2)[0]


def _size(size):
    if not isinstance(size, int):
        raise NotImplementedError("a median along an axis of free size")
    return size


def _search(ordered, values, out_int32=False, right=False, side=None, sorter=None):
    """How many elements of ordered rows come before a value: each is compared with each."""
    if sorter is not None:
        raise NotImplementedError("a search with a sorter")
    is_right = right or side == "right"
    wanted = op.Unsqueeze(values, op.Constant(value_ints=[-1]))
    if len(ordered.shape) > 1:
        ordered = op.Unsqueeze(ordered, op.Constant(value_ints=[-2]))
    before = op.LessOrEqual(ordered, wanted) if is_right else op.Less(ordered, wanted)
    kind = onnxscript.INT32.dtype if out_int32 else onnxscript.INT64.dtype
    return op.ReduceSum(op.Cast(before, to=kind), op.Constant(value_ints=[-1]), keepdims=0)


def _adaptive_average(x, output_size):
    """The mean of each of some parts of an image, which may overlap by one where they are not equal."""
    rank, dtype = len(x.shape), x.dtype
    axes = range(rank - len(output_size), rank)
    sizes = [x.shape[axis] for axis in axes]
    if not all(isinstance(count, int) for count in output_size):
        raise NotImplementedError("an adaptive average of as many parts as the run decides")
    if all(count == 1 for count in output_size):
        return op.ReduceMean(x, op.Constant(value_ints=list(axes)), keepdims=1)
    for axis, size, count in zip(axes, sizes, output_size):
        if size != count:
            x = _mean_of_parts(x, axis, count, rank, dtype)
    return x


def _mean_of_parts(x, axis, count, rank, dtype):
    """Part i goes from `i * size / count`, rounded down, to `(i + 1) * size / count`, rounded up: a product with weights."""
    size, total = op.Gather(op.Shape(x), op.Constant(value_int=axis)), op.Constant(value_int=count)
    parts = op.Constant(value_ints=list(range(count)))
    start = op.Div(op.Mul(parts, size), total)
    end = op.Div(op.Add(op.Mul(op.Add(parts, op.Constant(value_int=1)), size), op.Constant(value_int=count - 1)), total)
    place = op.Unsqueeze(op.Range(op.Constant(value_int=0), size, op.Constant(value_int=1)), op.Constant(value_ints=[1]))
    is_in = op.And(op.GreaterOrEqual(place, start), op.Less(place, end))
    weights = op.Div(op.Cast(is_in, to=dtype), op.Cast(op.Sub(end, start), to=dtype))
    if axis == rank - 1:
        return op.MatMul(x, weights)
    order = list(range(rank))
    order[axis], order[-1] = rank - 1, axis
    return op.Transpose(op.MatMul(op.Transpose(x, perm=order), weights), perm=order)


def _adaptive_max(x, output_size):
    """The largest element of each of some equal parts of an image, and its place there."""
    sizes = x.shape[len(x.shape) - len(output_size) :]
    if not all(isinstance(size, int) and size % count == 0 for size, count in zip(sizes, output_size)):
        raise NotImplementedError("an adaptive maximum of parts that are not equal, or of free size")
    window = [size // count for size, count in zip(sizes, output_size)]
    first = op.Constant(value_ints=[0])
    is_one = len(x.shape) == len(output_size) + 1
    largest, places = op.MaxPool(op.Unsqueeze(x, first) if is_one else x, kernel_shape=window, strides=window)
    # ONNX counts places through all channels.
    area = op.Constant(value_int=math.prod(sizes))
    places = op.Mod(places, area)
    return (op.Squeeze(largest, first), op.Squeeze(places, first)) if is_one else (largest, places)


def _masked_select(x, mask):
    shape = op.Shape(op.Where(mask, x, x))
    flat = op.Constant(value_ints=[-1])
    return op.Compress(op.Reshape(op.Expand(x, shape), flat), op.Reshape(op.Expand(mask, shape), flat))


def table():
    """Translations, as `torch.onnx.export` takes them."""
    aten = torch.ops.aten
    known = {
        aten._adaptive_avg_pool2d.default: _adaptive_average,
        aten._adaptive_avg_pool3d.default: _adaptive_average,
        aten._grouped_mm.default: _grouped_mm,
        aten._upsample_bicubic2d_aa.default: _resize("cubic"),
        aten._upsample_bilinear2d_aa.default: _resize("linear"),
        aten.adaptive_avg_pool1d.default: _adaptive_average,
        aten.adaptive_max_pool2d.default: _adaptive_max,
        aten.adaptive_max_pool3d.default: _adaptive_max,
        aten.histc.default: _histc,
        aten.kthvalue.default: _kth,
        aten.masked_select.default: _masked_select,
        aten.median.default: _median_of_all,
        aten.median.dim: _median,
        aten.scaled_dot_product_attention.default: _attention,
        aten.scatter_reduce.two: _scatter_reduce,
        aten.searchsorted.Tensor: _search,
        aten.sort.stable: _sort,
    }
    if hasattr(torch.ops.transformers, "grouped_mm_fallback"):  # where transformers is imported
        known[torch.ops.transformers.grouped_mm_fallback.default] = _grouped_mm
    return known


def _unsqueeze_complex(x, dim):
    """Real and imaginary parts are one axis more, the last one."""
    return op.Unsqueeze(x, op.Constant(value_ints=[dim if dim >= 0 else dim - 1]))


@contextlib.contextmanager
def of_complex_numbers():
    """While a module is exported, ops of complex numbers are known, too: `torch.onnx.export` takes no translations of them."""
    real = _registration.ONNXRegistry.from_torchlib.__func__

    def with_more(cls, *args, **options):
        registry = real(cls, *args, **options)
        registry.register_op(torch.ops.aten.unsqueeze.default, _unsqueeze_complex, is_complex=True)
        return registry

    with mock.patch.object(_registration.ONNXRegistry, "from_torchlib", classmethod(with_more)):
        yield
