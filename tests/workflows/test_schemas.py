"""Saved workflows keep working: the snapshot of the nodes only grows."""

import pytest

from tools.workflows import schemas

KNOWN = schemas.read_compact(schemas.NEWEST)
NODE = "EasyAnimateSampler"


def info():
    """What `/object_info` says of the known nodes."""
    found = {}
    for name, known in KNOWN.items():
        sections = {"required": {}, "optional": {}}
        for key, kind, settings, *optional in known["inputs"]:
            sections["optional" if optional else "required"][key] = [kind, settings]
        names, types = zip(*known["outputs"], strict=True) if known["outputs"] else ((), ())
        found[name] = {
            "input": sections,
            "output_name": list(names),
            "output": list(types),
            "deprecated": False,
        }
    return found


def losses(change):
    nodes = info()
    change(nodes)
    return schemas.lost(KNOWN, nodes)


def insert(nodes):
    """A new widget before all others."""
    sections = nodes[NODE]["input"]
    sections["required"] = {"new": ["INT", {}], **sections["required"]}


def rename(nodes):
    """A node under another id."""
    nodes["EasyAnimateRenamed"] = nodes.pop(NODE)


def unplug(nodes):
    """One socket less."""
    del nodes[NODE]["input"]["required"]["model"]


def prepend(nodes):
    """A new output before the others."""
    nodes[NODE]["output_name"].insert(0, "report")
    nodes[NODE]["output"].insert(0, "STRING")


def test_what_is_added_at_the_end_is_no_loss():
    def change(nodes):
        nodes["EasyAnimateNew"] = nodes[NODE]
        nodes[NODE]["input"]["optional"]["more"] = ["INT", {"default": 0}]
        nodes[NODE]["output_name"].append("report")
        nodes[NODE]["output"].append("STRING")
        nodes["EasyAnimateDecode"]["deprecated"] = True  # replaced, and still there
        del nodes["KSampler"]  # ComfyUI's own are not ours to keep

    assert losses(change) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rename, "is gone"),
        (insert, "widgets only come"),
        (unplug, "of the sockets"),
        (prepend, "outputs only come"),
    ],
)
def test_what_saved_workflows_would_lose_is_told(change, says):
    (line,) = losses(change)
    assert line.startswith(NODE)
    assert says in line


def test_the_snapshot_is_not_written_over_a_loss():
    """The test against real servers asks for the snapshot to be written, which refuses."""
    nodes = info()
    del nodes[NODE]
    before = [schemas.file_of(version).read_bytes() for version in schemas.VERSIONS]
    with pytest.raises(SystemExit, match=f"{NODE} is gone"):
        schemas.write(dict.fromkeys(schemas.VERSIONS, nodes))
    assert [schemas.file_of(version).read_bytes() for version in schemas.VERSIONS] == before
