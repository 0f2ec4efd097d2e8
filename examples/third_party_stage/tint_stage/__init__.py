"""A third-party stage package."""
