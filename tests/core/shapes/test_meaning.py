"""The judge of synthetic clips: right on what is rendered, near chance on what is not asked for."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from easyanimate_core.errors import HeadError, InputError
from easyanimate_core.media import read_image
from easyanimate_core.models.specs import Head
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.settings import Settings
from easyanimate_core.shapes.judge import (
    TASKS,
    Sample,
    Sampling,
    ask,
    asks_for,
    evaluations_per_clip,
    judge,
    judge_all,
    make_samples,
    observe,
    rendered_samples,
    tasks_of,
    write_meaning,
)
from easyanimate_core.shapes.judge.meaning import clip_of, edited_region, recoloured
from easyanimate_core.shapes.scenes import Body, Ground, Scene, make_scene, render, tracks_of
from tests.factories import V5, V5_1

SETTINGS = Settings(height=96, width=96, frames=17, steps=2, guidance_scale=1.0)
SEED = 4321


def scene_of(body, *, texture="clouds", tint="grey", motion="still", frames=9):
    ground = Ground(texture, tint)
    return Scene(0, 0, 96, 96, frames, "move", ground, (body,), motion)


def body(shape="square", colour="red", start=(0.5, 0.5), end=None, **changes):
    return Body(shape, colour, "large", start, end or start, **changes)


def moved(frames, x, y):
    return frames.roll((y, x), (1, 2))


# What is seen


@pytest.mark.parametrize("look", ["clean", "soft"])
@pytest.mark.parametrize("kind", ["move", "change", "occlusion", "camera"])
def test_rendered_scenes_are_seen_as_they_are(kind, look):
    asks = [ask("text", make_scene(SEED, index, kind=kind)) for index in range(7)]
    for sample in rendered_samples(asks, soft=look == "soft"):
        verdict = judge(sample)
        assert verdict.seen == verdict.asked, sample.scene.index


@pytest.mark.parametrize("shape", ["circle", "square", "triangle", "cross"])
def test_places_and_areas_are_those_of_the_rendered_body(shape):
    scene = scene_of(body(shape, start=(0.3, 0.6), end=(0.65, 0.55), end_scale=0.8))
    (seen,) = observe(clip_of(scene)).bodies
    track = np.array(tracks_of(scene)[0].points)
    areas = render(scene).masks.sum((1, 2))
    assert np.abs(seen.centres_F2 - track).max() < 0.35
    assert np.abs(seen.areas_F / areas - 1).max() < 0.08  # masks are whole pixels
    assert seen.growth == pytest.approx(0.8, abs=0.02)
    assert seen.way == pytest.approx((0.35 * 96, -0.05 * 96), abs=0.5)


@pytest.mark.parametrize("shape", ["square", "triangle", "cross"])
def test_angles_are_those_of_the_rendered_body(shape):
    turned = body(shape, angle=0.2, turn=2.0)
    (seen,) = observe(clip_of(scene_of(turned, frames=17))).bodies
    assert seen.turn == pytest.approx(2.0, abs=0.05)
    assert seen.angles_F[0] == pytest.approx(0.2, abs=0.05)


def test_a_turn_against_the_clock_is_another_motion():
    turned = scene_of(body("triangle", turn=2.0), motion="turn", frames=17)
    assert judge(Sample("text", turned, clip_of(turned))).checks["motion"]
    back = judge(Sample("text", turned, clip_of(turned).flip(0)))
    assert back.seen.motion == "turn back"
    assert not back.checks["motion"]


def test_a_picture_without_bodies_shows_none():
    empty = torch.full((5, 96, 96, 3), 112 / 255)
    seen = observe(empty)
    assert (seen.bodies, seen.main, seen.motion, seen.tint) == ((), None, "none", "grey")
    verdict = judge(Sample("text", scene_of(body(), frames=5), empty))
    assert verdict.seen.colour == verdict.seen.shape == "none"
    assert not verdict.checks["all"]


def test_a_blot_has_no_shape():
    frames = clip_of(scene_of(body("circle"))) * 0 + 112 / 255
    red = torch.tensor([222, 32, 36]) / 255
    for row, column in ((10, 10), (10, 60), (60, 10), (34, 34), (60, 60)):
        frames[:, row : row + 24, column : column + 26] = red
    frames[:, 20:70, 46:48] = frames[:, 46:48, 20:70] = red
    frames[:, 20:24, 20:70] = frames[:, 70:74, 20:70] = red
    (seen,) = observe(frames).bodies
    assert (seen.colour, seen.shape) == ("red", "none")


def test_a_camera_that_moves_in_jerks_of_four_frames_moves():
    """As a VAE shows it: all the motion of four frames between two of them."""
    jerks = [0, *(frame for frame in range(4, 17, 4) for _ in range(4))]
    for index in range(6):
        scene = make_scene(7, index, kind="camera")
        frames = clip_of(scene)[jerks]
        assert observe(frames).camera == scene.camera


def test_a_ground_that_wobbles_is_no_camera_move():
    scene = scene_of(body(), texture="checks", frames=17)
    there = [0, 2, 4, 6, 8, 7, 6, 5, 4, 6, 8, 10, 12, 11, 10, 9, 8]  # pixels to the right
    frames = torch.stack([moved(frame[None], step, 0)[0] for frame, step in
                          zip(clip_of(scene), there, strict=True)])  # fmt: skip
    assert observe(frames).camera == "Static"


def test_a_body_in_the_way_of_a_still_camera_moves_alone():
    scene = scene_of(body(start=(0.3, 0.5), end=(0.7, 0.5)), motion="right")
    frames = clip_of(scene)
    assert observe(frames).camera == "Static"
    panned = torch.stack([moved(frames[:1], -3 * i, 0)[0] for i in range(9)])
    assert observe(panned[:, :, :64]).camera == "Pan Right"


# The tasks


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_met_by_its_own_scene(task):
    asks = asks_for(task, 4, SETTINGS, seed=SEED)
    for sample in rendered_samples(asks, soft=False):
        verdict = judge(sample)
        assert all(verdict.checks.values())
        for name, value in verdict.measures.items():
            if name.endswith("_db"):
                assert value == 100
            if name.startswith("edge_"):
                assert value > 0.98
            if name.endswith(("_difference", "_percent")):
                assert value < 1
            if name == "content_of_asked_motion":
                assert value == pytest.approx(1)


@pytest.mark.parametrize("task", TASKS)
def test_no_task_is_met_by_another_scene(task):
    asks = asks_for(task, 5, SETTINGS, seed=SEED)
    made = [sample.frames for sample in rendered_samples(asks, soft=False)]
    others = [Sample(a.task, a.scene, made[i - 1], source=a.source) for i, a in enumerate(asks)]
    assert not any(judge(other).checks["all"] for other in others)


def test_a_known_picture_is_compared_with_the_first_frame_alone():
    (asked,) = asks_for("start_end", 1, SETTINGS, seed=SEED)
    truth = clip_of(asked.scene)
    shown = truth - 0.01
    frames = 1 - truth
    frames[0] = truth[0] - 0.1
    frames[-1] = truth[-1] - 0.02
    sample = Sample("start_end", asked.scene, frames, reconstruction=shown)
    measures = judge(sample).measures
    assert measures["first_psnr_of_reconstruction_db"] == pytest.approx(20.915, abs=1e-3)
    assert measures["last_psnr_of_reconstruction_db"] == pytest.approx(40, abs=1e-3)
    assert measures["first_psnr_db"] == pytest.approx(20, abs=1e-3)
    assert measures["first_below_reconstruction_db"] == pytest.approx(20, abs=1e-3)
    assert measures["last_below_reconstruction_db"] == pytest.approx(6.021, abs=1e-3)


def test_a_region_is_compared_outside_with_what_was_given():
    (asked,) = asks_for("region", 1, SETTINGS, seed=SEED)
    inside = edited_region(asked.source) > 0.5
    frames = clip_of(asked.scene)
    assert torch.equal(frames[~inside], clip_of(asked.source)[~inside])
    shown = clip_of(asked.source) - 0.01
    changed = torch.where(inside[..., None], frames, frames - 0.1)
    sample = Sample("region", asked.scene, changed, reconstruction=shown, source=asked.source)
    measures = judge(sample).measures
    assert measures["outside_psnr_db"] == pytest.approx(20, abs=0.01)
    assert measures["outside_psnr_of_reconstruction_db"] == pytest.approx(20.915, abs=0.01)
    assert measures["outside_below_reconstruction_db"] == pytest.approx(20, abs=0.01)
    assert measures["inside_psnr_of_wanted_db"] == 100


def test_the_region_is_the_box_of_the_way_and_its_body_has_another_colour():
    scene = make_scene(SEED, 0, kind="move")
    mask = edited_region(scene)
    rows, columns = (torch.nonzero(mask[0].any(axis)).flatten() for axis in (1, 0))
    swept = render(scene).masks.any(0)
    assert rows[0] == np.flatnonzero(swept.any(1))[0] - 4
    assert columns[-1] == np.flatnonzero(swept.any(0))[-1] + 4
    other = recoloured(scene)
    assert other.main.colour != scene.main.colour
    assert replace(other, bodies=scene.bodies) == scene


def test_edges_tolerate_one_pixel_and_no_more():
    scene = scene_of(body("square"))
    frames = clip_of(scene)
    scores = [
        judge(Sample("control", scene, moved(frames, x, x))).measures["edge_f1"] for x in (0, 1, 4)
    ]
    assert scores[0] > 0.98
    assert scores[1] > 0.95
    assert scores[2] < 0.3


def test_the_way_beside_a_track_is_its_distance():
    scene = scene_of(body("circle", start=(0.3, 0.4), end=(0.7, 0.4)), motion="right")
    verdict = judge(Sample("trajectory", scene, moved(clip_of(scene), 6, 8)))
    assert verdict.measures["track_mean_percent"] == pytest.approx(100 * 10 / 96, abs=0.2)
    assert verdict.measures["track_most_percent"] == pytest.approx(100 * 10 / 96, abs=0.4)
    assert not verdict.checks["on_track"]
    assert verdict.checks["motion"]


def test_a_camera_against_its_path_is_seen_by_the_content():
    (asked,) = (a for a in asks_for("camera", 8, SETTINGS, seed=SEED) if "Pan" in a.scene.camera
                and a.scene.camera.endswith("Left"))  # fmt: skip
    verdict = judge(Sample("camera", asked.scene, clip_of(asked.scene).flip(0)))
    assert not verdict.checks["content"]
    assert verdict.seen.motion == "Pan Right"
    assert verdict.measures["content_of_asked_motion"] == pytest.approx(-1, abs=0.02)


def test_colours_of_a_reference_are_those_of_body_and_ground():
    scene = scene_of(body(start=(0.3, 0.5), end=(0.7, 0.5)), motion="right", texture="plain")
    other = replace(scene, ground=Ground("plain", "brown"))
    verdict = judge(Sample("reference", scene, clip_of(other)))
    assert not verdict.checks["reference_colours"]
    assert verdict.measures["body_colour_difference"] < 0.5
    assert verdict.measures["ground_colour_difference"] == pytest.approx(20.5, abs=1)


# Refusals


def test_samples_that_do_not_fit_are_refused():
    scene = make_scene(SEED, 0, kind="camera")
    with pytest.raises(InputError, match="The task is 'dance'; it must be one of text, start"):
        Sample("dance", scene, clip_of(scene))
    with pytest.raises(InputError, match="16 frames of 96 x 96 and its reference 17 frames"):
        Sample("text", scene, clip_of(scene)[:16])
    with pytest.raises(InputError, match="'region' has no source"):
        Sample("region", scene, clip_of(scene))
    still = scene_of(body())
    with pytest.raises(InputError, match="has no track; judge trajectories on scenes of the kind"):
        judge(Sample("trajectory", still, clip_of(still)))
    with pytest.raises(InputError, match="The settings have the size None x None"):
        asks_for("text", 1, Settings())
    with pytest.raises(InputError, match="no clips to judge"):
        judge_all([])


# The report


@pytest.fixture(scope="module")
def report():
    asks = asks_for("text", 8, SETTINGS, seed=SEED) + asks_for("camera", 4, SETTINGS, seed=SEED)
    return judge_all(rendered_samples(asks, soft=True))


def test_shares_are_full_and_chance_is_low(report):
    text, camera = report.tasks
    assert (text.task, text.clips, camera.task, camera.clips) == ("text", 8, "camera", 4)
    for task in report.tasks:
        share = task.shares["all"]
        assert share.right == share.total == task.clips
        assert share.low == pytest.approx(1 / (1 + 1.95996**2 / task.clips), abs=1e-4)
        assert task.chance["all"].right == 0


def test_confusion_tables_count_every_clip_on_their_diagonal(report):
    for name, table in report.tasks[0].confusion.items():
        counts = np.array(table.counts)
        assert counts.sum() == np.trace(counts) == 8, name
    motions = report.tasks[1].confusion["motion"]
    assert sum(motions.counts[motions.labels.index("Zoom In")]) == sum(
        clip.verdict.asked.motion == "Zoom In" for clip in report.clips["camera"]
    )


def test_lists_of_scenes_are_told_apart_and_their_spread_is_told():
    """As figures of several runs are published: one for each, their mean and its error."""
    right = [*rendered_samples(asks_for("text", 2, SETTINGS, seed=1), soft=False)]
    empty = torch.full((17, 96, 96, 3), 112 / 255)
    wrong = [Sample("text", asked.scene, empty) for asked in asks_for("text", 2, SETTINGS, seed=2)]
    (task,) = judge_all(right + wrong).tasks
    assert [(of.seed, of.clips, of.shares["all"].value) for of in task.seeds] == [
        (1, 2, 1.0), (2, 2, 0.0),
    ]  # fmt: skip
    over = task.over_seeds["all"]
    assert (over.count, over.mean, over.least, over.most) == (2, 0.5, 0, 1)
    assert over.error == pytest.approx(0.5)
    assert task.shares["all"].value == 0.5
    (one,) = judge_all(right).tasks
    assert one.over_seeds == {}
    assert "0 to 100 %, standard error 50.0" in "\n".join(task.lines())
    assert "seeds" not in "\n".join(one.lines())


def test_direction_is_the_motion_of_what_moves_in_one(report):
    text, camera = report.tasks
    moving = [clip.verdict for clip in report.clips["text"]
              if clip.verdict.asked.motion in ("left", "right", "up", "down")]  # fmt: skip
    assert text.shares["direction"].total == len(moving)
    assert 0 < len(moving) < text.clips
    assert "direction" not in camera.shares


def test_files_of_a_report(report, tmp_path):
    files = write_meaning(tmp_path, report, {"made_by": "a test"})
    assert sorted(file.name for file in files) == [
        "confusion_camera.png", "confusion_text.png", "report.json", "sheet_camera.png",
        "sheet_text.png",
    ]  # fmt: skip
    value = json.loads((tmp_path / "report.json").read_text())
    assert value["run"] == {"made_by": "a test"}
    assert value["tasks"][0]["shares"]["all"]["value"] == 1
    assert value["videos"][f"text/{SEED}-0003"]["colour"] == 1
    assert read_image(tmp_path / "sheet_text.png").shape[2] > 600


# Checkpoints


def test_tasks_follow_from_the_head(pipeline):
    def tasks(version, head):
        return tasks_of(pipeline(version, head).info.transformer)

    assert tasks(V5_1, Head.T2V) == ("text",)
    assert tasks(V5_1, Head.INPAINT) == ("text", "start", "start_end", "region")
    assert tasks(V5_1, Head.CONTROL) == ("control", "reference", "trajectory")
    assert tasks(V5, Head.CONTROL) == ("control", "trajectory")
    assert tasks(V5_1, Head.CAMERA) == ("camera",)


def test_clips_of_a_batch_are_those_made_alone(pipeline):
    model = pipeline(V5_1, Head.T2V)
    settings = Settings(height=32, width=32, frames=5, steps=1, guidance_scale=1.0)
    asks = asks_for("text", 3, settings, seed=SEED)
    at_once = list(make_samples(model, asks, settings, batch=2))
    assert [sample.scene for sample in at_once] == [asked.scene for asked in asks]
    alone = model.generate(asks[1].prompt, settings=replace(settings, seed=settings.seed + 1))
    assert (at_once[1].frames - alone.frames[0]).abs().max() < 1e-4
    assert at_once[1].reconstruction is None


def test_a_clip_does_not_depend_on_what_else_is_judged(pipeline):
    model = pipeline(V5_1, Head.INPAINT)
    settings = Settings(height=32, width=32, frames=5, steps=1, guidance_scale=1.0)
    lists = [asks_for("text", 2, settings, seed=seed) for seed in (SEED, SEED + 1)]
    among = [*asks_for("start", 1, settings, seed=SEED), *lists[0], *lists[1]]
    (alone,) = make_samples(model, lists[1][1:], settings)
    *_, beside = make_samples(model, among, settings)
    assert beside.scene == alone.scene
    assert (beside.frames - alone.frames).abs().max() < 1e-4


@pytest.mark.parametrize(("scheduler", "steps"), [("DDIM", 1), ("DDIM", 2), ("PNDM", 4)])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_evaluations_are_those_that_are_made(pipeline, scheduler, steps, guidance):
    model = pipeline(V5, Head.T2V)
    settings = Settings(height=32, width=32, frames=5, steps=steps, scheduler=scheduler)
    sampling = Sampling(settings, {"text": guidance})
    asks, made = asks_for("text", 1, settings, seed=SEED), []

    def count(network, inputs):
        if isinstance(network, EasyAnimateTransformer3DModel):
            made.append(inputs[0].shape[0])

    hook = register_module_forward_pre_hook(count)
    try:
        list(make_samples(model, asks, sampling))
    finally:
        hook.remove()
    assert evaluations_per_clip(model, asks, sampling) == {"text": sum(made)}


def test_an_untrained_checkpoint_meets_nothing(pipeline):
    model = pipeline(V5_1, Head.INPAINT)
    settings = Settings(height=48, width=48, frames=5, steps=1, guidance_scale=1.0)
    asks = [asks_for(task, 1, settings, seed=SEED)[0] for task in ("start", "start_end", "region")]
    seen = []
    samples = list(make_samples(model, asks, settings, progress=lambda *step: seen.append(step)))
    assert seen == [("generate", done, 3) for done in range(4)]
    assert [len(sample.reconstruction) for sample in samples] == [5, 5, 5]
    report = judge_all(samples)
    assert [task.shares["all"].right for task in report.tasks] == [0, 0, 0]
    assert all(task.measures["first_psnr_db"].mean < 20 for task in report.tasks[:2])


def test_a_head_that_cannot_is_refused_before_weights_are_loaded(pipeline):
    asks = asks_for("camera", 1, SETTINGS, seed=SEED)
    with pytest.raises(HeadError, match="cannot do camera"):
        next(make_samples(pipeline(V5_1, Head.T2V), asks, SETTINGS))
