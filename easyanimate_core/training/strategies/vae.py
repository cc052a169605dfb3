"""Trains the VAE: pixels to pixels, with an optional discriminator.

Shapes: B clips, F frames, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...conditioning.encode import from_model_range
from ...errors import InputError
from ...media import contact_sheet, write_png
from ...models.geometry import TEMPORAL_FACTOR
from ...models.vae import AutoencoderKLMagvit
from ...progress import Progress
from ...text import Cut
from ...weights.files.component import write_vae
from ...weights.files.pickles import read_pickle
from ..config import TrainConfig
from ..data.buckets import Batches, Draw, shapes_for
from ..data.held_out import measure_name
from ..data.loading import Loading, Lost
from ..data.records import Record, Shape, generator_of
from ..load_or_build import load_or_build_vae
from ..written import write_shown
from .base import Agree, Batch, Losses, Weights
from .discriminator import PatchDiscriminator, hinge_loss
from .streams import any_in_latent, no_masks

#: During training, latents are sampled from their distribution instead of using its mean.
_WHOLE_CHUNK = 2**62
_SHOWN_FRAMES = 6


class Reconstruction(nn.Module):
    """A VAE as a single `forward`, as data-parallel wrappers require."""

    def __init__(self, vae: AutoencoderKLMagvit) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, video_BCFHW: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The reconstruction, and the latents' mean and log-variance; no `noise` uses the mean."""
        posterior = self.vae.encode(video_BCFHW)
        latents = posterior.mean
        if noise is not None:
            latents = latents + torch.exp(0.5 * posterior.logvar) * noise
        video = self.vae.decode(latents, chunk_bytes=_WHOLE_CHUNK)
        return video, posterior.mean, posterior.logvar


@dataclass
class _Content:
    """`video` [B, 3, F, H, W] in [-1, 1]; `made` is its reconstruction, for the discriminator.

    `masks` [B, 1, F, H, W] are the clips' own, 0 where they have none. `missed` are the faults of
    clips that could not be read.
    """

    video: Tensor
    masks: Tensor
    missed: dict[str, str]
    noise: Tensor | None = None
    made: Tensor | None = None


@dataclass(frozen=True)
class _Reading:
    """Reads the content of batches."""

    config: TrainConfig
    loading: Loading

    def __call__(self, draws: Sequence[Draw]) -> _Content:
        data = self.config.data
        random = generator_of(self.config.seed, draws[0].index, draws[0].epoch, "vae")
        clips, masks, missed = [], [], dict[str, str]()
        for wanted in draws:
            draw, sample = self.loading.read(wanted, self.loading.load, missed)
            if sample.masks is None and data.crop_masks:
                raise no_masks("data.crop_masks", data.crop_masks)
            own = torch.zeros(draw.shape) if sample.masks is None else sample.masks
            cut: tuple[slice, ...] = ()
            if data.crop is not None:
                cut = _cut(own, Shape(*data.crop), data.crop_masks, random)
            clips.append(sample.frames[cut])
            masks.append(own[cut])
        video = torch.stack(clips).movedim(-1, 1) * 2 - 1
        return _Content(video, torch.stack(masks).unsqueeze(1), missed)


class VAEStrategy:
    """Trains a VAE, and with an adversarial loss its discriminator."""

    def __init__(
        self, config: TrainConfig, records: Sequence[Record], held_out: Sequence[Record]
    ) -> None:
        self._config = config
        self._objective = config.vae_objective
        self._records, self._held_out = records, held_out
        data = config.data
        self._shapes = [shapes_for(record, data.tokens, data.frames) for record in records]
        self._lost = Lost()
        self._measure = measure_name("psnr", records, held_out)
        vae = load_or_build_vae(config)
        vae.requires_grad_(requires_grad=True).train()
        if self._objective.decoder_only:
            vae.encoder.requires_grad_(requires_grad=False)
            vae.quant_conv.requires_grad_(requires_grad=False)
        self._networks: dict[str, nn.Module] = {"vae": Reconstruction(vae)}
        if self._objective.adversarial:
            judge = PatchDiscriminator(self._objective.discriminator_channels, seed=config.seed)
            self._networks["discriminator"] = judge
        self._perceptual = _perceptual(self._objective) if self._objective.perceptual else None
        self._start = self._objective.adversarial_start
        self._first: AutoencoderKLMagvit | None = None
        if self._objective.keep_latents:
            self._first = deepcopy(vae).requires_grad_(requires_grad=False).eval()

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return self._networks

    def encode_ahead(self, device: torch.device, share: slice, progress: Progress) -> None:
        """Nothing: it trains on pixels."""

    def cut(self, captions: Sequence[str]) -> tuple[Cut, ...]:  # noqa: ARG002
        """None: it reads no captions."""
        return ()

    def order(self, ranks: int) -> Batches:
        data = self._config.data
        shapes = [shape for own in self._shapes for shape in own]
        one = max((shape.tokens for shape in shapes), default=1)
        return Batches(
            self._records,
            self._shapes,
            tokens_per_batch=one * data.clips_per_batch,
            ranks=ranks,
            seed=self._config.seed,
        )

    def batches(self, rank: int, ranks: int, position: int) -> Iterator[list[Draw]]:
        return self.order(ranks).of_rank(rank, position)

    @property
    def read(self) -> _Reading:
        return _Reading(self._config, Loading(self._records, self._shapes, self._config.seed))

    @property
    def lost(self) -> Lost:
        return self._lost

    def prepare(self, batch: Batch, device: torch.device) -> None:
        content: _Content = batch.content
        self._lost.add(content.missed)
        # Drawn per step, not per device: all devices train on single frames at the same time.
        random = generator_of(self._config.seed, batch.position, "single frames")
        if random.random() < self._objective.images:
            frame = int(random.integers(content.video.shape[2]))
            content.video = content.video[:, :, frame : frame + 1]
            content.masks = content.masks[:, :, frame : frame + 1]
        content.video = content.video.to(device)
        frames = (content.video.shape[2] - 1) // TEMPORAL_FACTOR + 1
        size = [side // 8 for side in content.video.shape[3:]]
        random = generator_of(self._config.seed, batch.position, "noise")
        channels = self._vae.config.latent_channels
        content.noise = batch.noise((channels, frames, *size), random).to(device)

    def loss(self, name: str, networks: Mapping[str, nn.Module], batch: Batch) -> Losses | None:
        content: _Content = batch.content
        judges = batch.position >= self._start * self._config.run.accumulate
        if name == "discriminator":
            return self._judge_loss(networks[name], content) if judges else None
        made, mean, logvar = networks["vae"](content.video, content.noise)
        made = made.float()
        parts = {"pixel_loss": (made - content.video).abs().mean()}
        total = parts["pixel_loss"]
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        parts["kl_loss"] = kl
        total = total + self._objective.kl * kl
        if self._objective.edges:
            parts["edge_loss"] = _edge_error(made, content.video)
            total = total + self._objective.edges * parts["edge_loss"]
        if self._first is not None:
            parts["latent_drift"] = self._drift(mean.float(), content)
            total = total + self._objective.keep_latents * parts["latent_drift"]
        if self._perceptual is not None:
            parts["perceptual_loss"] = self._perceptual(made, content.video)
            total = total + self._objective.perceptual * parts["perceptual_loss"]
        if "discriminator" in networks and judges:
            judge = networks["discriminator"]
            judge.requires_grad_(requires_grad=False)
            parts["adversarial_loss"] = -judge(made).mean()
            judge.requires_grad_(requires_grad=True)
            total = total + self._objective.adversarial * parts["adversarial_loss"]
        content.made = made.detach()
        return Losses(total, {"loss": total, **parts})

    def _drift(self, mean_BCFHW: Tensor, content: _Content) -> Tensor:
        """The squared distance of the latents from the initial ones, relative to their variance."""
        assert self._first is not None
        with torch.no_grad():
            first = self._first.to(mean_BCFHW.device).encode(content.video).mean.float()
            size = mean_BCFHW.shape[2:]
            inside = torch.stack([any_in_latent(mask, size) for mask in content.masks])
            outside = 1 - inside.to(first.device)
        drift = (mean_BCFHW - first).square().mean(1, keepdim=True) * outside
        return drift.sum() / outside.sum().clamp(min=1) / first.var()

    def _judge_loss(self, judge: nn.Module, content: _Content) -> Losses:
        assert content.made is not None
        total = hinge_loss(judge(content.video), judge(content.made))
        return Losses(total, {"discriminator_loss": total})

    def validate(
        self,
        networks: Mapping[str, nn.Module],
        step: int,
        folder: Path | None,
        agree: Agree,  # noqa: ARG002  (a VAE is never sharded)
    ) -> dict[str, float]:
        vae = _vae_of(networks)
        errors, strips = [], []
        for number, (record, video) in enumerate(self._held_out_videos(_device(vae))):
            made = vae.decode(vae.encode(video).mean)
            errors.append((made.clamp(-1, 1) - video).square().mean() / 4)
            if number < self._config.validation.videos:
                pair = torch.cat([from_model_range(x[0]).cpu() for x in (video, made)], dim=1)
                strips.append((record.captions[0] if record.captions else str(number), pair))
        if strips and folder is not None:
            sheet = contact_sheet(strips, columns=_SHOWN_FRAMES)
            write_shown(lambda: write_png(folder / f"step-{step:08d}.png", sheet))
        if not errors:
            return {}
        return {self._measure: float(-10 * torch.log10(torch.stack(errors)).mean())}

    def write_result(
        self,
        networks: Mapping[str, nn.Module],
        weights: Mapping[str, Weights],  # noqa: ARG002
        folder: Path,
        step: int,  # noqa: ARG002
    ) -> list[Path]:
        vae = _vae_of(networks)
        scale = vae.config.scaling_factor
        if not (self._objective.decoder_only or self._objective.keep_latents):
            videos = self._held_out_videos(_device(vae))
            latents = [vae.encode(video).mean.flatten() for _, video in videos]
            scale = round(float(1 / torch.cat(latents).std()), 4) if latents else scale
        config = replace(vae.config, scaling_factor=scale)
        write_vae(folder / "vae", config, {k: v.cpu() for k, v in vae.state_dict().items()})
        return [folder / "vae"]

    def _held_out_videos(self, device: torch.device) -> Iterator[tuple[Record, Tensor]]:
        """The held-out clips that can be read, [1, 3, F, H, W] in their largest shapes."""
        data = self._config.data
        for record in self._held_out:
            shape = max(shapes_for(record, data.tokens, data.frames), key=lambda s: s.tokens)
            with self._lost.skipping(record):
                frames = record.load(shape).frames
                yield record, (frames.movedim(-1, 0).unsqueeze(0) * 2 - 1).to(device)

    @property
    def _vae(self) -> AutoencoderKLMagvit:
        return _vae_of(self._networks)


def _vae_of(networks: Mapping[str, nn.Module]) -> AutoencoderKLMagvit:
    network = networks["vae"]
    assert isinstance(network, Reconstruction)
    return network.vae


def _cut(masks_FHW: Tensor, crop: Shape, marked_share: float, random: Any) -> tuple[slice, ...]:
    """A random crop of size `crop`; with probability `marked_share` it contains a marked pixel."""
    whole = masks_FHW.shape
    starts = [int(random.integers(a - b + 1)) for a, b in zip(whole, crop, strict=True)]
    marked = masks_FHW[starts[0] + crop.frames // 2].nonzero() if marked_share else ()
    if len(marked) and random.random() < marked_share:
        place = marked[int(random.integers(len(marked)))].tolist()
        for axis in (1, 2):
            low = place[axis - 1] - int(random.integers(crop[axis]))
            starts[axis] = min(max(0, low), whole[axis] - crop[axis])
    return tuple(slice(s, s + length) for s, length in zip(starts, crop, strict=True))


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _edge_error(made: Tensor, video: Tensor) -> Tensor:
    """The error of the differences between neighbours in rows, columns and time."""
    errors = [
        (made.diff(dim=dim) - video.diff(dim=dim)).abs().mean()
        for dim in (2, 3, 4)
        if video.shape[dim] > 1
    ]
    return torch.stack(errors).sum()


def _perceptual(objective: Any) -> Any:
    """LPIPS of frames (Zhang et al., arXiv 1801.03924), using VGG with the given weights."""
    import lpips

    network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    path = objective.lpips_weights
    if not path.is_file():
        raise InputError(
            f"There is no file {path} (vae_objective.lpips_weights). Use torchvision's vgg16 "
            "weights (vgg16-397923af.pth), or set vae_objective.perceptual to 0."
        )
    weights = read_pickle(path)
    features = {k.removeprefix("features."): v for k, v in weights.items() if "features." in k}
    slices = network.net.state_dict()
    try:
        network.net.load_state_dict({name: features[name.split(".", 1)[1]] for name in slices})
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"{path} does not contain weights of torchvision's vgg16: {error}."
        ) from error
    network.requires_grad_(requires_grad=False).eval()

    def measure(made: Tensor, video: Tensor) -> Tensor:
        frames = [x.transpose(1, 2).flatten(0, 1) for x in (made, video)]
        return network.to(made.device)(*frames).mean()

    return measure
