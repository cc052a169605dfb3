"""The causal 3-D VAE."""

from .model import AutoencoderKLMagvit, Posterior
from .tiling import Tiles, decode_tiled, encode_tiled

__all__ = ["AutoencoderKLMagvit", "Posterior", "Tiles", "decode_tiled", "encode_tiled"]
