"""The child side: one package a stage. Importing a stage module imports no torch."""

PROJECT = "kiss3d-orchestrate"
"""Whose package this is: its name is a common one."""
