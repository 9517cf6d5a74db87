"""What a ComfyUI server can paint: each workflow with the models and samplers that it finds there."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from common.application.capabilities import Capabilities, Feature, Model
from common.domain.errors import Rejected
from common.runtime.logs import OncePerKey
from services.generator.inference.comfyui.nodes import NodeClass, NodeInput
from services.generator.inference.comfyui.samplers import SamplerChoice, sampler_choices
from services.generator.inference.comfyui.workflow import Placeholder, Workflow
from services.generator.inference.job import Job
from services.generator.inference.supported import require_supported

log = logging.getLogger(__name__)

_ALWAYS: Final = (Feature.PROGRESS, Feature.PREVIEWS, Feature.CANCEL, Feature.ADOPTION)
_MAX_LISTED: Final = 10
_logged: Final = OncePerKey()


class WorkflowUnusable(Exception):
    """The server lacks a node, an input or a model of the workflow; the text names it."""


@dataclass(frozen=True, slots=True)
class RunnableWorkflow:
    """One workflow as this server can run it."""

    workflow: Workflow
    models: tuple[Model, ...]
    samplers: Mapping[str, SamplerChoice]

    def paints(self, model: str, *, hires_fix: bool) -> bool:
        return self.workflow.hires_fix == hires_fix and any(each.id == model for each in self.models)


@dataclass(frozen=True, slots=True)
class RunnableWorkflows:
    """All that one server can paint."""

    workflows: tuple[RunnableWorkflow, ...]
    version: str | None

    def choose(self, job: Job) -> tuple[Workflow, SamplerChoice]:
        """The workflow and the sampler for this job.

        Raises:
            Rejected: no workflow can honour a field of the job; the text names it.
        """
        for runnable in self.workflows:
            if runnable.paints(job.model, hires_fix=job.hires_fix):
                models = tuple(each.model_copy(update={"hires_fix": True}) for each in runnable.models)
                require_supported(job, Capabilities(models=models))
                return runnable.workflow, runnable.samplers[job.sampler]
        if any(runnable.paints(job.model, hires_fix=not job.hires_fix) for runnable in self.workflows):
            state = "no workflow has" if job.hires_fix else "all workflows have"
            raise Rejected(f"hires_fix: for the model {job.model!r} {state} one")
        require_supported(job, self.capabilities())
        raise Rejected(f"model: {job.model!r} is unknown to the inference service")

    def capabilities(self) -> Capabilities:
        models: dict[str, Model] = {}
        for runnable in self.workflows:
            for model in runnable.models:
                models.setdefault(model.id, model.model_copy(update={"hires_fix": self._has_hires_fix(model.id)}))
        optional = {
            Feature.HIRES_FIX: any(each.hires_fix for each in models.values()),
            Feature.NEGATIVE_PROMPT: any(each.negative_prompt for each in models.values()),
        }
        return Capabilities(
            engine="ComfyUI",
            models=tuple(models.values()),
            dialect="comfyui",
            version=self.version,
            features=(*_ALWAYS, *(feature for feature, is_there in optional.items() if is_there)),
            concurrency=1,
        )

    def _has_hires_fix(self, model: str) -> bool:
        return any(runnable.paints(model, hires_fix=True) for runnable in self.workflows)


def runnable_workflows(
    workflows: Sequence[Workflow], classes: Mapping[str, NodeClass], *, all_needed: bool
) -> list[RunnableWorkflow]:
    """The workflows that the server can run; others are left out, unless all are needed.

    Raises:
        WorkflowUnusable: a needed one, or all of them, cannot be run.
    """
    found, reasons = [], []
    for workflow in workflows:
        try:
            found.append(_runnable(workflow, classes))
        except WorkflowUnusable as unusable:
            if all_needed:
                raise
            reasons.append(str(unusable))
            if _logged.is_new(str(unusable)):
                log.info("%s", unusable)
    if not found:
        raise WorkflowUnusable("; ".join(reasons))
    return found


def _runnable(workflow: Workflow, classes: Mapping[str, NodeClass]) -> RunnableWorkflow:
    _require_runnable(workflow, classes)
    samplers = sampler_choices(_options(workflow, "sampler", classes) or (), _options(workflow, "scheduler", classes))
    sides = [spec for name in ("width", "height") for spec in _specs(workflow, name, classes)]
    limits = Model(
        id="",
        samplers=tuple(samplers),
        max_width=_smallest(_specs(workflow, "width", classes)),
        max_height=_smallest(_specs(workflow, "height", classes)),
        max_steps=_smallest(_specs(workflow, "steps", classes)),
        grid=math.lcm(*(spec.step for spec in sides if spec.step)),
        negative_prompt="negative" in workflow.targets,
    )
    names = _models(workflow, classes)
    models = tuple(limits.model_copy(update={"id": name, "name": _title(name)}) for name in names)
    return RunnableWorkflow(workflow, models, samplers)


def _require_runnable(workflow: Workflow, classes: Mapping[str, NodeClass]) -> None:
    """Raises WorkflowUnusable: a node, an input or a value of the graph is unknown to the server."""
    for node, described in workflow.graph.items():
        known = classes.get(described["class_type"])
        where = f"the workflow {workflow.name!r} cannot run: node {node} ({described['class_type']})"
        if known is None:
            raise WorkflowUnusable(f"{where} is not installed on the server")
        filled = {target.input for each in workflow.targets.values() for target in each if target.node == node}
        for name in [*described["inputs"], *filled]:
            if name.partition(".")[0] not in known.inputs:
                raise WorkflowUnusable(f"{where} has no input {name!r} on the server")
        if missing := known.required - described["inputs"].keys() - filled:
            raise WorkflowUnusable(f"{where} lacks the inputs {', '.join(sorted(missing))}")
        for name, value in described["inputs"].items():
            spec = known.inputs.get(name, NodeInput())
            if name not in filled and isinstance(value, str) and spec.options is not None and value not in spec.options:
                has = ", ".join(spec.options[:_MAX_LISTED]) or "none"
                raise WorkflowUnusable(f"{where} needs {name} {value!r}, and the server has {has}")


def _models(workflow: Workflow, classes: Mapping[str, NodeClass]) -> list[str]:
    options = _options(workflow, "model", classes)
    if options is None:
        return [PurePosixPath(workflow.name).stem]  # the workflow names its model itself
    models = [each for each in options if workflow.is_for(each)]
    if not models:
        has = ", ".join(options[:_MAX_LISTED]) or "none"
        raise WorkflowUnusable(
            f"the workflow {workflow.name!r} has no model: it is for {list(workflow.models)}, and the server has {has}"
        )
    return models


def _options(workflow: Workflow, name: Placeholder, classes: Mapping[str, NodeClass]) -> tuple[str, ...] | None:
    """The values that all inputs of a placeholder take; None if it is missing, or takes any value."""
    lists = [spec.options for spec in _specs(workflow, name, classes) if spec.options is not None]
    return tuple(each for each in lists[0] if all(each in others for others in lists)) if lists else None


def _specs(workflow: Workflow, name: Placeholder, classes: Mapping[str, NodeClass]) -> list[NodeInput]:
    targets = workflow.targets.get(name, ())
    return [classes[workflow.graph[each.node]["class_type"]].inputs[each.input] for each in targets]


def _smallest(specs: list[NodeInput]) -> int | None:
    return min((spec.max for spec in specs if spec.max), default=None)


def _title(model: str) -> str:
    """The file name of a checkpoint, without its folder and its ending."""
    return PurePosixPath(model.replace("\\", "/")).stem
