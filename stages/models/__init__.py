"""Helpers for networks: loading pretrained ones, attention kernels, determinism, memory."""
