"""The triplane transformer: learned queries read the views' tokens and become three planes.

Hong et al., "LRM: Large Reconstruction Model for Single Image to 3D" (2024), as InstantMesh has it.
Modules are named so that state-dict keys equal the published ones (those of
nn.MultiheadAttention, whose own forward would build the attention matrix).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lrm.prm.config import TransformerConfig
from stages.lrm.prm.encoder import join_heads, split_heads

FINAL_NORM_EPS = 1e-6


class TriplaneTransformer(nn.Module):
    """(B, T, feature_dim) tokens -> (B, 3, plane_dim, 2 * low_res, 2 * low_res) planes."""

    def __init__(self, config: TransformerConfig, feature_dim: int) -> None:
        super().__init__()
        self._low_res = config.low_res
        tokens = 3 * config.low_res * config.low_res
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, config.dim))
        self.layers = nn.ModuleList(
            Layer(config.dim, config.heads, feature_dim) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim, eps=FINAL_NORM_EPS)
        self.deconv = nn.ConvTranspose2d(config.dim, config.plane_dim, kernel_size=2, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """The planes are float32, whatever autocast says: all geometry is read off them."""
        tokens = self.pos_embed.expand(len(features), -1, -1)
        for layer in self.layers:
            tokens = layer(tokens, features)
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = self.norm(tokens.float())
            # Tokens are ordered (plane, row, column).
            cells = tokens.unflatten(1, (3 * self._low_res, self._low_res))
            planes = cells.unflatten(1, (3, self._low_res)).permute(0, 1, 4, 2, 3)
            return self.deconv(planes.flatten(0, 1)).unflatten(0, (-1, 3))


class Layer(nn.Module):
    """Cross-attention to the views, self-attention, MLP; each pre-norm with a residual."""

    def __init__(self, dim: int, heads: int, feature_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn = CrossAttention(dim, heads, feature_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.self_attn = SelfAttention(dim, heads)
        self.norm3 = nn.LayerNorm(dim)
        # Index 3 is the second Linear's in the checkpoint, where index 2 was a dropout.
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Identity(), nn.Linear(4 * dim, dim)
        )

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        tokens = tokens + self.cross_attn(self.norm1(tokens), features)
        tokens = tokens + self.self_attn(self.norm2(tokens))
        return tokens + self.mlp(self.norm3(tokens))


class CrossAttention(nn.Module):
    """Queries of one width read keys and values of another. No biases."""

    def __init__(self, dim: int, heads: int, feature_dim: int) -> None:
        super().__init__()
        self._heads = heads
        self.q_proj_weight = nn.Parameter(torch.empty(dim, dim))
        self.k_proj_weight = nn.Parameter(torch.empty(dim, feature_dim))
        self.v_proj_weight = nn.Parameter(torch.empty(dim, feature_dim))
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        q = split_heads(functional.linear(tokens, self.q_proj_weight), self._heads)
        k = split_heads(functional.linear(features, self.k_proj_weight), self._heads)
        v = split_heads(functional.linear(features, self.v_proj_weight), self._heads)
        return self.out_proj(join_heads(functional.scaled_dot_product_attention(q, k, v)))


class SelfAttention(nn.Module):
    """Projections packed into one matrix, in the order q, k, v. No biases."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        packed = functional.linear(tokens, self.in_proj_weight).chunk(3, dim=-1)
        q, k, v = (split_heads(each, self._heads) for each in packed)
        return self.out_proj(join_heads(functional.scaled_dot_product_attention(q, k, v)))
