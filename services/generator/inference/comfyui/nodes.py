"""The nodes of a ComfyUI server, as `GET /object_info/{class}` describes them.

Source: ComfyUI, server.py (`node_info`). Options are a list in old nodes, and `["COMBO", {"options": […]}]` in new
ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_MAX_OPTIONS: Final = 5_000  # checkpoints, samplers; far more than people have


@dataclass(frozen=True, slots=True)
class NodeInput:
    """What an input of a node takes; None means no limit, or none that is known."""

    options: tuple[str, ...] | None = None
    max: int | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class NodeClass:
    inputs: Mapping[str, NodeInput]
    required: frozenset[str]


def parse_node_class(name: str, answer: object) -> NodeClass | None:
    """The class of this name in an answer; None if the server does not have it."""
    described = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(described, dict):
        return None
    groups = described.get("input")
    groups = groups if isinstance(groups, dict) else {}
    required, optional = _inputs(groups.get("required")), _inputs(groups.get("optional"))
    return NodeClass({**optional, **required}, frozenset(required))


def _inputs(group: object) -> dict[str, NodeInput]:
    return {name: _input(spec) for name, spec in group.items()} if isinstance(group, dict) else {}


def _input(spec: object) -> NodeInput:
    if not isinstance(spec, list) or not spec:
        return NodeInput()
    kind = spec[0]
    about: dict[str, Any] = spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
    if kind == "COMBO":
        kind = about.get("options")
    if isinstance(kind, list):
        return NodeInput(options=tuple(each for each in kind[:_MAX_OPTIONS] if isinstance(each, str)))
    if kind == "INT":
        return NodeInput(max=_whole(about.get("max")), step=_whole(about.get("step")))
    return NodeInput()


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
