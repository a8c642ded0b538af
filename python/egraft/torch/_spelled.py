"""Functions of PyTorch that are one op there and several in ONNX, spelled as what they compute."""

import contextlib
import math
from unittest import mock

import torch
from torch._higher_order_ops.flex_attention import flex_attention as _flex_op
from torch.nn import functional
from torch.nn.attention import flex_attention as _flex


def _encoder_layer(
    x,
    width,
    heads,
    qkv_weight,
    qkv_bias,
    out_weight,
    out_bias,
    is_gelu,
    is_norm_first,
    epsilon,
    norm1_weight,
    norm1_bias,
    norm2_weight,
    norm2_bias,
    up_weight,
    up_bias,
    down_weight,
    down_bias,
    mask=None,
    mask_type=None,
):
    """`torch.nn.TransformerEncoderLayer` for inference."""

    def norm(x, weight, bias):
        return functional.layer_norm(x, (width,), weight, bias, epsilon)

    def attend(x):
        parts = functional.linear(x, qkv_weight, qkv_bias).unflatten(-1, (3, heads, width // heads))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(query, key, value, attn_mask=_may_see(mask, mask_type))
        return functional.linear(y.transpose(1, 2).flatten(-2), out_weight, out_bias)

    def feed(x):
        act = functional.gelu if is_gelu else functional.relu
        return functional.linear(act(functional.linear(x, up_weight, up_bias)), down_weight, down_bias)

    if is_norm_first:
        x = x + attend(norm(x, norm1_weight, norm1_bias))
        return x + feed(norm(x, norm2_weight, norm2_bias))
    x = norm(x + attend(x), norm1_weight, norm1_bias)
    return norm(x + feed(x), norm2_weight, norm2_bias)


def _may_see(mask, mask_type):
    """The mask of `_transformer_encoder_layer_fwd`, which says who must not be seen, as one that says who may be."""
    if mask is None:
        return None
    # 0: for each query and key; 1: for each key of a sequence; 2: for each sequence, head, query and key.
    return ~(mask[:, None, None] if mask_type == 1 else mask).bool()


def _flex_attention(query, key, value, score_mod, block_mask, scale, options, score_operands=(), mask_operands=()):
    """FlexAttention over all scores; with the logarithms of the sums of weights and the largest scores, to base 2."""
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(wide) @ key.to(wide).transpose(-2, -1) * scale
    # The functions are made for one score; so they are for all of them, with places that broadcast.
    places = [
        torch.arange(size, device=scores.device).view([-1 if at == axis else 1 for at in range(4)])
        for axis, size in enumerate(scores.shape)
    ]
    scores = score_mod(scores, *places, *score_operands)
    scores = torch.where(block_mask[-1](*places, *mask_operands), scores, -math.inf)
    weights = scores.softmax(-1)
    weights = torch.where(weights.isnan(), 0.0, weights).to(value.dtype)
    logs = (scores.logsumexp(-1), scores.amax(-1))
    return weights @ value, *(log / math.log(2) for log in logs)


_SPELLINGS = {torch._transformer_encoder_layer_fwd: _encoder_layer, _flex_op: _flex_attention}


def spell(graph):
    """Puts the spellings in a captured graph."""
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in _SPELLINGS:
            node.target = _SPELLINGS[node.target]
    graph.recompile()


@contextlib.contextmanager
def modules():
    """While a module is exported, it calls the spellings."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with mock.patch.multiple(
            _flex, flex_attention_hop=_flex_attention, _FLEX_ATTENTION_DISABLE_COMPILE_DEBUG=True
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
