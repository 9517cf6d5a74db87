"""Workflows of ComfyUI: graphs in API format, with placeholders for the fields of a job.

A file is a JSON object:

    graph         the workflow, as ComfyUI exports it in API format
    placeholders  name ─▶ "node.input", or a list of them: where the value of a job goes
    output        the id of the node that saves or previews the picture
    hires_fix     true if it paints jobs with a hires fix; others are painted by files without it
    models        patterns of the checkpoints that it is for ("*flux*"), or with "!" not for; none: all
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from glob import escape
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, ValidationError

from common.domain.errors import Misconfigured
from services.generator.inference.comfyui.samplers import SamplerChoice
from services.generator.inference.job import Job

Placeholder = Literal[
    "prompt", "negative", "seed", "steps", "cfg", "sampler", "scheduler", "width", "height",
    "first_width", "first_height", "model", "file",
]  # fmt: skip
REQUIRED: Final[tuple[Placeholder, ...]] = ("prompt", "seed", "steps", "cfg", "sampler", "width", "height")
SHIPPED: Final = ("sd.json", "sd-hires.json", "flux.json")
_GRID: Final = 8  # pixels of one latent: the first pass of a hires fix has sides that are multiples of it
# An input that no node has: the server ignores it, but it belongs to the key of its cache. Without it, the run after an
# unusable picture would get the same file again.
_RUN: Final = "darkroom_run"
_MAX_FILE_BYTES: Final = 1_000_000
Graph = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """An input of a node."""

    node: str
    input: str


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class _Node(BaseModel):
    model_config = ConfigDict(extra="allow")

    class_type: str
    inputs: dict[str, Any]


_Target = Annotated[str, StringConstraints(pattern=r"^[^.]+\..+$")]


class WorkflowFile(BaseModel):
    """The form of a file; an unknown key is a mistake of its author."""

    model_config = ConfigDict(extra="forbid")

    about: str = ""
    graph: dict[str, _Node]
    placeholders: dict[Placeholder, Annotated[list[_Target], BeforeValidator(_as_list)]]
    output: str
    hires_fix: bool = False
    models: list[str] = []


@dataclass(frozen=True, slots=True)
class Workflow:
    """A checked file: its targets and its output exist in the graph."""

    name: str
    graph: Graph
    targets: Mapping[Placeholder, tuple[Target, ...]]
    output: str
    hires_fix: bool
    models: tuple[str, ...]

    @property
    def stages(self) -> tuple[str, ...]:
        """The ids of the nodes that take steps."""
        return tuple(target.node for target in self.targets["steps"])

    def is_for(self, model: str) -> bool:
        """Whether its patterns allow this model; upper and lower case are the same."""
        wanted = [each for each in self.models if not each.startswith("!")]
        unwanted = [each[1:] for each in self.models if each.startswith("!")]
        return (not wanted or _matches(model, wanted)) and not _matches(model, unwanted)

    def filled(self, job: Job, sampler: SamplerChoice) -> Graph:
        """The graph of this job: a copy with the values of its fields at the placeholders."""
        values: dict[Placeholder, object] = {
            "prompt": job.prompt,
            "negative": job.negative_prompt,
            "seed": job.seed,
            "steps": job.steps,
            "cfg": job.cfg_scale,
            "sampler": sampler.sampler,
            "width": job.width,
            "height": job.height,
            "first_width": _half(job.width),
            "first_height": _half(job.height),
            "model": job.model,
            "file": f"darkroom/{job.remote_id}",
        }
        if sampler.scheduler is not None:
            values["scheduler"] = sampler.scheduler
        graph = copy.deepcopy(self.graph)
        for name, targets in self.targets.items():
            for target in targets if name in values else ():
                graph[target.node]["inputs"][target.input] = values[name]
        if job.refused:
            graph[self.output]["inputs"][_RUN] = job.refused
        return graph


def read_workflow(name: str) -> Workflow:
    """The workflow of this name: one that is shipped, or else a file.

    Raises:
        Misconfigured: there is no such file, or it is not a workflow with its placeholders.
    """
    try:
        if name in SHIPPED:
            text = resources.files(__package__).joinpath("workflows", name).read_text()
        else:
            path = Path(name)
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise _wrong(name, f"has more than {_MAX_FILE_BYTES} bytes")
            text = path.read_text()
        found = json.loads(text)
    except (OSError, UnicodeError, RecursionError) as error:
        shipped = ", ".join(SHIPPED)
        raise _wrong(name, f"cannot be read ({type(error).__name__}); shipped ones are {shipped}") from error
    except ValueError as error:
        raise _wrong(name, f"is not JSON: {error}") from error
    return parse_workflow(name, found)


def workflow_of_model(model: str, name: str) -> Workflow:
    """The workflow of this name for one model only, whatever its patterns are. Raises Misconfigured."""
    return replace(read_workflow(name), models=(escape(model),))


def without_models(workflow: Workflow, models: Iterable[str]) -> Workflow:
    """The workflow for all of its models but these."""
    return replace(workflow, models=(*workflow.models, *(f"!{escape(model)}" for model in models)))


def parse_workflow(name: str, found: object) -> Workflow:
    """The workflow in a parsed file. Raises Misconfigured."""
    if isinstance(found, dict) and "nodes" in found and "links" in found:
        raise _wrong(name, 'has the format of the editor: export it with "Export (API)"')
    if isinstance(found, dict) and "graph" not in found and any(_is_node(value) for value in found.values()):
        raise _wrong(name, 'has no placeholders: put the exported workflow under the key "graph" (docs/inference.md)')
    try:
        file = WorkflowFile.model_validate(found)
    except ValidationError as error:
        places = ", ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5])
        raise _wrong(name, f"is not a workflow file: {places}") from error
    missing = [each for each in REQUIRED if not file.placeholders.get(each)]
    if missing:
        raise _wrong(name, f"lacks the placeholders {', '.join(missing)}")
    targets = {key: tuple(Target(*text.split(".", 1)) for text in texts) for key, texts in file.placeholders.items()}
    for key, each in targets.items():
        for target in each:
            if target.node not in file.graph:
                raise _wrong(name, f"has no node {target.node!r}, which the placeholder {key!r} names")
    if file.output not in file.graph:
        raise _wrong(name, f"has no node {file.output!r}, which is its output")
    graph = {node: each.model_dump() for node, each in file.graph.items()}
    return Workflow(name, graph, targets, file.output, file.hires_fix, tuple(file.models))


def _wrong(name: str, what: str) -> Misconfigured:
    return Misconfigured(f"the workflow {name!r} {what}", code="bad_setting")


def _is_node(value: object) -> bool:
    return isinstance(value, dict) and "class_type" in value


def _matches(model: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(model.lower(), pattern.lower()) for pattern in patterns)


def _half(side: int) -> int:
    return max(_GRID * 2, round(side / 2 / _GRID) * _GRID)
