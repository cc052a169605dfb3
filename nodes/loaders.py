"""Nodes that load models."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.models.specs import Version
from . import inputs
from .bridge import loaders, notes, paths, planning
from .bridge.lora import with_lora
from .bridge.model import WEIGHT_DTYPES

CATEGORY = "EasyAnimate/load"
NONE = "none"

_WEIGHT_DTYPE = {
    "options": list(WEIGHT_DTYPES),
    "default": "default",
    "tooltip": "Dtype of the weights. default: as stored. scaled fp8 takes half the memory of bf16 "
    "and leaves norms, embeddings, first and last layers unchanged.",
}
_TEXT_DEVICE = {
    "options": list(loaders.TEXT_DEVICES),
    "default": "default",
    "tooltip": "Device of the text encoder. cpu leaves the GPU to the denoiser, but is slower.",
}
#: Optional, like every widget added later, so that older saved prompts still run.
_TEXT_DTYPE = {
    "optional": True,
    "options": list(loaders.TEXT_DTYPES),
    "default": "default",
    "tooltip": "Dtype of the text encoder's layers. default: as stored. The others take half the "
    "memory of bf16; int8 is more accurate than fp8.",
}
_VERSIONS = [Version.V5_1.value, Version.V5.value]


class LoadCheckpoint(io.ComfyNode):
    """A whole checkpoint folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateLoadCheckpoint",
            display_name="EasyAnimate Load Checkpoint",
            category=CATEGORY,
            description="Loads an EasyAnimate V5 or V5.1 folder (original or diffusers layout) "
            "from models/EasyAnimate and reports what it is.",
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=paths.choices(paths.list_checkpoints()),
                    tooltip="A folder with transformer, vae, text_encoder, tokenizer and scheduler "
                    "in models/EasyAnimate or a path of extra_model_paths.yaml. small (built in) "
                    "comes with the pack: 96 x 96 clips of moving shapes, to try everything out.",
                ),
                io.Combo.Input("weight_dtype", **_WEIGHT_DTYPE),
                io.Combo.Input("text_device", **_TEXT_DEVICE),
                io.Combo.Input("text_dtype", **_TEXT_DTYPE),
                inputs.plan_socket("It applies to the widgets left at default."),
            ],
            outputs=[
                io.Model.Output(tooltip="The denoiser."),
                io.Clip.Output(tooltip="The text encoder."),
                io.Vae.Output(tooltip="The causal 3-D VAE."),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        """Say where checkpoints belong, instead of ComfyUI's "value not in list"."""
        return paths.check_checkpoint(checkpoint)

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        weight_dtype: str,
        text_device: str,
        text_dtype: str = "default",
        plan: Any = None,
    ) -> io.NodeOutput:
        if plan is not None:
            weight_dtype, text_device, text_dtype = planning.fill_defaults(
                plan, weight_dtype, text_device, text_dtype
            )
        folder = paths.find_checkpoint(checkpoint)
        loaded = loaders.load_checkpoint(folder, weight_dtype, text_device, text_dtype)
        notes.show(cls.hidden.unique_id, loaded.report)
        return io.NodeOutput(loaded.model, loaded.clip, loaded.vae, loaded.report)


class LoadDiffusionModel(io.ComfyNode):
    """A denoiser on its own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateLoadDiffusionModel",
            display_name="EasyAnimate Load Diffusion Model",
            category=CATEGORY,
            description="Loads a denoiser from a single safetensors or GGUF file in "
            "models/diffusion_models; version, head and size are detected from its tensors.",
            inputs=[
                io.Combo.Input(
                    "diffusion_model",
                    options=paths.choices(paths.list_denoisers()),
                    tooltip="Safetensors (bf16, fp16, scaled fp8 or int8), or GGUF, which is "
                    "unpacked on loading.",
                ),
                io.Combo.Input("weight_dtype", **_WEIGHT_DTYPE),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Provides the colours of live previews, which are off without it.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The denoiser."), inputs.report_output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, diffusion_model: str | None = None) -> bool | str:
        """Say where the files belong, instead of ComfyUI's "value not in list"."""
        return paths.check_file(paths.DIFFUSION_MODELS, diffusion_model)

    @classmethod
    def execute(
        cls, diffusion_model: str, weight_dtype: str, vae: object | None = None
    ) -> io.NodeOutput:
        file = paths.find_file(paths.DIFFUSION_MODELS, diffusion_model)
        model, report = loaders.load_denoiser(file, weight_dtype, vae)
        notes.show(cls.hidden.unique_id, report)
        return io.NodeOutput(model, report)


class LoadTextEncoder(io.ComfyNode):
    """A text encoder on its own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        alone = paths.list_files(paths.TEXT_ENCODERS)
        return io.Schema(
            node_id="EasyAnimateLoadTextEncoder",
            display_name="EasyAnimate Load Text Encoder",
            category=CATEGORY,
            description="Loads a text encoder: Qwen2-VL for V5.1, Bert and mT5 for V5, from files "
            "in models/text_encoders or from a checkpoint folder.",
            inputs=[
                io.Combo.Input(
                    "text_encoder",
                    options=paths.choices([*alone, *paths.list_checkpoints()]),
                    tooltip="Qwen2-VL (V5.1), Bert or mT5 (V5), or a checkpoint folder that has "
                    "them.",
                ),
                io.Combo.Input(
                    "text_encoder_2",
                    options=[NONE, *alone],
                    default=NONE,
                    tooltip="The second file of V5: mT5 in addition to Bert. none for V5.1 and for "
                    "folders.",
                ),
                io.Combo.Input("text_device", **_TEXT_DEVICE),
                io.Combo.Input("text_dtype", **_TEXT_DTYPE),
            ],
            outputs=[io.Clip.Output(tooltip="The text encoder.")],
        )

    @classmethod
    def validate_inputs(
        cls, text_encoder: str | None = None, text_encoder_2: str | None = None
    ) -> bool | str:
        """Say where the files belong, instead of ComfyUI's "value not in list"."""
        whole = text_encoder in paths.list_checkpoints()
        found = True if whole else paths.check_file(paths.TEXT_ENCODERS, text_encoder)
        second = None if text_encoder_2 == NONE else text_encoder_2
        return found if found is not True else paths.check_file(paths.TEXT_ENCODERS, second)

    @classmethod
    def execute(
        cls,
        text_encoder: str,
        text_encoder_2: str,
        text_device: str,
        text_dtype: str = "default",
    ) -> io.NodeOutput:
        second = "" if text_encoder_2 == NONE else text_encoder_2
        clip = loaders.load_text_encoder(text_encoder, second, text_device, text_dtype)
        return io.NodeOutput(clip)


class LoadVAE(io.ComfyNode):
    """A VAE on its own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateLoadVAE",
            display_name="EasyAnimate Load VAE",
            category=CATEGORY,
            description="Loads EasyAnimate's VAE from a single safetensors file in models/vae.",
            inputs=[
                io.Combo.Input(
                    "vae_file",
                    options=paths.choices(paths.list_files(paths.VAES)),
                    tooltip="A safetensors file with the VAE.",
                ),
                io.Combo.Input(
                    "version",
                    options=_VERSIONS,
                    default=_VERSIONS[0],
                    tooltip="The model version of the VAE, which its tensors do not reveal.",
                ),
            ],
            outputs=[io.Vae.Output(tooltip="The causal 3-D VAE.")],
        )

    @classmethod
    def validate_inputs(cls, vae_file: str | None = None) -> bool | str:
        """Say where the files belong, instead of ComfyUI's "value not in list"."""
        return paths.check_file(paths.VAES, vae_file)

    @classmethod
    def execute(cls, vae_file: str, version: str) -> io.NodeOutput:
        file = paths.find_file(paths.VAES, vae_file)
        return io.NodeOutput(loaders.load_vae_file(file, Version(version)))


class LoadLora(io.ComfyNode):
    """Applies a LoRA to the denoiser."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateLoadLora",
            display_name="EasyAnimate Load LoRA",
            category="EasyAnimate/lora",
            description="Applies a LoRA in EasyAnimate's own, kohya's, peft's or diffusers' format "
            "and reports how many keys matched. A file that does not fit is an error.",
            inputs=[
                io.Model.Input("model", tooltip="An EasyAnimate model."),
                io.Combo.Input(
                    "lora",
                    options=paths.choices(paths.list_loras()),
                    tooltip="A safetensors file in models/loras. Those of small (built in) let "
                    "the pack's small model sample in 4 steps with cfg 1.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    round=0.01,
                    tooltip="Strength of the LoRA; 0 turns it off. EasyAnimate's reward LoRAs are "
                    "meant for 0.7.",
                ),
                io.Boolean.Input(
                    "allow_partial",
                    default=False,
                    tooltip="Accept a file even if some of its keys fit no layer of this model.",
                ),
                io.String.Input(
                    "block_strengths",
                    default="",
                    optional=True,
                    tooltip="Factors on the strength per block, such as 0-17=0.5,18-35=1; blocks "
                    "not listed have 1. Empty: 1 everywhere.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model with the LoRA applied."),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, lora: str | None = None) -> bool | str:
        """Say where the files belong, instead of ComfyUI's "value not in list"."""
        return paths.check_lora(lora)

    @classmethod
    def execute(
        cls,
        model: object,
        lora: str,
        strength: float,
        allow_partial: bool,
        block_strengths: str = "",
    ) -> io.NodeOutput:
        file = paths.find_lora(lora)
        patched, report = with_lora(
            model, file, strength, partial=allow_partial, blocks=block_strengths
        )
        notes.show(cls.hidden.unique_id, report)
        return io.NodeOutput(patched, report)


NODES = (LoadCheckpoint, LoadDiffusionModel, LoadTextEncoder, LoadVAE, LoadLora)
