"""Layers of papers as PyTorch modules, which are trained by PyTorch, exported by `torch.onnx.export`, and compiled by egraft.

    layer = MomentumSMoE(64, 128, experts=8)
    y, m = layer(x)
    fast = egraft.torch.compile(layer.eval(), (x, m))

Tags of equations, such as (M3), tell them apart; they are not the numbers in the papers, unless "eq." says so.
"""

from .attention import FARE, BatchNormAttention, EllipticalAttention, RPCAttention, ScaledHeadAttention
from .moe import ACMoE, ACRouter, AdamSMoE, CAMExLinear, Experts, MoLEx, MomentumSMoE, RobustMomentumSMoE, SMoE
from .sliced_ot import TSWSL, DbTSW, SlicedWasserstein

__all__ = [
    "ACMoE",
    "ACRouter",
    "AdamSMoE",
    "BatchNormAttention",
    "CAMExLinear",
    "DbTSW",
    "EllipticalAttention",
    "Experts",
    "FARE",
    "MoLEx",
    "MomentumSMoE",
    "RPCAttention",
    "RobustMomentumSMoE",
    "SMoE",
    "ScaledHeadAttention",
    "SlicedWasserstein",
    "TSWSL",
]
