"""The causal 3-D VAE."""

from .model import AutoencoderKLMagvit, Posterior
from .tiling import TILE_SIDES, TiledEncoder, Tiles, decode_tiled, encode_tiled, sides_for

__all__ = [
    "TILE_SIDES",
    "AutoencoderKLMagvit",
    "Posterior",
    "TiledEncoder",
    "Tiles",
    "decode_tiled",
    "encode_tiled",
    "sides_for",
]
