"""The networks of a checkpoint during runs: loaded when needed, placed according to `Memory`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from .errors import CheckpointError, InputError
from .files.commands import own_command
from .memory.devices import card_of, pick_device, text_dtype
from .memory.locked import lockable_memory
from .memory.offload import placed
from .memory.options import Memory, quantizations_on
from .models.precision import wide
from .models.specs import Version
from .models.transformer import EasyAnimateTransformer3DModel
from .models.vae import AutoencoderKLMagvit
from .progress import Progress
from .text import Placement, TextEncoder, build_text_encoder
from .text.writer import PromptWriter, read_writer
from .weights.files import CheckpointInfo
from .weights.loading import load_transformer, load_vae
from .weights.stored import stored_format


class Networks:
    """Loads each network of a checkpoint when its stage needs it and keeps it for the next run.

    The text encoder is not kept. Between stages a network rests in main memory (memory-mapped where
    its dtype is kept), unless `memory.offload` is "resident". Raises `InputError` where
    `memory.text_device` is not on this machine, and as `check_stored_on` does.
    """

    def __init__(
        self, info: CheckpointInfo, device: torch.device, dtype: torch.dtype, memory: Memory
    ) -> None:
        self.info = info
        self.device = device
        self.dtype = dtype
        self.vae_dtype = wide(dtype)
        self.memory = memory
        self.text_device = device if memory.text_device is None else pick_device(memory.text_device)
        self.text_dtype = text_dtype(dtype, self.text_device)
        check_stored_on(device, info, memory)
        _check_kind("text_quantization", memory.text_quantization, self.text_device)
        self._transformer: EasyAnimateTransformer3DModel | None = None
        self._vae: AutoencoderKLMagvit | None = None

    @contextmanager
    def text_encoder(self, progress: Progress) -> Iterator[TextEncoder]:
        """A text encoder, ready to use inside the block and freed at its end."""
        in_blocks = self.memory.offload == "block"
        encoder = build_text_encoder(
            self.info.path,
            self.info.version,
            use_attention_mask=self.info.transformer.enable_text_attention_mask,
            dtype=self.text_dtype,
            device="cpu" if in_blocks else self.text_device,
            quantization=self.memory.text_quantization,
            progress=progress,
        )
        with ExitStack() as stack:
            for network in encoder.networks if in_blocks else ():
                stack.enter_context(placed(network, self.text_device, "block"))
            yield encoder

    def check_writes(self) -> None:
        """Raise `CheckpointError` if the version's text encoders cannot write prompts."""
        if self.info.version is not Version.V5_1:
            raise CheckpointError(
                f"The text encoders of EasyAnimate {self.info.version.value} (Bert and mT5) cannot "
                "write prompts. Use a V5.1 checkpoint, or write the long prompt yourself."
            )

    @contextmanager
    def prompt_writer(self, progress: Progress, *, sees: bool) -> Iterator[PromptWriter]:
        """The text encoder's whole language model, freed at the end of the block.

        `sees` also loads its vision tower. Raises `CheckpointError` if the checkpoint lacks one.
        """
        self.check_writes()
        in_blocks = self.memory.offload == "block"
        device = torch.device("cpu") if in_blocks else self.text_device
        quantization = self.memory.text_quantization
        placement = Placement(self.text_dtype, device, progress, quantization)
        writer = read_writer(self.info.path, sees=sees, placement=placement)
        with ExitStack() as stack:
            if in_blocks:
                stack.enter_context(placed(writer.network, self.text_device, "block"))
            yield writer

    @contextmanager
    def transformer(self, progress: Progress) -> Iterator[EasyAnimateTransformer3DModel]:
        """The denoiser, ready to use inside the block."""
        if self._transformer is None:
            self._transformer = load_transformer(
                self.info,
                dtype=self._stored_in(self.dtype),
                quantization=self.memory.quantization,
                progress=progress,
            )
        with placed(
            self._transformer,
            self.device,
            self.memory.offload,
            resident_blocks=self.memory.resident_blocks,
            lockable=lockable_memory(),
        ):
            yield self._transformer

    @contextmanager
    def vae(self, progress: Progress) -> Iterator[AutoencoderKLMagvit]:
        """The VAE, ready to use inside the block."""
        if self._vae is None:
            stored = self._stored_in(self.vae_dtype)
            self._vae = load_vae(self.info, dtype=stored, progress=progress)
        # Its memory goes to activations, not to its 0.5 GB of weights.
        how = "module" if self.memory.offload == "block" else self.memory.offload
        with placed(self._vae, self.device, how):
            yield self._vae

    def _stored_in(self, compute: torch.dtype) -> torch.dtype | None:
        """What weights are stored in; None keeps the files' dtype, and layers cast them when used.

        On a CPU they then stay memory-mapped. For float32, casting at use is bit-identical and
        takes half the memory.
        """
        return None if self.device.type == "cpu" or compute is torch.float32 else compute


def check_stored_on(device: torch.device, info: CheckpointInfo, memory: Memory) -> None:
    """Raise `InputError` unless `device` supports the dtype of the denoiser's weights."""
    _check_kind("quantization", memory.quantization, device)
    files = info.transformer_files
    # Weights stored in 8 bits stay so; only qint4 converts them.
    if memory.quantization == "qint4" or card_of(device).holds_float8:
        return
    if any((stored_format(files, name) or "").startswith("fp8") for name in files.weights):
        raise InputError(
            f"The denoiser of {info.path} is stored in fp8, which {device.type} (a Mac's GPU) does "
            "not support. Compute on the CPU (--device cpu), or make an int8 copy of the same size "
            f"with: {own_command('convert', info.path, f'{info.path}-int8', '--dtype', 'int8')}"
        )


def _check_kind(name: str, kind: str, device: torch.device) -> None:
    if kind not in quantizations_on(card_of(device)):
        raise InputError(
            f"{name} is {kind}, but {device.type} (a Mac's GPU) does not support fp8. Use qint8, "
            "which has the same size."
        )
