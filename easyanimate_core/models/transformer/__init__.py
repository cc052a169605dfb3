"""The MMDiT denoiser."""
