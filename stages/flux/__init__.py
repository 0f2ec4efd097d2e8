"""FLUX.1-dev with the bundle LoRA and ControlNet-Union: reference bundle -> final bundle."""
