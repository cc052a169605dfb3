"""What stays on a card, and what a step takes: counted, computed from speeds, and compared."""

import json
from dataclasses import replace

import pytest
import torch

from easyanimate_core.cli.main import main
from easyanimate_core.errors import InputError
from easyanimate_core.memory import card_speeds
from easyanimate_core.memory.card_speeds import published_speeds
from easyanimate_core.memory.offload import placed
from easyanimate_core.memory.options import Memory
from easyanimate_core.memory.plan import Job, Limits, choose, estimate, published_facts, report
from easyanimate_core.memory.plan.facts import _weights
from easyanimate_core.memory.plan.ways import seconds_per_step
from easyanimate_core.memory.plan.work import step_work
from easyanimate_core.models.specs import Head
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from tests.factories import V5_1

GB = 10**9
BF16 = torch.bfloat16
INP_7B = published_facts(V5_1, "7B", Head.INPAINT)
INP_12B = published_facts(V5_1, "12B", Head.INPAINT)
USUAL = Job(384, 672, 49)
GPU = published_speeds("RTX 4090")


@pytest.mark.parametrize(("facts", "card"), [(INP_7B, 12), (INP_12B, 16), (INP_12B, 24)])
def test_as_many_blocks_as_fit_stay_on_the_card(facts, card):
    """And a tenth of the card is left to the screen and other programs."""
    job = Job(1024, 1024, 49) if card == 24 else USUAL
    plan = choose(facts, job, Limits(card * GB, 64 * GB), compute=BF16)
    count = plan.memory.resident_blocks
    assert 0 < count < facts.transformer.num_layers
    assert 0.85 * card * GB < plan.estimate.peak_card_bytes <= 0.9 * card * GB
    weights = next(stage.weights for stage in plan.estimate.stages if stage.name == "denoise")
    none = estimate(facts, job, Memory(offload="block"), compute=BF16, on_card=True, tile=plan.tile)
    without = next(stage.weights for stage in none.stages if stage.name == "denoise")
    assert weights - without == pytest.approx(2 * count * facts.denoiser.block, rel=1e-6)
    assert f"{count} of {facts.transformer.num_layers} blocks stay" in report(plan)


def test_the_weights_on_the_card_are_those_of_the_blocks_that_stay():
    """The estimate against a real network, placed on another device."""
    config = replace(
        INP_7B.transformer, num_attention_heads=4, num_layers=8, mmdit_layers=4, time_embed_dim=64,
        text_embed_dim=64,
    )  # fmt: skip
    with torch.device("meta"):
        shapes = EasyAnimateTransformer3DModel(config).state_dict()
    network = EasyAnimateTransformer3DModel(config, device=torch.device("meta"))
    network.load_state_dict({n: torch.empty(t.shape) for n, t in shapes.items()}, assign=True)
    counts = {name: tensor.numel() for name, tensor in shapes.items()}
    weights = _weights(counts, set(), 4)
    for resident in (0, 1, 3, 5, 8):
        with placed(network, torch.device("meta"), "block", resident_blocks=resident):
            there = sum(p.nbytes for p in network.parameters() if p.is_meta)
        told = weights.streamed_bytes(4, resident=resident)
        slots = 0 if resident == 8 else 2 * 4 * weights.block
        # Blocks are of two kinds; each is counted as the larger.
        least = min(there + slots, weights.num_bytes(4))
        assert -1 <= told - least <= resident * weights.block * 2


def test_a_step_takes_what_is_slowest():
    kept = Memory()
    streamed = Memory(offload="block")

    def seconds(memory, *, frames=49, host=64, **changes):
        speeds = replace(GPU, **changes)
        job = replace(USUAL, frames=frames)
        return seconds_per_step(INP_12B, job, memory, BF16, speeds=speeds, host=host * GB)

    assert seconds(streamed) == seconds(kept), "a video's step hides the transfer"
    bare = INP_12B.denoiser.in_blocks * 2
    slow = seconds(streamed, link=1e9)
    assert slow == pytest.approx(bare / 1e9, rel=0.01)
    half = replace(streamed, resident_blocks=24)
    assert seconds(half, link=1e9) == pytest.approx(slow / 2, rel=1e-6)
    one = replace(streamed, sequential_guidance=True)
    assert seconds(one, link=1e9) == pytest.approx(2 * slow, rel=1e-6), "weights go twice"
    # Without memory to lock, every block is packed anew.
    assert seconds(streamed, host=4, packing=5e8) == pytest.approx(bare / 5e8, rel=0.01)
    assert seconds(streamed, packing=5e8) == seconds(kept)
    assert seconds(Memory("qfloat8")) > seconds(kept)


def test_work_of_a_step_is_what_a_trace_at_full_size_found():
    """218 TFLOP of products and 158 of attention, and 0.5 TB of other operations."""
    work = step_work(INP_7B.transformer, USUAL.latents, 2, BF16)
    assert work.flop == pytest.approx(376e12, rel=0.01)
    assert 0.2e12 < work.moved < 0.6e12


def test_the_plan_compares_ways_and_takes_the_quickest_exact_one():
    limits, image = Limits(16 * GB, 32 * GB), Job(384, 672, 1)
    exact = choose(INP_12B, image, limits, compute=BF16, speeds=GPU)
    assert exact.memory.quantization == "none"
    text = report(exact)
    rows = {way.name: way for way in exact.ways}
    whole, streamed, eight = exact.ways
    assert not whole.fits
    assert streamed.memory == exact.memory
    assert whole.seconds < eight.seconds < streamed.seconds
    assert [way.error for way in exact.ways] == ["none", "none", "2.8 %"]
    for name, way in rows.items():
        assert f"{name} " in text
        assert f"{way.seconds:.2f}" in text
    assert text.count("does not fit") == 1
    assert "nothing was measured" in text
    quick = choose(INP_12B, image, limits, compute=BF16, speeds=GPU, prefer="speed")
    assert quick.memory == eight.memory
    assert "so a step is quicker, with an error of 2.8 %" in report(quick)
    # Where nothing is gained, the result stays exact.
    video = choose(INP_12B, USUAL, limits, compute=BF16, speeds=GPU, prefer="speed")
    assert video.memory.quantization == "none"


def test_speed_that_is_unknown_cannot_be_preferred():
    with pytest.raises(InputError, match="how fast the card is is unknown"):
        choose(INP_7B, USUAL, Limits(12 * GB, 32 * GB), compute=BF16, prefer="speed")


def test_names_of_cards():
    assert published_speeds("nvidia GeForce rtx4090") == GPU
    with pytest.raises(InputError, match=r"'GTX 9' is unknown. Known are RTX 3060, "):
        published_speeds("GTX 9")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": {"flops": 1}}', '{"a": null}'])
def test_what_was_measured_is_read_again_unless_it_is_spoilt(tmp_path, text):
    file = tmp_path / "kept" / "speeds.json"
    assert card_speeds._read(file) == {}
    card_speeds._write(file, {"card": GPU})
    assert card_speeds._read(file) == {"card": GPU}
    file.write_text(text)
    assert card_speeds._read(file) == {}


def test_a_cpu_is_not_measured():
    assert card_speeds.speeds_of(torch.device("cpu")) is None


def test_the_command_compares_ways_for_a_named_card(capsys):
    asked = ["plan", "--model", "EasyAnimateV5.1-7b-zh-InP", "--ram", "32", "--gpu", "RTX 4090"]
    assert main([*asked, "--vram", "12", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [way["error"] for way in value["steps"]] == ["none", "none", "2.8 %"]
    assert value["memory"]["resident_blocks"] > 0
    assert "RTX 4090" in value["speeds"]["source"]
    assert main([*asked, "--device", "cpu"]) == 2
    assert "--vram, which is not given" in capsys.readouterr().err
