"""What the fake ComfyUI checks of a graph before it queues it: its nodes with their inputs, in the words of 0.12.1."""

from aiohttp import web

from tests.engines.comfyui_nodes import upstream


def refusal(kind, message, details, node_errors=None, info=None) -> web.Response:
    error = {"type": kind, "message": message, "details": details, "extra_info": info or {}}
    return web.json_response({"error": error, "node_errors": node_errors or {}}, status=400)


def unknown_node(graph, classes) -> web.Response | None:
    """The refusal of the first node whose class the server does not have."""
    for node, each in graph.items():
        name = each.get("class_type")
        if name in classes:
            continue
        text = (
            f"Node '{name}' not found. The custom node may not be installed."
            if name
            else f"Node 'ID #{node}' has no class_type. The workflow may be corrupted or a custom node is missing."
        )
        info = {"node_id": node, "class_type": name, "node_title": name}
        return refusal("missing_node_type", text, f"Node ID '#{node}'", info=info)
    return None


def errors_by_node(graph, outputs, classes, checkpoints) -> dict:
    found = {}
    for node, each in graph.items():
        needed_by = [output for output in outputs if node in upstream(graph, output)]
        if not needed_by:
            continue  # the real server looks at nothing else
        for name, spec in classes[each["class_type"]]["input"]["required"].items():
            if error := _input_error(name, spec, each["inputs"], checkpoints):
                found[node] = node_error(graph, node, needed_by, error)
    return found


def _input_error(name, spec, inputs, checkpoints) -> tuple | None:
    if name not in inputs:
        return "required_input_missing", "Required input is missing", name
    value, kind = inputs[name], spec[0]
    about = spec[1] if len(spec) > 1 else {}
    if isinstance(kind, list):
        options = checkpoints if name == "ckpt_name" else kind
        if value not in options:
            config = [options, about]
            return "value_not_in_list", "Value not in list", f"{name}: {value!r} not in {options}", config, value
    elif kind == "INT" and not isinstance(value, list):
        if value < about["min"]:
            return "value_smaller_than_min", f"Value {value} smaller than min of {about['min']}", name, spec, value
        if value > about["max"]:
            return "value_bigger_than_max", f"Value {value} bigger than max of {about['max']}", name, spec, value
    return None


def node_error(graph, node, outputs, error: tuple) -> dict:
    kind, message, details, config, value = (*error, None, None)[:5]
    info = {"input_name": details.partition(":")[0]}
    if config is not None:
        info |= {"input_config": config, "received_value": value}
    described = {"type": kind, "message": message, "details": details, "extra_info": info}
    return {"errors": [described], "dependent_outputs": outputs, "class_type": graph[node]["class_type"]}
