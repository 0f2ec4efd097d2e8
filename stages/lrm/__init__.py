"""Stages of nodes reference and reconstruct: from views or a bundle to a coarse mesh."""
