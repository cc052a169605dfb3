"""Scores of pictures: known values, gradients, and networks against other code for the same."""

import json
from collections import OrderedDict
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from easyanimate_core.errors import CheckpointError, InputError
from easyanimate_core.media import write_png
from easyanimate_core.scores import KINDS, Sources, build_scorer, plain, read_head
from easyanimate_core.scores.clip import clip_of_tensors
from easyanimate_core.scores.mps import Cross
from easyanimate_core.scores.open_clip import in_transformers_names

CPU, F32 = torch.device("cpu"), torch.float32
WORDS = ["<|startoftext|>", "<|endoftext|>", "a", "b", "a</w>", "b</w>"]
#: Of the tiny networks: width, heads, places of text, side of a picture and of a patch.
WIDTH, HEADS, LENGTH, SIDE, PATCH, SHARED = 32, 16, 12, 28, 14, 24


@pytest.fixture(autouse=True)
def _gradients():
    """Scores are trained on, so that they are tested with autograd."""
    with torch.inference_mode(mode=False):
        yield


def frames(*size, seed=0):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


def uniform(colour, count=3):
    return torch.tensor(colour)[None, None, :, None, None].expand(1, count, 3, 8, 8)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The folder of a CLIP tokenizer of two letters."""
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("words")
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


# Without networks


def test_saturation_is_the_distance_of_the_channels():
    assert plain.saturation(uniform([0.2, 0.7, 0.4])) == pytest.approx(0.5)
    assert plain.saturation(uniform([0.3, 0.3, 0.3])) == pytest.approx(0)


def test_sharpness_is_the_slope_of_brightness():
    ramp = (torch.arange(9) / 10).expand(1, 1, 3, 9, 9)
    assert plain.sharpness(ramp) == pytest.approx(0.1, abs=1e-4)
    assert plain.sharpness(ramp.mT) == pytest.approx(0.1, abs=1e-4)
    assert plain.sharpness(uniform([0.2, 0.7, 0.4])) < 0.002


def test_even_motion_is_steady_and_flicker_is_not():
    grey = torch.linspace(0.2, 0.8, 7)[None, :, None, None, None].expand(1, 7, 3, 8, 8)
    assert plain.steadiness(grey) > 0.998
    flicker = torch.tensor([0.4, 0.6] * 3)[None, :, None, None, None].expand(1, 6, 3, 8, 8)
    assert plain.steadiness(flicker) == pytest.approx(1 - 0.4, abs=1e-4)
    assert plain.steadiness(frames(2, 2, 3, 8, 8)).tolist() == [1, 1]


def test_likeness_is_one_for_the_reference_itself(tmp_path):
    picture = frames(16, 16, 3)
    write_png(tmp_path / "a.png", picture)
    score = build_scorer("likeness", Sources(reference=tmp_path / "a.png"), CPU, F32)
    own = (picture * 255).round() / 255
    clip = own.movedim(-1, 0)[None, None].expand(2, 3, -1, -1, -1)
    assert score(clip, ["", ""]) == pytest.approx(1, abs=2e-3)
    assert score((clip + 0.25).clamp(0, 2), ["", ""]) == pytest.approx(0.75, abs=2e-3)


@pytest.mark.parametrize("name", ["saturation", "sharpness", "steadiness"])
def test_gradients_lead_upwards(name):
    score = build_scorer(name, Sources(), CPU, F32)
    clip = (frames(2, 4, 3, 16, 16) * 0.4 + 0.3).requires_grad_()
    before = score(clip, ["", ""])
    before.sum().backward()
    assert clip.grad.isfinite().all()
    after = score(clip.detach() + 0.1 * clip.grad / clip.grad.abs().max(), ["", ""])
    assert (after > before).all()


# Networks


def random(*shape, generator, scale=0.2):
    return torch.randn(*shape, generator=generator) * scale


class Block(nn.Module):
    """A block of CLIP, with the names of open_clip."""

    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(WIDTH, 48), gelu=nn.GELU(), c_proj=nn.Linear(48, WIDTH))
        )

    def forward(self, x, mask=None):
        seen = self.ln_1(x)
        x = x + self.attn(seen, seen, seen, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.resblocks = nn.ModuleList(Block() for _ in range(layers))


class Visual(nn.Module):
    def __init__(self):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(WIDTH))
        self.positional_embedding = nn.Parameter(torch.zeros((SIDE // PATCH) ** 2 + 1, WIDTH))
        self.proj = nn.Parameter(torch.zeros(WIDTH, SHARED))
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = Transformer(2)

    def forward(self, pixels):
        x = self.conv1(pixels).flatten(2).mT
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1)
        x = self.ln_pre(x + self.positional_embedding)
        for block in self.transformer.resblocks:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj


class OpenClip(nn.Module):
    """ViT-H/14's design, small."""

    def __init__(self):
        super().__init__()
        self.visual, self.transformer = Visual(), Transformer(3)
        self.token_embedding = nn.Embedding(len(WORDS), WIDTH)
        self.positional_embedding = nn.Parameter(torch.zeros(LENGTH, WIDTH))
        self.text_projection = nn.Parameter(torch.zeros(WIDTH, SHARED))
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.ln_final = nn.LayerNorm(WIDTH)
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():
            parameter.data.normal_(0, 0.3, generator=generator)

    def text(self, ids, end):
        x = self.token_embedding(ids) + self.positional_embedding
        mask = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)
        for block in self.transformer.resblocks:
            x = block(x, mask)
        return self.ln_final(x)[torch.arange(len(ids)), end] @ self.text_projection


MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def normalised(pixels):
    mean, spread = (torch.tensor(values)[:, None, None] for values in (MEAN, SPREAD))
    return (pixels - mean) / spread


def test_hps_is_the_cosine_of_open_clips_vectors(words, tmp_path):
    network = OpenClip().eval()
    torch.save({"epoch": 1, "state_dict": network.state_dict()}, tmp_path / "hps.pt")
    save_file(network.state_dict(), tmp_path / "hps.safetensors")
    clip = frames(2, 3, 3, SIDE, SIDE)
    ids = torch.tensor([[0, 2, 5] + [1] * 9, [0, 3, 2, 4] + [1] * 8])  # "ab", "baa"
    text = F.normalize(network.text(ids, torch.tensor([3, 4])), dim=-1)
    pictures = F.normalize(network.visual(normalised(clip.flatten(0, 1))), dim=-1)
    known = (pictures.unflatten(0, (2, 3)) * text[:, None]).sum(-1).mean(1)
    for name in ("hps.pt", "hps.safetensors"):
        score = build_scorer("hps", Sources(tmp_path / name, words), CPU, F32)
        assert torch.allclose(score(clip, ["ab", "baa"]), known, atol=1e-5)
    assert_learnable(score)


def assert_learnable(score):
    """Following its gradient raises the score of frames of another size."""
    clip = (frames(2, 1, 3, 40, 56) * 0.5 + 0.25).requires_grad_()
    before = score(clip, ["ab", "a"])
    before.sum().backward()
    assert clip.grad.isfinite().all()
    with torch.no_grad():
        after = score(clip + 0.02 * clip.grad / clip.grad.abs().max(), ["ab", "a"])
    assert (after > before).all()


def cross_tensors(generator, layers=2, head=8, heads=4, width=SHARED):
    """The state dict of MPS's cross network; its norms are called `fn.norm`."""
    draw = partial(random, generator=generator)
    tensors = {}
    for n in range(layers):
        across, within = f"layers.{n}.0.fn.", f"layers.{n}.1.fn."
        for block in (across, within):
            tensors[f"{block}norm.weight"] = 1 + draw(width)
            tensors[f"{block}norm.bias"] = torch.zeros(width)
        tensors[f"{across}to_q.weight"] = draw(heads * head, width)
        tensors[f"{across}to_kv.weight"] = draw(2 * head, width)
        tensors[f"{across}to_out.weight"] = draw(width, heads * head)
        tensors[f"{across}ff.0.weight"] = draw(8 * width, width)
        tensors[f"{across}ff.2.weight"] = draw(width, 4 * width)
        tensors[f"{within}fused_attn_ff_proj.weight"] = draw(
            heads * head + 2 * head + 8 * width, width
        )
        tensors[f"{within}attn_out.weight"] = draw(width, heads * head)
        tensors[f"{within}ff_out.1.weight"] = draw(width, 4 * width)
        tensors[f"{within}rotary_emb.inv_freq"] = torch.zeros(head // 2)
    return tensors


def crossed(x, words, counts, tensors, *, head=8, heads=4):
    """The cross network by its formulas, position by position and head by head."""

    def gated(inner):
        value, gate = inner.chunk(2, -1)
        return F.silu(gate) * value

    def turned(vector, place):
        rates = [10_000 ** (-2 * i / head) * place for i in range(head // 2)]
        angle = torch.tensor(rates)
        one, two = vector[: head // 2], vector[head // 2 :]
        return torch.cat(
            [one * angle.cos() - two * angle.sin(), two * angle.cos() + one * angle.sin()]
        )

    def attended(q, k, v, hidden=None):
        found = []
        for row in q.unflatten(-1, (heads, head)):
            scores = (row @ k.mT) / head**0.5
            if hidden is not None:
                scores = scores.masked_fill(hidden, float("-inf"))
            found.append((scores.softmax(-1) @ v).flatten())
        return torch.stack(found)

    for n in range(2):
        own = {k.removeprefix(f"layers.{n}.0.fn."): v for k, v in tensors.items()}
        seen = F.layer_norm(x, x.shape[-1:], own["norm.weight"])
        k, v = (words @ own["to_kv.weight"].T).chunk(2, -1)
        found = attended(seen @ own["to_q.weight"].T, k, v, ~counts) @ own["to_out.weight"].T
        x = x + found + gated(seen @ own["ff.0.weight"].T) @ own["ff.2.weight"].T
        own = {k.removeprefix(f"layers.{n}.1.fn."): v for k, v in tensors.items()}
        seen = F.layer_norm(x, x.shape[-1:], own["norm.weight"])
        fused = seen @ own["fused_attn_ff_proj.weight"].T
        q, k, v, inner = fused.split([heads * head, head, head, 8 * x.shape[-1]], -1)
        q = torch.stack([
            torch.cat([turned(part, place) for part in row.unflatten(-1, (heads, head))])
            for place, row in enumerate(q)
        ])  # fmt: skip
        k = torch.stack([turned(row, place) for place, row in enumerate(k)])
        x = (
            x
            + attended(q, k, v) @ own["attn_out.weight"].T
            + gated(inner) @ own["ff_out.1.weight"].T
        )
    return x


def test_mps_is_its_formulas(words, tmp_path):
    from transformers import CLIPConfig, CLIPModel

    part = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": HEADS, "hidden_act": "gelu"}  # fmt: skip
    config = CLIPConfig(
        text_config={**part, "vocab_size": len(WORDS), "max_position_embeddings": LENGTH,
                     "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**part, "image_size": SIDE, "patch_size": PATCH},
        projection_dim=SHARED,
    )  # fmt: skip
    model = CLIPModel(config).eval()
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    cross = cross_tensors(generator)
    stored = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    stored["model.text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    torch.save({**stored, **{f"cross_model.{n}": t for n, t in cross.items()}}, tmp_path / "m.pth")
    score = build_scorer("mps", Sources(tmp_path / "m.pth", words), CPU, F32)

    clip = frames(1, 1, 3, SIDE, SIDE)
    with torch.no_grad():
        found = model.text_model(torch.tensor([[0, 2, 5] + [1] * 9]))
        text = model.text_projection(found.last_hidden_state)[0]
        # The tokenizer knows two letters: of the aspects, only words of them are left.
        from transformers import AutoTokenizer

        from easyanimate_core.scores.mps import _ASPECTS

        ids = AutoTokenizer.from_pretrained(words)(
            [_ASPECTS], padding="max_length", truncation=True, max_length=LENGTH,
            return_tensors="pt",
        ).input_ids  # fmt: skip
        aspects = model.text_projection(model.text_model(ids).last_hidden_state)[0]
        likeness = (text @ aspects.T).amax(1)
        counts = likeness / likeness.max() > 0.01
        seen = model.vision_model(normalised(clip[0])).last_hidden_state
        tokens = crossed(model.visual_projection(seen)[0], text, counts, cross)
        whole = model.text_projection(found.pooler_output)[0]
        known = F.cosine_similarity(tokens[0], whole, dim=0)
    assert score(clip, ["ab"]) == pytest.approx(float(known), abs=1e-4)
    assert_learnable(score)


@pytest.fixture(scope="module")
def clip_folder(words, tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    part = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4}  # fmt: skip
    config = CLIPConfig(
        text_config={**part, "vocab_size": len(WORDS), "max_position_embeddings": LENGTH,
                     "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**part, "image_size": SIDE, "patch_size": PATCH},
        projection_dim=SHARED,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    pictures = CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    tokenizer = CLIPTokenizer.from_pretrained(words)
    CLIPProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def test_clip_similarity_is_what_evaluation_measures(clip_folder):
    from easyanimate_core.evaluation import ClipScorer

    smooth = F.interpolate(frames(1, 3, 6, 9), (48, 72), mode="bicubic").clamp(0, 1)
    score = build_scorer("clip", Sources(clip=clip_folder), CPU, F32)
    scorer, seen = ClipScorer(clip_folder, CPU), []
    for prompt in ("ab", "a", "b", "baa"):
        found = 100 * float(score(smooth[None], [prompt]))
        seen.append(scorer(smooth.movedim(1, -1), prompt))
        # It rounds the scaled pictures to bytes, and is 0 where the cosine is negative.
        assert max(0.0, found) == pytest.approx(seen[-1], abs=0.3)
    assert max(seen) > 1
    assert_learnable(build_scorer("clip", Sources(clip=clip_folder), CPU, F32))


def test_aesthetics_of_both_heads(clip_folder, tmp_path):
    generator = torch.Generator().manual_seed(1)
    layers = [nn.Linear(SHARED, 16), nn.Linear(16, 4), nn.Linear(4, 1)]
    for layer in layers:
        for parameter in layer.parameters():
            parameter.data.normal_(0, 0.4, generator=generator)
    chain = {
        f"layers.{place}.{name}": parameter.data
        for place, layer in zip((0, 2, 10), layers, strict=True)
        for name, parameter in layer.named_parameters()
    }
    torch.save(chain, tmp_path / "chain.pth")
    vectors = F.normalize(frames(4, SHARED), dim=-1)
    known = nn.Sequential(*layers)(vectors)[:, 0]
    assert torch.allclose(read_head(tmp_path / "chain.pth", SHARED)(vectors), known, atol=1e-6)
    save_file({"weight": chain["layers.10.weight"][:, :1].expand(1, SHARED).clone(),
               "bias": torch.tensor([5.0])}, tmp_path / "one.safetensors")  # fmt: skip
    score = build_scorer("aesthetics", Sources(tmp_path / "chain.pth", clip_folder), CPU, F32)
    assert_learnable(score)
    assert float(read_head(tmp_path / "one.safetensors", SHARED)(vectors * 0)[0]) == 5
    chain["layers.2.weight"] = torch.zeros(4, 15)
    torch.save(chain, tmp_path / "chain.pth")
    with pytest.raises(CheckpointError, match="layers from 24 values to 1"):
        read_head(tmp_path / "chain.pth", SHARED)


class Runs:
    def __reduce__(self):
        return print, ("run",)


def hostile(state, attack):
    """What somebody has changed about the weights of HPS."""
    name = "visual.positional_embedding"
    if attack == "no square":
        return {**state, name: torch.zeros(7, WIDTH)}
    if attack == "a layer is missing":
        return {k: v for k, v in state.items() if ".1.attn." not in k}
    if attack == "layers of no number":
        bad = "transformer.resblocks.99999999.ln_1.weight"
        return {**state, bad: torch.zeros(WIDTH)}
    if attack == "another width":
        return {**state, "visual.proj": torch.zeros(WIDTH + 1, SHARED)}
    if attack == "few words":
        return {**state, "token_embedding.weight": torch.zeros(2, WIDTH)}
    if attack == "no heads":
        return {k: v[..., :20].clone() if "mlp.c_fc.weight" in k else v for k, v in state.items()}
    return {"state_dict": state, "more": Runs()} if attack == "code" else {}


@pytest.mark.parametrize(
    "attack",
    ["no square", "a layer is missing", "layers of no number", "another width", "few words",
     "no heads", "code", "nothing"],
)  # fmt: skip
def test_hostile_weights_are_refused_by_name(words, tmp_path, attack, capsys):
    file = tmp_path / "hps.pt"
    torch.save(hostile(OpenClip().state_dict(), attack), file)
    with pytest.raises(CheckpointError, match=r"hps\.pt"):
        build_scorer("hps", Sources(file, words), CPU, F32)
    assert "run" not in capsys.readouterr().out


def test_damaged_and_missing_files_are_refused(words, tmp_path):
    file = tmp_path / "hps.pt"
    torch.save(OpenClip().state_dict(), file)
    file.write_bytes(file.read_bytes()[:4000])
    with pytest.raises(CheckpointError):
        build_scorer("hps", Sources(file, words), CPU, F32)
    with pytest.raises(CheckpointError, match=r"does not contain a CLIP"):
        torch.save(OpenClip().state_dict(), file)
        build_scorer("mps", Sources(file, words), CPU, F32)
    with pytest.raises(CheckpointError, match=r"has no tokenizer.json"):
        build_scorer("hps", Sources(file, tmp_path), CPU, F32)
    for name, kind in KINDS.items():
        if kind.needs:
            lost = Sources(tmp_path / "no", tmp_path / "no", tmp_path / "no")
            with pytest.raises(InputError, match=f"There is no .* of {name}"):
                build_scorer(name, lost, CPU, F32)


def shapes_of_vit_h():
    """Names and shapes of HPS v2.1's state dict, which is open_clip's ViT-H/14."""
    found = {
        "logit_scale": (), "text_projection": (1024, 1024), "positional_embedding": (77, 1024),
        "token_embedding.weight": (49408, 1024), "visual.class_embedding": (1280,),
        "visual.positional_embedding": (257, 1280), "visual.proj": (1280, 1024),
        "visual.conv1.weight": (1280, 3, 14, 14),
    }  # fmt: skip
    for name, width in (("ln_final", 1024), ("visual.ln_pre", 1280), ("visual.ln_post", 1280)):
        found |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for part, layers, width in (("", 24, 1024), ("visual.", 32, 1280)):
        for n in range(layers):
            block = f"{part}transformer.resblocks.{n}."
            for name, outputs, inputs in (
                ("attn.in_proj_", 3 * width, width), ("attn.out_proj.", width, width),
                ("mlp.c_fc.", 4 * width, width), ("mlp.c_proj.", width, 4 * width),
            ):  # fmt: skip
                found[f"{block}{name}weight"] = (outputs, inputs)
                found[f"{block}{name}bias"] = (outputs,)
            for name in ("ln_1", "ln_2"):
                found |= {f"{block}{name}.weight": (width,), f"{block}{name}.bias": (width,)}
    return found


class RealWords:
    """The sizes of CLIP's own tokenizer."""

    bos_token_id, eos_token_id, pad_token_id = 49406, 49407, 49407

    def __len__(self):
        return 49408


def test_the_real_shape_is_taken_from_the_file(tmp_path):
    stored = {name: torch.empty(shape, device="meta") for name, shape in shapes_of_vit_h().items()}
    tensors = in_transformers_names(stored)
    model = clip_of_tensors(tensors, RealWords(), heads=16, file=tmp_path / "hps.pt")
    assert sum(p.numel() for p in model.parameters()) == 986_109_441
    vision, text = model.config.vision_config, model.config.text_config
    assert (vision.image_size, vision.num_hidden_layers, vision.intermediate_size) == (
        224,
        32,
        5120,
    )
    assert (text.num_hidden_layers, text.max_position_embeddings) == (24, 77)
    model.vision_model.embeddings.position_ids = torch.arange(257, device="meta")[None]
    found = model.vision_model(torch.empty(2, 3, 224, 224, device="meta"))
    assert model.visual_projection(found.pooler_output).shape == (2, 1024)
    found = Cross(1024, 64, 16, 4).to("meta")(
        torch.empty(2, 257, 1024, device="meta"), torch.empty(2, 77, 1024, device="meta"),
        torch.empty(2, 77, device="meta", dtype=torch.bool),
    )  # fmt: skip
    assert found.shape == (2, 257, 1024)
