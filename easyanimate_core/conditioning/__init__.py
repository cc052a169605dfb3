"""What the denoiser is shown beside the noise."""
