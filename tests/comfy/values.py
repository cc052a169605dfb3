"""The values and links of a workflow: in its file, in the frontend and in the prompt of Run."""

from tools.workflows import schemas

PREVIEW = "videopreview"
#: Widgets of the frontend, which a prompt does not have.
NOT_QUEUED = {"control_after_generate", "upload", PREVIEW}
SHOWN = """() => Object.fromEntries(app.graph._nodes.map((node) => [
  node.id, Object.fromEntries((node.widgets ?? []).map((widget) => [widget.name, widget.value])),
]))"""
OPEN_AND_READ = f"""async (workflow) => {{
  await app.loadGraphData(workflow)
  await new Promise((done) => setTimeout(done, 50))
  return [({SHOWN})(), (await app.graphToPrompt()).output]
}}"""


def named_values(node):
    """The values of a node by the names of its widgets; what VideoHelperSuite previews is none."""
    values = node["widgets_values"]
    if isinstance(values, dict):
        return {name: value for name, value in values.items() if name != PREVIEW}
    return schemas.read()[node["type"]].named(values)


def set_values(node, **changed):
    if isinstance(node["widgets_values"], dict):
        node["widgets_values"] |= changed
    else:
        node["widgets_values"] = list((named_values(node) | changed).values())


def links_of(prompt):
    """(from, output, to, input) of an API prompt."""
    return {
        (source[0], source[1], node, name)
        for node, entry in prompt.items()
        for name, source in entry["inputs"].items()
        if isinstance(source, list)
    }


def links_in(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    return {
        (str(start), output, str(to), nodes[to]["inputs"][slot]["name"])
        for _, start, output, to, slot, _ in workflow["links"]
    }


def differences(workflow, shown, prompt):
    """Values of the file that are others on the page or in the prompt, and links that differ."""
    found = [f"link {link}" for link in links_in(workflow) ^ links_of(prompt)]
    for node in workflow["nodes"]:
        label = f"{node['id']} ({node['type']})"
        places = {"page": shown.get(str(node["id"]), {})}
        queued = prompt.get(str(node["id"]))
        if queued is not None:
            places["prompt"] = queued["inputs"]
        elif node["type"] != schemas.NOTE:
            found.append(f"{label} is not in the prompt")
        linked = {entry["name"] for entry in node["inputs"] if entry["link"] is not None}
        for place, values in places.items():
            skipped = linked | NOT_QUEUED if place == "prompt" else {}
            found += [
                f"{label}.{name} is {values.get(name)!r} on the {place}, {wanted!r} in the file"
                for name, wanted in named_values(node).items()
                if name not in skipped and values.get(name) != wanted
            ]
    return found
