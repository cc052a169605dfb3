"""How much memory each stage of a run takes, on the card and in the machine.

Assumed, not measured on a card: the CUDA context takes `CONTEXT_BYTES`, and PyTorch's allocator and
the kernels' workspace add `ALLOCATOR_SHARE` to the live tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...errors import InputError
from ...models.geometry import latent_shape
from ...models.precision import wide
from ..options import Memory
from .activations import TEXT_TOKENS, decode_bytes, denoiser_bytes, encode_bytes
from .facts import ModelFacts, Weights

GIGABYTE = 10**9
#: Memory of the CUDA context. Other devices have none, but there the scores of partial attention
#: (`models.transformer.kernel`) take as much.
CONTEXT_BYTES = int(0.6 * GIGABYTE)
#: Fragmentation and workspace, relative to the tensors of a computation.
ALLOCATOR_SHARE = 0.10
#: Python with PyTorch, transformers and diffusers, measured on Linux.
PROCESS_BYTES = int(0.78 * GIGABYTE)
#: Text encoders: number of live states per token, each `_TEXT_WIDTH` values.
_TEXT_STATES = 12
_TEXT_WIDTH = 4096
#: A language model that writes: its states of the tokens so far, the picture, and all scores.
WRITING_BYTES = 2**30
#: A file is mapped again after this much of it was converted.
_MAPPED_BYTES = 256 * 2**20


def gigabytes(count: int) -> str:
    """Format bytes: "1.5 GB"."""
    return f"{count / GIGABYTE:.1f} GB"


@dataclass(frozen=True)
class Job:
    """What to generate.

    `encodes`: whether the VAE encodes images or clips first (every head except T2V).
    `writes`: whether the text encoder writes a long prompt first.
    """

    height: int
    width: int
    frames: int
    batch: int = 1
    guidance: bool = True
    encodes: bool = True
    writes: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InputError(f"batch is {self.batch}; it must be at least 1.")

    @property
    def latents(self) -> tuple[int, int, int]:
        """Latent frames, height and width; `InputError` if the model cannot generate the size."""
        return latent_shape(self.frames, self.height, self.width)


@dataclass(frozen=True)
class Stage:
    """Bytes of a stage: weights and activations on the device, and the machine's total memory."""

    name: str
    weights: int
    activations: int
    host: int


@dataclass(frozen=True)
class Estimate:
    """The stages of a run in order."""

    stages: tuple[Stage, ...]
    on_card: bool

    def card_bytes(self, stage: Stage) -> int:
        """How much of the card's memory a stage takes, including the assumptions."""
        if not self.on_card or not stage.weights + stage.activations:
            return 0
        working = int(stage.activations * (1 + ALLOCATOR_SHARE))
        return CONTEXT_BYTES + stage.weights + working

    @property
    def peak_card_bytes(self) -> int:
        """The largest stage's memory on the card; 0 without a card."""
        return max(self.card_bytes(stage) for stage in self.stages)

    @property
    def peak_host_bytes(self) -> int:
        """The largest stage's memory in the machine."""
        return max(stage.host for stage in self.stages)


def estimate(
    facts: ModelFacts,
    job: Job,
    memory: Memory,
    *,
    compute: torch.dtype,
    on_card: bool,
    tile: int | None = None,
) -> Estimate:
    """Estimate the memory of every stage.

    Args:
        facts: The model.
        job: What to generate.
        memory: The memory options.
        compute: Compute dtype.
        on_card: Whether the run's device is a card with its own memory.
        tile: Side of the VAE's tiles in pixels, None for whole frames.
    """
    parts = _Parts(facts, job, memory, compute, on_card, tile)
    stages = [parts.text()]
    if job.writes:
        stages.insert(0, parts.write())
    if job.encodes:
        stages.append(parts.encode())
    stages += [parts.denoise(), parts.decode()]
    return Estimate(tuple(stages), on_card)


@dataclass(frozen=True)
class _Parts:
    facts: ModelFacts
    job: Job
    memory: Memory
    compute: torch.dtype
    on_card: bool
    tile: int | None

    def write(self) -> Stage:
        if self.facts.writer is None:
            raise InputError(
                f"{self.facts.name} cannot write prompts. Use a V5.1 checkpoint, or write the long "
                "prompt yourself."
            )
        return self._language("write", (self.facts.writer,), WRITING_BYTES)

    def text(self) -> Stage:
        rows = self.job.batch + int(self.job.guidance)
        states = rows * TEXT_TOKENS * _TEXT_WIDTH * _TEXT_STATES * self.compute.itemsize
        return self._language("text", self.facts.text, states)

    def _language(self, name: str, parts: tuple[Weights, ...], states: int) -> Stage:
        """A stage of text encoders, or of the whole language model."""
        memory = self.memory
        here = self.on_card and memory.text_device != "cpu"
        item = self.compute.itemsize
        kind = memory.text_quantization
        whole = sum(part.num_bytes(item, kind) for part in parts)
        converted = kind != "none" or any(part.stored != item for part in parts)
        mapped = sum(int(part.values * part.stored) for part in parts)
        host = PROCESS_BYTES + (min(mapped, _MAPPED_BYTES) if converted else 0)
        if not here:
            weights, working = (0, 0) if self.on_card else (whole, states)
            return Stage(name, weights, working, host + whole + states)
        if memory.offload == "block":
            device = sum(part.streamed_bytes(item, kind) for part in parts)
            return Stage(name, device, states, host + whole + device)
        return Stage(name, self._beside(whole), states, host)

    def encode(self) -> Stage:
        job, compute = self.job, wide(self.compute)
        working = encode_bytes(
            self.facts.vae,
            (job.frames, job.height, job.width),
            compute,
            self.tile,
            self._stored(self.facts.encoder, compute),
        )
        weights = self._vae_bytes(self.facts.encoder)
        # The aligned clip in float32: source, mask and what is encoded.
        clip = 2 * job.frames * job.height * job.width * 3 * 4
        host = PROCESS_BYTES + clip + weights + (0 if self.on_card else working)
        return Stage("encode", self._beside(weights, "vae"), working, host)

    def denoise(self) -> Stage:
        facts, job, memory = self.facts, self.job, self.memory
        rows = job.batch * (2 if job.guidance and not memory.sequential_guidance else 1)
        working = denoiser_bytes(
            facts.transformer,
            job.latents,
            rows,
            self.compute,
            self._stored(facts.denoiser, self.compute),
        )
        item = self._item_bytes(facts.denoiser, self.compute)
        whole = facts.denoiser.num_bytes(item, memory.quantization)
        if memory.quantization != "none" or facts.denoiser.packed:
            working += self._unpacked_bytes()
        device, locked = whole, 0
        if self.on_card and memory.offload == "block":
            # At least a page-locked buffer for each of the two; where memory is free, more.
            locked = facts.denoiser.streamed_bytes(item, memory.quantization)
            device = facts.denoiser.streamed_bytes(
                item, memory.quantization, memory.resident_blocks
            )
        vae = self._vae_bytes(facts.encoder) if job.encodes else 0
        host = PROCESS_BYTES + whole + vae + locked + (0 if self.on_card else working)
        return Stage("denoise", self._beside(device, "denoiser"), working, host)

    def decode(self) -> Stage:
        facts, job, compute = self.facts, self.job, wide(self.compute)
        working = decode_bytes(
            facts.vae, job.latents, compute, self.tile, self._stored(facts.decoder, compute)
        )
        weights = self._vae_bytes(facts.decoder)
        before = self._vae_bytes(facts.encoder) if job.encodes else 0
        denoiser = facts.denoiser.num_bytes(
            self._item_bytes(facts.denoiser, self.compute), self.memory.quantization
        )
        frames = job.batch * job.frames * job.height * job.width * 3 * 4
        host = PROCESS_BYTES + denoiser + before + weights + frames
        return Stage(
            "decode", self._beside(weights, "vae"), working, host + (0 if self.on_card else working)
        )

    def _beside(self, own: int, name: str = "") -> int:
        """A stage's weights on the device, plus the other networks' if all of them are resident."""
        if not self.on_card or self.memory.offload != "resident":
            return own
        facts = self.facts
        others = {
            "denoiser": facts.denoiser.num_bytes(
                self._item_bytes(facts.denoiser, self.compute), self.memory.quantization
            ),
            "vae": self._vae_bytes(facts.encoder) + self._vae_bytes(facts.decoder),
        }
        others.pop(name, None)
        return own + sum(others.values())

    def _vae_bytes(self, part: Weights) -> int:
        return part.num_bytes(self._item_bytes(part, wide(self.compute)))

    def _item_bytes(self, weights: Weights, compute: torch.dtype) -> float:
        """Bytes per weight: as stored on a CPU, and for float32; else those of `compute`."""
        kept = not self.on_card or compute is torch.float32
        return weights.stored if kept else compute.itemsize

    def _stored(self, weights: Weights, compute: torch.dtype) -> torch.dtype | None:
        """A dtype of the stored width if layers cast their weights on use, else None."""
        if self._item_bytes(weights, compute) == compute.itemsize:
            return None
        return {4: torch.float32, 2: torch.bfloat16}.get(round(weights.stored))

    def _unpacked_bytes(self) -> int:
        """Bytes of the largest matrix (feed-forward: 4 C x C), unpacked to the compute dtype."""
        return 4 * self.facts.transformer.inner_dim**2 * self.compute.itemsize
