"""LoRA training in ComfyUI."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.models.geometry import TEMPORAL_FACTOR
from . import inputs
from .bridge import notes, paths
from .bridge.training import is_name, train_and_save


class TrainLora(io.ComfyNode):
    """Trains a LoRA on images or clips."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateTrainLora",
            display_name="EasyAnimate Train LoRA",
            category="EasyAnimate/lora",
            description="Trains a LoRA on images or clips and saves it in models/loras. For T2V "
            "and InP checkpoints. Needs additional Python packages, listed on the help page.",
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=paths.choices(paths.list_checkpoints()),
                    tooltip="The checkpoint folder to train the LoRA for: T2V or InP.",
                ),
                io.Image.Input(
                    "images",
                    tooltip="Images, or the frames of clips one after the other at 8 per second, "
                    "all of the same size. Sides should be multiples of 16.",
                ),
                io.String.Input(
                    "captions",
                    multiline=True,
                    default="",
                    tooltip="What the clips show: one line for all of them, or one line per clip. "
                    "A made-up word can serve as the trigger word.",
                ),
                io.String.Input(
                    "name",
                    default="my_lora",
                    tooltip="Name of the file in models/loras. Files are never replaced: a second "
                    "one with the same name gets a number.",
                ),
                *_clip_widgets(),
                *_optimizer_widgets(),
                *_sample_widgets(),
            ],
            outputs=[
                io.Combo.Output(
                    display_name="lora", tooltip="The file's name, for EasyAnimate Load LoRA."
                ),
                io.Image.Output(
                    display_name="loss_curve", tooltip="Loss and learning rate over the steps."
                ),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None, name: str | None = None) -> bool | str:
        """Check the name, and say where checkpoints belong instead of "value not in list"."""
        found = paths.check_checkpoint(checkpoint)
        return found if found is not True else is_name(name)

    @classmethod
    def execute(cls, checkpoint: str, images: Any, name: str, **settings: Any) -> io.NodeOutput:
        from ..easyanimate_core.files.packages import TRAINING, require

        require("Training", TRAINING)
        from ..easyanimate_core.training.lora_run import LoraJob

        folder = paths.find_checkpoint(checkpoint)
        job = LoraJob(checkpoint=folder, pictures=images, **settings)
        lora, curve, report = train_and_save(job, name, cls.hidden.unique_id)
        notes.show(cls.hidden.unique_id, report)
        return io.NodeOutput(lora, curve, report)


def _clip_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "frames_per_clip",
            default=1,
            min=1,
            max=49,
            step=TEMPORAL_FACTOR,
            tooltip="Frames per clip, 4n + 1; 1 for still images. The number of images must be a "
            "multiple of it.",
        ),
        io.Int.Input(
            "steps",
            default=500,
            min=1,
            max=100_000,
            tooltip="Total steps, one clip each. More steps with the same images and settings "
            "continue from the last ones.",
        ),
    ]


def _optimizer_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "rank",
            default=32,
            min=1,
            max=512,
            tooltip="Size of the LoRA: higher ranks learn more, but take more memory and disk.",
        ),
        io.Float.Input(
            "alpha",
            default=32.0,
            min=0.5,
            max=512.0,
            step=0.5,
            round=0.1,
            tooltip="The LoRA is scaled by alpha divided by rank. Equal to rank is a good start.",
        ),
        io.Float.Input(
            "learning_rate",
            default=1e-4,
            min=1e-6,
            max=1e-1,
            step=1e-6,
            round=1e-6,
            tooltip="Step size of training. Lower it if the loss jumps or images fall apart.",
        ),
        io.Int.Input(
            "seed",
            default=43,
            min=0,
            max=inputs.SEED_MAX,
            control_after_generate=False,
            tooltip="Seed of the order, the noise and the LoRA's initial weights.",
        ),
    ]


def _sample_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "sample_every",
            default=100,
            min=0,
            max=100_000,
            optional=True,
            tooltip="Steps between samples: what the LoRA makes of a prompt by then is shown on "
            "the node. A sample takes as long as about 10 steps. 0: none.",
        ),
        io.String.Input(
            "sample_prompt",
            multiline=True,
            default="",
            optional=True,
            tooltip="What the samples show. Empty: the first caption.",
        ),
    ]


NODES = (TrainLora,)
