"""The sampler and the decoder."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.sampling import SCHEDULERS
from ..easyanimate_core.speeds import LARGEST_SHARE, SPEEDS
from . import inputs
from .bridge.planning import one_prompt_at_a_time
from .bridge.sampling import SamplerSettings, sample
from .bridge.saved_steps import with_saving
from .bridge.vae import TILE_SIDES, decode_frames

AUTO = "auto"
NO_TILES = "off"
FULL_SPEED = "full"


class SamplerNode(io.ComfyNode):
    """Samples with the original's schedulers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateSampler",
            display_name="EasyAnimate Sampler",
            category="EasyAnimate/sampling",
            description="Samples with the original's schedulers. KSampler works too: euler with "
            "scheduler normal is Flow.",
            inputs=[
                io.Model.Input("model", tooltip="An EasyAnimate model."),
                io.Conditioning.Input("positive", tooltip="What the video should show."),
                io.Conditioning.Input("negative", tooltip="What the video should not show."),
                io.Latent.Input(
                    "latent_image", tooltip="Empty (sets size and length), or a video to change."
                ),
                *_sampling_widgets(),
                *_guidance_widgets(),
                inputs.plan_socket(
                    "It denoises the prompts one after the other if memory requires it."
                ),
                io.Combo.Input(
                    "speed",
                    options=[FULL_SPEED, *SPEEDS],
                    default=FULL_SPEED,
                    optional=True,
                    tooltip="full: every step is evaluated; careful: half of them, the others are "
                    "expected from these; fast: a third. The video changes slightly.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="For the decoder.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        seed: int,
        steps: int,
        cfg: float,
        scheduler: str,
        denoise: float,
        guidance_rescale: float,
        step_cache: float,
        plan: Any = None,
        speed: str = FULL_SPEED,
    ) -> io.NodeOutput:
        if plan is not None and plan.memory.sequential_guidance:
            model = one_prompt_at_a_time(model)
        settings = SamplerSettings(
            seed=seed,
            steps=steps,
            cfg=cfg,
            scheduler=None if scheduler == AUTO else scheduler,
            denoise=denoise,
            guidance_rescale=guidance_rescale,
            step_cache=step_cache,
            left_out=SPEEDS.get(speed, 0.0),
        )
        return io.NodeOutput(sample(model, positive, negative, latent_image, settings))


def _sampling_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "seed",
            default=43,
            min=0,
            max=2**63 - 1,
            control_after_generate=True,
            tooltip="Seed of the noise. The same seed gives the same video.",
        ),
        io.Int.Input(
            "steps",
            default=50,
            min=1,
            max=1000,
            tooltip="Steps of the schedule. 25 to 50 are usual; PNDM needs at least 4.",
        ),
        io.Float.Input(
            "cfg",
            default=6.0,
            min=1.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="How closely to follow the prompt. 1 turns it off and is twice as fast.",
        ),
        io.Combo.Input(
            "scheduler",
            options=[AUTO, *SCHEDULERS],
            default=AUTO,
            tooltip="auto: the version's default (V5.1 Flow, V5 DDIM). V5.1 only supports Flow, V5 "
            "only the other five.",
        ),
        io.Float.Input(
            "denoise",
            default=1.0,
            min=0.01,
            max=1.0,
            step=0.01,
            round=0.001,
            tooltip="Fraction of the schedule to run. Below 1, lower values keep more of the "
            "latent's video.",
        ),
    ]


def _guidance_widgets() -> list[io.Input]:
    return [
        io.Float.Input(
            "guidance_rescale",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            round=0.001,
            tooltip="Reduces overexposure at high cfg; 0.7 is usual if needed.",
        ),
        io.Float.Input(
            "step_cache",
            default=0.0,
            min=0.0,
            max=3.0,
            step=0.01,
            round=0.001,
            tooltip="Skips steps that change little (EasyCache): 0 is off, 0.1 careful, 0.2 fast. "
            "The video changes slightly.",
        ),
    ]


class StepCacheNode(io.ComfyNode):
    """Leaves out steps of any sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateStepCache",
            display_name="EasyAnimate Step Cache",
            category="EasyAnimate/sampling",
            description="Leaves out steps of KSampler and any other sampler: what they would "
            "predict is expected from earlier ones.",
            inputs=[
                io.Model.Input("model", tooltip="An EasyAnimate model."),
                io.Float.Input(
                    "left_out",
                    default=SPEEDS["careful"],
                    min=0.0,
                    max=LARGEST_SHARE,
                    step=0.05,
                    round=0.001,
                    tooltip="Share of the steps that are left out: 0.5 is careful, 0.65 fast. The "
                    "first three and the last ones are always evaluated.",
                ),
                io.Float.Input(
                    "guidance_window",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.001,
                    tooltip="Share of the steps, from the first, in which the negative prompt is "
                    "evaluated. In the rest, guidance is off. Leaving out steps costs less.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For the sampler.")],
        )

    @classmethod
    def execute(cls, model: Any, left_out: float, guidance_window: float) -> io.NodeOutput:
        return io.NodeOutput(with_saving(model, left_out, guidance_window))


class DecodeNode(io.ComfyNode):
    """Decodes latents to frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateDecode",
            display_name="EasyAnimate Decode",
            category="EasyAnimate/latent",
            description="Decodes latents to frames, in tiles that fit the free memory. If memory "
            "runs out, it continues with smaller tiles; the latents are not lost.",
            inputs=[
                io.Vae.Input("vae", tooltip="EasyAnimate's VAE."),
                io.Latent.Input("samples", tooltip="The latents."),
                io.Combo.Input(
                    "tiles",
                    options=[AUTO, NO_TILES, *map(str, TILE_SIDES)],
                    default=AUTO,
                    tooltip="Side of the tiles in pixels. auto: by free memory; off: whole frames. "
                    "Time is always decoded in exact chunks.",
                ),
                inputs.plan_socket("Its tiles are used if tiles is auto."),
            ],
            outputs=[io.Image.Output(tooltip="The frames of the video.")],
        )

    @classmethod
    def execute(
        cls, vae: Any, samples: dict[str, Any], tiles: str, plan: Any = None
    ) -> io.NodeOutput:
        planned = None if plan is None else plan.tile or 0
        sides = {AUTO: planned, NO_TILES: 0}
        side = sides[tiles] if tiles in sides else int(tiles)
        return io.NodeOutput(decode_frames(vae, samples["samples"], side))


NODES = (SamplerNode, StepCacheNode, DecodeNode)
