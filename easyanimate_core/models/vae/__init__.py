"""The causal 3-D VAE."""

from .model import AutoencoderKLMagvit, Posterior
from .tiling import TiledEncoder, Tiles, decode_tiled, encode_tiled

__all__ = [
    "AutoencoderKLMagvit",
    "Posterior",
    "TiledEncoder",
    "Tiles",
    "decode_tiled",
    "encode_tiled",
]
