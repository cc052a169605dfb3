"""Loaders under the ids of the original pack, aigc-apps/EasyAnimate.

They are for workflows made with it: the same inputs in the same order. They are hidden in the
menus. Where another pack has an id, it keeps it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.models.specs import Head
from .bridge import loaders, original, paths
from .bridge.lora import with_lora
from .bridge.model import DEFAULT_DTYPE, FP8

CATEGORY = "EasyAnimate/original"
MODEL = io.Custom("EASYANIMATESMODEL")
PROMPT = io.Custom("STRING_PROMPT")

OFFLOAD, OFFLOAD_FP8 = "model_cpu_offload", "model_cpu_offload_and_qfloat8"
MEMORY_MODES = (OFFLOAD, OFFLOAD_FP8, "sequential_cpu_offload")
PRECISIONS = ("fp16", "bf16")
MODEL_TYPES = ("Inpaint", "Control")
CONFIGS = (
    "easyanimate_video_v5_magvit_multi_text_encoder.yaml",
    "easyanimate_video_v5.1_magvit_qwen.yaml",
)
_OTHER_VERSIONS = ("EasyAnimateV2-", "EasyAnimateV3-", "EasyAnimateV4-")


class LoadModel(io.ComfyNode):
    """The original's loader."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadEasyAnimateModel",
            display_name="Load EasyAnimate Model",
            category=CATEGORY,
            description="Of the original pack; new workflows use EasyAnimate Load Checkpoint.",
            is_deprecated=True,
            inputs=[
                io.Combo.Input(
                    "model",
                    options=paths.choices(paths.list_checkpoints()),
                    tooltip="A V5 or V5.1 folder in models/EasyAnimate.",
                ),
                io.Combo.Input(
                    "GPU_memory_mode",
                    options=list(MEMORY_MODES),
                    default=OFFLOAD,
                    tooltip="model_cpu_offload_and_qfloat8 stores the denoiser in scaled fp8. The "
                    "other two are the same: ComfyUI moves weights by itself, as memory requires.",
                ),
                io.Combo.Input(
                    "model_type",
                    options=list(MODEL_TYPES),
                    default=MODEL_TYPES[0],
                    tooltip="Not used: the checkpoint says what it is.",
                ),
                io.Combo.Input(
                    "config",
                    options=list(CONFIGS),
                    default=CONFIGS[1],
                    tooltip="Not used: the checkpoint has its own configuration.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default=PRECISIONS[1],
                    tooltip="fp16 stores the denoiser in float16; bf16 keeps it as the files have "
                    "it. ComfyUI computes in what the GPU supports.",
                ),
            ],
            outputs=_model_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls,
        model: str | None = None,
        config: str | None = None,  # noqa: ARG003  (any name is accepted)
    ) -> bool | str:
        """Say where checkpoints belong, instead of ComfyUI's "value not in list"."""
        if model is not None and model.startswith(_OTHER_VERSIONS):
            return f"{model} is older than V5. This pack runs EasyAnimate V5 and V5.1."
        return paths.check_checkpoint(model)

    @classmethod
    def execute(
        cls,
        model: str,
        GPU_memory_mode: str,  # noqa: N803  (the original's name)
        model_type: str,
        config: str,  # noqa: ARG003
        precision: str,
    ) -> io.NodeOutput:
        dtype = "fp16" if precision == PRECISIONS[0] else DEFAULT_DTYPE
        lines = []
        if GPU_memory_mode == OFFLOAD_FP8:
            dtype, lines = _fp8_or(dtype)
        loaded = loaders.load_checkpoint(paths.find_checkpoint(model), dtype, "default")
        value = original.OriginalModel(loaded.model, loaded.clip, loaded.vae)
        lines = [loaded.report, *lines, *_unused(value.head, model_type, GPU_memory_mode)]
        original.say(cls.hidden.unique_id, lines)
        return io.NodeOutput(value, loaded.model, loaded.clip, loaded.vae)


def _fp8_or(dtype: str) -> tuple[str, list[str]]:
    """Scaled fp8, or `dtype` on a device without it, and a sentence about that."""
    if original.supports_float8():
        return FP8, []
    return dtype, [f"GPU_memory_mode is {OFFLOAD_FP8}, but this device has no fp8: not used."]


def _unused(head: Head, model_type: str, mode: str) -> list[str]:
    """Sentences about widgets that do nothing here."""
    lines = ["config is not used: the checkpoint has its own configuration."]
    wanted = MODEL_TYPES[head in (Head.CONTROL, Head.CAMERA)]
    if model_type != wanted:
        lines.append(
            f"model_type {model_type} is not used: the checkpoint has the head {head.value}."
        )
    if mode == MEMORY_MODES[2]:
        lines.append(f"{mode} is the same as {OFFLOAD}: ComfyUI moves weights by itself.")
    return lines


class LoadLora(io.ComfyNode):
    """The original's LoRA loader."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadEasyAnimateLora",
            display_name="Load EasyAnimate Lora",
            category=CATEGORY,
            description="Of the original pack; new workflows use EasyAnimate Load LoRA.",
            is_deprecated=True,
            inputs=[
                MODEL.Input("easyanimate_model", tooltip="From Load EasyAnimate Model."),
                io.Combo.Input(
                    "lora_name",
                    options=paths.choices(paths.list_files(paths.LORAS)),
                    tooltip="A safetensors file in models/loras.",
                ),
                io.Float.Input(
                    "strength_model",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.01,
                    round=0.001,
                    tooltip="Strength of the LoRA.",
                ),
                io.Boolean.Input(
                    "lora_cache",
                    default=False,
                    tooltip="Not used: the weights of the model are never changed.",
                ),
            ],
            outputs=_model_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None) -> bool | str:
        """Say where the files belong, instead of ComfyUI's "value not in list"."""
        return paths.check_file(paths.LORAS, lora_name)

    @classmethod
    def execute(
        cls, easyanimate_model: Any, lora_name: str, strength_model: float, lora_cache: bool
    ) -> io.NodeOutput:
        loaded = original.checked(easyanimate_model)
        file = paths.find_file(paths.LORAS, lora_name)
        patched, report = with_lora(loaded.model, file, strength_model, partial=False)
        unused = ["lora_cache is not used: the model's weights are never changed."]
        original.say(cls.hidden.unique_id, [report, *(unused if lora_cache else [])])
        return io.NodeOutput(replace(loaded, model=patched), patched, loaded.clip, loaded.vae)


class TextBox(io.ComfyNode):
    """The original's prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimate_TextBox",
            display_name="EasyAnimate_TextBox",
            category=CATEGORY,
            description="Of the original pack; new workflows use EasyAnimate Text Encode.",
            is_deprecated=True,
            inputs=[io.String.Input("prompt", default="", multiline=True, tooltip="The prompt.")],
            outputs=[PROMPT.Output(display_name="prompt", tooltip="For the original's samplers.")],
        )

    @classmethod
    def execute(cls, prompt: str) -> io.NodeOutput:
        return io.NodeOutput(prompt)


def _model_outputs() -> list[io.Output]:
    return [
        MODEL.Output(display_name="easyanimate_model", tooltip="For the original's samplers."),
        io.Model.Output(tooltip="The denoiser, for the nodes of this pack."),
        io.Clip.Output(tooltip="The text encoder, for the nodes of this pack."),
        io.Vae.Output(tooltip="The VAE, for the nodes of this pack."),
    ]


NODES = (
    LoadModel,
    LoadLora,
    TextBox,
)
