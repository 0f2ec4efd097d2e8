"""What a node may be called."""

from __future__ import annotations

import re

NODE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
