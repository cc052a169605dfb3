"""The denoiser's condition: the channels next to the noise."""
