"""The examples of requests in the served OpenAPI document, sent to the server."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest
from yarl import URL

from common.application.resources import Resources
from common.runtime.reading_settings import read_settings
from services.api.routes.openapi import examples
from services.generator.backends.backend import require_valid
from services.generator.backends.configured import configured_backends
from services.generator.worker import run_generator
from tests.borders.http.conftest import CLOCK, ORDERS
from tests.borders.http.test_operators import a_dead_letter, janitor
from tests.cluster import ORDER
from tests.inference_double import inference_double
from tests.making import an_image

pytestmark = pytest.mark.border(rule="D8")
SHARING = {"SHARE_LINKS": "true", "MEDIA_SIGNING_KEYS": "a-signing-secret-of-the-tests-0123456789"}
NOT_OFFERED = {"openai_edits", "openai_variations"}  # their answer is a 404 that says so


@dataclass
class ExampleRequest:
    operation: str
    method: str
    path: str
    query: dict[str, str]
    body: dict | None
    successes: list[int]


def requests_of(document: dict) -> Iterator[ExampleRequest]:
    """One request for each example of a body and of a query, at least one for each operation."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            successes = [int(status) for status in operation["responses"] if status.startswith("2")]
            parameters = operation["parameters"]
            url = path
            for each in parameters:
                if each["in"] == "path":
                    url = url.replace(f"{{{each['name']}}}", each["example"])
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            bodies = [example["value"] for example in content["examples"].values()] if content else [None]
            queries: list[dict[str, str]] = [{}]
            for each in parameters:
                if each["in"] == "query":
                    parts = [each["schema"], *each["schema"].get("anyOf", [])]
                    queries += [{each["name"]: value} for part in parts for value in part.get("examples", [])]
            for body in bodies:
                for query in queries:
                    yield ExampleRequest(operation["operationId"], method.upper(), url, query, body, successes)


@asynccontextmanager
async def generator(api, url: str):
    """A generator beside the api, as `darkroom up` runs it."""
    stopping = asyncio.Event()
    settings = read_settings({"INFERENCE_SERVICE_URL": url})
    backends = configured_backends(settings)
    await require_valid(backends, settings)
    resources = Resources(api.bus, api.store, api.media, CLOCK)
    running = asyncio.create_task(run_generator(settings, resources, backends=backends, stopping=stopping))
    try:
        yield
    finally:
        stopping.set()
        await running


class Sender:
    """Sends the requests, with what exists on this server in place of the ids in the examples."""

    def __init__(self, api, letters: list[str]) -> None:
        self.api = api
        self.letters = letters

    async def send(self, request: ExampleRequest) -> int:
        names = await self._names(request)
        path, query = request.path, dict(request.query)
        for example, name in names.items():
            path = path.replace(example, name)
        if request.operation == "files_archive":
            query["key"] = await self._archive_key()
        body = json.dumps(request.body).replace(examples.IMAGE_ID, names.get(examples.IMAGE_ID, ""))
        data = {"data": body, "headers": {"Content-Type": "application/json"}} if request.body is not None else {}
        url = URL(f"{self.api.url}{path}{'?' + urlencode(query) if query else ''}", encoded=True)
        async with self.api.http.request(request.method, url, **data) as response:
            await response.read()
            return response.status

    async def _names(self, request: ExampleRequest) -> dict[str, str]:
        if "dead-letters/42" in request.path:
            return {"/42/": f"/{self.letters.pop()}/"}
        if request.operation == "images_cancel":
            waiting = an_image(created_at=CLOCK.now())
            await self.api.store.insert(waiting)
            return {examples.IMAGE_ID: waiting.id}
        if examples.IMAGE_ID in f"{request.path}{request.body}":
            image = await self._image()
            key = image["imageUrl"].partition("?")[0].removeprefix("/media/")
            names = {examples.OF_PATHS["key"]: key, examples.IMAGE_ID: image["id"]}
            return names | (await self._share(image) if examples.SHARE_ID in request.path else {})
        if examples.TOKEN in request.path:
            return await self._share(await self._image())
        return {}

    async def _image(self) -> dict:
        status, _, image = await self.api.ask("POST", ORDERS, json=ORDER)
        assert status == 201, image
        return image

    async def _share(self, image: dict) -> dict[str, str]:
        status, _, share = await self.api.ask("POST", f"/api/images/{image['id']}/shares/", json={"expiresIn": 3600})
        assert status == 201, share
        return {examples.SHARE_ID: share["id"], examples.TOKEN: share["url"].rpartition("/share/")[2]}

    async def _archive_key(self) -> str:
        image = await self._image()
        status, _, archive = await self.api.ask("POST", "/api/archives/", json={"ids": [image["id"]]})
        assert status == 201, archive
        return URL(archive["url"]).query["key"]


async def test_each_example_has_the_success_that_is_documented(serve):
    """All services run in this process; what an example names by id exists, under an id of its own."""
    async with inference_double() as inference, serve(**SHARING) as api:
        letters = [await a_dead_letter(api, an_image(created_at=CLOCK.now())) for _ in range(3)]
        async with generator(api, inference.url), janitor(api):
            _, _, document = await api.ask("GET", "/openapi.json")
            sender, wrong, sent = Sender(api, letters), [], []
            for request in requests_of(document):
                if request.operation not in NOT_OFFERED:
                    status = await sender.send(request)
                    sent.append(request.operation)
                    wrong += [(request, status)] if status not in request.successes else []

    assert wrong == []
    operations = {each["operationId"] for path in document["paths"].values() for each in path.values()}
    assert set(sent) == operations - NOT_OFFERED
    assert sent.count("generations_generate") == 4
    assert sent.count("images_history") > 4
