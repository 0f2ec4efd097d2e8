"""The 3D bundle image: 2 rows x 4 columns of square tiles (docs/reference.md).

Row 0 is RGB, row 1 normal maps, columns are azimuth 0, 90, 180, 270; white background.
"""

from __future__ import annotations

import numpy as np

TILE = 512


def join(rgb: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Two (4, S, S, 3) rows of tiles -> one (2 S, 4 S, 3) bundle."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in (rgb, normals)], axis=0)


def split(bundle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(2 S, 4 S, 3) bundle -> rgb and normal tiles, each (4, S, S, 3)."""
    size = bundle.shape[0] // 2
    if bundle.shape != (2 * size, 4 * size, 3):
        raise ValueError(f"a bundle is (2 S, 4 S, 3), not {bundle.shape}")
    tiles = bundle.reshape(2, size, 4, size, 3).transpose(0, 2, 1, 3, 4)
    return tiles[0], tiles[1]
