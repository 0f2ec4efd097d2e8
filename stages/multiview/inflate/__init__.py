"""Four views of an inflated silhouette: the multiview stage of profile `sketch`."""
