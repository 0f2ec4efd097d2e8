"""Training of the sketch's network: data made on the fly, one command (training/README.md).

Not part of the installed package.
"""
