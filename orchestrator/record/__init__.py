"""What is kept: run directory, manifest, cache, finding runs, preview sheet, result folder."""
