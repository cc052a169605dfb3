"""What looks wrong about a run before its first step, each with its remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..errors import counted
from ..models.geometry import SIZE_MULTIPLE, latent_frames
from .account import Facts, cut_told, number
from .data.buckets import shapes_for
from .data.records import Record, Shape

#: Area that the models are trained at: a shape far below it is small, whatever the clip's size.
_TRAINED_SIDE = 512
#: A quarter of the clip's area, less what rounding sides to multiples of 16 may take.
_SMALL = 0.225
#: Of data.fps: below it, more than a tenth of the frames that are trained are repeated ones.
_SLOW = 0.9
#: The usual learning rates; ten times more or less is doubtful.
_LORA_RATES = (1e-5, 1e-3)
_FULL_RATES = (1e-6, 1e-4)
_NEW_RATES = (1e-5, 1e-3)
_MUON_RATES = (1e-4, 1e-2)
_FAR = 10
#: Usual strengths (alpha / rank) of a LoRA.
_STRENGTHS = (1 / 64, 8.0)


def doubts_of(facts: Facts) -> tuple[str, ...]:
    """Warnings, each a line that begins with "warning: "."""
    kinds = [_small_shapes, _slow, _unused, _unseen, _large_batches, _optimizer, _saving]
    if facts.config.task != "vae":
        kinds += [_captions, _lora]
    return tuple(f"warning: {text}" for kind in kinds for text in kind(facts))


def _small_shapes(facts: Facts) -> Iterator[str]:
    small: list[tuple[Record, Shape]] = []
    for record, shapes in zip(facts.records, facts.order.shapes, strict=True):
        shape = min(shapes, key=lambda s: s.height * s.width)
        whole = min(record.height * record.width, _TRAINED_SIDE**2)
        if shape.height * shape.width < _SMALL * whole:
            small.append((record, shape))
    if not small:
        return
    record, shape = small[0]
    own = [side // SIZE_MULTIPLE for side in (record.height, record.width)]
    needed = min(own[0] * own[1], (_TRAINED_SIDE // SIZE_MULTIPLE) ** 2)
    yield (
        f"{len(small)} of {len(facts.records)} clips are trained far below their own size, such as "
        f"{record.name or 'the first one'} of {record.width} x {record.height}: "
        f"{counted(shape.frames, 'frame')} at {shape.width} x {shape.height}. To train on larger "
        f"shapes, set data.tokens to {needed * latent_frames(shape.frames)} alone."
    )


def _slow(facts: Facts) -> Iterator[str]:
    fps = facts.config.data.fps
    slow = [record for record in facts.records if 0 < record.fps < _SLOW * fps]
    if slow:
        first = min(slow, key=lambda record: record.fps)
        yield (
            f"{len(slow)} of {len(facts.records)} clips have fewer frames per second than data.fps "
            f"({fps:g}), such as {first.name or 'the first one'} with {first.fps:.3g}: frames are "
            "repeated, and movement that stops and jumps is learned. Leave them out, or set "
            f"data.fps to at most {first.fps:.3g}."
        )


def _unused(facts: Facts) -> Iterator[str]:
    data = facts.config.data
    clips = [record for record in facts.records if facts.seconds_of(record)]
    longest = max((record.frames for record in clips), default=0)
    unused = [frames for frames in data.frames if clips and frames > longest]
    if unused:
        yield (
            f"no clip has {' or '.join(map(str, unused))} frames at {data.fps:g} per second "
            f"(data.frames): the longest has {longest}. Use longer clips, or leave "
            f"{'them' if len(unused) > 1 else 'it'} out."
        )
    idle = [
        tokens
        for tokens in data.tokens
        if not any(shapes_for(record, (tokens,), data.frames) for record in facts.records)
    ]
    if idle:
        yield (
            f"no clip is large and long enough for {' or '.join(map(str, idle))} tokens "
            f"(data.tokens). Use larger clips, or leave {'them' if len(idle) > 1 else 'it'} out."
        )


def _unseen(facts: Facts) -> Iterator[str]:
    run = facts.config.run
    if facts.epochs >= 1 or facts.config.data.synthetic is not None:
        return
    seen = facts.epoch[: run.steps * run.accumulate]
    clips = {draw.index for step in seen for batch in step for draw in batch}
    if len(clips) < len(facts.records):
        yield (
            f"the run ends before all clips were trained on: {len(facts.records) - len(clips)} of "
            f"{len(facts.records)} never are. Set run.steps to at least "
            f"{-(-len(facts.epoch) // run.accumulate)}, or use fewer clips."
        )


def _large_batches(facts: Facts) -> Iterator[str]:
    order, run = facts.order, facts.config.run
    different: dict[Shape, set[int]] = {}
    for draw in facts.drawn:
        different.setdefault(draw.shape, set()).add(draw.index)
    batches = Counter(step[0][0].shape for step in facts.epoch)
    sizes = {step[0][0].shape: sum(map(len, step)) for step in facts.epoch}
    short = [shape for shape in batches if len(different[shape]) < sizes[shape]]
    if sum(batches[shape] for shape in short) * 2 >= len(facts.epoch) and short:
        shape = max(short, key=lambda s: sizes[s] - len(different[s]))
        of_vae = facts.config.task == "vae"
        most = max(1, max(map(len, different.values())) // facts.ranks)
        remedy = f"data.clips_per_batch to {most}"
        if not of_vae:
            remedy = f"data.tokens_per_batch to {most * shape.tokens}"
        yield (
            f"batches are larger than the data: one has {sizes[shape]} places for "
            f"{counted(len(different[shape]), 'clip')} of {shape.frames} x {shape.height} x "
            f"{shape.width}, so that clips occur in it more than once. Lower {remedy}, or use more "
            "clips."
        )
    if run.accumulate > len(facts.epoch) > 0:
        smaller = ", or data.tokens_per_batch" if order.tokens_per_batch else ""
        yield (
            f"a step goes through all clips {number(run.accumulate / len(facts.epoch))} times: "
            f"run.accumulate is {run.accumulate}, more batches than the {len(facts.epoch)} of "
            f"an epoch. Lower it to {len(facts.epoch)}{smaller}."
        )


def _optimizer(facts: Facts) -> Iterator[str]:
    optimizer, model, steps = facts.config.optimizer, facts.config.model, facts.config.run.steps
    low, high = _FULL_RATES
    what = "all weights"
    if optimizer.kind == "muon":
        (low, high), what = _MUON_RATES, "Muon"
    elif model.lora is not None:
        (low, high), what = _LORA_RATES, "a LoRA"
    elif model.network is not None:
        (low, high), what = _NEW_RATES, "a new network"
    rate = optimizer.learning_rate
    if not low / _FAR <= rate <= high * _FAR:
        way = "diverge" if rate > high else "hardly learn"
        yield (
            f"optimizer.learning_rate is {rate:g}; for {what}, {low:g} to {high:g} is usual. The "
            f"run may {way}. Set it within this range."
        )
    if optimizer.warmup >= steps:
        yield (
            f"optimizer.warmup is {optimizer.warmup} and run.steps is {steps}: the learning rate "
            f"reaches {rate:g} only at the end, if at all. Lower optimizer.warmup to {steps // 10}."
        )


def _saving(facts: Facts) -> Iterator[str]:
    run = facts.config.run
    if run.save_every > run.steps:
        yield (
            f"run.save_every is {run.save_every} and run.steps is {run.steps}: no state is saved "
            "before the end, so that a run that is killed starts over. Lower run.save_every."
        )


def _captions(facts: Facts) -> Iterator[str]:
    captions, objective = facts.captions, facts.config.objective
    empty = [r for r in facts.records if not any(text.strip() for text in r.captions)]
    if empty:
        yield (
            f"{len(empty)} of {len(facts.records)} clips have no caption, such as "
            f"{empty[0].name or 'the first one'}. Write what they show, or use prepare-data "
            "caption."
        )
    if objective.caption_dropout == 1 and any(text.strip() for text in captions):
        yield (
            "objective.caption_dropout is 1: no caption is trained on. Set it to 0.1, the default."
        )
    widest = max(facts.cuts, key=lambda cut: cut.max_tokens, default=None)
    if widest is not None and widest.words:
        yield f"{widest.reader} leaves out words: {cut_told(widest)}. Shorten the captions."


def _lora(facts: Facts) -> Iterator[str]:
    lora = facts.config.model.lora
    if lora is None or not facts.lora:
        return
    narrow = min(map(min, facts.lora))
    if lora.rank > narrow:
        yield (
            f"model.lora.rank is {lora.rank}, but the narrowest layer that it adapts has {narrow} "
            f"channels: a higher rank takes memory and learns no more. Set it to at most {narrow}."
        )
    strength = lora.alpha / lora.rank
    low, high = _STRENGTHS
    if not low <= strength <= high:
        yield (
            f"model.lora.alpha / rank is {strength:g}, which scales what is learned and with it "
            f"the learning rate. Set alpha between {max(lora.rank / 2, 0.5):g} and {lora.rank}."
        )
