"""Checkpoints of the true architectures, small and random, in the published folder formats.

Each `build_...(folder)` writes `<folder>/<name in configs/models.yaml>/...`, so `folder` is what
KISS3D_MODELS takes.
"""
