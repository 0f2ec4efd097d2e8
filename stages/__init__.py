"""The child side: one package a stage. Importing a stage module imports no torch."""
