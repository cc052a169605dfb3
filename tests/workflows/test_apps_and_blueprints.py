"""What App mode shows of the workflows, and the blueprints, as files."""

import json

import pytest

from tools.workflows import app_mode, blueprints, catalog, schemas

AGAIN = "make them again: python -m tools.workflows"
WORKFLOWS = {name: json.loads(text) for name, text in catalog.files().items()}
APPS = {name: each for name, each in WORKFLOWS.items() if "linearData" in each["extra"]}


def test_the_blueprints_are_what_the_generator_writes():
    found = {f.name: f.read_text(encoding="utf-8") for f in blueprints.FOLDER.iterdir()}
    assert found == blueprints.files(), AGAIN


@pytest.mark.parametrize("name", APPS)
def test_an_app_shows_settings_that_exist_and_one_result(name):
    nodes = {node["id"]: node for node in APPS[name]["nodes"]}
    data = APPS[name]["extra"]["linearData"]
    shown = []
    for number, setting in data["inputs"]:
        entry = next(e for e in nodes[number]["inputs"] if e["name"] == setting)
        assert entry["widget"] == {"name": setting}
        assert entry["link"] is None, "a link decides it"
        shown.append(entry.get("label", setting))
    assert len(set(shown)) == len(shown), shown
    (result,) = data["outputs"]
    assert nodes[result]["type"] in app_mode.RESULTS
    assert APPS[name]["extra"]["linearMode"] is False


@pytest.mark.parametrize("blueprint", blueprints.BLUEPRINTS, ids=lambda each: each.mode)
def test_a_blueprint_is_one_node_with_every_link_at_both_ends(blueprint):
    workflow = blueprint.workflow(schemas.read())
    (host,) = workflow["nodes"]
    (inside,) = workflow["definitions"]["subgraphs"]
    assert host["type"] == inside["id"]
    assert host["title"] == inside["name"] == blueprint.name
    assert not set(blueprint.name) & set('<>:"/\\|?*'), "a file's name on Windows"
    nodes = {node["id"]: node for node in inside["nodes"]}
    assert host["id"] not in nodes
    for link in inside["links"]:
        if link["origin_id"] == blueprints.INPUT_END:
            assert link["id"] in inside["inputs"][link["origin_slot"]]["linkIds"]
        else:
            source = nodes[link["origin_id"]]["outputs"][link["origin_slot"]]
            assert link["id"] in source["links"]
            assert source["type"] == link["type"]
        if link["target_id"] == blueprints.OUTPUT_END:
            assert link["id"] in inside["outputs"][link["target_slot"]]["linkIds"]
        else:
            assert nodes[link["target_id"]]["inputs"][link["target_slot"]]["link"] == link["id"]
    settings = [entry["name"] for entry in host["inputs"] if "widget" in entry]
    assert len(settings) == len(host["widgets_values"]) == len(set(settings))
    assert dict(zip(settings, host["widgets_values"], strict=True))["positive"] == blueprint.prompt
