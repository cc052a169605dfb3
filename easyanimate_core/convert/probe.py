"""Compares source and target denoiser on random latents and text, whatever their size.

Shapes: B one sample per timestep, C latent channels, F latent frames, H and W latent sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..conditioning.encode import from_model_range
from ..errors import InputError
from ..models.specs import TransformerConfig
from ..models.transformer import EasyAnimateTransformer3DModel
from ..progress import Progress, silent
from ..sampling import DEFAULT_SCHEDULER, PUBLISHED_CONFIG, Guidance, denoise, make_schedule
from ..sampling.guidance import guided_denoiser
from ..weights.files import inspect_checkpoint
from ..weights.loading import build_on_meta, load_vae
from ..weights.stored import Stored
from .fidelity import ProbeResult, psnr
from .source import Source, is_checkpoint, open_source

#: What is compared. auto: the predictions, and for a small model also decoded frames.
PROBES = ("auto", "none", "predictions", "frames")
TIMESTEPS = (900, 500, 100)
_SIDES_FHW = (1, 16, 16)
_FRAMES_FHW = (2, 16, 16)
_TOKENS, _STEPS = 16, 4
#: Up to this many parameters, "auto" also compares decoded frames.
_SMALL = 100_000_000


def probe(
    source: Path | str,
    target: Path | str,
    *,
    part: str | None = None,
    how: str = "auto",
    progress: Progress = silent,
) -> ProbeResult | None:
    """Run the denoisers of `source` and `target` on the same inputs; None for other parts.

    Weights are read when their layer runs and dropped afterwards, so that only one layer is in
    memory. Computes in float32 on the CPU. Frames require a whole checkpoint folder as the source.

    Args:
        source: The source of the conversion.
        target: The target of the conversion.
        part: As for the conversion.
        how: One of `PROBES`.
        progress: Reports the stage "probe".
    """
    if how not in PROBES:
        raise InputError(f"probe is {how!r}; it must be one of {', '.join(PROBES)}.")
    both = open_source(source, part, pickles=True), open_source(target, part)
    config = both[0].transformer
    if config is None or how == "none":
        return None
    vae = _vae_of(Path(source), both[0], how)
    networks = [streamed(opened, config) for opened in both]
    with torch.inference_mode():
        first, second = (_predict(network, config) for network in networks)
        progress("probe", 1, 2 if vae else 1)
        frames = None
        if vae is not None:
            frames = psnr(*(_frames(network, config, vae) for network in networks), peak=1.0)
            progress("probe", 2, 2)
    pairs = list(zip(first, second, strict=True))
    return ProbeResult(
        TIMESTEPS,
        tuple(_cosine(a, b) for a, b in pairs),
        tuple(psnr(a, b) for a, b in pairs),
        frames,
    )


def streamed(source: Source, config: TransformerConfig) -> EasyAnimateTransformer3DModel:
    """A denoiser whose layers load their weights when they run and drop them afterwards."""
    network = build_on_meta(lambda: EasyAnimateTransformer3DModel(config), what="denoiser").eval()
    weights = source.open()
    for prefix, module in network.named_modules():
        own = {name: f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)}
        if own:
            module.register_forward_pre_hook(_Fill(weights, own))
            module.register_forward_hook(_drop, always_call=True)
    return network


class _Fill:
    """A forward pre-hook that loads a layer's weights."""

    def __init__(self, weights: Mapping[str, Stored], names: Mapping[str, str]) -> None:
        self._weights, self._names = weights, names

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG002
        for parameter, name in self._names.items():
            plain = self._weights[name].to(dtype=torch.float32)
            setattr(module, parameter, nn.Parameter(plain, requires_grad=False))


def _drop(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    for name, parameter in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(parameter.to("meta"), requires_grad=False))


def _vae_of(source: Path, opened: Source, how: str) -> Any:
    small = opened.files.num_parameters <= _SMALL
    if how == "predictions" or (how == "auto" and not small):
        return None
    if is_checkpoint(source):
        return load_vae(inspect_checkpoint(source), dtype=torch.float32)
    if how == "frames":
        raise InputError(
            f"{source} has no VAE to decode frames. Convert from a whole checkpoint folder, or "
            "compare the predictions."
        )
    return None


def _inputs(
    config: TransformerConfig, batch: int, sides: tuple[int, int, int]
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Latents [B, C, F, H, W], and text and condition as keyword arguments of the network."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).expand(batch, *shape[1:])

    latents = noise(1, config.out_channels, *sides)
    t5, shown = config.text_embed_dim_t5, config.condition_channels
    return latents, {
        "text": noise(1, _TOKENS, config.text_embed_dim),
        "text_t5": None if t5 is None else noise(1, _TOKENS, t5),
        "condition": noise(1, shown, *sides) if shown else None,
    }


def _predict(network: EasyAnimateTransformer3DModel, config: TransformerConfig) -> Tensor:
    """Predictions [B, C, F, H, W] at the timesteps."""
    latents, given = _inputs(config, len(TIMESTEPS), _SIDES_FHW)
    return network(latents, torch.tensor(TIMESTEPS, dtype=torch.float32), **given)


def _frames(network: EasyAnimateTransformer3DModel, config: TransformerConfig, vae: Any) -> Tensor:
    """Frames [F, H, W, 3] of a short run without guidance."""
    version = config.version
    name = DEFAULT_SCHEDULER[version]
    schedule = make_schedule(name, PUBLISHED_CONFIG[version], steps=_STEPS)
    latents, given = _inputs(config, 1, _FRAMES_FHW)
    denoiser = guided_denoiser(lambda x, step: network(x, step, **given), Guidance(1.0))
    generators = [torch.Generator().manual_seed(0)]
    clean = denoise(denoiser, schedule, schedule.start(latents, None), generators=generators)
    return from_model_range(vae.decode(clean / vae.config.scaling_factor)[0]).clamp(0, 1)


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))
