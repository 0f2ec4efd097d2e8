"""Fake stages that misbehave in every way that a real one can. Registered by entry points."""
