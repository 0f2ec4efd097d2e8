"""Cameras, bundle, rasterisers, differentiable rendering, silhouettes, masks, normal fusion."""
