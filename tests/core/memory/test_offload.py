"""Placing networks: the same bits in every way, two blocks at a time, nothing left behind."""

import contextlib
import gc
import threading
import time
import weakref
from itertools import pairwise

import pytest
import torch
from torch import nn

from easyanimate_core.errors import InputError
from easyanimate_core.memory.locked import lockable_within, locked_bytes
from easyanimate_core.memory.offload import (
    blocks_of,
    parts_of,
    placed,
    rebuilt,
    streaming,
    weights_of,
)
from easyanimate_core.memory.options import OFFLOADS, Memory
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.progress import silent
from easyanimate_core.tasks import ImageToVideo
from easyanimate_core.weights.stored import QuantizedLinear, dequantized
from tests.factories import V5, V5_1, pixels, quick

CPU = torch.device("cpu")
VERSIONS = (V5_1, V5)


class Stack(nn.Module):
    """Blocks of different sizes between two layers, with a buffer and a tied weight."""

    def __init__(self, widths=(8, 24, 16, 4)):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last.weight = self.first.weight
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, width), nn.BatchNorm1d(width), nn.Linear(width, 6))
            for width in widths
        )
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
        for buffer in self.buffers():
            buffer.abs_()
        self.eval().requires_grad_(False)

    def forward(self, x, order=None):
        x = self.first(x)
        for index in order or range(len(self.blocks)):
            x = x + self.blocks[index](x)
        return self.last(x)


@pytest.fixture
def stack():
    return Stack()


X = torch.linspace(-1, 1, 30).reshape(5, 6)


def stored(network):
    """Every tensor by name: the object, and where its values are."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: (tensor, tensor.data_ptr()) for name, tensor in tensors.items()}


def assert_as_it_was(network, before):
    after = stored(network)
    assert after.keys() == before.keys()
    for name, (tensor, pointer) in before.items():
        assert after[name][0] is tensor, name
        assert after[name][1] == pointer, name
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def storages(module):
    return {w.tensor.untyped_storage().data_ptr() for w in weights_of(module.modules())}


@pytest.mark.parametrize("how", OFFLOADS)
@pytest.mark.parametrize(
    "order", [None, [0, 1, 2, 3, 0, 1, 2, 3], [3, 1, 0], [2, 2, 2], [0, 2, 1, 3, 3]]
)
def test_every_placement_gives_the_same_bits(stack, how, order):
    expected, before = stack(X, order), stored(stack)
    for _ in range(2):
        with placed(stack, CPU, how):
            assert torch.equal(stack(X, order), expected)
            assert torch.equal(stack(X, order), expected)
        assert_as_it_was(stack, before)


@pytest.mark.parametrize("widths", [(8,), (8, 8), (4, 4, 4, 4, 4, 4, 4)])
def test_two_slots_hold_the_blocks(widths):
    stack, seen = Stack(widths), []
    own = [storages(block) for block in stack.blocks]
    expected = stack(X)
    with placed(stack, CPU, "block"):
        for block in stack.blocks:
            block.register_forward_pre_hook(lambda b, _: seen.append(storages(b)))
        for _ in range(3):
            assert torch.equal(stack(X), expected)
            # Between the calls every block has its stored weights.
            assert [storages(block) for block in stack.blocks] == own
    assert len(seen) == 3 * len(widths)
    for slot in seen:
        assert len(slot) == 1, "all of a block lies in one slot"
        assert not any(slot & stored for stored in own)
    assert len(set.union(*seen)) == min(2, len(widths))
    for one, following in pairwise(seen):
        assert one != following or len(widths) == 1, "the next block is not in the same slot"


def test_the_next_block_is_there_before_it_is_called(stack):
    """A change after the block before was called comes too late: its copy was made already."""
    expected = stack(X)

    def spoil(*_):
        stack.blocks[2][0].weight.zero_()

    with placed(stack, CPU, "block"):
        stack.blocks[1].register_forward_hook(spoil)
        assert torch.equal(stack(X), expected)
    assert not stack.blocks[2][0].weight.any()


@pytest.mark.parametrize("resident", [1, 2, 3, 4, 9])
def test_some_blocks_stay_and_the_others_are_streamed(stack, resident):
    meta, before, expected = torch.device("meta"), stored(stack), stack(X)
    with placed(stack, meta, "block", resident_blocks=resident):
        there = [block[0].weight.is_meta for block in stack.blocks]
    assert sum(there) == min(resident, 4)
    assert there in ([False] * 3 + [True], [False, True] * 2, [False, True, True, True], [True] * 4)
    assert_as_it_was(stack, before)
    with placed(stack, CPU, "block", resident_blocks=resident):
        assert torch.equal(stack(X), expected)
        assert torch.equal(stack(X), expected)
    assert_as_it_was(stack, before)


# The thread and the stream of a card, which a CPU stands for


class Event:
    """Recorded at once, as a CPU computes at once."""

    def __init__(self):
        self.reached = threading.Event()
        self.reached.set()

    def record(self, stream=None):  # noqa: ARG002
        self.reached.set()

    def synchronize(self):
        assert self.reached.wait(10)


class Stream:
    def __init__(self, device=None):
        pass

    def wait_event(self, event):
        event.synchronize()

    def synchronize(self):
        pass


@pytest.fixture
def card(monkeypatch):
    """A card: where blocks are packed, and how often."""
    packed, pack = [], streaming._pack

    def seen(parts, room):
        packed.append(threading.current_thread().name)
        time.sleep(0.002)  # later than whatever would not wait for it
        return pack(parts, room)

    def slots(num_bytes, device, lockable):
        lane = streaming._Lane(device, lockable)
        return tuple(streaming._CudaSlot(num_bytes, device, lane) for _ in range(2))

    monkeypatch.setattr(streaming, "_pack", seen)
    monkeypatch.setattr(streaming, "_make_slots", slots)
    monkeypatch.setattr(streaming, "_locked", lambda n: torch.empty(n, dtype=torch.uint8))
    nothing = contextlib.nullcontext
    for name, stand_in in (
        ("Event", Event), ("Stream", Stream), ("stream", nothing), ("device", nothing),
        ("current_stream", Stream),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return packed


@pytest.mark.parametrize(
    ("lockable", "times"),
    [(10**6, 4), (0, 4 * 5), (2 * 4096, 2 + 2 * 5)],
)
def test_a_thread_packs_a_block_once_where_memory_allows(stack, card, lockable, times):
    expected, before = stack(X), stored(stack)
    with placed(stack, CPU, "block", lockable=lockable):
        for _ in range(5):
            assert torch.equal(stack(X), expected)
    assert len(card) in (times, times + 1), "the first block is fetched again at the end"
    assert not [name for name in card if not name.startswith("blocks")]
    assert_as_it_was(stack, before)
    assert not [t for t in threading.enumerate() if t.name.startswith("blocks")]


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("order", [[3, 1, 0], [2, 2, 2], [0, 2, 1, 3, 3]])
def test_a_thread_packs_blocks_in_any_order(stack, order):
    expected = stack(X, order)
    for lockable in (0, 2048, 10**6):
        with placed(stack, CPU, "block", lockable=lockable):
            assert torch.equal(stack(X, order), expected)
            assert torch.equal(stack(X, order), expected)


@pytest.mark.usefixtures("card")
def test_a_system_that_locks_no_more_is_gone_on_without(stack, monkeypatch):
    expected, given = stack(X), []

    def limited(num_bytes):
        given.append(num_bytes)
        if len(given) == 3:
            raise RuntimeError("CUDA error: out of memory")
        return torch.empty(num_bytes, dtype=torch.uint8)

    monkeypatch.setattr(streaming, "_locked", limited)
    with placed(stack, CPU, "block", lockable=10**6):
        for _ in range(3):
            assert torch.equal(stack(X), expected)
    assert len(given) == 3 + 2, "two blocks, a refusal, and a buffer for each slot"


@pytest.mark.usefixtures("card")
def test_an_error_in_the_thread_ends_the_run(stack, monkeypatch):
    before = stored(stack)

    def fail(*_):
        raise OSError("the file is gone")

    monkeypatch.setattr(streaming, "_pack", fail)
    with pytest.raises(OSError, match="the file is gone"), placed(stack, CPU, "block"):
        stack(X)
    assert_as_it_was(stack, before)
    assert not [t for t in threading.enumerate() if t.name.startswith("blocks")]


def test_locked_memory_is_what_pytorchs_allocator_takes():
    assert [locked_bytes(n) for n in (1, 4096, 4097, 490_000_000)] == [1, 4096, 8192, 2**29]


def test_half_of_the_memory_may_be_locked_and_some_is_left():
    gb = 10**9
    assert lockable_within(60 * gb, 64 * gb) == 32 * gb
    assert lockable_within(20 * gb, 64 * gb) == 16 * gb
    assert lockable_within(3 * gb, 64 * gb) == 0


def test_resident_blocks_are_for_streaming():
    with pytest.raises(InputError, match="offload is module: only block"):
        Memory(resident_blocks=2)
    with pytest.raises(InputError, match="resident_blocks is -1"):
        Memory(offload="block", resident_blocks=-1)


@pytest.mark.parametrize("how", ["module", "block"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_inside_leaves_nothing_behind(stack, how, error):
    expected, before = stack(X), stored(stack)

    def fail(*_):
        raise error("enough")

    handle = stack.blocks[2][1].register_forward_hook(fail)
    with pytest.raises(error, match="enough"), placed(stack, CPU, how):
        stack(X)
    handle.remove()
    assert_as_it_was(stack, before)
    with placed(stack, CPU, how):
        assert torch.equal(stack(X), expected)


@pytest.mark.parametrize("how", OFFLOADS)
def test_weights_come_to_another_device(stack, how):
    """Meta stands for a device of its own: what is brought is there, and tied weights stay tied."""
    meta = torch.device("meta")
    before = stored(stack)
    with placed(stack, meta, how):
        around = (stack.first, stack.last)
        assert all(p.is_meta for layer in around for p in layer.parameters())
        assert stack.first.weight is stack.last.weight
        on_device = [block[0].weight.is_meta for block in stack.blocks]
        assert on_device == [how != "block"] * 4
        assert stack(X.to(meta)).is_meta
    if how == "resident":
        assert all(p.is_meta for p in stack.parameters())
    else:
        assert_as_it_was(stack, before)


@pytest.mark.parametrize("kind", ["qint8", "qfloat8", "qint4"])
def test_wrapped_weights_are_rebuilt_from_their_parts(kind):
    quanto = pytest.importorskip("optimum.quanto")
    network = Stack((64, 64, 64))
    for block in network.blocks:
        plain = nn.Linear(64, 6).requires_grad_(False)
        block[2] = QuantizedLinear(64, 6, bias=False)
        block[2].weight = nn.Parameter(quantized(quanto, plain.weight, kind), False)
    expected, before = network(X), stored_parts(network)
    with placed(network, CPU, "block"):
        assert torch.equal(network(X), expected)
    assert stored_parts(network) == before
    weight = network.blocks[0][2].weight
    copy = rebuilt(weight, (part.clone() for part in parts_of(weight)))
    assert type(copy) is type(weight)
    assert torch.equal(dequantized(copy), dequantized(weight))


def quantized(quanto, weight, kind):
    qtype = getattr(quanto, kind)
    if kind == "qint4":
        scale, shift = quanto.MaxOptimizer()(weight, qtype, 0, 32)
        return quanto.quantize_weight(weight, qtype, 0, scale, shift, 32)
    scale = quanto.AbsmaxOptimizer()(weight, qtype, 0)
    return quanto.quantize_weight(weight, qtype, 0, scale)


def stored_parts(network):
    weights = weights_of(network.modules())
    return [part.data_ptr() for weight in weights for part in parts_of(weight.tensor)]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_blocks_of_every_network_are_found(pipeline, version):
    networks = pipeline(version, Head.T2V)._networks
    with networks.transformer(silent) as transformer:
        assert blocks_of(transformer) == list(transformer.transformer_blocks)
    with networks.text_encoder(silent) as encoder:
        found = [blocks_of(network) for network in encoder.networks]
        if version is V5_1:
            assert found == [list(encoder.networks[0].layers)]
        else:
            bert, t5 = encoder.networks
            assert found == [list(bert.encoder.layer), list(t5.encoder.block)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ["resident", "block"])
def test_a_run_has_the_same_bits(checkpoint, pipeline, version, how):
    task, settings = ImageToVideo(start=pixels(3)), quick()
    expected = pipeline(version, Head.INPAINT).generate("A dog.", task, settings)
    model = Pipeline.load(
        checkpoint(version, Head.INPAINT), memory=Memory(offload=how), embedding_cache=False
    )
    for _ in range(2):
        result = model.generate("A dog.", task, settings)
        assert torch.equal(result.latents, expected.latents)
        assert torch.equal(result.frames, expected.frames)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("stage", ["load", "denoise", "decode"])
def test_a_cancelled_run_leaves_nothing_behind(checkpoint, pipeline, version, stage):
    model = Pipeline.load(
        checkpoint(version, Head.T2V), memory=Memory(offload="block"), embedding_cache=False
    )
    expected = pipeline(version, Head.T2V).generate("A dog.", settings=quick()).latents

    def cancel(name, done, total):
        if (name, done) == (stage, min(1, total)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.generate("A dog.", settings=quick(), progress=cancel)
    with model._networks.transformer(silent) as transformer:
        pass
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in transformer.modules())
    assert torch.equal(model.generate("A dog.", settings=quick()).latents, expected)


# The text encoder


@pytest.mark.parametrize("how", OFFLOADS)
@pytest.mark.parametrize("version", VERSIONS)
def test_no_text_weight_is_alive_when_the_denoiser_is_loaded(checkpoint, version, how, monkeypatch):
    from easyanimate_core import networks

    text, alive = [], []
    build, load = networks.build_text_encoder, networks.load_transformer

    def watched(*arguments, **options):
        encoder = build(*arguments, **options)
        text.extend(weakref.ref(p) for network in encoder.networks for p in network.parameters())
        return encoder

    def counted(*arguments, **options):
        gc.collect()
        alive.append(sum(weight() is not None for weight in text))
        return load(*arguments, **options)

    monkeypatch.setattr(networks, "build_text_encoder", watched)
    monkeypatch.setattr(networks, "load_transformer", counted)
    model = Pipeline.load(
        checkpoint(version, Head.T2V), memory=Memory(offload=how), embedding_cache=False
    )
    model.generate("A dog.", settings=quick())
    assert len(text) > 10
    assert alive == [0]


def test_a_text_device_that_is_not_here_is_refused_at_once(checkpoint):
    with pytest.raises(InputError, match="'cuda:7' cannot be used here"):
        Pipeline.load(checkpoint(V5_1, Head.T2V), memory=Memory(text_device="cuda:7"))


def test_the_text_encoder_goes_to_its_own_device(checkpoint):
    """Meta stands for a second device: nothing is computed there, but weights can go there."""
    model = Pipeline.load(
        checkpoint(V5_1, Head.T2V), memory=Memory(text_device="meta", offload="block")
    )
    with model._networks.text_encoder(silent) as encoder:
        tokens = encoder.networks[0].embed_tokens.weight
        assert tokens.device.type == "meta"
    assert model.device.type == "cpu"


# Sequential guidance

#: Largest difference, as a share of the largest latent.
SEQUENTIAL_TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", SEQUENTIAL_TOLERANCE)
@pytest.mark.parametrize("batch", [1, 2])
def test_prompts_one_after_the_other_are_a_batch(checkpoint, version, dtype, batch):
    seen, results = [], []
    for sequential in (False, True):
        memory = Memory(sequential_guidance=sequential)
        model = Pipeline.load(checkpoint(version, Head.INPAINT), dtype=dtype, memory=memory)
        with model._networks.transformer(silent) as transformer:
            transformer.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        task = ImageToVideo(start=pixels(3))
        prompts, settings = ["A dog.", "A cat."], quick(batch=batch)
        results.append(model.generate(prompts, task, settings).latents)
    rows = 2 * batch
    assert seen == [2 * rows] * 2 + [rows] * 4  # two steps
    error = (results[0] - results[1]).abs().max() / results[0].abs().max()
    assert error <= SEQUENTIAL_TOLERANCE[dtype]


def test_without_guidance_the_negative_prompt_is_not_predicted(checkpoint):
    model = Pipeline.load(checkpoint(V5_1, Head.T2V), memory=Memory(sequential_guidance=True))
    plain = Pipeline.load(checkpoint(V5_1, Head.T2V))
    settings = quick(guidance_scale=1.0)
    results = [m.generate("A dog.", settings=settings).latents for m in (model, plain)]
    assert torch.equal(*results)
