"""A step on a card that is not there, by fake tensors: devices, waits, dtypes and bytes."""

from dataclasses import replace

import pytest
import torch

from easyanimate_core.conditioning.condition import Condition
from easyanimate_core.conditioning.known import Known
from easyanimate_core.models.specs import LATENT_CHANNELS
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.sampling import (
    PUBLISHED_CONFIG,
    SCHEDULERS,
    Guidance,
    SamplingRun,
    make_schedule,
)
from easyanimate_core.stages import sample_latents
from easyanimate_core.text import TextStates
from tests.factories import V5, V5_1
from tools.step_trace import MODEL, Tracer, fake_card, step

#: One block of each kind of the published 7B.
PAIR = replace(MODEL, num_layers=2, mmdit_layers=1)
TINY = replace(MODEL, num_layers=1, mmdit_layers=0, num_attention_heads=2, text_embed_dim=32)
LATENTS = (1, LATENT_CHANNELS, 2, 8, 12)
GB = 10**9


def test_bytes_of_a_step():
    """The published 7B at 384x672x49 with guidance; 494 GB for all 36 blocks in the plain form."""
    found = step(PAIR)
    assert found.traffic.total() < 17.5 * GB
    assert found.traffic.total() - found.cached < 12.0 * GB
    assert found.flop.total() == pytest.approx(376e12 / 18, rel=0.01)


def test_no_float32_tensor_of_the_tokens_in_half_precision():
    assert not step(PAIR).wide
    assert step(PAIR, torch.float32).wide


class Arrived:
    """The event of a card that is not there; its answers arrive when they are waited for."""

    def record(self, stream):
        pass

    def query(self):
        return False

    def synchronize(self):
        pass


@pytest.fixture
def waits_of(monkeypatch):
    """`waits_of(scheduler, steps)`: what waits for the device from the first step to the last."""
    monkeypatch.setattr(torch.cuda, "Event", Arrived)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)

    def run(scheduler, steps, *, guidance=4.0, sequential=False, known=False):
        version = V5_1 if scheduler == "Flow" else V5
        schedule = make_schedule(scheduler, PUBLISHED_CONFIG[version], steps=steps)
        with fake_card() as card, Tracer() as tracer:
            network = EasyAnimateTransformer3DModel(TINY, dtype=torch.bfloat16, device=card)
            schedule.solver.timesteps = schedule.timesteps.to(card)
            schedule = replace(schedule, timesteps=schedule.solver.timesteps)
            text = TextStates(torch.empty(1, 4, TINY.text_embed_dim, device=card), None)
            noise = torch.empty(LATENTS, device=card)
            share = torch.empty(1, 1, *LATENTS[2:], device=card)
            start = len(tracer.found.waits)
            sample_latents(
                network,
                SamplingRun(schedule, Guidance(guidance), [torch.Generator()], sequential),
                text=(text, text),
                condition=Condition(None, None, Known(noise, share) if known else None),
                noise=noise,
                dtype=torch.bfloat16,
            )
        return tracer.found.waits[start:]

    return run


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_no_step_waits_for_the_device(waits_of, scheduler):
    """A longer run waits no more often: what waits, does so before the first or after the last."""
    few, many = (waits_of(scheduler, steps, known=True) for steps in (5, 6))
    assert len(few) == len(many), many
