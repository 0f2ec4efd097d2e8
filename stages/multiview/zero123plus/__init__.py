"""Stage `zero123plus`: four views by diffusion, Zero123++ v1.2 with FlexGen's UNet."""
