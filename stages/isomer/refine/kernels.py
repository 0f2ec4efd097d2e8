"""Loops of a refinement on the CPU. Imported where they are called, because numba is heavy."""

from __future__ import annotations

import numpy as np

from stages.geometry.jit import kernel


@kernel
def compare(image, pixels, wanted, alpha, half, outside, slope):  # type: ignore[no-untyped-def]
    """`picture_loss` plus `coverage_loss`; slope (A, 4) float32 receives the gradient.

    image (A, 4) float32, of the flat pixels (A,) int64; wanted (K S S, C) and alpha (K S S,)
    float32; half: coverage from which a pixel counts as covered; outside: what `coverage_loss`
    divides by
    """
    channels = wanted.shape[1]
    covered = 0
    for row in range(len(pixels)):
        covered += image[row, 3] > half
    share, color, cover = 1.0 / max(covered * channels, 1), 0.0, 0.0
    for row in range(len(pixels)):
        pixel = pixels[row]
        more = np.float64(image[row, 3]) - alpha[pixel]
        cover += more * more
        for channel in range(3):
            slope[row, channel] = 0.0
        slope[row, 3] = 2.0 * more / outside
        if image[row, 3] > half:
            for channel in range(channels):
                more = np.float64(image[row, channel]) - wanted[pixel, channel]
                color += more * more
                slope[row, channel] += 2.0 * more * share
    return color * share + cover / outside


@kernel
def contour(vertices, faces, center, linear, offset, face, depth, reach, behind, found):  # type: ignore[no-untyped-def]
    """found (V,) int64 receives the vertices of `outline.at_outline` in one view; returns how many.

    vertices (V, 3) float32; faces (F, 3) int64; center (3,), linear (3, 3) and offset (3,) float32,
    the camera's place and projection; face (S, S) int64 and depth (S, S) float32 of `Visible`
    """
    sides = np.zeros(len(vertices), np.uint8)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x, y, z = np.float64(vertices[a, 0]), np.float64(vertices[a, 1]), np.float64(vertices[a, 2])
        ux, uy, uz = vertices[b, 0] - x, vertices[b, 1] - y, vertices[b, 2] - z
        vx, vy, vz = vertices[c, 0] - x, vertices[c, 1] - y, vertices[c, 2] - z
        toward = (center[0] - x) * (uy * vz - uz * vy)
        toward += (center[1] - y) * (uz * vx - ux * vz)
        toward += (center[2] - z) * (ux * vy - uy * vx)
        side = 1 if toward > 0.0 else 2
        sides[a] |= side
        sides[b] |= side
        sides[c] |= side
    count, size = 0, len(face)
    for v in range(len(vertices)):
        if sides[v] != 3:
            continue
        x, y, w = offset
        for k in range(3):
            x += vertices[v, k] * linear[k, 0]
            y += vertices[v, k] * linear[k, 1]
            w += vertices[v, k] * linear[k, 2]
        column = np.int64(np.rint(min(max(((x / w + 1.0) * size - 1.0) / 2.0, 0.0), size - 1.0)))
        row = np.int64(np.rint(min(max(((1.0 - y / w) * size - 1.0) / 2.0, 0.0), size - 1.0)))
        background, nearest = False, np.inf
        for i in range(max(row - reach, 0), min(row + reach, size - 1) + 1):
            for j in range(max(column - reach, 0), min(column + reach, size - 1) + 1):
                background |= face[i, j] < 0
                nearest = min(nearest, depth[i, j])
        if background and nearest > w - behind:
            found[count] = v
            count += 1
    return count


@kernel
def mark_seen(vertices, faces, pixels, back, least, seen):  # type: ignore[no-untyped-def]
    """seen (V,) bool, False at first: corners of faces that own one of the pixels (P,) int64
    (-1: none), and whose normal and back (3,) have a cosine above `least`."""
    known = np.zeros(len(faces), np.bool_)
    for f in pixels:
        if f < 0 or known[f]:
            continue
        known[f] = True
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x, y, z = np.float64(vertices[a, 0]), np.float64(vertices[a, 1]), np.float64(vertices[a, 2])
        ux, uy, uz = vertices[b, 0] - x, vertices[b, 1] - y, vertices[b, 2] - z
        vx, vy, vz = vertices[c, 0] - x, vertices[c, 1] - y, vertices[c, 2] - z
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        along = nx * back[0] + ny * back[1] + nz * back[2]
        if along > least * np.sqrt(nx * nx + ny * ny + nz * nz):
            seen[a] = seen[b] = seen[c] = True
