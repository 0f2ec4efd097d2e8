"""What is measured: one package a room, each bench run as `python -m bench.<room>.<name>`."""
