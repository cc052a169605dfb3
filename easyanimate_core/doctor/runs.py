"""Computes what a recording holds, on any device and in any dtype.

Shapes: B batch, C channels, F frames, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..conditioning.condition import Condition, Sources, make_condition
from ..models.geometry import latent_shape
from ..models.precision import wide
from ..models.specs import TransformerConfig, VAEConfig, Version
from ..models.transformer import EasyAnimateTransformer3DModel
from ..models.vae import AutoencoderKLMagvit
from ..progress import silent
from ..sampling import Guidance, SamplingRun, Schedule, draw_noise, make_schedule
from ..stages import decode_latents, sample_latents
from ..text import (
    BertT5TextEncoder,
    TextStates,
    bert_from_tensors,
    build_text_encoder,
    load_bert_tokenizer,
    load_t5_tokenizer,
    t5_from_tensors,
)
from ..text.weights import Placement
from ..weights.loading import load_network
from .recordings import Recording

_NO_SOURCES = Sources()
_CPU = torch.device("cpu")
#: Characters; longer prompts are cut, with a warning in the log.
_LONGEST_PROMPT = 100
#: Reads a recording by its path in the folder of recordings.
Read = Callable[[str], Recording]


@dataclass(frozen=True)
class Compute:
    """Where and how to compute. `text` is the dtype of text encoders."""

    device: torch.device = _CPU
    dtype: torch.dtype = torch.float32
    text: torch.dtype = torch.float32


@dataclass(frozen=True)
class Compared:
    """A result and what was recorded."""

    what: str
    found: Tensor
    recorded: Tensor


def denoiser(recording: Recording, compute: Compute) -> Iterator[Compared]:
    """One prediction of the denoiser."""
    network = denoiser_of(recording, compute.device)
    around = wide(compute.dtype)
    inputs = {name: x.to(compute.device) for name, x in recording.group("inputs").items()}
    given = {name: x.to(around) for name, x in inputs.items() if name.startswith("text")}
    condition = inputs.get("extra")
    found = network(
        inputs["sample"].to(compute.dtype),
        inputs["timestep"],
        given["text"],
        text_t5=given.get("text_t5"),
        condition=None if condition is None else condition.to(compute.dtype),
    )
    yield Compared("prediction", found, recording.tensors["outputs.sample"])


def vae(recording: Recording, compute: Compute) -> Iterator[Compared]:
    """Clips that are encoded, and decoded from the recorded latents."""
    network = vae_of(recording, compute.device)
    for shape in recording.meta["shapes"]:
        name = "x".join(map(str, shape))
        recorded = recording.group(f"outputs.{name}")
        video = pixels(recording.tensors[f"inputs.{name}.video"])
        posterior = network.encode(video.to(compute.device, wide(compute.dtype)))
        yield Compared(f"{name} mean", posterior.mean, recorded["mean"])
        yield Compared(f"{name} logvar", posterior.logvar, recorded["logvar"])
        latents = recorded["mean"].to(compute.device, wide(compute.dtype))
        yield Compared(f"{name} decoded", network.decode(latents), recorded["decoded"])


def text_v5(recording: Recording, compute: Compute) -> Iterator[Compared]:
    """Prompts read by V5's two text encoders."""
    encoder = text_encoder_v5(recording, Placement(compute.text, compute.device))
    for name, prompt in prompts_of(recording):
        if len(prompt) > _LONGEST_PROMPT:
            continue
        states = encoder.encode([prompt])
        assert states.text_t5 is not None
        yield Compared(f"bert {name}", states.text, recording.tensors[f"outputs.{name}.bert"])
        yield Compared(f"t5 {name}", states.text_t5, recording.tensors[f"outputs.{name}.t5"])


def text_v51(recording: Recording, compute: Compute, folder: Path) -> Iterator[Compared]:
    """Prompts read by the V5.1 text encoder in `folder`."""
    encoder = build_text_encoder(
        folder,
        Version.V5_1,
        use_attention_mask=True,
        dtype=compute.text,
        device=compute.device,
    )
    for index, prompt in enumerate(recording.meta["prompts"]):
        states = encoder.encode([prompt])
        yield Compared(f"qwen {index}", states.text, recording.tensors[f"outputs.{index}"])


@dataclass(frozen=True)
class Run:
    """A whole run as recorded, before its first step. `vae` is None if frames are not wanted."""

    recording: Recording
    compute: Compute
    transformer: EasyAnimateTransformer3DModel
    vae: AutoencoderKLMagvit | None
    schedule: Schedule
    noise: Tensor
    condition: Condition
    generators: Sequence[torch.Generator]

    def latents(self) -> Tensor:
        """The denoised latents."""
        meta, inputs = self.recording.meta, self.recording.group("inputs")
        guidance = Guidance(meta["guidance_scale"], meta["guidance_rescale"])
        return sample_latents(
            self.transformer,
            SamplingRun(self.schedule, guidance, self.generators),
            text=(_states(inputs, "negative_text"), _states(inputs, "text")),
            condition=self.condition,
            noise=self.noise.to(self.compute.device),
            dtype=self.compute.dtype,
        )

    def frames(self, latents: Tensor) -> Tensor:
        """The decoded latents, [1, C, F, H, W] in [0, 1]."""
        assert self.vae is not None
        frames = decode_latents(self.vae, latents.to(wide(self.compute.dtype)), None, silent)
        return frames.permute(3, 0, 1, 2)[None]


def prepare(
    recording: Recording,
    read: Read,
    compute: Compute,
    *,
    sources: Sources = _NO_SOURCES,
    decodes: bool = True,
) -> Run:
    """Load the networks of a recorded run; `sources` need the VAE, and so do frames."""
    meta, inputs = recording.meta, recording.group("inputs")
    transformer = denoiser_of(read(meta["transformer"]), compute.device)
    vae = vae_of(read(meta["vae"]), compute.device) if decodes else None
    size = latent_shape(meta["frames"], meta["height"], meta["width"])
    generators = [torch.Generator().manual_seed(meta["generator_seed"])]
    noise = inputs.get("latents")
    if noise is None:
        noise = draw_noise((transformer.config.out_channels, *size), generators)
    condition = Condition(None, None)
    if vae is not None:
        condition = make_condition(
            vae,
            transformer.config,
            sources,
            size,
            noise_amplitude=meta["noise_aug_strength"],
            generators=generators,
        )
    schedule = make_schedule(
        meta["scheduler"], meta["scheduler_config"], steps=meta["steps"], strength=meta["strength"]
    )
    return Run(recording, compute, transformer, vae, schedule, noise, condition, generators)


def denoising(
    recording: Recording, read: Read, compute: Compute, *, decodes: bool
) -> Iterator[Compared]:
    """A whole run, and its frames with `decodes`."""
    run = prepare(recording, read, compute, decodes=decodes)
    latents = run.latents()
    yield Compared("latents", latents, recording.tensors["outputs.latents"])
    if decodes:
        yield Compared("frames", run.frames(latents), recording.tensors["outputs.frames"])


def denoiser_of(recording: Recording, device: torch.device) -> EasyAnimateTransformer3DModel:
    """The recorded denoiser."""
    config = TransformerConfig.from_dict(recording.meta["config"])
    build = partial(EasyAnimateTransformer3DModel, config)
    return load_network(build, recording.weights(), what="recording", device=device)


def vae_of(recording: Recording, device: torch.device) -> AutoencoderKLMagvit:
    """The recorded VAE."""
    config = VAEConfig.from_dict(recording.meta["config"])
    build = partial(AutoencoderKLMagvit, config)
    return load_network(build, recording.weights(), what="recording", device=device)


def text_encoder_v5(recording: Recording, placement: Placement) -> BertT5TextEncoder:
    """The recorded Bert and mT5, with the tokenizers beside them."""
    meta, t5_weights = recording.meta, recording.weights("weights.t5")
    tokenizers = recording.path.parents[1] / meta["tokenizers"]
    bert = load_bert_tokenizer(tokenizers / "bert")
    t5 = load_t5_tokenizer(tokenizers / "t5")
    return BertT5TextEncoder(
        bert_from_tensors(
            meta["bert_config"], recording.weights("weights.bert"), bert, placement=placement
        ),
        t5_from_tensors(meta["t5_config"], t5_weights, t5, placement=placement),
        use_attention_mask=meta["enable_text_attention_mask"],
    )


def prompts_of(recording: Recording) -> list[tuple[str, str]]:
    """The prompts by the names of their outputs, the negative one last."""
    prompts = {str(index): prompt for index, prompt in enumerate(recording.meta["prompts"])}
    return [*{**prompts, "negative": recording.meta["negative_prompt"]}.items()]


def pixels(video: Tensor) -> Tensor:
    """Recorded bytes in [-1, 1]."""
    return video.float() / 255 * 2 - 1


def _states(inputs: Mapping[str, Tensor], name: str) -> TextStates:
    return TextStates(inputs[name], inputs.get(f"{name}_t5"))
