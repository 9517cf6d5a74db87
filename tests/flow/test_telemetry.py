"""Traces and log lines of pictures, over separate processes."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.cluster import Cluster, front_end, running
from tests.flow.test_webhooks import SETTINGS
from tests.media_folder import remove_file
from tests.otlp import receiving_traces, tree
from tests.unit.webhooks.support import receiving, status

TRACE = "0af7651916cd43dd8448eb211c80319c"
BROWSER = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{BROWSER}-01"
PROMPT = "a lighthouse that nobody may read about"
SCHEMA = json.loads(Path("docs/log-line.schema.json").read_text())


def event(service, kind, event_type, below=()):
    return (service, kind, f"{'send' if kind == 'producer' else 'process'} image.events {event_type}", [*below])


def sent(service, event_type):
    """An event on its way to a websocket."""
    return event(service, "producer", event_type, [event("api", "consumer", event_type)])


EXPECTED = [
    (
        "api",
        "server",
        "POST /v1/images/generations",
        [
            ("api", "internal", "store record", []),
            sent("api", "image.queued"),
            (
                "api",
                "producer",
                "send image.work image.generate",
                [
                    (
                        "generator",
                        "consumer",
                        "process image.work.default.v1 image.generate",
                        [
                            (
                                "generator",
                                "client",
                                "generate_content sdxl",
                                [("inference", "server", "POST /inference/images/generations", [])],
                            ),
                            ("generator", "internal", "finish picture", []),
                            ("generator", "internal", "store files", []),
                            ("generator", "internal", "store record", []),
                            sent("generator", "image.completed"),
                            sent("generator", "image.started"),
                            ("webhooks", "client", "POST webhook", []),
                            ("webhooks", "client", "POST webhook", []),
                        ],
                    ),
                ],
            ),
        ],
    )
]


def count(spans):
    return sum(1 + count(below) for *_, below in spans)


def lines_of(cluster, alias):
    """The lines of the log of a service, each of which must be as the schema says."""
    lines = [json.loads(line) for line in cluster.services[alias].log_file.read_text().splitlines()]
    for line in lines:
        jsonschema.validate(line, SCHEMA, format_checker=jsonschema.FormatChecker())
    assert {line["service"] for line in lines} == {cluster.services[alias].name}
    return lines


@pytest.mark.rabbitmq
@pytest.mark.timeout(180)
async def test_one_picture_is_one_trace_over_all_processes(tmp_path, vhost):
    """The tree of spans from the span of a browser to websocket and webhook, and the log lines of all services."""
    async with receiving_traces() as traces, receiving(status(204)) as hooks:
        settings = {
            **SETTINGS,
            "OTEL_EXPORTER_OTLP_ENDPOINT": traces.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "DEBUG",
        }
        cluster = Cluster(tmp_path, BUS_URL=vhost, **settings)
        cluster.settings["INFERENCE_SERVICE_URL"] = f"http://127.0.0.1:{cluster.inference_port}"
        for name in ("inference", "api", "generator", "janitor", "webhooks"):
            cluster.add(name)
        async with running(cluster):
            async with front_end(cluster.url) as page, page.socket() as events:
                _, image = await page.post(
                    "/v1/images/generations",
                    {"prompt": PROMPT, "width": 64, "height": 64, "steps": 2, "webhook": hooks.url()},
                    traceparent=TRACEPARENT,
                )
                await events.until_final(image["id"])
                remove_file(cluster.media, image["imageUrl"].removeprefix("/media/"))
                async with page.http.get(cluster.url + image["imageUrl"]) as response:
                    assert response.status == 404
                    request_id = response.headers["X-Request-Id"]
            spans = await traces.trace(TRACE, count(EXPECTED))
            for service in cluster.services.values():
                assert await service.stop() == 0
    assert tree(spans, BROWSER, "cloudevents.event_type") == EXPECTED
    assert len(traces.of_trace(TRACE)) == count(EXPECTED)
    assert not any(PROMPT.encode() in body for body in traces.bodies)
    logs = {alias: lines_of(cluster, alias) for alias in cluster.services}
    lost = next(line for line in logs["api"] if "is missing" in line["event"])
    assert (lost["image_id"], lost["request_id"]) == (image["id"], request_id)
    ids_of_spans = {each.id for each in spans}
    for words in ("started at", "completed in", "painted", "204, delivered"):
        line = next(line for lines in logs.values() for line in lines if words in line["event"])
        assert (line["image_id"], line["trace_id"]) == (image["id"], TRACE)
        assert line.get("span_id") in ({None} if words == "204, delivered" else ids_of_spans)
