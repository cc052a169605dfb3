"""Version, head and network configurations of a model, as frozen dataclasses.

They are read from the `config.json` files of a checkpoint folder (original or diffusers layout). A
field that selects something these networks do not implement is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..errors import CheckpointError
from ..files import SWITCH, Rule, check_fields, listed, number, optional, short, whole


class Version(str, Enum):
    """EasyAnimate generation, which determines the text encoders and the prediction type."""

    V5 = "V5"
    V5_1 = "V5.1"

    @property
    def prediction_type(self) -> str:
        """`v_prediction` for V5, `flow` for V5.1."""
        return "flow" if self is Version.V5_1 else "v_prediction"

    @property
    def masks_text(self) -> bool:
        """Whether the published models mask padding in their text encoders."""
        return self is Version.V5_1


class Head(str, Enum):
    """What the denoiser's extra input channels, next to the noise, are for."""

    T2V = "T2V"
    INPAINT = "InP"
    CONTROL = "Control"
    CAMERA = "Control-Camera"


#: Latent channels of every published model.
LATENT_CHANNELS = 16

#: Channels of the Pluecker embedding of a camera ray: moment and direction.
PLUCKER_CHANNELS = 6


def condition_channels(head: Head, *, reference: bool) -> int:
    """Input channels next to the noise of the published heads.

    `reference` adds those of a reference image to the heads that can have one (Control,
    Control-Camera).
    """
    channels = {
        Head.T2V: 0,
        Head.INPAINT: 1 + LATENT_CHANNELS,
        Head.CONTROL: LATENT_CHANNELS,
        Head.CAMERA: PLUCKER_CHANNELS,
    }[head]
    if reference and head in (Head.CONTROL, Head.CAMERA):
        channels += LATENT_CHANNELS
    return channels


#: Far beyond every real model; they stop a bad config from using unbounded memory or time.
_TRANSFORMER_RULES: Mapping[str, Rule] = {
    "in_channels": whole(1, 1024),
    "out_channels": whole(1, 512),
    "num_attention_heads": whole(1, 512),
    "attention_head_dim": whole(1, 1024),
    "num_layers": whole(1, 512),
    "mmdit_layers": whole(0, 1_000_000),
    "patch_size": whole(1, 16),
    "time_embed_dim": whole(1, 65_536),
    "text_embed_dim": whole(1, 65_536),
    "text_embed_dim_t5": optional(whole(1, 65_536)),
    "norm_eps": number(0, 1),
    "sample_width": whole(1, 65_536),
    "sample_height": whole(1, 65_536),
    "add_norm_text_encoder": SWITCH,
    "after_norm": SWITCH,
    "enable_text_attention_mask": SWITCH,
    "add_noise_in_inpaint_model": SWITCH,
    "keep_known": SWITCH,
}
_VAE_RULES: Mapping[str, Rule] = {
    "in_channels": whole(1, 64),
    "out_channels": whole(1, 64),
    "latent_channels": whole(1, 512),
    "block_out_channels": listed(whole(1, 16_384), 1, 16),
    "layers_per_block": whole(1, 64),
    "norm_num_groups": whole(1, 1024),
    "spatial_group_norm": SWITCH,
    "mini_batch_encoder": whole(1, 1024),
    "mini_batch_decoder": whole(1, 1024),
    "scaling_factor": number(1e-6, 1e6),
}

_HEADS = """the condition channels must be 0 (T2V), latent + 1 (InP), latent or 2 x latent \
(Control), 6 or 6 + latent (Control-Camera)"""


@dataclass(frozen=True)
class TransformerConfig:
    """Configuration of the denoiser, with the field names of the published `config.json`.

    `text_embed_dim_t5` is None if there is no second text encoder (V5.1). `keep_known` is this
    project's own: whether known pixels are kept by default. No published checkpoint has it.
    """

    in_channels: int
    out_channels: int = LATENT_CHANNELS
    num_attention_heads: int = 48
    attention_head_dim: int = 64
    num_layers: int = 48
    mmdit_layers: int = 10000
    patch_size: int = 2
    time_embed_dim: int = 512
    text_embed_dim: int = 3584
    text_embed_dim_t5: int | None = None
    add_norm_text_encoder: bool = True
    after_norm: bool = False
    norm_eps: float = 1e-5
    sample_width: int = 90
    sample_height: int = 60
    enable_text_attention_mask: bool = True
    add_noise_in_inpaint_model: bool = True
    keep_known: bool = False

    def __post_init__(self) -> None:
        check_fields(vars(self), _TRANSFORMER_RULES, "The denoiser's config", CheckpointError)
        if self.out_channels > self.in_channels:
            raise CheckpointError(
                f"The denoiser's config has out_channels = {self.out_channels} and in_channels = "
                f"{self.in_channels}; in_channels must not be smaller than out_channels. Correct "
                "the config."
            )

    @property
    def inner_dim(self) -> int:
        """Width of the token stream."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def num_mmdit_layers(self) -> int:
        """Number of blocks with separate text weights (`mmdit_layers` may exceed the blocks)."""
        return min(self.mmdit_layers, self.num_layers)

    @property
    def version(self) -> Version:
        """V5 has a second text encoder (mT5); V5.1 has only one and normalises its states."""
        return Version.V5 if self.text_embed_dim_t5 is not None else Version.V5_1

    @property
    def condition_channels(self) -> int:
        """Number of input channels in addition to the noise."""
        return self.in_channels - self.out_channels

    @property
    def head(self) -> Head:
        """The head, derived from the number of condition channels."""
        latent, extra = self.out_channels, self.condition_channels
        if extra == 0:
            return Head.T2V
        if extra == latent + 1:
            return Head.INPAINT
        if extra in (PLUCKER_CHANNELS, PLUCKER_CHANNELS + latent):
            return Head.CAMERA
        if extra in (latent, 2 * latent):
            return Head.CONTROL
        raise CheckpointError(
            f"No EasyAnimate V5 or V5.1 head has {self.in_channels} input channels with "
            f"{latent} latent channels: {_HEADS}."
        )

    @property
    def has_reference(self) -> bool:
        """Whether the head takes a reference image (V5.1 Control and Control-Camera)."""
        latent = self.out_channels
        return self.condition_channels in (2 * latent, PLUCKER_CHANNELS + latent)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> TransformerConfig:
        """Read a `transformer/config.json`; refuse what the network does not implement."""
        expected = {
            "activation_fn": "gelu-approximate",
            "timestep_activation_fn": "silu",
            "time_position_encoding_type": "3d_rope",
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "norm_elementwise_affine": True,
            "resize_inpaint_mask_directly": True,
            "enable_clip_in_inpaint": False,
            "ref_channels": None,
            "clip_channels": None,
            "swa_layers": None,
        }
        _refuse_unsupported(config, expected, "denoiser")
        if config.get("in_channels") is None:
            raise CheckpointError("The denoiser's config.json has no in_channels; it is required.")
        return cls(**_known_fields(cls, config))


@dataclass(frozen=True)
class VAEConfig:
    """Configuration of the causal 3-D VAE, with the field names of the published `config.json`.

    `mini_batch_encoder` is the number of frames encoded per chunk; `spatial_group_norm` (V5.1)
    normalises each frame by itself, which makes the result independent of the chunk length.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = LATENT_CHANNELS
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    spatial_group_norm: bool = True
    mini_batch_encoder: int = 4
    mini_batch_decoder: int = 1
    scaling_factor: float = 0.7125

    def __post_init__(self) -> None:
        check_fields(vars(self), _VAE_RULES, "The VAE's config", CheckpointError)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> VAEConfig:
        """Read a `vae/config.json` of either layout; refuse what the network does not implement."""
        expected = {
            "act_fn": "silu",
            "norm_type": None,
            "mid_block_use_attention": False,
            "cache_mag_vae": True,
            "slice_mag_vae": False,
            "slice_compression_vae": False,
            "cache_compression_vae": False,
        }
        _refuse_unsupported(config, expected, "VAE")
        check_fields(config, _VAE_RULES, "The VAE's config.json", CheckpointError)
        depth = len(config.get("block_out_channels", cls.block_out_channels))
        for side in ("down", "up"):
            kind = side.capitalize()
            wanted = [f"Spatial{kind}Block3D"] + [f"SpatialTemporal{kind}Block3D"] * (depth - 1)
            _check_block_types(config.get(f"{side}_block_types"), wanted, side)
        fields = _known_fields(cls, config)
        if "block_out_channels" in fields:
            fields["block_out_channels"] = tuple(fields["block_out_channels"])
        if "cache_mag_vae" in config:  # the original layout, in which a missing field means False
            fields.setdefault("spatial_group_norm", False)
        return cls(**fields)


def _known_fields(cls: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in cls.__dataclass_fields__ if name in config}


def _refuse_unsupported(
    config: Mapping[str, Any], expected: Mapping[str, Any], network: str
) -> None:
    for name, value in expected.items():
        if name in config and config[name] != value:
            raise CheckpointError(
                f"The {network}'s config.json has {name} = {short(config[name])}; EasyAnimate V5 "
                f"and V5.1 have {value!r}. This is another model or an older version."
            )


def _check_block_types(found: Any, wanted: list[str], side: str) -> None:
    """Accept the block names of the original (`SpatialDownBlock3D`) and of diffusers."""
    if found is None:
        return
    listed_types = found if isinstance(found, list) else [found]
    plain = [str(name).replace("EasyAnimate", "") for name in listed_types]
    if plain != wanted:
        raise CheckpointError(
            f"The VAE's config.json has {side}_block_types = {short(found)}; EasyAnimate V5 and "
            f"V5.1 have {wanted}. This is another model."
        )
