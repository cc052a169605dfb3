"""The choice of an attention kernel: tested on first use, replaced where it is wrong."""

import pytest
import torch

from easyanimate_core.errors import InputError
from easyanimate_core.memory.options import ATTENTIONS, Kernels
from easyanimate_core.models.transformer import attention_of, choice, scaled_dot_product

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["flash", "cudnn"])
def test_orders_give_pytorchs_result(name, dtype):
    kernel = choice._KERNELS[name]
    assert choice.tested(name, kernel, CPU, dtype) is kernel


def transposed(q, k, v):
    return scaled_dot_product(k, q, v)


def without_scale(q, k, v):
    return scaled_dot_product(q * 8, k, v)


def forgets_heads(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def last_tokens_missing(q, k, v):
    """As kernels do that get the rest of a tile wrong."""
    return scaled_dot_product(q, k[:, :, :320], v[:, :, :320])


def not_finite(q, k, v):
    return scaled_dot_product(q, k, v) * torch.nan


def fails(*_):
    raise RuntimeError("no kernel image is available for execution on the device")


@pytest.mark.parametrize("kernel", [transposed, without_scale, forgets_heads, last_tokens_missing,
                                    not_finite, fails])  # fmt: skip
@pytest.mark.parametrize("name", ["flash3", "sage"])
def test_a_wrong_kernel_is_replaced_with_a_warning(kernel, name, caplog):
    assert choice.tested(name, kernel, CPU, torch.bfloat16) is scaled_dot_product
    assert f"The attention kernel {name} is not used: it" in caplog.text


@pytest.mark.parametrize("name", ATTENTIONS)
def test_other_devices_have_their_own(name):
    if name == "auto":
        assert attention_of(name, CPU, torch.bfloat16, None) is scaled_dot_product
    else:
        with pytest.raises(InputError, match=f"kernel {name} is for NVIDIA's cards; .* on cpu"):
            attention_of(name, CPU, torch.bfloat16, None)


@pytest.mark.parametrize("name", sorted(choice.PACKAGES))
def test_a_package_that_is_missing(name):
    with pytest.raises(InputError, match=f"needs the Python package {choice.PACKAGES[name]}"):
        attention_of(name, CPU, torch.bfloat16, 90)


@pytest.mark.parametrize(("capability", "name"), [(75, "flash"), (89, "flash"), (90, "cudnn"),
                                                  (120, "cudnn")])  # fmt: skip
def test_the_card_decides(capability, name):
    assert attention_of("auto", CPU, torch.bfloat16, capability) is choice._KERNELS[name]
    assert attention_of("auto", CPU, torch.float32, capability) is scaled_dot_product


def test_kernels_that_are_none():
    with pytest.raises(InputError, match="attention is 'flash2'; it must be one of auto"):
        Kernels(attention="flash2")
