"""CLIP in transformers' layout: pictures and prompts as unit vectors.

Shapes: N pictures or prompts, H and W pixels, T tokens, D width of the shared space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CheckpointError
from ..weights.files.foreign import load_foreign

#: What every CLIP of OpenAI and of LAION was trained with.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_SPREAD = (0.26862954, 0.26130258, 0.27577711)


def load_clip(folder: Path) -> Any:
    """A frozen CLIP of transformers.

    Raises `CheckpointError` if the folder is missing or has something else.
    """
    from transformers import CLIPModel

    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} has no config.json; name the folder of a transformers CLIP model, such "
            "as a copy of openai/clip-vit-base-patch32."
        )
    model: Any = load_foreign(CLIPModel, folder, use_safetensors=True)
    return model.eval().requires_grad_(requires_grad=False)


class Clip:
    """A CLIP with its tokenizer.

    With `whole`, pictures are squeezed to the square that it sees; else they are cropped to it.
    """

    def __init__(self, model: Any, tokenizer: Any, *, whole: bool = False) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self._whole = whole
        self._texts: dict[str, Tensor] = {}

    @classmethod
    def of_folder(cls, folder: Path, device: torch.device, dtype: torch.dtype) -> Clip:
        """CLIP from a folder in transformers' format."""
        return cls(load_clip(folder).to(device, dtype), load_tokenizer(folder))

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors [N, D] of prompts, of which each is encoded once; long ones are cut."""
        for prompt in prompts:
            if prompt not in self._texts:
                with torch.no_grad():
                    found = self.model.text_model(self.tokens([prompt])).pooler_output
                    self._texts[prompt] = unit(self.model.text_projection(found))
        return torch.cat([self._texts[prompt] for prompt in prompts])

    def embed_pictures(self, pixels_N3HW: Tensor) -> Tensor:
        """Unit vectors [N, D] of pictures in [0, 1]."""
        found = self.model.vision_model(self.seen(pixels_N3HW)).pooler_output
        return unit(self.model.visual_projection(found))

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """The prompts' tokens [N, T], padded and cut to the network's length."""
        ids = self._tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).input_ids
        return ids.to(self.model.device)

    def seen(self, pixels_N3HW: Tensor) -> Tensor:
        """The pictures as the network takes them: square, normalised, in its dtype."""
        side = self.model.config.vision_config.image_size
        height, width = pixels_N3HW.shape[2:]
        scale = side / min(height, width)
        size = (side, side) if self._whole else (round(height * scale), round(width * scale))
        if (height, width) != size:
            pixels_N3HW = F.interpolate(
                pixels_N3HW.float(), size, mode="bicubic", antialias=True, align_corners=False
            )
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        square = pixels_N3HW[:, :, top : top + side, left : left + side].clamp(0, 1)
        mean, spread = (square.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _SPREAD))
        return ((square - mean) / spread).to(self.model.dtype)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in the folder of a CLIP; raises `CheckpointError` if there is none."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise CheckpointError(
            f"{folder} has no tokenizer.json and no vocab.json; name the folder of a transformers "
            "CLIP model, such as a copy of laion/CLIP-ViT-H-14-laion2B-s32B-b79K."
        )
    return load_foreign(AutoTokenizer, folder)


def clip_of_tensors(
    tensors: Mapping[str, Tensor], tokenizer: Any, *, heads: int, file: Path
) -> Any:
    """A frozen CLIP of transformers from its tensors, whose shapes give its sizes.

    Raises:
        CheckpointError: They do not belong together.
    """
    from transformers import CLIPConfig, CLIPModel

    try:
        config = CLIPConfig(**_sizes(tensors, tokenizer, heads))
        with torch.device("meta"):
            model: Any = CLIPModel(config)
        model.load_state_dict({"logit_scale": torch.zeros(()), **tensors}, assign=True)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:400]
        raise CheckpointError(
            f"{file} does not contain a CLIP ({type(error).__name__}: {said}). Download the file "
            "again, or name another."
        ) from error
    for module in model.modules():  # buffers that no file has, and that are still on "meta"
        places = getattr(module, "position_ids", None)
        if isinstance(places, Tensor):
            module.position_ids = torch.arange(places.shape[-1])[None]
    return model.eval().requires_grad_(requires_grad=False)


def unit(vectors: Tensor) -> Tensor:
    """The vectors scaled to length 1, in float32."""
    return F.normalize(vectors.float(), dim=-1)


def _sizes(tensors: Mapping[str, Tensor], tokenizer: Any, heads: int) -> dict[str, Any]:
    words = tensors["text_model.embeddings.token_embedding.weight"]
    patch = tensors["vision_model.embeddings.patch_embedding.weight"].shape[-1]
    places = len(tensors["vision_model.embeddings.position_embedding.weight"])
    side = round((places - 1) ** 0.5)
    if side * side != places - 1:
        raise ValueError(f"{places - 1} patches are not a square")
    if len(tokenizer) > len(words):
        raise ValueError(f"it knows {len(words)} tokens and the tokenizer has {len(tokenizer)}")
    text = {
        **_part(tensors, "text_model", heads),
        "vocab_size": len(words),
        "max_position_embeddings": len(tensors["text_model.embeddings.position_embedding.weight"]),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        **_part(tensors, "vision_model", heads),
        "patch_size": patch,
        "image_size": side * patch,
    }
    width = len(tensors["text_projection.weight"])
    return {"text_config": text, "vision_config": vision, "projection_dim": width}


def _part(tensors: Mapping[str, Tensor], part: str, heads: int) -> dict[str, Any]:
    inner, width = tensors[f"{part}.encoder.layers.0.mlp.fc1.weight"].shape
    ends = f"{part}.encoder.layers."
    layers = {name[len(ends) :].partition(".")[0] for name in tensors if name.startswith(ends)}
    if width % heads:
        raise ValueError(f"its width {width} is not a multiple of its {heads} attention heads")
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "hidden_act": "gelu",
    }
