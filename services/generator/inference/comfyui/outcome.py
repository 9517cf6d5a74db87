"""The outcome of a run on ComfyUI: its picture, or the error of the port that it means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from common.domain.errors import BadImage, Denied, InferenceError, Rejected, Transient
from common.domain.texts import clean_text
from services.generator.inference.comfyui.workflow import Placeholder, Workflow

_FIELDS: Final[dict[Placeholder, str]] = {
    "prompt": "prompt",
    "negative": "negative_prompt",
    "seed": "seed",
    "steps": "steps",
    "cfg": "cfg_scale",
    "sampler": "sampler",
    "scheduler": "sampler",
    "width": "width",
    "height": "height",
    "first_width": "width",
    "first_height": "height",
    "model": "model",
}
_FILE_KEYS: Final = ("filename", "subfolder", "type")
_MAX_PATH: Final = 500


@dataclass(frozen=True, slots=True)
class Painted:
    """Where the picture is, and what the history says about its run."""

    file: dict[str, str]
    seed: int | None
    painting_s: float | None


def outcome_of(entry: dict[str, Any], workflow: Workflow) -> Painted:
    """The outcome in an entry of the history.

    A picture counts only if the whole run succeeded: an interrupted run may have left a half-done one.

    Raises:
        Transient: the run failed or was interrupted; the next one needs a new id.
        BadImage: it succeeded without a picture.
    """
    status = entry.get("status")
    status = status if isinstance(status, dict) else {}
    messages = dict(_messages(status.get("messages")))
    if "execution_interrupted" in messages:
        raise Transient("the run was interrupted on the inference service", needs_new_id=True)
    if "execution_error" in messages or status.get("status_str", "success") != "success":
        raise Transient(_failure(messages.get("execution_error", {})), needs_new_id=True)
    outputs = entry.get("outputs")
    output = outputs.get(workflow.output) if isinstance(outputs, dict) else None
    images = output.get("images") if isinstance(output, dict) else None
    file = _file(images[0]) if isinstance(images, list) and images else None
    if file is None:
        raise BadImage(f"the run succeeded, but node {workflow.output} of {workflow.name!r} has no picture")
    return Painted(file, _seed(entry, workflow), _seconds(messages))


def refusal_of(problem: dict[str, Any], workflow: Workflow) -> InferenceError | None:
    """The error for a prompt that the server refused, or of which it refused a part; None if our part runs."""
    errors = problem.get("node_errors")
    errors = errors if isinstance(errors, dict) else {}
    whole = problem.get("error")
    if whole is None and not any(workflow.output in _dependents(node, each) for node, each in errors.items()):
        return None
    for node, each in errors.items():
        for error in _list(each, "errors"):
            field = _field(workflow, node, error)
            if field is not None:
                return Rejected(f"{field}: the inference service does not take it: {_text(error)}")
    texts = [_text(whole)] if whole is not None else []
    texts += [f"node {node}: {_text(error)}" for node, each in errors.items() for error in _list(each, "errors")]
    return Denied(
        clean_text(f"the inference service refuses the workflow {workflow.name!r}: {'; '.join(texts)}", 1_000)
    )


def _field(workflow: Workflow, node: object, error: object) -> str | None:
    """The field of the job whose value the server refuses; None if the fault is in the workflow."""
    info = error.get("extra_info") if isinstance(error, dict) else None
    refused = info.get("input_name") if isinstance(info, dict) else None
    for name, targets in workflow.targets.items():
        if any((target.node, target.input) == (node, refused) for target in targets):
            return _FIELDS.get(name)
    return None


def _dependents(node: str, described: object) -> list[object]:
    return [node, *_list(described, "dependent_outputs")]


def _list(described: object, key: str) -> list[Any]:
    found = described.get(key) if isinstance(described, dict) else None
    return found if isinstance(found, list) else []


def _text(error: object) -> str:
    if not isinstance(error, dict):
        return clean_text(str(error), 300)
    parts = [error.get("message"), error.get("details")]
    return clean_text(": ".join(part for part in parts if isinstance(part, str) and part), 300) or "(no text)"


def _messages(found: object) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in found if isinstance(found, list) else []:
        match each:
            case [str(event), dict(data)]:
                yield event, data


def _failure(data: dict[str, Any]) -> str:
    node, kind, message = (data.get(key) for key in ("node_type", "exception_type", "exception_message"))
    text = message.strip().split("\n", 1)[0] if isinstance(message, str) else ""
    return clean_text(f"the run failed on the inference service in {node}: {kind}: {text}", 300)


def _file(image: object) -> dict[str, str] | None:
    if not isinstance(image, dict):
        return None
    file = {key: image.get(key, "") for key in _FILE_KEYS}
    usable = all(isinstance(value, str) and len(value) <= _MAX_PATH for value in file.values()) and file["filename"]
    return file if usable else None


def _seed(entry: dict[str, Any], workflow: Workflow) -> int | None:
    """The seed of the graph that was run."""
    target = workflow.targets["seed"][0]
    match entry.get("prompt"):
        case [_, _, dict(graph), *_]:
            node = graph.get(target.node)
            inputs = node.get("inputs") if isinstance(node, dict) else None
            seed = inputs.get(target.input) if isinstance(inputs, dict) else None
            return seed if isinstance(seed, int) else None
    return None


def _seconds(messages: dict[str, dict[str, Any]]) -> float | None:
    start, end = (messages.get(name, {}).get("timestamp") for name in ("execution_start", "execution_success"))
    if isinstance(start, int) and isinstance(end, int) and 0 <= end - start < 10**9:
        return (end - start) / 1000
    return None
