"""Layers of papers as PyTorch modules, which are trained by PyTorch, and exported and compiled by egraft.

    layer = MomentumSMoE(64, 128, experts=8)
    y, m = layer(x)
    program = egraft.torch.export(layer.eval(), (x, m))  # a call of one function
    fast = egraft.torch.compile(layer, (x, m))

Tags of equations, such as (M3), tell them apart; they are not the numbers in the papers, unless "eq." says so.
"""

from .attention import FARE, BatchNormAttention, EllipticalAttention, RPCAttention, ScaledHeadAttention
from .moe import (
    ACMoE,
    ACRouter,
    AdamSMoE,
    CAMExDynamic,
    CAMExFFN,
    CAMExLinear,
    CAMExSegmentLinear,
    ClusterWeights,
    Experts,
    MoLEx,
    MomentumSMoE,
    RobustMomentumSMoE,
    SMoE,
    SwinACMoE,
)
from .sliced_ot import STSW, TSWSL, DbTSW, SlicedWasserstein

__all__ = [
    "ACMoE",
    "ACRouter",
    "AdamSMoE",
    "BatchNormAttention",
    "CAMExDynamic",
    "CAMExFFN",
    "CAMExLinear",
    "CAMExSegmentLinear",
    "ClusterWeights",
    "DbTSW",
    "EllipticalAttention",
    "Experts",
    "FARE",
    "MoLEx",
    "MomentumSMoE",
    "RPCAttention",
    "RobustMomentumSMoE",
    "SMoE",
    "STSW",
    "ScaledHeadAttention",
    "SlicedWasserstein",
    "SwinACMoE",
    "TSWSL",
]
