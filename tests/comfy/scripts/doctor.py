"""The doctor inside ComfyUI: `doctor.py`."""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from probing import Probe

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found
(found["page"],) = probe.run("EasyAnimateDoctor", quick=False)
(found["quick"],) = probe.run("EasyAnimateDoctor", quick=True)

folder = probe.paths.find_checkpoint("EasyAnimateV5.1-7b-zh-InP")
weights = next((folder / "transformer").glob("*.safetensors"))
content = weights.read_bytes()
weights.unlink()  # it may be a link
weights.write_bytes(content[: len(content) // 2])
(found["damaged"],) = probe.run("EasyAnimateDoctor", quick=True)
weights.write_bytes(content)
found["home"] = os.path.expanduser("~")  # noqa: PTH111


class CancelError(Exception):
    """What ComfyUI raises."""


def cancel():
    raise CancelError


management = sys.modules["comfy.model_management"]
real = management.throw_exception_if_processing_interrupted
management.throw_exception_if_processing_interrupted = cancel
found["cancelled"] = probe.error(lambda: probe.run("EasyAnimateDoctor"))
management.throw_exception_if_processing_interrupted = real
probe.done()
