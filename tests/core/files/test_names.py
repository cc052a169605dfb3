"""Names of files that people type: taken where every system can write them, else refused."""

import pytest

from easyanimate_core.errors import InputError
from easyanimate_core.files.names import LONGEST, file_stem, free_name


def stem(name):
    return file_stem(name, ".safetensors", what="the LoRA")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("my_lora", "my_lora"),
        ("my_lora.safetensors", "my_lora"),
        ("My Style v1.5.SafeTensors", "My Style v1.5"),
        ("水墨画-01", "水墨画-01"),
        ("fox 🦊", "fox 🦊"),
        ("console", "console"),
        ("com10", "com10"),
        ("x" * LONGEST, "x" * LONGEST),
    ],
)
def test_a_name_that_every_system_can_write_is_taken(name, wanted, tmp_path):
    assert stem(name) == wanted
    (tmp_path / f"{wanted}.safetensors").touch()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "it is empty"),
        (".safetensors", "it is empty"),
        ("  ", "it is empty"),
        ("a/b", "it contains a folder"),
        ("..\\b", "it contains a folder"),
        ("/etc/passwd", "it contains a folder"),
        ("C:fox", "Windows does not allow : in it"),
        ("fox?", "Windows does not allow ? in it"),
        ("fox\0.safetensors", "the invisible character U+0000"),
        ("fox\n", "the invisible character U+000A"),
        ("fox\x7f", "the invisible character U+007F"),
        ("fox\x9b31m", "the invisible character U+009B"),
        ("fox\ud800", "the invisible character U+D800"),
        ("fox\u2028", "the invisible character U+2028"),
        ("fox\u202esrotcennoc", "the invisible character U+202E"),
        (" fox", "begins or ends with a space"),
        ("fox .safetensors", "begins or ends with a space"),
        (".fox", "hidden"),
        ("..", "hidden"),
        ("fox.", "Windows drops a dot"),
        ("fox..safetensors", "Windows drops a dot"),
        ("NUL", "a device on Windows"),
        ("nul.safetensors", "a device on Windows"),
        ("Com1.v2", "a device on Windows"),
        ("lpt\u00b9", "a device on Windows"),
        ("aux .x", "a device on Windows"),
        ("CONIN$", "a device on Windows"),
        ("x" * (LONGEST + 1), f"takes {LONGEST + 1} bytes"),
        ("画" * 41, "takes 123 bytes"),
    ],
)
def test_another_is_refused_with_the_reason(name, fault):
    with pytest.raises(InputError) as error:
        stem(name)
    said = str(error.value)
    assert fault in said
    assert said.startswith("The name of the LoRA is ")
    assert said.isprintable()
    assert len(said) < 250
    assert stem("my_style") == "my_style"  # what the message proposes


def test_a_taken_name_gets_a_number():
    taken = ["Fox.safetensors", "fox_2.SAFETENSORS", "cafe\u0301.safetensors"]
    assert free_name("wolf", ".safetensors", taken) == "wolf.safetensors"
    assert free_name("fox", ".safetensors", taken) == "fox_3.safetensors"
    assert free_name("caf\u00e9", ".safetensors", taken) == "caf\u00e9_2.safetensors"
