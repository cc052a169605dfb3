"""The whole denoising of every mode and scheduler against the original implementation."""

import torch

from easyanimate_core.conditioning.condition import Sources
from easyanimate_core.doctor.runs import Compute, pixels, prepare
from easyanimate_core.paths.camera import camera_path_from_rows, plucker_embedding

LATENT_TOLERANCE = 1e-3
FRAME_TOLERANCE = 2e-3
#: Of the largest value: float32 is spaced by 2e-3 where Euler A begins, at numbers near 16,384.
ROUNDING = 2e-7


def test_pipeline(parity, pipeline_file, assert_close):
    recording = parity.read(pipeline_file)
    meta, inputs, outputs = recording.meta, recording.group("inputs"), recording.group("outputs")
    run = prepare(recording, parity.read, Compute(), sources=_sources(meta, inputs))
    if "noise" in inputs:
        assert_close(run.noise, inputs["noise"], 0, "starting noise")
    timesteps = torch.tensor(meta["timesteps"])
    assert_close(run.schedule.timesteps.float(), timesteps, 1e-3, "timesteps")

    steps: list[torch.Tensor] = []
    record_steps(run.schedule.solver, steps)
    latents = run.latents()
    first = outputs["latents_first"]
    tolerance = max(LATENT_TOLERANCE, ROUNDING * float(first.abs().max()))
    assert_close(steps[0], first, tolerance, "first step's latents")
    assert_close(latents, outputs["latents"], LATENT_TOLERANCE, "final latents")
    assert_close(run.frames(latents), outputs["frames"], FRAME_TOLERANCE, "frames")


def record_steps(solver, steps):
    """Keep what every step gives, without changing it."""
    step = solver.step

    def recorded(*arguments):
        result = step(*arguments)
        steps.append(result.clone())
        return result

    solver.step = recorded


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
    return pixels(inputs[name]) if name in inputs else None
