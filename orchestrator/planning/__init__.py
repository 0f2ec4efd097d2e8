"""A request checked against this machine: options, cards, VRAM table, plan, auto profile."""
