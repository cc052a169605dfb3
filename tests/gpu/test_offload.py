"""Placing networks on a CUDA device: the same bits, and less memory in blocks."""

import pytest
import torch
from torch import nn

from easyanimate_core.memory.card_speeds import speeds_of
from easyanimate_core.memory.offload import parts_of, placed, weights_of
from easyanimate_core.memory.options import OFFLOADS, Memory
from easyanimate_core.models.specs import Head, TransformerConfig, Version
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.progress import silent
from easyanimate_core.tasks import ImageToVideo
from easyanimate_core.tiny.checkpoint import make_tiny
from easyanimate_core.weights.loading import load_network
from tests.factories import pixels, quick

CUDA = torch.device("cuda")
FIELDS = {
    "in_channels": 16,
    "out_channels": 16,
    "num_attention_heads": 16,
    "attention_head_dim": 64,
    "num_layers": 12,
    "mmdit_layers": 6,
    "patch_size": 2,
    "time_embed_dim": 256,
    "text_embed_dim": 64,
    "add_norm_text_encoder": True,
}


@pytest.fixture(scope="module")
def denoiser():
    """Blocks of 30 and 50 MB in bfloat16, as the 7B has two kinds."""
    config = TransformerConfig(**FIELDS)
    with torch.device("meta"):
        shapes = EasyAnimateTransformer3DModel(config).state_dict()
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: (torch.randn(tensor.shape, generator=generator) * 0.02).bfloat16()
        for name, tensor in shapes.items()
    }
    return load_network(lambda: EasyAnimateTransformer3DModel(config), weights, what="denoiser")


def inputs():
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 16, 3, 32, 32, generator=generator).to(CUDA, torch.bfloat16)
    text = torch.randn(2, 64, 64, generator=generator).to(CUDA, torch.bfloat16)
    return sample, torch.tensor([700.0, 300.0], device=CUDA), text


def predictions(network, how, steps=4):
    """What several calls give, each fed with the last, and the peak of memory above the inputs."""
    sample, timestep, text = inputs()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with placed(network, CUDA, how):
        for _ in range(steps):
            sample = network(sample, timestep, text)
        result = sample.cpu()
    return result, torch.cuda.max_memory_allocated() - before


def quantize(network, kind):
    quanto = pytest.importorskip("optimum.quanto")
    qtype = getattr(quanto, kind)
    for block in network.transformer_blocks:
        for layer in block.modules():
            if isinstance(layer, nn.Linear) and layer.weight.shape[1] % 128 == 0:
                scale = quanto.AbsmaxOptimizer()(layer.weight, qtype, 0)
                weight = quanto.quantize_weight(layer.weight, qtype, 0, scale)
                layer.weight = nn.Parameter(weight, requires_grad=False)


def on_the_cpu(network):
    weights = weights_of(network.modules())
    return all(part.device.type == "cpu" for w in weights for part in parts_of(w.tensor))


def test_every_placement_has_the_same_bits_and_blocks_take_less_memory(denoiser):
    found = {how: predictions(denoiser, how) for how in ("module", "block")}
    assert on_the_cpu(denoiser)
    results = [result for result, _ in found.values()]
    assert torch.isfinite(results[0]).all()
    assert torch.equal(*results)
    blocks = [sum(p.nbytes for p in block.parameters()) for block in denoiser.transformer_blocks]
    saved = found["module"][1] - found["block"][1]
    assert saved == pytest.approx(sum(blocks) - 2 * max(blocks), rel=0.05)
    again, _ = predictions(denoiser, "block")
    assert torch.equal(again, results[0])


@pytest.mark.parametrize("resident", [1, 5, 12])
@pytest.mark.parametrize("lockable", [0, 2**27, 2**40])
def test_blocks_that_stay_and_blocks_that_are_locked_have_the_same_bits(
    denoiser, resident, lockable
):
    expected, _ = predictions(denoiser, "block")
    sample, timestep, text = inputs()
    with placed(denoiser, CUDA, "block", resident_blocks=resident, lockable=lockable):
        for _ in range(4):
            sample = denoiser(sample, timestep, text)
        result = sample.cpu()
    assert torch.equal(result, expected)
    assert on_the_cpu(denoiser)


def test_the_card_is_measured_and_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("EASYANIMATE_CACHE", str(tmp_path))
    found = speeds_of(CUDA)
    assert 1e9 < found.link < found.memory
    assert found.flops > 1e12
    assert torch.cuda.get_device_name() in found.source
    assert speeds_of(CUDA) == found


def test_a_resident_network_stays_and_has_the_same_bits(denoiser):
    expected, _ = predictions(denoiser, "block")
    moved = EasyAnimateTransformer3DModel(denoiser.config, device="meta")
    moved.load_state_dict(denoiser.state_dict(), assign=True)
    for _ in range(2):
        assert torch.equal(predictions(moved, "resident")[0], expected)
    assert all(p.device.type == "cuda" for p in moved.parameters())
    assert on_the_cpu(denoiser)


@pytest.mark.parametrize("kind", ["qint8", "qfloat8"])
def test_quantised_weights_have_the_same_bits(denoiser, kind):
    network = EasyAnimateTransformer3DModel(denoiser.config, device="meta")
    network.load_state_dict(denoiser.state_dict(), assign=True)
    network.requires_grad_(False)
    quantize(network, kind)
    results = [predictions(network, how)[0] for how in ("module", "block", "resident")]
    assert torch.isfinite(results[0]).all()
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_slot_is_not_written_to_while_its_block_computes(denoiser):
    """Here every block waits before it computes, so that those after it are sent far too early."""
    expected, _ = predictions(denoiser, "block", steps=1)
    handles = [
        block.register_forward_pre_hook(lambda *_: torch.cuda._sleep(20_000_000))
        for block in denoiser.transformer_blocks
    ]
    slow = predictions(denoiser, "block", steps=1)[0]
    for handle in handles:
        handle.remove()
    assert torch.equal(slow, expected)


def test_an_exception_gives_the_device_back(denoiser):
    expected, _ = predictions(denoiser, "block")
    before = torch.cuda.memory_allocated()

    def fail(*_):
        raise KeyboardInterrupt

    handle = denoiser.transformer_blocks[5].register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        predictions(denoiser, "block")
    handle.remove()
    assert on_the_cpu(denoiser)
    assert torch.cuda.memory_allocated() <= before + 2**20
    assert torch.equal(predictions(denoiser, "block")[0], expected)


@pytest.mark.parametrize("version", list(Version))
def test_a_run_has_the_same_bits(tmp_path, version):
    folder = make_tiny(tmp_path / "tiny", version=version, head=Head.INPAINT)
    task, results = ImageToVideo(start=pixels(3)), []
    for how in OFFLOADS:
        model = Pipeline.load(folder, memory=Memory(offload=how), embedding_cache=False)
        assert model.device.type == "cuda"
        results += [model.generate("A dog.", task, quick()) for _ in range(2)]
    for result in results[1:]:
        assert torch.equal(result.latents, results[0].latents)
        assert torch.equal(result.frames, results[0].frames)


@pytest.mark.parametrize("how", OFFLOADS)
def test_the_text_encoder_on_the_cpu(tmp_path, how):
    folder = make_tiny(tmp_path / "tiny", version=Version.V5_1, head=Head.T2V)
    memory = Memory(text_device="cpu", offload=how)
    model = Pipeline.load(folder, memory=memory, embedding_cache=False)
    with model._networks.text_encoder(silent) as encoder:
        assert on_the_cpu(encoder.networks[0])
    assert torch.isfinite(model.generate("A dog.", settings=quick()).latents).all()
