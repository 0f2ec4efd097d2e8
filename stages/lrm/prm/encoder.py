"""The image encoder: DINO's ViT, each layer modulated by the camera that saw the image.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2021); the modulation
is adaLN of Peebles and Xie, "Scalable Diffusion Models with Transformers" (2023), without gates.
Modules are named so that state-dict keys equal the published ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lrm.prm.config import EncoderConfig

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's RGB, as dino-vitb16's image processor has them."""
NORM_EPS = 1e-12
CAMERA_NUMBERS = 16


class ImageEncoder(nn.Module):
    """Images and cameras -> tokens."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.model = VisionTransformer(config)
        self.camera_embedder = nn.Sequential(
            nn.Linear(CAMERA_NUMBERS, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
        )

    def forward(self, images: Tensor, cameras: Tensor) -> Tensor:
        """Tokens of all views of an object, one view after another.

        images (B, V, 3, H, W) in [0, 1]; cameras (B, V, 16) as `cameras.condition_vectors`.
        Returns (B, V * (1 + H/p * W/p), hidden): each view's class token, then its patches by rows.
        """
        batch, views = images.shape[:2]
        mean, std = (images.new_tensor(each).view(3, 1, 1) for each in (MEAN, STD))
        pixels = (images.flatten(0, 1) - mean) / std
        tokens = self.model(pixels, self.camera_embedder(cameras.flatten(0, 1)))
        return tokens.reshape(batch, views * tokens.shape[1], tokens.shape[2])


class VisionTransformer(nn.Module):
    """ViT without a head: (N, 3, H, W) normalised images and (N, hidden) cameras -> tokens."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.encoder = nn.ModuleDict({"layer": layers})
        self.layernorm = nn.LayerNorm(config.hidden, eps=NORM_EPS)

    def forward(self, pixels: Tensor, camera: Tensor) -> Tensor:
        tokens = self.embeddings(pixels)
        for layer in self.encoder["layer"].children():
            tokens = layer(tokens, camera)
        return self.layernorm(tokens)


class Embeddings(nn.Module):
    """Patches and the class token, plus their positions."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self._patch = config.patch
        self._image_size = config.image_size
        side = config.image_size // config.patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + side * side, config.hidden))
        projection = nn.Conv2d(3, config.hidden, config.patch, config.patch)
        self.patch_embeddings = nn.ModuleDict({"projection": projection})

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        patches = self.patch_embeddings["projection"](pixels).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(len(pixels), -1, -1)
        return torch.cat([first, patches], dim=1) + self.positions(height, width)

    def positions(self, height: int, width: int) -> Tensor:
        """(1, 1 + h*w, hidden) position embeddings for images of that size in pixels.

        DINO adds 0.1 to the wanted side before it divides, and PyTorch maps coordinates with the
        factor that it is given: asking for the size itself would give slightly different values.
        """
        if height == width == self._image_size:
            return self.position_embeddings
        first, learned = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        side = self._image_size // self._patch
        grid = learned.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        h, w = height // self._patch, width // self._patch
        resized = functional.interpolate(
            grid,
            scale_factor=((h + 0.1) / side, (w + 0.1) / side),
            mode="bicubic",
            align_corners=False,
        )
        return torch.cat([first, resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


class Layer(nn.Module):
    """Pre-norm attention and MLP; the camera shifts and scales what each of them reads."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.attention = Attention(hidden, config.heads)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, config.mlp)})
        self.output = nn.ModuleDict({"dense": nn.Linear(config.mlp, hidden)})
        self.layernorm_before = nn.LayerNorm(hidden, eps=NORM_EPS)
        self.layernorm_after = nn.LayerNorm(hidden, eps=NORM_EPS)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 4 * hidden))

    def forward(self, tokens: Tensor, camera: Tensor) -> Tensor:
        """tokens (N, T, hidden), camera (N, hidden)."""
        modulation = self.adaLN_modulation(camera).unsqueeze(1)
        shift1, scale1, shift2, scale2 = modulation.chunk(4, dim=-1)
        tokens = tokens + self.attention(self.layernorm_before(tokens) * (1 + scale1) + shift1)
        read = self.layernorm_after(tokens) * (1 + scale2) + shift2
        return tokens + self.output["dense"](functional.gelu(self.intermediate["dense"](read)))


class Attention(nn.Module):
    """Multi-head self-attention, named as transformers' ViT names it."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.attention = nn.ModuleDict(
            {name: nn.Linear(hidden, hidden) for name in ("query", "key", "value")}
        )
        self.output = nn.ModuleDict({"dense": nn.Linear(hidden, hidden)})

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = (
            split_heads(self.attention[name](tokens), self._heads)
            for name in ("query", "key", "value")
        )
        return self.output["dense"](join_heads(functional.scaled_dot_product_attention(q, k, v)))


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(N, T, D) -> (N, heads, T, D / heads)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(tokens: Tensor) -> Tensor:
    """(N, heads, T, d) -> (N, T, heads * d)."""
    return tokens.transpose(1, 2).flatten(-2)
