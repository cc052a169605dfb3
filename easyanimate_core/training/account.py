"""What a run trains on and trains, said before its first step."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ..errors import counted
from ..files import atomic_file, short
from ..text import Cut
from .clips import Clips
from .config import TrainConfig
from .data.buckets import Batches, Draw, seconds_used
from .data.records import Record, Shape
from .data.texts import some
from .lora import LoraBranch
from .strategies.base import Strategy

ACCOUNT_FILE = "account.txt"
#: How many shapes, and how many common words, are listed.
_LISTED = 8
#: The longest caption, or end of one, that is quoted.
_QUOTED = 80
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W_{_IDEOGRAPHS}]+(?:[-_'\u2019][^\W_{_IDEOGRAPHS}]+)*")
_RUN = re.compile(rf"[{_IDEOGRAPHS}]+")
#: Words that every caption may contain, whatever it shows.
_COMMON = frozenset(
    {"a", "an", "and", "at", "by", "for", "in", "is", "of", "on", "the", "to", "with"}
)


@dataclass(frozen=True)
class Facts:
    """What an account is made from.

    `trained` counts parameters by network; `lora` has the inputs and outputs of each layer that a
    LoRA adapts; `cuts` are the captions that are too long; `left_out` names files that cannot be
    trained on.
    """

    config: TrainConfig
    records: Sequence[Record]
    order: Batches
    ranks: int
    trained: dict[str, int]
    lora: tuple[tuple[int, int], ...]
    cuts: tuple[Cut, ...]
    left_out: Sequence[str] = ()

    @cached_property
    def epoch(self) -> list[list[list[Draw]]]:
        """The first epoch: for each batch, the draws of every device."""
        return self.order.epoch(0)

    @cached_property
    def drawn(self) -> list[Draw]:
        """The first epoch's draws without those that only fill up a batch."""
        return list(dict.fromkeys(d for step in self.epoch for batch in step for d in batch))

    @property
    def captions(self) -> list[str]:
        """All captions of all clips."""
        return [caption for record in self.records for caption in record.captions]

    @property
    def epochs(self) -> float:
        """How many epochs the run has, if all were as long as the first."""
        return self.config.run.steps * self.config.run.accumulate / len(self.epoch)

    def seconds_of(self, record: Record) -> float:
        """The length of a clip, 0 for a picture."""
        if record.seconds or record.frames == 1:
            return record.seconds
        return record.frames / self.config.data.fps

    def seconds_used(self, index: int) -> float:
        """How much of a clip its windows cover."""
        record = self.records[index]
        whole = replace(record, seconds=self.seconds_of(record))
        return seconds_used(whole, self.order.shapes[index])


def facts_of(config: TrainConfig, strategy: Strategy, clips: Clips, ranks: int) -> Facts:
    """Gather the facts; raises `InputError` if a clip fits no bucket."""
    trained = {
        name: sum(p.numel() for p in network.parameters() if p.requires_grad)
        for name, network in strategy.networks.items()
    }
    lora = tuple(
        (module.down.shape[1], module.up.shape[0])
        for network in strategy.networks.values()
        for module in network.modules()
        if isinstance(module, LoraBranch)
    )
    order = strategy.order(ranks)
    captions = [caption for record in clips.records for caption in record.captions]
    cuts = strategy.cut(captions)
    return Facts(config, clips.records, order, ranks, trained, lora, cuts, clips.left_out)


def account_of(facts: Facts) -> str:
    """What is trained, in a few lines."""
    lines = [
        ("data", _data(facts)),
        *([("left out", left_out_told(facts.left_out))] if facts.left_out else ()),
        *_rates(facts),
        ("shapes", _shapes(facts)),
        ("batches", _batches(facts)),
        ("steps", _steps(facts)),
        *(() if facts.config.task == "vae" else _captions(facts)),
        ("trained", _trained(facts)),
    ]
    return "What will be trained:\n" + "\n".join(f"  {name}: {text}" for name, text in lines)


def write_account(folder: Path, lines: Iterable[str]) -> None:
    """Keep what was said in the run's folder; raises `MediaError` if it cannot be written."""
    with atomic_file(folder / ACCOUNT_FILE, spare=False) as scratch:
        scratch.write_text("\n".join(lines) + "\n", encoding="utf-8")


def words_of(caption: str) -> list[str]:
    """The words of a caption; each Chinese or Japanese character counts as one."""
    return _WORD.findall(caption)


def common_words(captions: Sequence[str]) -> tuple[str, ...]:
    """Words that all captions have in common, as candidates for a trigger word.

    They are in the order and spelling of the shortest caption. Empty captions, upper case and
    words such as "the" do not count; of Chinese, what at least two characters share counts.
    """
    texts = sorted({text for text in captions if text.strip()}, key=lambda text: (len(text), text))
    if not texts:
        return ()
    shared = {word.casefold() for word in words_of(texts[0])} - _COMMON
    for text in texts[1:]:
        if not shared and not _RUN.search(texts[0]):
            return ()
        shared &= {word.casefold() for word in words_of(text)}
    found = [
        (match.start(), match.group())
        for match in _WORD.finditer(texts[0])
        if match.group().casefold() in shared and not _RUN.fullmatch(match.group())
    ]
    found += [
        (run.start() + start, part)
        for run in _RUN.finditer(texts[0])
        for start, part in _shared_parts(run.group(), texts)
    ]
    return tuple({word.casefold(): word for _, word in sorted(found, reverse=True)}.values())[::-1]


def _shared_parts(run: str, texts: Sequence[str]) -> list[tuple[int, str]]:
    """The longest parts of `run`, of two characters or more, that all texts contain."""
    parts, start = [], 0
    while start < len(run) - 1:
        end = start + 1
        while end < len(run) and all(run[start : end + 1] in text for text in texts):
            end += 1
        if end - start > 1:
            parts.append((start, run[start:end]))
        start = end
    return parts


def _data(facts: Facts) -> str:
    lengths = [facts.seconds_of(record) for record in facts.records]
    clips = sum(length > 0 for length in lengths)
    kinds = [(clips, "clip"), (len(lengths) - clips, "picture")]
    text = " and ".join(counted(count, noun) for count, noun in kinds if count)
    if more := sum(record.repeats > 1 for record in facts.records):
        text += f" ({more} of them more than once per epoch)"
    if not clips:
        return text
    used = [facts.seconds_used(index) for index in range(len(lengths))]
    text += f"; {sum(used):.1f} of {sum(lengths):.1f} seconds are used"
    index = max(range(len(lengths)), key=lambda i: lengths[i] - used[i])
    if lengths[index] - used[index] >= 0.05:
        name = facts.records[index].name or f"clip {index + 1}"
        text += f", the least of {name}: {used[index]:.1f} of {lengths[index]:.1f}"
    return text


def _rates(facts: Facts) -> list[tuple[str, str]]:
    """The clips' own frame rates, and what becomes of them."""
    clips = [record for record in facts.records if record.fps]
    if not clips:
        return []
    rates = [round(record.fps, 2) for record in clips if record.is_even]
    counts = sorted(Counter(rates).items())
    listed = [f"{rate:g}: {counted(count, 'clip')}" for rate, count in counts]
    if len(counts) > _LISTED:
        listed = [f"{counts[0][0]:g} to {counts[-1][0]:g}: {counted(len(rates), 'clip')}"]
    if len(rates) < len(clips):
        listed.append(f"varying: {counted(len(clips) - len(rates), 'clip')}")
    text = f"{', '.join(listed)}; of each second, {facts.config.data.fps:g} frames are used"
    return [("frames per second", text)]


def _shapes(facts: Facts) -> str:
    counts = Counter(draw.shape for draw in facts.drawn)
    listed = [_shape(shape, count) for shape, count in counts.most_common(_LISTED)]
    if len(counts) > _LISTED:
        others = sum(counts.values()) - sum(n for _, n in counts.most_common(_LISTED))
        listed.append(f"{len(counts) - _LISTED} other shapes: {others}")
    # A clip that may take several shapes takes another one in the next epoch.
    varied = any(len(own) > 1 for own in facts.order.shapes)
    text = ", ".join(listed) + (" in the first epoch" if varied else " per epoch")
    sizes = sorted({(r.width, r.height) for r in facts.records}, key=lambda size: size[0] * size[1])
    if set(sizes) == {(shape.width, shape.height) for shape in counts}:
        return text
    ends = [f"{width} x {height}" for width, height in (sizes[0], sizes[-1])]
    return f"{text}; files have {' to '.join(dict.fromkeys(ends))}"


def _shape(shape: Shape, count: int) -> str:
    frames = "picture" if shape.frames == 1 else f"{shape.frames} frames"
    return f"{frames} of {shape.width} x {shape.height} ({shape.tokens} tokens): {count}"


def _batches(facts: Facts) -> str:
    places = sum(len(batch) for step in facts.epoch for batch in step)
    sizes = sorted({len(batch) for step in facts.epoch for batch in step})
    tokens = sum(draw.shape.tokens for step in facts.epoch for batch in step for draw in batch)
    full = tokens / (facts.order.tokens_per_batch * len(facts.epoch) * facts.ranks)
    again = places - len(facts.drawn)
    size = counted(sizes[-1], "clip") if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} clips"
    devices = f" on each of {facts.ranks} devices" if facts.ranks > 1 else ""
    text = (
        f"{len(facts.epoch)} per epoch, of {size}{devices}; {full:.0%} of "
        f"{facts.order.tokens_per_batch} tokens are used"
    )
    if again:
        text += f"; {again} of {places} places are filled up with clips of the same epoch"
    return text


def _steps(facts: Facts) -> str:
    run = facts.config.run
    per_epoch = len(facts.epoch) / run.accumulate
    text = f"{run.steps}, {number(per_epoch)} per epoch"
    if run.accumulate > 1:
        text += f" ({run.accumulate} batches each)"
    return f"{text}: {number(facts.epochs)} epochs"


def _captions(facts: Facts) -> list[tuple[str, str]]:
    captions = facts.captions
    counts = Counter(captions)
    empty = sum(count for caption, count in counts.items() if not caption.strip())
    lengths = sorted(len(words_of(caption)) for caption in counts if caption.strip())
    text = f"{len(captions)}, {len(counts)} different"
    if lengths:
        most = counted(lengths[-1], "word")
        text += f", of {lengths[0]} to {most}" if lengths[0] < lengths[-1] else f", of {most}"
    text += f", {empty} empty" if empty else ", none empty"
    caption, count = max(counts.items(), key=lambda item: (bool(item[0].strip()), item[1]))
    if count > 1 and caption.strip():
        text += f"; {count} times: {short(caption, _QUOTED)}"
    lines = [("captions", text)]
    words = common_words(captions)
    shown = ", ".join(words[:_LISTED]) + (", ..." if len(words) > _LISTED else "")
    lines.append(("in every caption", shown or "no word"))
    return lines + [(f"cut by {cut.reader}", cut_told(cut)) for cut in facts.cuts if cut.words]


def left_out_told(names: Sequence[str]) -> str:
    """How many files cannot be trained on, and which."""
    return f"{counted(len(names), 'file')} of the data: {some(names)}"


def cut_told(cut: Cut) -> str:
    """How many captions are cut, and what the first one loses."""
    caption, lost = next(iter(cut.words.items()))
    return (
        f"{counted(len(cut.words), 'caption')} longer than {cut.max_tokens} tokens; "
        f"{short(caption, _QUOTED)} loses {short(lost, _QUOTED)}"
    )


def _trained(facts: Facts) -> str:
    optimizer, lora = facts.config.optimizer, facts.config.model.lora
    parts = [f"{count:,} parameters of the {name}" for name, count in facts.trained.items()]
    text = " and ".join(parts)
    if lora is not None:
        text = (
            f"LoRA of rank {lora.rank} and alpha {lora.alpha:g}, strength "
            f"{lora.alpha / lora.rank:g}, on {len(facts.lora)} layers: "
            f"{sum(facts.trained.values()):,} parameters"
        )
    return f"{text}, by {optimizer.kind} at a learning rate of {optimizer.learning_rate:g}"


def number(value: float) -> str:
    """A count that need not be whole: 3, 2.5, 0.167, 1200."""
    return f"{round(value)}" if value >= 100 or value == int(value) else f"{value:.3g}"
