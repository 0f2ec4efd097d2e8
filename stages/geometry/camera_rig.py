"""Where the bundle's cameras stand: plain numbers, which params name without importing numpy.

Conventions and sources as in `stages.geometry.cameras`; angles in degrees.
"""

from __future__ import annotations

BUNDLE_AZIMUTHS = (0.0, 90.0, 180.0, 270.0)
"""Columns of the bundle: front, the object's left, back, the object's right."""
BUNDLE_ELEVATION = 5.0
FOVY = 30.0
RADIUS = 4.15
"""Camera distance at which the reference renders its bundle and ISOMER projects (image flow)."""
