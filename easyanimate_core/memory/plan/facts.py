"""Parameter counts of a model's parts, from a checkpoint or for a published model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from ...errors import InputError
from ...models.specs import (
    LATENT_CHANNELS,
    Head,
    TransformerConfig,
    VAEConfig,
    Version,
    condition_channels,
)
from ...models.transformer import EasyAnimateTransformer3DModel
from ...models.vae import AutoencoderKLMagvit
from ...weights.files import CheckpointInfo, TensorFiles, in_original_names
from ...weights.stored import may_be_quantized, stored_format

#: Bytes per value of a quantised weight, including its share of the scales (qint4: a 16-bit scale
#: and zero point per 128 values).
QUANTIZED_BYTES = {"qfloat8": 1.0, "qint8": 1.0, "qint4": 0.5 + 4 / 128}

#: Bytes per value as loaded; GGUF blocks are unpacked to bfloat16.
_ITEM_BYTES = {"F64": 8, "F32": 4}
_USUAL_BYTES = 2
_LAYER = re.compile(r"(?:transformer_blocks|layers?|block)\.(\d+)\.")


@dataclass(frozen=True)
class Weights:
    """A network's weights, counted in values.

    Args:
        quantizable: Values that a quantisation stores in fewer bits.
        kept: The other values.
        in_blocks: Values in the blocks that can be streamed.
        block: Values in the largest block.
        stored: Average bytes per value in the files; if `packed`, those of `kept`.
        packed: Whether `quantizable` values are stored in 8 bits, and are kept so.
    """

    quantizable: int
    kept: int
    in_blocks: int
    block: int
    stored: float
    packed: bool = False

    @property
    def values(self) -> int:
        """Total number of values."""
        return self.quantizable + self.kept

    def num_bytes(self, item_bytes: float, quantization: str = "none") -> int:
        """Bytes of the whole network, with `item_bytes` per unquantised value."""
        if quantization == "none" and self.packed:
            quantization = "qfloat8"
        fewer = QUANTIZED_BYTES.get(quantization, item_bytes)
        return int(self.quantizable * fewer + self.kept * item_bytes)

    def streamed_bytes(
        self, item_bytes: float, quantization: str = "none", resident: int = 0
    ) -> int:
        """Bytes on the device when blocks are streamed: two, those that stay, and the rest."""
        share = (self.values - self.in_blocks + (2 + resident) * self.block) / self.values
        return int(self.num_bytes(item_bytes, quantization) * min(share, 1.0))


@dataclass(frozen=True)
class ModelFacts:
    """What a plan needs to know about a model.

    `text` has one entry per text encoder. `writer` is the whole language model with its head and
    vision tower, which writes long prompts; V5 has none.
    """

    name: str
    transformer: TransformerConfig
    vae: VAEConfig
    denoiser: Weights
    encoder: Weights
    decoder: Weights
    text: tuple[Weights, ...]
    writer: Weights | None

    @property
    def version(self) -> Version:
        """V5 or V5.1."""
        return self.transformer.version


def facts_of(info: CheckpointInfo) -> ModelFacts:
    """The facts of a checkpoint folder, from its configs and headers."""
    denoiser = in_original_names(info.transformer_files)
    counts = {name: weight.numel for name, weight in denoiser.weights.items()}
    fewer = {name for name in counts if may_be_quantized(name, denoiser[name].shape)}
    vae = {name: tensor.numel for name, tensor in info.vae_files.items()}
    decoding = {name: count for name, count in vae.items()
                if name.startswith(("decoder.", "post_quant_conv."))}  # fmt: skip
    encoding = {name: count for name, count in vae.items() if name not in decoding}
    vae_bytes = _stored_bytes(info.vae_files.dtypes)
    return ModelFacts(
        name=f"EasyAnimate {info.version.value} {info.size} {info.head.value}",
        transformer=info.transformer,
        vae=info.vae,
        denoiser=replace(
            _weights(counts, fewer, _stored_bytes(info.transformer_files.dtypes)),
            packed=any(stored_format(denoiser, name) for name in counts),
        ),
        encoder=_weights(encoding, set(), vae_bytes),
        decoder=_weights(decoding, set(), vae_bytes),
        text=tuple(
            _text_weights({name: files[name].shape for name in files}, _stored_bytes(files.dtypes))
            for files in info.text_encoders
        ),
        writer=_writer(info.text_encoders[0]) if info.version is Version.V5_1 else None,
    )


def published_facts(version: Version, size: str, head: Head) -> ModelFacts:
    """The facts of a published model in bfloat16, without its files.

    Args:
        version: Generation.
        size: 7B or 12B.
        head: Its head.

    Raises:
        InputError: No published model has this size.
    """
    if size not in _PUBLISHED_BLOCKS:
        raise InputError(f"The size is {size!r}; published models are 7B and 12B.")
    layers, own = _PUBLISHED_BLOCKS[size]
    new = version is Version.V5_1
    config = TransformerConfig(
        in_channels=LATENT_CHANNELS + condition_channels(head, reference=new),
        num_layers=layers,
        mmdit_layers=own,
        text_embed_dim=3584 if new else 1024,
        text_embed_dim_t5=None if new else 2048,
        add_norm_text_encoder=new,
    )
    vae = VAEConfig(spatial_group_norm=new)
    with torch.device("meta"):
        denoiser = EasyAnimateTransformer3DModel(config).state_dict()
        network = AutoencoderKLMagvit(vae)
    counts = {name: tensor.numel() for name, tensor in denoiser.items()}
    fewer = {name for name, tensor in denoiser.items() if may_be_quantized(name, tensor.shape)}
    encoder, decoder = (sum(weight.numel() for weight in part.parameters())
                        for part in (network.encoder, network.decoder))  # fmt: skip
    return ModelFacts(
        name=f"EasyAnimate {version.value} {size} {head.value}",
        transformer=config,
        vae=vae,
        denoiser=_weights(counts, fewer, 2),
        encoder=Weights(0, encoder, 0, 0, 4),
        decoder=Weights(0, decoder, 0, 0, 4),
        text=_PUBLISHED_TEXT[version],
        writer=_PUBLISHED_WRITER if new else None,
    )


#: Number of blocks, and how many of them have separate text weights.
_PUBLISHED_BLOCKS = {"7B": (36, 18), "12B": (48, 48)}
#: Qwen2-VL-7B without its vision tower, last layer and LM head (27 layers of 233 million values and
#: a table of 545 million); Bert and the encoder of mT5-XL (24 layers), published in float32.
_PUBLISHED_TEXT = {
    Version.V5_1: (Weights(6_292_316_160, 545_244_672, 6_292_700_000, 233_060_000, 2),),
    Version.V5: (
        Weights(302_000_000, 51_000_000, 302_000_000, 12_600_000, 4),
        Weights(1_157_627_904, 512_230_000, 1_157_700_000, 48_240_000, 4),
    ),
}
#: The whole Qwen2-VL-7B: 28 layers and the head; the table, and the vision tower, which is never
#: quantised.
_PUBLISHED_WRITER = Weights(7_070_285_824, 1_221_089_792, 6_525_600_000, 233_060_000, 2)


def _weights(counts: Mapping[str, int], fewer: set[str], stored: float) -> Weights:
    blocks: Counter[str] = Counter()
    for name, count in counts.items():
        found = _LAYER.search(name)
        if found is not None:
            blocks[found[1]] += count
    quantizable = sum(counts[name] for name in fewer)
    return Weights(
        quantizable=quantizable,
        kept=sum(counts.values()) - quantizable,
        in_blocks=sum(blocks.values()),
        block=max(blocks.values(), default=0),
        stored=stored,
    )


def _text_weights(shapes: Mapping[str, tuple[int, ...]], stored: float) -> Weights:
    """A text encoder's weights, without the vision tower, last layer and head, which are unused."""
    plain = {re.sub(r"^(model\.)?(language_model\.)?", "", name): shape
             for name, shape in shapes.items()}  # fmt: skip
    numbers = [int(found[1]) for name in plain if (found := re.match(r"layers\.(\d+)\.", name))]
    last = f"layers.{max(numbers, default=-1)}."
    unused = ("visual.", "lm_head.", "decoder.", "pooler.", last)
    read = {name: shape for name, shape in plain.items()
            if name != "norm.weight" and not name.startswith(unused)}  # fmt: skip
    counts = {name: torch.Size(shape).numel() for name, shape in read.items()}
    fewer = {name for name, shape in read.items() if _is_text_matrix(name, shape)}
    return _weights(counts, fewer, stored)


def _writer(files: TensorFiles) -> Weights:
    """The weights of the whole language model; its vision tower is not quantised."""
    shapes = {name: files[name].shape for name in files}
    counts = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    fewer = {name for name, shape in shapes.items()
             if "visual." not in name and _is_text_matrix(name, shape)}  # fmt: skip
    return _weights(counts, fewer, _stored_bytes(files.dtypes))


def _is_text_matrix(name: str, shape: tuple[int, ...]) -> bool:
    tables = ("embed", "shared", "relative_attention_bias", "norm")
    return len(shape) == 2 and not any(part in name.lower() for part in tables)


def _stored_bytes(dtypes: Counter[str]) -> float:
    total = sum(dtypes.values())
    return sum(_ITEM_BYTES.get(name, _USUAL_BYTES) * count for name, count in dtypes.items()) / max(
        total, 1
    )
