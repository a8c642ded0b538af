"""A layer of an encoder, of which tests make mixtures."""

import torch
import torch.nn.functional as F


class Encoder(torch.nn.Module):
    """A layer of an encoder, normalized after its residuals."""

    def __init__(self, dim, heads, hidden):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (torch.nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = torch.nn.Linear(dim, hidden), torch.nn.Linear(hidden, dim)
        self.norm1, self.norm2 = torch.nn.LayerNorm(dim), torch.nn.LayerNorm(dim)

    def forward(self, z):
        q, k, v = (part(z).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        z = self.norm1(z + self.o(y))
        return self.norm2(z + self.down(F.gelu(self.up(z))))
