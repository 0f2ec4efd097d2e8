"""Prompt and picture -> the embeddings that FLUX is conditioned on (CLIP, T5, SigLIP, Redux)."""
