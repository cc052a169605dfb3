"""ComfyUI's hooks into the blocks of a denoiser.

They follow the convention of ComfyUI's joint-attention models (Flux, Qwen-Image, Krea 2): every
block is a `double_block`, text tokens come before video tokens, and `img_slice` says where the
video begins and ends. A patch for something that this model does not have, such as a UNet's
blocks, is named in the log once per sampling run. docs/comfyui-hooks.md lists all hooks.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

from ...easyanimate_core.errors import EasyAnimateError, InputError
from ...easyanimate_core.models.transformer import RunBlock, Stretch, bounded_attention

ATTENTION, ATTENTION_OUTPUT = "attn1_patch", "attn1_output_patch"
AFTER_BLOCK, AFTER_INPUT = "double_block", "post_input"
READ = (ATTENTION, ATTENTION_OUTPUT, AFTER_BLOCK, AFTER_INPUT)
OVERRIDE = "optimized_attention_override"


class RunLog:
    """Warnings of one sampling run, each logged once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def start(self) -> None:
        """Begin a new run."""
        self._said.clear()

    def warn(self, text: str) -> None:
        """Log `text`, unless this run has said it."""
        if text not in self._said:
            self._said.add(text)
            logging.warning("EasyAnimate: %s", text)


def made_by(patch: Any) -> str:
    """The node that made a function, as well as its name tells, and its module."""
    while isinstance(patch, functools.partial):
        patch = patch.func
    named = patch if hasattr(patch, "__qualname__") else type(patch)
    module = str(named.__module__).replace("/", ".").replace("\\", ".").rpartition(".")[2]
    return f"{named.__qualname__.partition('.')[0]} ({module})"


def plain_attention(q: Tensor, k: Tensor, v: Tensor, *, options: Mapping[str, Any]) -> Tensor:
    """ComfyUI's attention, for a kernel of the core."""

    def chosen(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = q.shape[1]
        return optimized_attention(q, k, v, heads, skip_reshape=True, transformer_options=options)

    return bounded_attention(chosen, q, k, v)


def stretch_of(options: Mapping[str, Any]) -> Stretch | None:
    """The positions that ScaleROPE asks for."""
    wanted = options.get("rope_options")
    if not wanted:
        return None
    return Stretch(
        tuple(float(wanted.get(f"scale_{axis}", 1.0)) for axis in "tyx"),
        tuple(float(wanted.get(f"shift_{axis}", 0.0)) for axis in "tyx"),
    )


def hooks_of(
    options: Mapping[str, Any], latents: Tensor, blocks: int, log: RunLog
) -> BlockHooks | None:
    """The hooks of one call of the denoiser, None if nothing looks into its blocks.

    Raises:
        InputError: `transformer_options` does not hold functions where it should.
    """
    patches, replacements = options.get("patches") or {}, options.get("patches_replace") or {}
    if not (patches or replacements or OVERRIDE in options):
        return None
    _check(patches, replacements)
    for text in _unread(patches, replacements, blocks):
        log.warn(text)
    used = {name: list(_used(patches, name)) for name in READ}
    if used[ATTENTION_OUTPUT] and _only_negative(options):
        names = ", ".join(dict.fromkeys(map(made_by, used[ATTENTION_OUTPUT])))
        log.warn(
            f"{names} changes attention while the prompts are denoised one after the other, and a "
            "patch that compares them, such as NAGuidance, has no effect then. They are denoised "
            "together if both fit into memory (fewer frames, a smaller size) and no memory plan "
            "asks for one at a time."
        )
    return BlockHooks(options, latents, blocks, used, replacements.get("dit", {}))


class BlockHooks:
    """The patches of one call; its methods are the core's `around_block` and `attention`."""

    def __init__(
        self,
        options: Mapping[str, Any],
        latents: Tensor,
        blocks: int,
        patches: Mapping[str, list[Callable[..., Any]]],
        replacements: Mapping[Any, Callable[..., Any]],
    ) -> None:
        self.latents = latents
        self.patches = patches
        self.replacements = replacements
        self.options = {**options, "total_blocks": blocks, "block_type": "double"}
        #: What the attention of the running block is told.
        self.told = self.options

    def around_block(
        self, index: int, run: RunBlock, video: Tensor, text: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run a block with what is before it, in its place and after it."""
        options = {**self.options, "block_index": index}
        if index == 0:
            for patch in self.patches[AFTER_INPUT]:
                given = {"img": video, "txt": text, "img_ids": None, "txt_ids": None}
                given |= {"x": self.latents, "transformer_options": options}
                video, text = _streams(AFTER_INPUT, patch, video, text, given)

        def original(args: Mapping[str, Any]) -> dict[str, Any]:
            told = args.get("transformer_options", options)
            new_video, new_text = self._run(run, args["img"], args["txt"], told)
            return {"img": new_video, "txt": new_text}

        replacement = self.replacements.get(("double_block", index))
        if replacement is None:
            video, text = self._run(run, video, text, options)
        else:
            given = {"img": video, "txt": text, "transformer_options": options}
            around = {"original_block": original}
            place = f"double_block {index}"
            video, text = _streams(place, replacement, video, text, given, around)
        for patch in self.patches[AFTER_BLOCK]:
            given = {"img": video, "txt": text, "x": self.latents, "block_index": index}
            given |= {"img_offset": 0, "transformer_options": options}
            video, text = _streams(f"{AFTER_BLOCK} {index}", patch, video, text, given)
        return video, text

    def _run(
        self, run: RunBlock, video: Tensor, text: Tensor, options: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        start = text.shape[1]
        self.told = {**options, "img_slice": [start, start + video.shape[1]]}
        return run(video, text)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """ComfyUI's attention between its patches, which see queries and keys after the rotation.

        Args:
            q: Queries of all tokens, [B, H, N, D], text first; so are `k` and `v`.
            k: Keys.
            v: Values.
        """
        told, mask = self.told, None
        expected = (q.shape[0], q.shape[2], q.shape[1] * v.shape[3])
        for patch in self.patches[ATTENTION]:
            out = _called(
                ATTENTION, patch, q, k, v, pe=None, attn_mask=mask, extra_options=dict(told)
            )
            if not isinstance(out, Mapping) or out.get("pe") is not None:
                raise _wrong(ATTENTION, patch, out, "a dictionary of q, k, v and attn_mask")
            q, k, v = out.get("q", q), out.get("k", k), out.get("v", v)
            mask = out.get("attn_mask", mask)
        if mask is None:
            out = plain_attention(q, k, v, options=told)
        else:  # a mask cannot be cut into the parts of `bounded_attention`
            out = optimized_attention(
                q, k, v, q.shape[1], mask=mask, skip_reshape=True, transformer_options=told
            )
        for patch in self.patches[ATTENTION_OUTPUT]:
            out = _called(ATTENTION_OUTPUT, patch, out, dict(told))
            if not isinstance(out, Tensor) or out.shape != expected:
                raise _wrong(ATTENTION_OUTPUT, patch, out, f"a tensor of shape {expected}")
        return out


def _streams(
    place: str, patch: Callable[..., Any], video: Tensor, text: Tensor, *arguments: Any
) -> tuple[Tensor, Tensor]:
    """Video and text that a patch gives; the text may become longer, not wider."""
    out = _called(place, patch, *arguments)
    new = out.get("img") if isinstance(out, Mapping) else None
    new_text = out.get("txt", text) if isinstance(out, Mapping) else None
    rule = f"a dictionary of img {tuple(video.shape)} and txt [{len(text)}, any, {text.shape[2]}]"
    if not isinstance(new, Tensor) or new.shape != video.shape:
        raise _wrong(place, patch, out, rule)
    if not isinstance(new_text, Tensor) or new_text[:, :0].shape != text[:, :0].shape:
        raise _wrong(place, patch, out, rule)
    return new, new_text


def _called(place: str, patch: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a patch returns; one that was made for another model says so."""
    try:
        return patch(*arguments, **named)
    except EasyAnimateError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        raise InputError(
            f"The patch {made_by(patch)}, called as {place}, failed: {type(error).__name__}: "
            f"{error}. It may be made for another model: remove that node."
        ) from error


def _wrong(place: str, patch: Any, out: Any, rule: str) -> InputError:
    found = "None" if out is None else f"a {type(out).__name__}"
    if isinstance(out, Tensor):
        found = f"a tensor of shape {tuple(out.shape)}"
    if isinstance(out, Mapping):
        shapes = {key: tuple(getattr(value, "shape", ())) for key, value in out.items()}
        found = f"a dictionary of shapes {shapes}"
    return InputError(
        f"The patch {made_by(patch)}, called as {place}, returned {found}; it has to return "
        f"{rule}. It may be made for another model: remove that node."
    )


def _check(patches: Mapping[str, Any], replacements: Mapping[str, Any]) -> None:
    """Raise `InputError` unless both hold functions."""
    for name, held in patches.items():
        if not isinstance(held, (list, tuple)) or not all(map(callable, held)):
            raise _no_function("patches", name, held)
    for name, held in replacements.items():
        if not isinstance(held, Mapping) or not all(map(callable, held.values())):
            raise _no_function("patches_replace", name, held)


def _no_function(kind: str, name: Any, held: Any) -> InputError:
    return InputError(
        f"transformer_options[{kind!r}] holds {repr(held)[:200]} for {name!r}; only functions can "
        "be called. Remove the node that put it there."
    )


def _used(patches: Mapping[str, Any], name: str) -> Iterator[Callable[..., Any]]:
    """The patches of a kind that are called.

    A UNet's attention patch takes other arguments, and its output patch is its other half.
    """
    strangers = {
        _scope(patch) for patch in patches.get(ATTENTION, ()) if not _takes_joint_attention(patch)
    }
    for patch in patches.get(name, ()):
        if name not in (ATTENTION, ATTENTION_OUTPUT) or _scope(patch) not in strangers:
            yield patch


def _takes_joint_attention(patch: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(patch)
    except (TypeError, ValueError):  # a builtin does not say
        return True
    try:
        signature.bind(None, None, None, pe=None, attn_mask=None, extra_options={})
    except TypeError:
        return False
    return True


def _scope(patch: Any) -> tuple[str, str]:
    """Where a function was made: patches of one node share it."""
    named = patch if hasattr(patch, "__qualname__") else type(patch)
    outer, made_inside, _ = str(named.__qualname__).rpartition(".<locals>.")
    return str(named.__module__), outer if made_inside else str(named.__qualname__)


def _unread(
    patches: Mapping[str, Any], replacements: Mapping[str, Any], blocks: int
) -> Iterator[str]:
    """A sentence for each node whose patches are never called."""
    never: dict[str, list[str]] = {}
    for name, held in patches.items():
        called = list(_used(patches, name)) if name in READ else []
        for patch in held:
            if patch not in called:
                never.setdefault(made_by(patch), []).append(name)
    for name, held in replacements.items():
        for place, patch in held.items():
            block = place in {("double_block", index) for index in range(blocks)}
            if name != "dit" or not block:
                where = " ".join(map(str, place)) if isinstance(place, tuple) else str(place)
                what = where if name == "dit" else f"{name} of {where}"
                never.setdefault(made_by(patch), []).append(what)
    for maker, names in never.items():
        yield (
            f"{maker} has no effect through {', '.join(dict.fromkeys(names))}: this model is no "
            f"UNet; its blocks are double_block 0 to {blocks - 1}. Remove that node, or name other "
            "blocks in it."
        )


def _only_negative(options: Mapping[str, Any]) -> bool:
    """Whether a call holds the second of two prompts without the first."""
    kinds = options.get("cond_or_uncond") or ()
    return 1 in kinds and 0 not in kinds
