"""Streamed weights beside resident ones, at full size, and the model of their cost."""
