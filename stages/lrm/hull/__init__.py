"""A coarse mesh from silhouettes and normal maps: the stages of profile `sketch`."""
