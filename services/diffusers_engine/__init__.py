"""An engine that paints with models of Stable Diffusion 1.5, SDXL and Flux, by the diffusers library."""
