"""Every task trains two steps, and what it writes is read by the loaders that users have."""

import shutil

import pytest
import torch

from easyanimate_core.convert import Conversion, convert
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.settings import Settings
from easyanimate_core.tasks import Camera, Control, ImageToVideo, TextToVideo
from easyanimate_core.weights.lora import Lora
from tests.factories import V5, V5_1, pixels
from tests.training_runs import losses, train

SMALL = Settings(height=32, width=32, frames=5, steps=2)
TASK_OF = {
    Head.T2V: "text_to_video",
    Head.INPAINT: "inpaint",
    Head.CONTROL: "control",
    Head.CAMERA: "camera",
}


def shown(head):
    """A mode for the head."""
    clip = pixels(1, frames=5, height=32, width=32)
    return {
        Head.T2V: TextToVideo(),
        Head.INPAINT: ImageToVideo(start=clip[:1]),
        Head.CONTROL: Control(clip),
        Head.CAMERA: Camera(moves=("Pan Up",)),
    }[head]


@pytest.mark.parametrize(
    ("version", "head", "reference"),
    [
        (V5_1, Head.T2V, True),
        (V5_1, Head.INPAINT, True),
        (V5_1, Head.CONTROL, True),
        (V5_1, Head.CONTROL, False),
        (V5_1, Head.CAMERA, True),
        (V5, Head.INPAINT, True),
    ],
)
def test_a_trained_denoiser_makes_a_video(checkpoint, tmp_path, version, head, reference):
    folder = checkpoint(version, head, reference=reference)
    (result,) = train(tmp_path / "run", folder, task=TASK_OF[head], run__validate_every=1)
    assert (tmp_path / "run" / "validation" / "step-00000002.png").is_file()
    assert (tmp_path / "run" / "curves.png").is_file()
    whole = shutil.copytree(folder, tmp_path / "whole")
    shutil.rmtree(whole / "transformer")
    shutil.copytree(result, whole / "transformer")
    made = [
        Pipeline.load(path).generate("a circle", task=shown(head), settings=SMALL)
        for path in (folder, whole)
    ]
    assert made[1].latents.isfinite().all()
    assert not torch.equal(made[0].latents, made[1].latents)


@pytest.mark.parametrize(
    ("version", "head"), [(V5_1, Head.INPAINT), (V5, Head.T2V), (V5_1, Head.CONTROL)]
)
def test_a_trained_lora_changes_the_video(checkpoint, tmp_path, version, head):
    folder = checkpoint(version, head)
    lora = {"rank": 4, "alpha": 4.0}
    (result,) = train(tmp_path / "run", folder, task=TASK_OF[head], model__lora=lora)
    pipeline = Pipeline.load(folder)
    plain, off, on = (
        pipeline.generate("a circle", task=shown(head), settings=SMALL, loras=loras)
        for loras in ((), (Lora(result, 0.0),), (Lora(result),))
    )
    assert torch.equal(off.latents, plain.latents)
    assert (on.latents - plain.latents).abs().max() > 1e-4


@pytest.mark.parametrize("dtype", ["fp8", "fp8-channel", "int8"])
def test_a_lora_is_trained_on_weights_in_8_bits(checkpoint, tmp_path, dtype):
    folder = checkpoint(V5_1, Head.T2V)
    stored = tmp_path / "stored"
    shutil.copytree(folder, stored, ignore=shutil.ignore_patterns("transformer"))
    convert(
        folder / "transformer", stored / "transformer", Conversion(dtype=dtype, part="transformer")
    )
    lora = {"rank": 4, "alpha": 4.0}
    train(tmp_path / "whole", folder, model__lora=lora)
    train(tmp_path / "run", stored, model__lora=lora)
    whole, ours = (losses(tmp_path / name)[1] for name in ("whole", "run"))
    assert ours == pytest.approx(whole, rel=0.02)
    assert ours != whole


@pytest.mark.parametrize("adversarial", [0.0, 0.1])
def test_a_trained_vae_decodes(checkpoint, tmp_path, adversarial):
    folder = checkpoint(V5_1, Head.T2V)
    (result,) = train(
        tmp_path / "run", folder, task="vae", data__clips_per_batch=2, data__crop=[5, 16, 32],
        vae_objective={"edges": 0.5, "adversarial": adversarial, "discriminator_channels": 8},
        run__validate_every=2,
    )  # fmt: skip
    whole = shutil.copytree(folder, tmp_path / "whole")
    shutil.rmtree(whole / "vae")
    shutil.copytree(result, whole / "vae")
    made = Pipeline.load(whole).generate("a circle", settings=SMALL)
    assert made.frames.shape == (1, 5, 32, 32, 3)
    assert made.frames.isfinite().all()
