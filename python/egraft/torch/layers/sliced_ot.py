"""Distances of point clouds by optimal transport on random lines and trees of lines.

n and m points, d dimensions, L trees (or lines), k lines of a tree. Directions are buffers, drawn when a module is made and
again by `resample()`, in training at each step. Gradients go to points and masses; at p > 1 they are not finite where the
distance is zero.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["STSW", "TSWSL", "DbTSW", "SlicedWasserstein"]


def _root(cost, p):
    """The mean over trees, to the power of 1/p."""
    return cost.mean() if p == 1 else cost.mean() ** (1 / p)


class SlicedWasserstein(nn.Module):
    """The sliced Wasserstein distance, between as many points with equal masses:

        SW_p = (mean over θ and i of |sort(x θ)_i - sort(y θ)_i|^p)^(1/p)

    x, y [n, d] -> distance [].
    """

    def __init__(self, dim, lines, p=2):
        super().__init__()
        self.p = p
        self.register_buffer("theta", torch.empty(lines, dim))
        self.resample()

    @torch.no_grad()
    def resample(self, generator=None):
        """Draws other directions, uniform on the sphere."""
        self.theta.copy_(F.normalize(self.theta.normal_(generator=generator), dim=-1))

    def forward(self, x, y):
        if x.shape != y.shape:
            raise ValueError(f"as many points are needed on both sides, not {tuple(x.shape)} and {tuple(y.shape)}")
        gap = ((self.theta @ x.mT).sort(-1).values - (self.theta @ y.mT).sort(-1).values).abs()
        return _root(gap if self.p == 1 else gap**self.p, self.p)


class _TreeSliced(nn.Module):
    """Transport on trees of k lines through one root, in closed form:

        T = (mean over trees of Σ over lines of Σ_j (c_{j+1} - c_j) |G_j|^p)^(1/p)

    where c are the sorted coordinates of all points and the root, at 0, and G_j is the mass beyond edge j, seen from the root:
    F_j, the signed mass up to c_j, on the negative side, and the total less F_j on the positive one.
    """

    def __init__(self, dim, trees, lines, p=1, std=0.1, orthogonal=False):
        super().__init__()
        if orthogonal and lines > dim:
            raise ValueError(f"no more than {dim} lines are orthogonal in {dim} dimensions")
        self.p, self.std, self.orthogonal = p, std, orthogonal
        self.register_buffer("theta", torch.empty(trees, lines, dim))
        self.register_buffer("root", torch.empty(trees, 1, dim))
        self.resample()

    @torch.no_grad()
    def resample(self, mean=0.0, generator=None):
        """Draws other trees: roots around `mean`, say that of the target, and directions uniform on the sphere."""
        self.root.normal_(generator=generator).mul_(self.std).add_(mean)
        theta = self.theta.normal_(generator=generator)
        self.theta.copy_(torch.linalg.qr(theta.mT).Q.mT if self.orthogonal else F.normalize(theta, dim=-1))

    def split(self, x, along):
        """How the mass of each point goes to the lines of each tree: [L, k, n], or what broadcasts to it."""
        raise NotImplementedError

    def project(self, x, mass):
        along = self.theta @ x.mT - (self.theta * self.root).sum(-1, keepdim=True)
        share = self.split(x, along)
        return along, (share / x.shape[0] if mass is None else share * mass).expand_as(along)

    def forward(self, x, y, a=None, b=None):
        (along_x, mass_x), (along_y, mass_y) = self.project(x, a), self.project(y, b)
        root = torch.zeros_like(along_x[..., :1])
        place, order = torch.cat([along_x, along_y, root], -1).sort(-1)
        mass = torch.cat([mass_x, -mass_y, root], -1).gather(-1, order)
        below, total = mass.cumsum(-1)[..., :-1], mass.sum(-1, keepdim=True)
        beyond = torch.where(place[..., 1:] <= 0, below, total - below).abs()
        edges = place[..., 1:] - place[..., :-1]
        return _root((edges * (beyond if self.p == 1 else beyond**self.p)).sum((-2, -1)), self.p)


class TSWSL(_TreeSliced):
    """TSW-SL, the tree-sliced Wasserstein distance on systems of lines, arXiv 2406.13725 (eq. 11, 13):

        α = softmax(logits)     shares of the lines, the same for all points

    `logits` are a parameter, and zero at first, when all lines get as much. Trees are lines through one root, as in the
    authors' code; the chains of the paper's Algorithm 1 give the same, since shares do not depend on the point.

    x [n, d], y [m, d], masses a [n], b [m] (equal, if none) -> distance [].
    """

    def __init__(self, dim, trees, lines, p=1, std=0.1):
        super().__init__(dim, trees, lines, p, std)
        self.logits = nn.Parameter(torch.zeros(lines))

    def split(self, x, along):
        return self.logits.softmax(0).unsqueeze(-1)


class DbTSW(_TreeSliced):
    """Db-TSW, the distance-based tree-sliced Wasserstein distance, arXiv 2503.11050:

        t_l(x) = <x - r, θ_l>,  dist_l(x) = ‖(x - r) - t_l θ_l‖
        α(x) = softmax over lines of -δ dist_l(x)

    With `orthogonal`, the directions of a tree are orthonormal (Db-TSW⊥). The sign of δ is that of the authors' code; p is 1 in
    the paper, and 2 there.

    x [n, d], y [m, d], masses a [n], b [m] (equal, if none) -> distance [].
    """

    def __init__(self, dim, trees, lines, p=1, delta=2.0, std=0.1, orthogonal=False):
        super().__init__(dim, trees, lines, p, std, orthogonal)
        self.delta = delta

    def split(self, x, along):
        rest = (x - self.root).unsqueeze(1) - along.unsqueeze(-1) * self.theta.unsqueeze(2)
        return (-self.delta * torch.linalg.vector_norm(rest, dim=-1)).softmax(1)


class STSW(nn.Module):
    """STSW, the spherical tree-sliced Wasserstein distance, arXiv 2503.11249 (eq. 14-19), on trees of half circles from a root:

        c(x) = arccos <x, r>                      from the root, the same on all lines of a tree
        u(x) = x - <x, r> r, of unit norm
        α(x) = softmax over lines of -δ sin c(x) arccos <u(x), y_l>
        T = (mean over trees of Σ over lines of Σ_j (c_j - c_{j-1}) |G_j|^p)^(1/p)

    where c are the sorted coordinates of all points, from c_0 = 0 on, and G_j is the signed mass from c_j on. Cosines are kept
    within 1 - ε.

    x [n, d], y [m, d] of unit norm, masses a [n], b [m] (equal, if none) -> distance [].
    """

    def __init__(self, dim, trees, lines, p=1, delta=2.0, eps=1e-6):
        super().__init__()
        self.p, self.delta, self.eps = p, delta, eps
        self.register_buffer("root", torch.empty(trees, 1, dim))
        self.register_buffer("dirs", torch.empty(trees, lines, dim))
        self.resample()

    @torch.no_grad()
    def resample(self, generator=None):
        """Draws other trees: roots uniform on the sphere, and directions on what is orthogonal to them."""
        self.root.copy_(F.normalize(self.root.normal_(generator=generator), dim=-1))
        dirs = self.dirs.normal_(generator=generator)
        self.dirs.copy_(F.normalize(dirs - (dirs * self.root).sum(-1, keepdim=True) * self.root, dim=-1))

    def _angle(self, cosine):
        return cosine.clamp(self.eps - 1, 1 - self.eps).acos()

    def project(self, x, mass):
        """Coordinates [L, 1, n], and masses on the lines [L, k, n]."""
        cosine = self.root @ x.mT
        along = self._angle(cosine)
        rest = F.normalize(x - cosine.mT * self.root, dim=-1)
        share = (-self.delta * along.sin() * self._angle(self.dirs @ rest.mT)).softmax(1)
        return along, share / x.shape[0] if mass is None else share * mass

    def forward(self, x, y, a=None, b=None):
        (along_x, mass_x), (along_y, mass_y) = self.project(x, a), self.project(y, b)
        place, order = torch.cat([along_x, along_y], -1).sort(-1)
        mass = torch.cat([mass_x, -mass_y], -1)
        mass = mass.gather(-1, order.expand_as(mass))
        beyond = (mass.sum(-1, keepdim=True) - mass.cumsum(-1) + mass).abs()
        edges = place.diff(dim=-1, prepend=torch.zeros_like(place[..., :1]))
        return _root((edges * (beyond if self.p == 1 else beyond**self.p)).sum((-2, -1)), self.p)
