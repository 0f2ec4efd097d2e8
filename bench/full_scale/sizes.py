"""The architectures: as published, and tiny ones for a rehearsal. Plain configs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from devtools.tiny import prm, zero123plus
from stages.lrm.prm.config import PrmConfig

Config = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """Configs of diffusers' and transformers' classes.

    shard_bytes   of the files of the two largest models, which are published in several
    lora_rank     as large as Kiss3DGen's file is (0.3 GB)
    """

    transformer: Config
    controlnet: Config
    vae: Config
    t5: Config
    clip: Config
    siglip: Config
    florence_vision: Config
    florence_text: Config
    zero123plus: zero123plus.Architecture
    prm: PrmConfig
    lora_rank: int
    shard_bytes: int


_FLUX: Config = {
    "patch_size": 1,
    "in_channels": 64,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
_VAE: Config = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
_T5: Config = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
_CLIP: Config = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
}
_SIGLIP: Config = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
_FLORENCE_VISION: Config = {
    "depths": [1, 1, 9, 1],
    "embed_dim": [256, 512, 1024, 2048],
    "num_heads": [8, 16, 32, 64],
    "num_groups": [8, 16, 32, 64],
    "window_size": 12,
    "projection_dim": 1024,
    "max_position_embeddings": 50,
    "max_temporal_embeddings": 100,
    "drop_path_rate": 0.1,
    "image_size": 768,
}
_FLORENCE_TEXT: Config = {
    "vocab_size": 51289,
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "max_position_embeddings": 4096,
}

PUBLISHED = Sizes(
    transformer={**_FLUX, "num_layers": 19, "num_single_layers": 38},
    controlnet={**_FLUX, "num_layers": 5, "num_single_layers": 10, "num_mode": 10},
    vae=_VAE,
    t5=_T5,
    clip=_CLIP,
    siglip=_SIGLIP,
    florence_vision=_FLORENCE_VISION,
    florence_text=_FLORENCE_TEXT,
    zero123plus=zero123plus.PUBLISHED,
    prm=PrmConfig(),
    lora_rank=32,
    shard_bytes=5 << 30,
)

_NARROW: Config = {
    **_FLUX,
    "in_channels": 16,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (4, 14, 14),
}

TINY = Sizes(
    transformer={**_NARROW, "num_layers": 3, "num_single_layers": 4},
    controlnet={**_NARROW, "num_layers": 1, "num_single_layers": 2, "num_mode": 10},
    vae={
        **_VAE,
        "block_out_channels": (8,) * 4,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
    },
    t5={**_T5, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4},
    clip={**_CLIP, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2},
    siglip={
        **_SIGLIP,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
    },
    florence_vision={
        **_FLORENCE_VISION,
        "depths": [1, 1, 1, 1],
        "embed_dim": [8, 8, 16, 16],
        "num_heads": [1, 1, 2, 2],
        "num_groups": [1, 1, 2, 2],
        "window_size": 4,
        "projection_dim": 16,
        "image_size": 64,
    },
    florence_text={
        **_FLORENCE_TEXT,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
    },
    zero123plus=zero123plus.TINY,
    prm=prm.TINY,
    lora_rank=4,
    shard_bytes=200_000,
)
