"""Tiny random checkpoints in the folder formats of the real ones, for tests.

Each builder writes `<folder>/<catalogue name>/...`; with KISS3D_MODELS=<folder> stages find them.
"""
