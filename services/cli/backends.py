"""`darkroom backends check`: what each inference service offers, shown by one small picture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from services.cli.console import CommandFailed, add_command, json_text, load_settings, print_message, printable

if TYPE_CHECKING:
    from common.application.capabilities import Capabilities, Model
    from common.domain.errors import InferenceError
    from common.runtime.settings import Settings
    from services.cli.console import Subparsers
    from services.generator.backends.definition import BackendDefinition
    from services.generator.inference.job import Job
    from services.generator.inference.port import InferenceBackend

# sides and steps of the trial: a server that refuses one of them gets the next
_TRIALS = ((256, 4), (512, 4), (512, 30), (1024, 30))
_SHOWN = 8  # names in one line
_IN_TABLE = 2  # names in a cell of the table
_ADVICE = {
    "inference_unreachable": "start the server, or correct host and port in INFERENCE_SERVICE_URL or in the file of "
    "BACKENDS",
    "inference_unavailable": "correct the path or the parameters of INFERENCE_SERVICE_URL, INFERENCE_SERVICE_API_KEY, "
    "the entry in the file of BACKENDS, or what the reason names",
    "inference_refused": "use --model with a model of the list; docs/inference.md says what the dialect can do",
    "inference_failed": "see the log of the server, and try again; INFERENCE_TIMEOUT is the longest wait",
    "bad_image": "see the log of the server; MAX_IMAGE_FILE_SIZE is the largest picture that is taken",
}


def add_parsers(commands: Subparsers) -> None:
    backends = add_command(commands, "backends", "check the inference services", _check)
    actions = backends.add_subparsers(metavar="ACTION", required=True, dest="action")
    check = actions.add_parser("check", help="connect, show what each service offers, paint one small picture")
    check.add_argument("url", nargs="?", help="URL of one service (default: all in INFERENCE_SERVICE_URL or BACKENDS)")
    check.add_argument("--model", help="the model of the pictures (default: the first one of each service)")
    check.add_argument("--no-picture", action="store_true", help="paint no picture")
    check.add_argument("--json", action="store_true", help="print one JSON object")


def _check(arguments: argparse.Namespace) -> int:
    import asyncio

    from common.domain.errors import Misconfigured
    from services.generator.backends.configured import backends_at, configured_backends

    settings = load_settings()
    options = {"model": arguments.model, "with_picture": not arguments.no_picture}
    try:
        backends = backends_at([arguments.url], settings) if arguments.url else configured_backends(settings)
        if not backends:
            raise CommandFailed("give a URL, or set INFERENCE_SERVICE_URL or BACKENDS", status=2)
        reports = asyncio.run(check_all(settings, backends, **options))
    except Misconfigured as error:
        raise CommandFailed(error.detail, status=2, code=error.code) from error
    if arguments.json:
        print(json_text(reports[0] if len(reports) == 1 else {"backends": reports}))
    elif len(reports) == 1:
        _print_report(reports[0])
    else:
        print_table(reports)
    return 1 if any(report["problem"] for report in reports) else 0


async def check(settings: Settings, url: str, *, model: str | None = None, with_picture: bool = True) -> dict[str, Any]:
    """The report of a check of one URL, as `--json` prints it. Raises Misconfigured."""
    from services.generator.backends.configured import backends_at

    (report,) = await check_all(settings, backends_at([url], settings), model=model, with_picture=with_picture)
    return report


async def check_all(
    settings: Settings,
    backends: Sequence[BackendDefinition],
    *,
    model: str | None = None,
    with_picture: bool = True,
) -> list[dict[str, Any]]:
    """The reports of a check of these back ends at the same time, in their order. Raises Misconfigured."""
    import asyncio

    import aiohttp

    from common.runtime.clock import SystemClock
    from services.generator.backends.backend import connected

    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        found = [(each, connected(each, http=http, settings=settings, clock=SystemClock())) for each in backends]
        reports = (_report(definition, backend, settings, model, with_picture) for definition, backend in found)
        return list(await asyncio.gather(*reports))


async def _report(
    definition: BackendDefinition, backend: InferenceBackend, settings: Settings, model: str | None, with_picture: bool
) -> dict[str, Any]:
    from common.domain.errors import InferenceError

    report: dict[str, Any] = {
        "name": definition.name,
        "url": _without_credentials(definition.url),
        "service": None,
        "picture": None,
        "problem": None,
    }
    try:
        offered = await backend.capabilities(fresh=True)
        report["service"] = offered.model_dump(mode="json", exclude_none=True)
        if with_picture:
            report["picture"] = await _trial(backend, offered, model, settings)
    except InferenceError as error:
        report["problem"] = _problem(error)
    return report


async def _trial(
    backend: InferenceBackend, offered: Capabilities, model: str | None, settings: Settings
) -> dict[str, Any]:
    """Paint one picture, as small as the server takes it. Raises InferenceError."""
    from common.domain.errors import Rejected

    *others, last = _TRIALS
    for side, steps in others:
        try:
            return await _paint(backend, _job(_chosen(offered, model), offered, side, steps), settings)
        except Rejected:
            continue
    return await _paint(backend, _job(_chosen(offered, model), offered, *last), settings)


async def _paint(backend: InferenceBackend, job: Job, settings: Settings) -> dict[str, Any]:
    import asyncio

    from common.runtime.clock import SystemClock
    from services.generator.pictures import check as check_picture

    clock, progress, previews = SystemClock(), list[tuple[int, int]](), list[bytes]()
    began_s = clock.monotonic()
    result = await backend.generate(job, lambda *step: progress.append(step), previews.append)
    checked = await asyncio.to_thread(
        check_picture,
        result.content,
        max_pixels=settings.max_image_pixels,
        thumbnail_size=64,
        thumbnail_format=None,
        ordered=(job.width, job.height),
    )
    return {
        "model": job.model,
        "sampler": job.sampler,
        "steps": job.steps,
        "width": checked.width,
        "height": checked.height,
        "format": checked.format.value,
        "bytes": len(result.content),
        "seconds": round(clock.monotonic() - began_s, 2),
        "progress": len(progress),
        "previews": len(previews),
    }


def _chosen(offered: Capabilities, name: str | None) -> Model:
    from common.application.capabilities import Model

    if name is None:
        return offered.models[0] if offered.models else Model(id="sdxl")
    return next((each for each in offered.models if each.id == name), Model(id=name))


def _job(model: Model, offered: Capabilities, side: int, steps: int) -> Job:
    import secrets
    import uuid

    from services.generator.inference.job import Job

    samplers = model.samplers or offered.samplers
    return Job(
        image_id=str(uuid.uuid4()),
        remote_id=str(uuid.uuid4()),
        refused=0,
        prompt="a lighthouse at dusk",
        negative_prompt="",
        model=model.id,
        width=side,
        height=side,
        steps=steps,
        cfg_scale=7.5,  # the default of a request, which a server without the field takes
        sampler="Euler" if not samplers or "Euler" in samplers else samplers[0],
        seed=secrets.randbelow(2**32),
        hires_fix=False,
    )


def _problem(error: InferenceError) -> dict[str, str]:
    from common.domain.errors import Denied

    detail = error.reason if isinstance(error, Denied) else error.detail
    return {"code": error.code, "detail": detail, "advice": _ADVICE[error.code]}


def _without_credentials(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def print_table(reports: Sequence[dict[str, Any]]) -> None:
    """One line for each back end, then what is wrong."""
    rows = [("name", "dialect", "service", "models", "picture", "result"), *map(_table_row, reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    for report in reports:
        if problem := report["problem"]:
            print_message(f"{printable(report['name'])}: {problem['code']}: {problem['detail']}")
            print_message(f"what to do: {problem['advice']}")


def _table_row(report: dict[str, Any]) -> tuple[str, ...]:
    service, picture, problem = report["service"] or {}, report["picture"], report["problem"]
    engine = " ".join(service[key] for key in ("engine", "version") if key in service)
    size = "{width} × {height}, {seconds} s".format(**picture) if picture else ""
    models = _listed_models(service["models"]) if service else ""
    texts = (report["name"], service.get("dialect", ""), engine, models, size, problem["code"] if problem else "ok")
    return tuple(printable(text) or "-" for text in texts)


def _listed_models(models: list[dict[str, Any]]) -> str:
    if not models:
        return "any"
    names = [model["id"] for model in models]
    return ", ".join(names[:_IN_TABLE]) + (f" and {len(names) - _IN_TABLE} more" if len(names) > _IN_TABLE else "")


def _print_report(report: dict[str, Any]) -> None:
    rows = [("url", report["url"]), *_service_rows(report["service"] or {})]
    if picture := report["picture"]:
        rows.append(("picture", "{width} × {height} {format}, {bytes} bytes, {seconds} s".format(**picture)))
        rows.append(("", "{model}, {sampler}, {steps} steps".format(**picture)))
        rows.append(("", "{progress} reports of progress, {previews} previews".format(**picture)))
    for name, text in rows:
        print(f"{name:<12}{printable(text)}".rstrip())
    if problem := report["problem"]:
        print_message(f"{problem['code']}: {problem['detail']}")
        print_message(f"what to do: {problem['advice']}")


def _service_rows(service: dict[str, Any]) -> list[tuple[str, str]]:
    if not service:
        return []
    name = " ".join(service[key] for key in ("engine", "version") if key in service)
    rows = [("dialect", service.get("dialect", "unknown")), ("service", name or "unknown")]
    rows += [("notice", service["notice"])] if "notice" in service else []
    rows.append(("can", ", ".join(service.get("features", ())) or "unknown"))
    models = service["models"]
    rows.append(("models", f"{len(models)}" if models else "not listed: any name is sent"))
    for model in models[:_SHOWN]:
        size = " × ".join(str(model[key]) for key in ("max_width", "max_height") if key in model)
        samplers = model["samplers"] or service["samplers"]
        limits = [f"at most {size}"] if size else []
        limits += [f"multiples of {model['grid']}"] if model.get("grid", 1) > 1 else []
        limits += [f"samplers: {_listed(samplers)}"] if samplers else []
        rows.append(("", "; ".join([model["id"], *limits])))
    return rows


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
