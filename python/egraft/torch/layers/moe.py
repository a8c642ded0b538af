"""Mixtures of experts: SMoE, its steps with momentum, adaptive clusters, merged experts, mixed layers.

B batch, S sequence, N tokens, D width, H width inside an expert, E experts, K chosen. Experts compute all tokens, under
weights of which all but K are zero: that can be trained and exported as it is, and egraft computes only what counts.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

__all__ = [
    "ACMoE",
    "ACRouter",
    "AdamSMoE",
    "CAMExDynamic",
    "CAMExFFN",
    "CAMExLinear",
    "CAMExSegmentLinear",
    "ClusterWeights",
    "Experts",
    "MoLEx",
    "MomentumSMoE",
    "RobustMomentumSMoE",
    "SMoE",
    "SwinACMoE",
]


def _choose(logits, k):
    """Softmax of the K largest logits (G1): gates [..., K], and which they are [..., K]."""
    kept, chosen = logits.topk(k, -1)
    return kept.softmax(-1), chosen


def _dense(gates, chosen, experts):
    """Gates at their experts, zeros elsewhere: [..., E]."""
    hot = chosen.unsqueeze(-1) == torch.arange(experts, device=chosen.device)
    return (hot.to(gates.dtype) * gates.unsqueeze(-1)).sum(-2)


class Experts(nn.Module):
    """E perceptrons of two layers, W2 act(W1 x + b1) + b2, mixed by weights.

    x [N, D], mix [N, E] -> y [N, D].
    """

    def __init__(self, dim, hidden, experts, activation=F.relu):
        super().__init__()
        self.activation = activation
        self.w1 = nn.Parameter(torch.randn(experts, hidden, dim) * dim**-0.5)
        self.b1 = nn.Parameter(torch.zeros(experts, hidden))
        self.w2 = nn.Parameter(torch.randn(experts, dim, hidden) * hidden**-0.5)
        self.b2 = nn.Parameter(torch.zeros(experts, dim))

    def forward(self, x, mix):
        hidden = self.activation(torch.einsum("nd,ehd->neh", x, self.w1) + self.b1)
        y = torch.einsum("neh,edh->ned", hidden, self.w2) + self.b2
        return torch.einsum("ne,ned->nd", mix, y)


class SMoE(nn.Module):
    """A sparse mixture of experts:

        g = softmax(top-K of z),  z = W x + b     (G1)  `order="topk-softmax"`, as in the language models
        g = top-K of softmax(z)                   (G2)  `order="softmax-topk"`, as in V-MoE
        y = Σ_j g_j FFN_j(x)

    With `order="softmax-topk-scaled"`, the gates of G2 are divided by their sum, as in Swin-MoE. `bias` is the router's.

    x [..., D] -> y [..., D].
    """

    def __init__(self, dim, hidden, experts, k=2, order="topk-softmax", activation=F.relu, bias=True):
        super().__init__()
        if order not in ("topk-softmax", "softmax-topk", "softmax-topk-scaled"):
            raise ValueError(f"an unknown order: {order!r}")
        self.k, self.order = k, order
        self.gate = nn.Linear(dim, experts, bias=bias)
        self.experts = Experts(dim, hidden, experts, activation)

    def route(self, x):
        logits = self.gate(x)
        if self.order == "topk-softmax":
            return _choose(logits, self.k)
        gates, chosen = logits.softmax(-1).topk(self.k, -1)
        if self.order == "softmax-topk-scaled":
            gates = gates / gates.sum(-1, keepdim=True)
        return gates, chosen

    def mix(self, x, gates, chosen):
        return self.experts(x, _dense(gates, chosen, self.gate.out_features))

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        return self.mix(rows, *self.route(rows)).view_as(x)


class MomentumSMoE(nn.Module):
    """MomentumSMoE, a step with momentum from layer to layer, arXiv 2410.14574:

        m' = μ m + γ SMoE(x)     (M3)
        y = LN(x - m')           (M4)

    `m` is what the layer below returned, and none (zeros) in the first. Experts push against x here; a trained SMoE that
    adds its output becomes one with W2 and b2 negated.

    x, m [..., D] -> y, m'.
    """

    def __init__(self, dim, hidden, experts, k=2, mu=0.7, gamma=1.0, **options):
        super().__init__()
        self.mu, self.gamma = mu, gamma
        self.moe = SMoE(dim, hidden, experts, k, **options)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x, m=None):
        m = self.mu * (torch.zeros_like(x) if m is None else m) + self.gamma * self.moe(x)
        return self.norm(x - m), m


class AdamSMoE(MomentumSMoE):
    """AdamSMoE's first layer, whose step is Adam's, arXiv 2410.14574:

        f = SMoE(x);  p' = β1 p + (1 - β1) f;  v' = β2 v + (1 - β2) f²;  m' = μ m + γ2 f
        y = LN(x - (γ1 p' / √(v' + ε) + κ x))     (M5)

    without a correction of bias, and with κ = 1 as in the authors' code: x itself is left to what is around the layer.
    The layers above are `MomentumSMoE`, from m' on (M6).

    x [..., D], state (p, v, m) or none -> y, state.
    """

    def __init__(
        self, dim, hidden, experts, k=2, mu=0.7, gamma1=1.0, gamma2=1.0, betas=(0.9, 0.999), kappa=1.0, eps=1e-8, **options
    ):
        super().__init__(dim, hidden, experts, k, mu, gamma2, **options)
        self.gamma1, self.betas, self.kappa, self.eps = gamma1, betas, kappa, eps

    def forward(self, x, state=None):
        p, v, m = (torch.zeros_like(x),) * 3 if state is None else state
        (beta1, beta2), f = self.betas, self.moe(x)
        p = beta1 * p + (1 - beta1) * f
        v = beta2 * v + (1 - beta2) * f * f
        m = self.mu * m + self.gamma * f
        # Both sides of the quotient are divided by √ε, for torch.onnx.export drops small summands.
        step = self.gamma1 * self.eps**-0.5 * p / (v / self.eps + 1).sqrt()
        return self.norm(-step if self.kappa == 1 else (1 - self.kappa) * x - step), (p, v, m)


class RobustMomentumSMoE(MomentumSMoE):
    """Robust MomentumSMoE, which looks ahead before it steps, arXiv 2410.14574:

        γ = k (1-μ)² (1+μ) / L,  μ_r = k μ³ / (k-1),  α = μ³ / ((k-1) (1-μ)² (1+μ))     (M7)  k is `rate`, L `lipschitz`
        p' = μ_r p - SMoE(x + α γ p);  y = LN(x + γ p')                                 (M8)

    x, p [..., D] -> y, p'.
    """

    def __init__(self, dim, hidden, experts, k=2, mu=0.2, rate=1.25, lipschitz=1.0, **options):
        if rate <= 1:
            raise ValueError(f"the rate must be above 1, and is {rate}")
        size = (1 - mu) ** 2 * (1 + mu)
        super().__init__(dim, hidden, experts, k, rate * mu**3 / (rate - 1), rate * size / lipschitz, **options)
        self.alpha = mu**3 / ((rate - 1) * size)

    def forward(self, x, p=None):
        p = torch.zeros_like(x) if p is None else p
        p = self.mu * p - self.moe(x + self.alpha * self.gamma * p)
        return self.norm(x + self.gamma * p), p


def _cluster_mean(values, hot):
    """Means of the rows of each cluster, 0 for one without rows: [N, D], [N, E] -> [E, D]."""
    return hot.mT @ values / hot.sum(0).clamp_min(1).unsqueeze(1)


class ClusterWeights(nn.Module):
    """How ACMoE weighs features: more where the cluster of a token is tight, arXiv 2502.15315:

        c_k = mean of x in cluster k,  s_k = mean of |x - c_k|                   (A3)
        W = 1/(s + ε), at most `clip` times its mean                             (A4)
        then over its mean by feature                                            (A5)  `over="feature"`

    With `over="mean"`, W is over its mean before the clip, as for Swin; with `over="clipped"`, over that after it, as for
    Soft MoE. A token's label is its first expert in the layer below, of whose choices the largest says how many clusters
    there are. W gets no gradient. All of it is the authors' code, also what becomes of a cluster without tokens: its W is 1/ε
    and counts in the means. With `empty="skip"`, ours, it does not.

    x [N, D], previous [N, K] -> W of each token [N, D].
    """

    def __init__(self, experts, eps=1e-4, clip=10.0, over="feature", empty="official"):
        super().__init__()
        if empty not in ("official", "skip"):
            raise ValueError(f"empty is 'official' or 'skip', not {empty!r}")
        if over not in ("feature", "mean", "clipped"):
            raise ValueError(f"over is 'feature', 'mean' or 'clipped', not {over!r}")
        self.experts, self.eps, self.clip, self.over, self.empty = experts, eps, clip, over, empty

    @torch.no_grad()
    def forward(self, x, previous):
        label, experts = previous[:, 0], torch.arange(self.experts, device=x.device)
        hot = (label.unsqueeze(1) == experts).to(x.dtype)
        spread = _cluster_mean((x - _cluster_mean(x, hot)[label]).abs(), hot)
        live = hot.sum(0) > 0 if self.empty == "skip" else experts <= previous.max()
        live = live.to(x.dtype).unsqueeze(1)

        def mean(w):
            return (w * live).sum() / (live.sum() * x.shape[1])

        w = 1 / (spread + self.eps)
        whole = mean(w)
        w = torch.minimum(w, self.clip * whole)
        if self.over == "feature":
            w = w / ((w * live).sum(0) / live.sum())
        else:
            w = w / (whole if self.over == "mean" else mean(w))
        return w[label]


class ACRouter(nn.Module):
    """The router of ACMoE, by weighted features, arXiv 2502.15315:

        z = (W[label] ∘ x) Êᵀ, then G1                                           (A6)  Ê has rows of unit norm

    W is that of `ClusterWeights`, which has the `options`.

    x [N, D], previous [N, K] -> gates [N, K], chosen [N, K].
    """

    def __init__(self, dim, experts, k=2, **options):
        super().__init__()
        self.k = k
        self.weights = ClusterWeights(experts, **options)
        self.embedding = nn.Parameter(torch.randn(experts, dim))

    def forward(self, x, previous):
        unit = F.normalize(self.embedding, dim=1, eps=1e-4)
        return _choose((x * self.weights(x, previous)) @ unit.mT, self.k)


class ACMoE(nn.Module):
    """ACMoE's layer in a language model, arXiv 2502.15315: y = LN(x + Σ_j g_j FFN_j(x)) (A7), routed by `ACRouter`.

    `previous` is what the layer below chose, an `ACMoE` or an `SMoE`, by its `route`; the experts read x as it is.

    x [..., D], previous [N, K] -> y [..., D], chosen [N, K].
    """

    def __init__(self, dim, hidden, experts, k=2, activation=F.relu, **options):
        super().__init__()
        self.gate = ACRouter(dim, experts, k, **options)
        self.experts = Experts(dim, hidden, experts, activation)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x, previous):
        rows = x.reshape(-1, x.shape[-1])
        gates, chosen = self.gate(rows, previous)
        y = self.experts(rows, _dense(gates, chosen, self.gate.embedding.shape[0]))
        return self.norm(x + y.view_as(x)), chosen


class SwinACMoE(nn.Module):
    """ACMoE in a block of Swin-MoE, arXiv 2502.15315:

        t = W[label] ∘ LN(x);  y = x + SMoE(t)                                   (A9)

    The experts, too, read the weighted tokens; the router is that of Swin-MoE, scaled and without a bias. `options` are those
    of `ClusterWeights`.

    x [..., D], previous [N, K] -> y [..., D], chosen [N, K].
    """

    def __init__(self, dim, hidden, experts, k=2, activation=F.gelu, clip=1.5, over="mean", **options):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.weights = ClusterWeights(experts, clip=clip, over=over, **options)
        self.moe = SMoE(dim, hidden, experts, k, "softmax-topk-scaled", activation, bias=False)

    def forward(self, x, previous):
        rows = self.norm(x).reshape(-1, x.shape[-1])
        rows = rows * self.weights(rows, previous)
        gates, chosen = self.moe.route(rows)
        return x + self.moe.mix(rows, gates, chosen).view_as(x), chosen


def _factors(size):
    """Two factors of a size, as near to each other as can be."""
    small = max(n for n in range(1, math.isqrt(size) + 1) if size % n == 0)
    return small, size // small


class CAMExLinear(nn.Module):
    """CAMEx, a linear map whose experts are merged into one for each sequence, along curved directions, arXiv 2502.18821:

        s = G1(mean of x over S, times W_g)                                        (C10)
        τ_i = W_i - W_m,  M τ = Σ_r (O1 ⊗ O2) τ (I1 ⊗ I2)ᵀ                         (C4)  for each expert
        W = W_m + α Σ_i s_i mask_i ∘ M_i τ_i                                       (C3, C5)
        mask_i = [sign τ_i = sign Σ_j τ_j], with `ties`                            (C6)
        y = x Wᵀ

    Without `curvature`, M is the identity (C2). As in the authors' code, the mask comes after the curvature, and the factors
    start as identities. α is 1 there, and not named. Another W_m can be given with x.

    x [B, S, I] -> y [B, S, O].
    """

    def __init__(self, in_features, out_features, experts, k=None, rank=1, curvature=True, ties=False, alpha=1.0):
        super().__init__()
        self.k, self.curvature, self.ties, self.alpha = k or experts, curvature, ties, alpha
        self.w_gate = nn.Parameter(torch.randn(in_features, experts) * in_features**-0.5)
        self.weight = nn.Parameter(torch.randn(experts, out_features, in_features) * in_features**-0.5)
        self.base = nn.Parameter(self.weight[0].detach().clone())
        if curvature:
            sizes = (*_factors(out_features), *_factors(in_features))
            for name, size in zip(("o1", "o2", "i1", "i2"), sizes):
                setattr(self, f"curve_{name}", nn.Parameter(torch.eye(size).repeat(rank, experts, 1, 1)))

    def directions(self, base):
        """mask_i ∘ M_i τ_i: [E, O, I]."""
        tau, moved = self.weight - base, self.moved(base)
        return moved * (tau.sign() == tau.sum(0).sign()) if self.ties else moved

    def moved(self, base):
        """M_i τ_i: [E, O, I]."""
        tau = self.weight - base
        if not self.curvature:
            return tau
        o1, o2, i1, i2 = self.curve_o1, self.curve_o2, self.curve_i1, self.curve_i2
        blocks = tau.view(len(tau), o1.shape[-1], o2.shape[-1], i1.shape[-1], i2.shape[-1])
        return torch.einsum("epqst,reap,rebq,recs,redt->eabcd", blocks, o1, o2, i1, i2).reshape(tau.shape)

    def gates(self, mean):
        """The weights of the experts for means over tokens: [..., I] -> [..., E]."""
        return _dense(*_choose(mean @ self.w_gate, self.k), self.weight.shape[0])

    def merged(self, gates, base=None):
        """W for each row of gates: [B, E] -> [B, O, I]."""
        base = self.base if base is None else base
        return base + self.alpha * torch.einsum("be,eoi->boi", gates, self.directions(base))

    def forward(self, x, base=None):
        return x @ self.merged(self.gates(x.mean(-2)), base).mT

    def next_base(self, base, gamma):
        """The base of the same map in the next layer: W_m + γ/E Σ_i M_i τ_i (C12)."""
        return base + gamma * self.moved(base).mean(0)


class CAMExSegmentLinear(CAMExLinear):
    """CAMEx in causal segments, arXiv 2502.18821: each is merged by the gates of the one before it, the first one by its own (C11).

    x [B, S, I] -> y [B, S, O], where `segment` divides S.
    """

    def __init__(self, *sizes, segment=256, **options):
        super().__init__(*sizes, **options)
        self.segment = segment

    def forward(self, x, base=None):
        segments = x.unflatten(1, (-1, self.segment))
        gates = self.gates(segments.mean(-2))
        gates = torch.cat([gates[:, :1], gates[:, :-1]], 1)
        y = segments.flatten(0, 1) @ self.merged(gates.flatten(0, 1), base).mT
        return y.unflatten(0, segments.shape[:2]).flatten(1, 2)


class CAMExFFN(nn.Module):
    """CAMEx in the feed-forward layer of T5, arXiv 2502.18821:

        y = x + W_o'(act(W_i'(RMSNorm(x))))                                        (C13)

    where both maps are merged, each by gates of its own; `linear` is `CAMExLinear` or `CAMExSegmentLinear`, with the `options`.

    x [B, S, D] -> y [B, S, D].
    """

    def __init__(self, dim, hidden, experts, linear=CAMExLinear, activation=F.relu, **options):
        super().__init__()
        self.activation = activation
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.wi = linear(dim, hidden, experts, **options)
        self.wo = linear(hidden, dim, experts, **options)

    def forward(self, x, base_i=None, base_o=None):
        return x + self.wo(self.activation(self.wi(self.norm(x), base_i)), base_o)


class CAMExDynamic(nn.Module):
    """CAMEx with dynamic merging, arXiv 2502.18821: `depth` layers `CAMExFFN`, of which only the first has bases of its own.

        W_m ← W_m + γ/E Σ_i M_i τ_i                                                (C12)  from layer to layer, for both maps

    Reconstructed from the published equations.

    x [B, S, D] -> y [B, S, D].
    """

    def __init__(self, dim, hidden, experts, depth, gamma=1.0, **options):
        super().__init__()
        self.gamma = gamma
        self.layers = nn.ModuleList(CAMExFFN(dim, hidden, experts, **options) for _ in range(depth))
        for layer in self.layers[1:]:
            layer.wi.base = layer.wo.base = None

    def forward(self, x):
        base_i, base_o = self.layers[0].wi.base, self.layers[0].wo.base
        for at, layer in enumerate(self.layers):
            if at > 0:
                below = self.layers[at - 1]
                base_i, base_o = below.wi.next_base(base_i, self.gamma), below.wo.next_base(base_o, self.gamma)
            x = layer(x, base_i, base_o)
        return x


class MoLEx(nn.Module):
    """MoLEx, where the layers of a trained encoder are each other's experts, arXiv 2503.11144:

        g, j = G1(mean over the batch and its tokens of W_t z + b_t)             (X3, X4)
        z ← α_t u_t(z) + (1 - α_t) Σ_j g_j u_j(z)                                (X2)

    `layers` are the encoder's, [B, S, D] -> [B, S, D] each, with their adapters; they are used, not copied. New are the gates
    and α. With `level="batch"`, the decision is one for the whole batch: PyTorch computes the chosen layers only, and exports
    have all of them, under weights. With `level="sequence"`, the mean is over the tokens of each sequence, with
    `level="token"`, there is none; all layers are computed then, and see the whole sequence. With one expert, its gate is 1,
    and the router gets no gradient. Reconstructed, for the authors' code was not available: the mean, more than one expert,
    the other levels, and an α for each layer that is learned.

    z [B, S, D] -> z [B, S, D].
    """

    _MEANS = {"batch": (0, 1), "sequence": (1,), "token": ()}

    def __init__(self, layers, dim, k=1, alpha=0.9, level="batch"):
        super().__init__()
        if level not in self._MEANS:
            raise ValueError(f"level is 'batch', 'sequence' or 'token', not {level!r}")
        self.layers = nn.ModuleList(layers)
        count = len(self.layers)
        self.k, self.level = k, level
        self.gates = nn.ModuleList(nn.Linear(dim, count) for _ in range(count))
        self.alpha = nn.Parameter(torch.full((count,), float(alpha)))

    def mix(self, at, z, own):
        """Σ_j g_j u_j(z), where u_t(z) is known."""
        logits, over = self.gates[at](z), self._MEANS[self.level]
        gates, chosen = _choose(logits.mean(over, keepdim=True) if over else logits, self.k)
        if self.level == "batch" and not torch.compiler.is_compiling():
            chosen = zip(gates.flatten(), chosen.flatten().tolist())
            return sum(g * (own if j == at else self.layers[j](z)) for g, j in chosen)
        # `own` is computed beside the experts, which are then the mixture's alone.
        every = torch.stack([layer(z) for layer in self.layers], -1)
        return (every * _dense(gates, chosen, len(self.layers)).unsqueeze(-2)).sum(-1)

    def forward(self, z):
        for at, layer in enumerate(self.layers):
            own = layer(z)
            z = self.alpha[at] * own + (1 - self.alpha[at]) * self.mix(at, z, own)
        return z
