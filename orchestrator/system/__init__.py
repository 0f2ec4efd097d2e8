"""This machine: files that are whole or not there, private folders, locks, GPUs, signals, text."""
