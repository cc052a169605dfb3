"""The whole denoising of every mode and scheduler against the original implementation."""

import torch

from easyanimate_core.conditioning.condition import Sources, make_condition
from easyanimate_core.models.geometry import latent_shape
from easyanimate_core.models.specs import TransformerConfig, VAEConfig
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.models.vae import AutoencoderKLMagvit
from easyanimate_core.paths.camera import camera_path_from_rows, plucker_embedding
from easyanimate_core.pipeline import decode_latents, sample_latents
from easyanimate_core.progress import silent
from easyanimate_core.sampling import Guidance, SamplingRun, draw_noise, make_schedule
from easyanimate_core.text import TextStates
from easyanimate_core.weights.loading import load_network

LATENT_TOLERANCE = 1e-3
FRAME_TOLERANCE = 2e-3
#: Of the largest value: float32 is spaced by 2e-3 where Euler A begins, at numbers near 16,384.
ROUNDING = 2e-7


def test_pipeline(parity, pipeline_file, assert_close):
    fixture = parity.read(pipeline_file)
    meta, inputs, outputs = fixture.meta, fixture.group("inputs"), fixture.group("outputs")
    transformer = _network(
        parity.read(meta["transformer"]), TransformerConfig, EasyAnimateTransformer3DModel
    )
    vae = _network(parity.read(meta["vae"]), VAEConfig, AutoencoderKLMagvit)
    size = latent_shape(meta["frames"], meta["height"], meta["width"])

    generators = [torch.Generator().manual_seed(meta["generator_seed"])]
    if "latents" in inputs:
        noise = inputs["latents"]
    else:
        noise = draw_noise((transformer.config.out_channels, *size), generators)
        assert_close(noise, inputs["noise"], 0, "starting noise")
    condition = make_condition(
        vae,
        transformer.config,
        _sources(meta, inputs),
        size,
        noise_amplitude=meta["noise_aug_strength"],
        generators=generators,
    )
    schedule = make_schedule(
        meta["scheduler"],
        meta["scheduler_config"],
        steps=meta["steps"],
        strength=meta["strength"],
    )
    timesteps = torch.tensor(meta["timesteps"])
    assert_close(schedule.timesteps.float(), timesteps, 1e-3, "timesteps")

    steps: list[torch.Tensor] = []
    record_steps(schedule.solver, steps)
    guidance = Guidance(meta["guidance_scale"], meta["guidance_rescale"])
    latents = sample_latents(
        transformer,
        SamplingRun(schedule, guidance, generators),
        text=(_text(inputs, "negative_text"), _text(inputs, "text")),
        condition=condition,
        noise=noise,
    )
    first = outputs["latents_first"]
    tolerance = max(LATENT_TOLERANCE, ROUNDING * float(first.abs().max()))
    assert_close(steps[0], first, tolerance, "first step's latents")
    assert_close(latents, outputs["latents"], LATENT_TOLERANCE, "final latents")
    frames = decode_latents(vae, latents, None, silent).permute(3, 0, 1, 2)[None]
    assert_close(frames, outputs["frames"], FRAME_TOLERANCE, "frames")


def record_steps(solver, steps):
    """Keep what every step gives, without changing it."""
    step = solver.step

    def recorded(*arguments):
        result = step(*arguments)
        steps.append(result.clone())
        return result

    solver.step = recorded


def _network(fixture, config_class, network_class):
    config = config_class.from_dict(fixture.meta["config"])
    return load_network(lambda: network_class(config), fixture.weights(), what="fixture")


def _sources(meta, inputs) -> Sources:
    plucker = None
    if "camera_poses" in inputs:
        path = camera_path_from_rows(inputs["camera_poses"])
        plucker = plucker_embedding(path, meta["height"], meta["width"])
    mask = inputs["mask"].float() / 255 if "mask" in inputs else None
    return Sources(
        video=_pixels(inputs, "video"),
        mask=mask,
        control=_pixels(inputs, "control_video"),
        plucker=plucker,
        reference=_pixels(inputs, "ref_image"),
        strength=meta["strength"],
    )


def _pixels(inputs, name):
    return inputs[name].float() / 255 * 2 - 1 if name in inputs else None


def _text(inputs, name) -> TextStates:
    return TextStates(inputs[name], inputs.get(f"{name}_t5"))
