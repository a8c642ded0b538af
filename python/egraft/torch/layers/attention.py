"""Attention layers: elliptical, principal (RPC), normalized keys (BN), scaled heads (SH), and FARE.

B batch, N tokens, C width, H heads, d = C/H. Plain attention is softmax(q kᵀ/√d) v.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["FARE", "BatchNormAttention", "EllipticalAttention", "RPCAttention", "ScaledHeadAttention"]


def _split(x, heads):
    """[B, N, C] as heads: [B, H, N, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merge(x):
    """Heads side by side again: [B, N, C]."""
    return x.transpose(1, 2).flatten(2)


def _attend(q, k, v, causal=False, scale=None):
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)


class EllipticalAttention(nn.Module):
    """Elliptical Attention, arXiv 2406.13770:

        m̂ = mean_n |v_n - v_prev_n|                  (E2)  for each sample, head and coordinate
        m = m̂ / max m̂, or m̂ / mean m̂                (E3)
        y = softmax((q ∘ m) kᵀ / √d) v               (E1)

    `v_prev` are the values of the layer below, without which it is plain attention; `m` gets no gradient. With `causal`,
    the metric still sees all tokens, as in the authors' code, whose language models have `scale=1.0` in these layers.

    x [B, N, C], v_prev [B, H, N, d] -> y [B, N, C], v [B, H, N, d], the next layer's `v_prev`.
    """

    def __init__(self, dim, heads, scaling="max", causal=False, scale=None, bias=True):
        super().__init__()
        if scaling not in ("max", "mean"):
            raise ValueError(f"scaling is 'max' or 'mean', not {scaling!r}")
        self.heads, self.scaling, self.causal, self.scale = heads, scaling, causal, scale
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.proj = nn.Linear(dim, dim, bias=bias)

    def metric(self, v, v_prev):
        m = (v - v_prev).detach().abs().mean(-2, keepdim=True)
        return m / (m.amax(-1, keepdim=True) if self.scaling == "max" else m.mean(-1, keepdim=True))

    def forward(self, x, v_prev=None):
        q, k, v = (_split(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        if v_prev is not None:
            q = q * self.metric(v, v_prev)
        return self.proj(_merge(_attend(q, k, v, self.causal, self.scale))), v


class RPCAttention(nn.Module):
    """RPC-Attention, robust principal components of the keys by `rounds` of ADMM, arXiv 2406.13762:

        μ = N C / (4 Σ|k|)                           (R2)  for each sample and head
        S = shrink(k - L + Y/μ, λ μ)                 (R3)  shrink(x, τ) = sign(x) max(|x| - τ, 0)
        K = k - S - Y/μ;  L = softmax(K Kᵀ / √d) v   (R1)
        Y = Y + μ (k - L - S)                        (R4)
        y = L of the last round                      (R5)

    from L = Y = 0; the keys are the queries, too. Signs and threshold are those of the authors' code. No rounds is plain
    attention. Reconstructed: `causal`, a mask in each round, under which μ still sees all tokens.

    x [B, N, C] -> y [B, N, C].
    """

    def __init__(self, dim, heads, rounds=4, lam=4.0, causal=False, bias=True):
        super().__init__()
        self.heads, self.rounds, self.lam, self.causal = heads, rounds, lam, causal
        self.kv = nn.Linear(dim, 2 * dim, bias=bias)
        self.proj = nn.Linear(dim, dim, bias=bias)

    def pursue(self, k, v, width):
        mu = k.shape[-2] * width / (4 * k.abs().sum((-2, -1), keepdim=True))
        low = dual = torch.zeros_like(k)
        for _ in range(self.rounds):
            rest = k - low + dual / mu
            sparse = rest.sign() * F.relu(rest.abs() - self.lam * mu)
            clean = k - sparse - dual / mu
            low = _attend(clean, clean, v, self.causal)
            dual = dual + mu * (k - low - sparse)
        return low

    def forward(self, x):
        k, v = (_split(part, self.heads) for part in self.kv(x).chunk(2, -1))
        y = self.pursue(k, v, x.shape[-1]) if self.rounds else _attend(k, k, v, self.causal)
        return self.proj(_merge(y))


def _pool(x, ratio):
    """Means of `ratio` tokens each, of those that are left in the last: [B, 1, N, d] -> [B, 1, ⌈N/ratio⌉, d]."""
    if ratio == 1:
        return x
    whole = x.shape[-2] // ratio * ratio
    pooled = x[..., :whole, :].unflatten(-2, (-1, ratio)).mean(-2)
    if whole == x.shape[-2]:
        return pooled
    return torch.cat([pooled, x[..., whole:, :].mean(-2, keepdim=True)], -2)


class ScaledHeadAttention(nn.Module):
    """Attention-SH, where head h reads keys and values that are means of `ratios[h]` tokens, arXiv 2406.13781:

        k⁽ʰ⁾ = pool_r(k),  v⁽ʰ⁾ = pool_r(v)          (B4)

    Reconstructed: that tokens are pooled by means of windows, and the last window, which may be shorter.

    x [B, N, C] -> y [B, N, C].
    """

    def __init__(self, dim, heads, ratios, bias=True):
        super().__init__()
        if len(ratios) != heads:
            raise ValueError(f"{heads} heads need as many ratios, not {len(ratios)}")
        self.heads, self.ratios = heads, tuple(ratios)
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.proj = nn.Linear(dim, dim, bias=bias)

    def attend(self, q, k, v):
        return _attend(q, k, v)

    def forward(self, x):
        q, k, v = (_split(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        if set(self.ratios) == {1}:
            return self.proj(_merge(self.attend(q, k, v)))
        heads = zip(self.ratios, *(part.split(1, 1) for part in (q, k, v)))
        y = [self.attend(q, _pool(k, ratio), _pool(v, ratio)) for ratio, q, k, v in heads]
        return self.proj(_merge(torch.cat(y, 1)))


class BatchNormAttention(ScaledHeadAttention):
    """Attention-BN, whose keys and queries are normalized by the statistics of the keys over tokens, arXiv 2406.13781:

        μ = mean_n k_n,  s = √(mean_n (k_n - μ)² + ε)     (B1)  for each sample, head and coordinate
        q' = (q - β μ) / s,  k' = (k - β μ) / s
        y = softmax(q' k'ᵀ / √d) v                        (B2)

    There are no running averages. With `divided=False`, only the mean goes; with `ratios`, keys and values are pooled first,
    as in `ScaledHeadAttention` (B5). Reconstructed from the abstract and what others wrote: all of the above, ε, and `causal`,
    under which the statistics still see all tokens.

    x [B, N, C] -> y [B, N, C].
    """

    def __init__(self, dim, heads, beta=1.0, divided=True, causal=False, ratios=None, eps=1e-5, bias=True):
        super().__init__(dim, heads, ratios or [1] * heads, bias)
        if causal and set(self.ratios) != {1}:
            raise ValueError("pooled keys have no causal order")
        self.beta, self.divided, self.causal, self.eps = beta, divided, causal, eps

    def attend(self, q, k, v):
        mean = k.mean(-2, keepdim=True)
        std = ((k - mean).square().mean(-2, keepdim=True) + self.eps).sqrt() if self.divided else 1
        return _attend((q - self.beta * mean) / std, (k - self.beta * mean) / std, v, self.causal)


class FARE(nn.Module):
    """The loss of fair contrastive learning by attention over a protected attribute, arXiv 2411.14765:

        f_ij = cos(a_i, b_j) / τ                                   (F1)
        p_i = softmax_j s_ij,  s_ij = (W_Q z_i)·(W_K z_j) / ρ      (F2)
        negatives_i = Σ_j p_ij exp(f_ij)                           (F3)
        loss = mean_i log(1 + negatives_i / exp(f_ii))             (F5)

    computed without overflow as softplus(LSE_j(s + f) - LSE_j(s) - f_ii) (F6). With `planes` [d_z, buckets/2], normal random
    numbers, it is SparseFARE: only pairs whose argmax [z planes; -z planes] is the same count (F4). Reconstructed: that the
    pair of i with itself is among the negatives.

    a, b [N, e] embeddings of two views, z [N, d_z] -> loss [].
    """

    def __init__(self, attribute, key_width, tau=0.5, rho=None):
        super().__init__()
        self.tau, self.rho = tau, key_width**0.5 if rho is None else rho
        self.w_q = nn.Linear(attribute, key_width, bias=False)
        self.w_k = nn.Linear(attribute, key_width, bias=False)

    def scores(self, a, b, z, planes=None):
        """f and s, [N, N] each."""
        f = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT / self.tau
        s = self.w_q(z) @ self.w_k(z).mT / self.rho
        if planes is not None:
            sides = z @ planes
            bucket = torch.cat([sides, -sides], -1).argmax(-1)
            s = s.masked_fill(bucket[:, None] != bucket, float("-inf"))
        return f, s

    def negatives(self, a, b, z, planes=None):
        """Σ_j p_ij exp(f_ij): [N]."""
        f, s = self.scores(a, b, z, planes)
        return (s.softmax(-1) * f.exp()).sum(-1)

    def forward(self, a, b, z, planes=None):
        f, s = self.scores(a, b, z, planes)
        return F.softplus((s + f).logsumexp(-1) - s.logsumexp(-1) - f.diagonal()).mean()
