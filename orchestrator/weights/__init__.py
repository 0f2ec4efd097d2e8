"""Which weights a graph needs, what is missing, the hub, download, verify, convert."""
