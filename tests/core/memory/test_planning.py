"""The memory plan: what it counts, what it chooses, and how near it comes to a real run."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from easyanimate_core.cli.main import main
from easyanimate_core.errors import InputError
from easyanimate_core.memory.cards import Card
from easyanimate_core.memory.options import QUANTIZATIONS, Memory, quantizations_on
from easyanimate_core.memory.plan import (
    Job,
    Limits,
    choose,
    command_options,
    estimate,
    facts_of,
    published_facts,
    report,
)
from easyanimate_core.memory.plan.activations import decode_bytes, denoiser_bytes, encode_bytes
from easyanimate_core.memory.plan.estimate import PROCESS_BYTES
from easyanimate_core.memory.plan.live_memory import peak_bytes
from easyanimate_core.models.specs import Head, TransformerConfig, VAEConfig
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.models.vae import AutoencoderKLMagvit
from easyanimate_core.tiny.checkpoint import make_tiny
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.files.detect import config_as_json
from tests.factories import V5, V5_1

GB = 10**9
BF16 = torch.bfloat16
INP_7B = published_facts(V5_1, "7B", Head.INPAINT)
INP_12B = published_facts(V5_1, "12B", Head.INPAINT)
USUAL = Job(384, 672, 49)


def meta(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device="meta")


def test_peak_counts_what_is_alive_at_once():
    x = meta(1000)  # 4,000 bytes, there before

    def compute():
        y = x + 1  # 4,000
        z = y * 2  # 8,000
        del y  # 4,000
        return z.view(10, 100) - 1  # a view is no memory: 8,000

    assert peak_bytes(compute, [x]) == 8000


def test_peak_counts_a_view_that_keeps_its_storage_alive():
    def compute():
        kept = [meta(1000)[:1] for _ in range(3)]
        return kept[0]

    assert peak_bytes(compute) == 12000


def test_in_place_operations_and_casts_to_the_same_dtype_take_nothing():
    x = meta(1000)
    assert peak_bytes(lambda: x.add_(1).to(torch.float32), [x]) == 0


def test_published_weights_are_as_large_as_their_files():
    """The tensor lists of the published files: 6,814,670,912 and 11,799,265,856 values."""
    assert INP_7B.denoiser.values == 6_814_670_912
    assert INP_12B.denoiser.values == 11_799_265_856
    # 16.58 GB in bfloat16 hold the vision tower, the last layer and the LM head too.
    assert sum(part.values for part in INP_7B.text) * 2 == pytest.approx(13.68 * GB, rel=0.001)


@pytest.mark.parametrize(("version", "head"), [(V5_1, Head.CONTROL), (V5, Head.INPAINT)])
def test_facts_of_a_folder_count_what_is_loaded(tmp_path, version, head):
    info = inspect_checkpoint(make_tiny(tmp_path / "tiny", version=version, head=head))
    facts = facts_of(info)
    assert facts.denoiser.values == info.transformer_files.num_parameters
    assert facts.denoiser.stored == 2
    assert facts.encoder.values + facts.decoder.values == info.vae_files.num_parameters
    assert len(facts.text) == (1 if version is V5_1 else 2)
    from easyanimate_core.text import build_text_encoder

    encoder = build_text_encoder(info.path, version, use_attention_mask=True)
    loaded = [sum(p.numel() for p in net.parameters()) for net in encoder.networks]
    assert [part.values for part in facts.text] == loaded


@pytest.mark.parametrize("sees", [True, False])
def test_facts_of_a_folder_count_what_writes_prompts(tmp_path, sees):
    from easyanimate_core.text.weights import Placement
    from easyanimate_core.text.writer import read_writer

    info = inspect_checkpoint(make_tiny(tmp_path / "tiny", version=V5_1, head=Head.INPAINT))
    network = read_writer(info.path, sees=sees, placement=Placement(device="meta")).network
    loaded = sum(p.numel() for p in network.parameters())
    told = facts_of(info).writer.values
    assert told == loaded if sees else told > loaded  # without a picture, it takes less
    linear = sum(
        layer.weight.numel()
        for name, layer in network.named_modules()
        if isinstance(layer, torch.nn.Linear) and "visual." not in name
    )
    assert facts_of(info).writer.quantizable == linear


def test_a_long_prompt_is_a_stage_of_its_own():
    writing = replace(USUAL, writes=True)
    numbers = estimate(INP_7B, writing, Memory(), compute=BF16, on_card=True)
    first, *others = numbers.stages
    assert (first.name, first.weights) == ("write", pytest.approx(16.58 * GB, rel=0.001))
    without = estimate(INP_7B, USUAL, Memory(), compute=BF16, on_card=True)
    assert tuple(others) == without.stages
    eight = Memory(text_quantization="qint8")
    numbers = estimate(INP_7B, writing, eight, compute=BF16, on_card=True)
    assert numbers.stages[0].weights == pytest.approx(9.5 * GB, rel=0.01)
    # 18 GB hold the encoder and the denoiser, but not the whole language model.
    limits = Limits(18 * GB, 64 * GB)
    assert choose(INP_7B, USUAL, limits, compute=BF16).memory.text_quantization == "none"
    plan = choose(INP_7B, writing, limits, compute=BF16)
    assert plan.fits
    assert "the stage write would take" in " ".join(plan.reasons)
    with pytest.raises(InputError, match="cannot write prompts"):
        choose(published_facts(V5, "7B", Head.INPAINT), writing, limits, compute=BF16)


def test_activations_grow_with_rows_and_tokens():
    one = denoiser_bytes(INP_7B.transformer, (13, 48, 84), 1, BF16)
    two = denoiser_bytes(INP_7B.transformer, (13, 48, 84), 2, BF16)
    longer = denoiser_bytes(INP_7B.transformer, (25, 48, 84), 1, BF16)
    four = denoiser_bytes(INP_7B.transformer, (13, 48, 84), 4, BF16)
    assert four == pytest.approx(2 * two, rel=0.01)
    assert 0.8 * two < 2 * one < two  # a part of a single row's tokens needs no copy
    assert longer == pytest.approx(one * 25 / 13, rel=0.05)


@pytest.mark.parametrize("version", [V5_1, V5])
def test_the_vaes_peak_of_a_long_clip_is_told_from_its_first_chunks(version):
    """Against the whole clip, chunk by chunk."""
    config = VAEConfig(block_out_channels=(32, 64, 64, 64), spatial_group_norm=version is V5_1)
    with torch.device("meta"):
        network = AutoencoderKLMagvit(config)
        latents, video = torch.empty(1, 16, 13, 12, 16), torch.empty(1, 3, 49, 96, 128)
    decoded = peak_bytes(lambda: network.decode(latents), [*network.parameters(), latents])
    told = decode_bytes(config, (13, 12, 16), torch.float32)
    assert told == pytest.approx(decoded, rel=0.02)
    encoded = peak_bytes(lambda: network.encode(video).mean, [*network.parameters(), video])
    told = encode_bytes(config, (49, 96, 128), torch.float32) - video.nbytes
    assert told == pytest.approx(encoded, rel=0.03)


def test_tiles_bound_the_vae():
    whole = decode_bytes(INP_7B.vae, (13, 96, 168), BF16)
    tiled = decode_bytes(INP_7B.vae, (13, 96, 168), BF16, 256)
    assert tiled < whole / 10


def test_blocks_and_quantisation_lessen_the_weights():
    weights = INP_7B.denoiser
    assert weights.num_bytes(2) == 2 * weights.values
    assert weights.num_bytes(2, "qfloat8") == weights.quantizable + 2 * weights.kept
    assert weights.num_bytes(2, "qint4") < weights.num_bytes(2, "qfloat8")
    outside = weights.values - weights.in_blocks
    assert weights.streamed_bytes(2) == pytest.approx(2 * (outside + 2 * weights.block), rel=1e-6)


@pytest.mark.parametrize(
    ("facts", "card", "host", "options"),
    [
        (INP_7B, 80, 128, ["--offload", "resident"]),
        (INP_7B, 24, 64, []),
        (INP_7B, 12, 32, ["--offload", "block", "--resident-blocks", "14"]),
        (INP_12B, 16, 32, ["--offload", "block", "--resident-blocks", "21"]),
    ],
)
def test_the_fastest_way_that_fits_is_chosen(facts, card, host, options):
    plan = choose(facts, USUAL, Limits(card * GB, host * GB), compute=BF16)
    assert plan.fits
    assert command_options(plan) == options
    assert plan.estimate.peak_card_bytes <= card * GB
    assert plan.estimate.peak_host_bytes <= host * GB


def test_little_main_memory_quantises():
    plan = choose(INP_12B, USUAL, Limits(24 * GB, 16 * GB), compute=BF16)
    assert plan.fits
    assert plan.memory.quantization == "qfloat8"
    assert any("machine's 16.0 GB" in reason for reason in plan.reasons)


def test_every_saving_has_a_reason_with_the_numbers():
    plan = choose(INP_7B, Job(768, 1344, 49), Limits(8 * GB, 32 * GB), compute=BF16)
    assert plan.fits
    text = report(plan)
    assert plan.tile is not None
    assert f"tiles of {plan.tile}" in text
    assert plan.memory.sequential_guidance
    assert "one after the other" in text
    assert "card's 8.0 GB" in text
    assert "--sequential-guidance" in text


MAC = Card("mps", "Apple GPU", num_bytes=24 * GB, shares_memory=True)


@pytest.mark.parametrize(
    ("card", "limits"),
    [
        (MAC, Limits(24 * GB, 32 * GB, shared=True)),
        (Card("cuda:0", "NVIDIA GB10", "sm_121", 24 * GB, shares_memory=True),
         Limits(24 * GB, 32 * GB, shared=True)),
        (Card("cuda:0", "NVIDIA GeForce RTX 4090", "sm_89", 24 * GB), Limits(24 * GB, 32 * GB)),
        # Its memory may have been set aside for it, beside what the machine counts.
        (Card("cuda:0", "AMD Radeon 8060S", "gfx1151", 24 * GB, shares_memory=True),
         Limits(24 * GB, 32 * GB)),
        (Card("mps", "Apple GPU", shares_memory=True), Limits(32 * GB, 32 * GB, shared=True)),
        (Card("cpu", "x86_64", shares_memory=True), Limits(None, 32 * GB)),
    ],
)  # fmt: skip
def test_limits_of_a_device(card, limits):
    assert Limits.of(card, 32 * GB) == limits


def test_memory_that_the_card_shares_is_counted_once():
    """What fits beside a card's own memory, and what fits in one memory for both."""
    apart = choose(INP_7B, USUAL, Limits(24 * GB, 28 * GB), compute=BF16)
    limits = Limits(24 * GB, 28 * GB, shared=True)
    together = choose(INP_7B, USUAL, limits, compute=BF16)
    assert apart.fits
    assert together.fits
    assert not limits.allow(apart.estimate)
    assert together.memory.offload == "block"
    assert together.memory.text_device is None  # a CPU has no other memory
    for stage in together.estimate.stages:
        assert together.estimate.card_bytes(stage) + stage.host <= 28 * GB
    text = report(together)
    assert "with 28.0 GB of memory, shared with the card" in text
    assert "of the machine's 28.0 GB" in text


def test_a_mac_is_planned_without_fp8():
    assert quantizations_on(MAC) == ("none", "qint8", "qint4")
    assert quantizations_on(replace(MAC, device="cuda:0")) == QUANTIZATIONS
    small = Limits(18 * GB, 24 * GB, shared=True)
    plan = choose(INP_12B, USUAL, small, compute=BF16, kinds=quantizations_on(MAC))
    assert plan.fits
    assert plan.memory.quantization == "qint8"
    assert "qfloat8" not in report(plan)


def test_what_cannot_fit_says_what_would():
    plan = choose(INP_7B, Job(768, 1344, 49), Limits(4 * GB, 32 * GB), compute=BF16)
    assert not plan.fits
    assert "even with every saving" in plan.reasons[0]
    assert "of the card's 4.0 GB" in plan.reasons[0]
    smaller = plan.reasons[1]
    assert smaller == "At this size 37 frames would fit."


def test_sizes_of_another_kind_are_refused():
    with pytest.raises(InputError, match="multiple of 16"):
        choose(INP_7B, Job(380, 672, 49), Limits(12 * GB, 32 * GB), compute=BF16)
    with pytest.raises(InputError, match="4n \\+ 1"):
        choose(INP_7B, Job(384, 672, 48), Limits(12 * GB, 32 * GB), compute=BF16)
    with pytest.raises(InputError, match="batch is 0; it must be at least 1"):
        Job(384, 672, 49, batch=0)
    with pytest.raises(InputError, match="card has 0 GB"):
        Limits(0, 32 * GB)


def test_the_command_prints_the_plan_of_a_model_that_is_not_here(capsys):
    fits = main(["plan", "--model", "EasyAnimateV5.1-7b-zh-InP", "--vram", "12", "--ram", "32"])
    said = capsys.readouterr().out
    assert fits == 0
    assert "on a card of 12.0 GB, with 32.0 GB of memory" in said
    assert "Options of generate: --offload block --resident-blocks 14" in said
    assert "seconds" not in said  # of an unknown card
    assert main(["plan", "--model", "EasyAnimateV5.1-7b-zh-InP", "--vram", "1", "--json"]) == 1
    value = json.loads(capsys.readouterr().out)
    assert value["fits"] is False
    assert value["peak_card"] > 1 * GB


def run_generate(folder, tmp_path, *options):
    arguments = ["generate", "--model", str(folder), "--prompt", "A cat.", "--size", "64x64"]
    arguments += ["--frames", "5", "--steps", "2", "--output", str(tmp_path / "cat.mp4")]
    return main([*arguments, "--device", "cpu", "--no-embedding-cache", *options])


def test_generate_takes_the_plan_or_refuses(tmp_path, capsys):
    folder = make_tiny(tmp_path / "tiny", version=V5_1, head=Head.INPAINT)
    assert run_generate(folder, tmp_path, "--plan", "--ram", "0.1") == 2
    assert "even with every saving" in capsys.readouterr().err
    assert not (tmp_path / "cat.mp4").exists()
    assert run_generate(folder, tmp_path, "--plan", "--ram", "8") == 0
    assert "Each network fits as a whole while it runs." in capsys.readouterr().out
    assert (tmp_path / "cat.mp4").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--plan", "--offload", "block"], "--plan chooses --offload itself"),
        (["--plan", "--tile", "256"], "--plan chooses --tile itself"),
        (["--vram", "12"], "--vram, --ram and --prefer are for --plan"),
        (["--prefer", "speed"], "--vram, --ram and --prefer are for --plan"),
        (["--plan", "--prefer", "speed"], "how fast the card is is unknown"),
    ],
)
def test_a_plan_and_what_it_chooses_are_not_given_together(tmp_path, capsys, options, said):
    folder = make_tiny(tmp_path / "tiny", version=V5_1, head=Head.T2V)
    assert run_generate(folder, tmp_path, *options) == 2
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def middle(tmp_path_factory):
    """A checkpoint whose networks outweigh the process: 240 million values in the denoiser."""
    folder = make_tiny(tmp_path_factory.mktemp("plan") / "middle", version=V5_1, head=Head.INPAINT)
    tiny = inspect_checkpoint(folder)
    transformer = replace(
        tiny.transformer,
        num_attention_heads=24,
        attention_head_dim=64,
        num_layers=4,
        mmdit_layers=2,
        time_embed_dim=512,
    )
    vae = replace(tiny.vae, block_out_channels=(32, 64, 64, 64))
    _write(folder / "transformer", EasyAnimateTransformer3DModel, transformer)
    _write(folder / "vae", AutoencoderKLMagvit, vae)
    return folder


def _write(folder: Path, network_class, config: TransformerConfig | VAEConfig):
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in network_class(config).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: (torch.randn(shape, generator=generator) * 0.02).to(BF16)
        for name, shape in shapes.items()
    }
    for file in folder.glob("*.safetensors"):
        file.unlink()
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_as_json(config)))


MEASURE = """
import sys
from pathlib import Path
import torch
from easyanimate_core import ImageToVideo, Pipeline, Settings

def megabytes(field):
    status = Path("/proc/self/status").read_text()
    return next(line.split()[1] for line in status.splitlines() if line.startswith(field))

def before_loading(stage, done, total):
    resident.append(megabytes("VmRSS"))

resident = []
torch.set_num_threads(2)
height, width, frames = map(int, sys.argv[2:5])
settings = Settings(height=height, width=width, frames=frames, steps=1)
start = torch.rand(1, height, width, 3)
pipeline = Pipeline.load(sys.argv[1], device="cpu", embedding_cache=False)
pipeline.generate("A cat.", ImageToVideo(start=start), settings, progress=before_loading)
print(resident[0], megabytes("VmHWM"))
"""
#: Freed tensors go back to the system at once, so that a peak is of live memory and repeats. The
#: C library's usual habits hold up to 0.3 GB more, now and then.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read on Linux")
@pytest.mark.parametrize("size", [(192, 256, 17), (128, 384, 5), (128, 128, 33)])
def test_main_memory_of_a_run_on_the_cpu_is_told_within_15_percent(middle, size):
    """The whole process, and what the run adds to the process with its libraries."""
    height, width, frames = size
    command = [sys.executable, "-c", MEASURE, str(middle), *map(str, size)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | MALLOC
    )
    before, peak = (int(number) * 1024 for number in done.stdout.split()[-2:])
    told = estimate(
        facts_of(inspect_checkpoint(middle)),
        Job(height, width, frames),
        Memory(),
        compute=torch.float32,
        on_card=False,
    ).peak_host_bytes
    assert told == pytest.approx(peak, rel=0.15)
    assert told - PROCESS_BYTES == pytest.approx(peak - before, rel=0.15)
