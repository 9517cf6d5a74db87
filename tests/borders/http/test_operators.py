"""The routes and commands of operators: who may use them, what they do."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from common.application.operation.dead_letters import _request_of
from common.application.resources import Resources
from common.bus.port import Reject, WorkQueue
from common.domain.images import Failure, Status
from common.messages import GenerateImage
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from common.runtime.serving import serving
from services.cli.main import main
from services.janitor.worker import run_janitor
from tests.announcing import FakeGenerator
from tests.making import an_image
from tests.security import callers
from tests.waiting import until

STATUS, LETTERS = "/api/status/", "/api/status/dead-letters/"
CLOCK = SystemClock()
PROXY_HEADERS = ["Forwarded", "Via", "X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Proto", "X-Real-IP"]


@asynccontextmanager
async def janitor(api, **settings):
    """A janitor beside the api, as `darkroom up` runs it."""
    stopping = asyncio.Event()
    read = read_settings({"RECONCILE_INTERVAL": "0.2", **settings})
    running = asyncio.create_task(run_janitor(read, Resources(api.bus, api.store, api.media, CLOCK), stopping=stopping))
    try:
        yield
    finally:
        stopping.set()
        await running


async def a_dead_letter(api, image, *, reason="no such model: \x1b[2J") -> str:
    """The id of the letter; `image` is on record."""

    async def reject(_message):
        return Reject(reason)

    before = await api.bus.count_dead_letters()
    await api.store.insert(image)
    command = GenerateImage(id=image.id, source="api", time=CLOCK.now(), owner=image.owner)
    async with api.bus.consume(WorkQueue.GENERATE, reject, concurrency=1):
        await api.bus.send(command)
        await until(lambda: len(api.bus._dead_letters) > before)
    return (await api.bus.dead_letters(100))[-1].id


@pytest.mark.parametrize("header", PROXY_HEADERS)
async def test_without_identity_no_proxy_may_be_between(serve, header):
    async with serve() as api:
        assert (await api.ask("GET", STATUS))[0] == 200
        status, _, problem = await api.ask("GET", STATUS, headers={header: "127.0.0.1"})

    assert (status, problem["code"]) == (403, "not_operator")


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1:80", 200), ("[::1]", 200), ("evil.example", 403), ("127.0.0.2", 403)],
)
async def test_without_identity_the_host_is_loopback(serve, host, status):
    """Also if ALLOWED_HOSTS allows any name."""
    async with serve(ALLOWED_HOSTS="*") as api:
        assert (await api.ask("GET", STATUS, headers={"Host": host}))[0] == status


async def test_without_identity_a_trusted_proxy_ends_it(serve):
    async with serve(TRUSTED_PROXIES="10.0.0.1") as api:
        answers = [
            await api.ask("GET", STATUS),
            await api.ask("GET", LETTERS),
            await api.ask("GET", LETTERS + "x/"),
            await api.ask("DELETE", LETTERS + "x/"),
            await api.ask("POST", LETTERS + "x/redrive/"),
            await api.ask("POST", STATUS + "purge/", json={}),
            await api.ask("POST", STATUS + "sweep/", json={}),
        ]

    assert [(status, problem["code"]) for status, _, problem in answers] == [(403, "not_operator")] * 7


async def test_with_identity_operators_are_listed(serve):
    """An operator may come through a proxy; another owner may not, nor nobody."""
    async with serve(**callers.settings_of(), OPERATORS="ops, ada") as api:
        answers = {}
        for name in ("ada", "ops", "bob"):
            headers = {"Authorization": f"Bearer {callers.token(name)}", "X-Forwarded-For": "192.0.2.1"}
            answers[name] = (await api.ask("GET", STATUS, headers=headers))[0]
        nobody, _, _ = await api.ask("GET", STATUS)

    assert (answers, nobody) == ({"ada": 200, "ops": 200, "bob": 403}, 401)


async def test_a_page_of_another_site_changes_nothing(serve):
    async with serve() as api:
        headers = {"Origin": "https://evil.example"}
        status, _, problem = await api.ask("POST", STATUS + "purge/", json={}, headers=headers)

    assert (status, problem["code"]) == (403, "origin_not_allowed")


async def test_the_status_shows_what_the_janitor_gathered(serve):
    async with serve() as api:
        early = (await api.ask("GET", STATUS))[2]
        await FakeGenerator(api.store, CLOCK).offer("sdxl")
        await api.store.insert(an_image(waiting_since=CLOCK.now(), created_at=CLOCK.now(), model="other"))

        async def is_gathered() -> bool:
            _, _, found = await api.ask("GET", STATUS)
            return bool(found["storage"] and found["linedUp"] == 1 and found["generators"])

        async with janitor(api):
            await until(is_gathered)
            _, _, found = await api.ask("GET", STATUS)
            async with api.http.get(f"{api.url}/metrics") as response:
                metrics = await response.text()

    assert (early["age"], early["queues"], early["linedUp"]) == (None, [], None)
    assert 0 <= found["age"] < 60
    assert [(part["name"], part["ready"]) for part in found["parts"]] == [
        (name, True) for name in ("bus", "store", "media", "events")
    ]
    assert [generator["pool"] for generator in found["generators"]] == ["default"]
    assert "image.work.default" in {queue["name"] for queue in found["queues"]}
    assert found["storage"]["files"] == 0
    assert "darkroom_images_lined_up 1.0" in metrics  # of the one process


async def test_dead_letters_are_handled_over_http(serve):
    """One is shown and dropped; one of a failed image is requested again; one of a queued image is delivered again."""
    async with serve() as api:
        webhook = "https://hooks.example.org/"
        failed = an_image(status=Status.FAILED, error=Failure(code="undeliverable", detail="x"), webhook=webhook)
        queued = an_image()
        dropped, again, delivered = [await a_dead_letter(api, image) for image in (an_image(), failed, queued)]

        _, _, listed = await api.ask("GET", LETTERS)
        _, _, shown = await api.ask("GET", f"{LETTERS}{dropped}/")
        status, _, _ = await api.ask("DELETE", f"{LETTERS}{dropped}/")
        _, _, one = await api.ask("POST", f"{LETTERS}{again}/redrive/")
        _, _, other = await api.ask("POST", f"{LETTERS}{delivered}/redrive/")
        missing, _, problem = await api.ask("POST", f"{LETTERS}{dropped}/redrive/")

        assert [letter["id"] for letter in listed["deadLetters"]] == [dropped, again, delivered]
        assert json.loads(shown["body"])["type"] == "image.generate"
        assert "\x1b" not in shown["reason"]
        assert status == 204
        assert one["imageId"] not in {None, failed.id}
        assert other["imageId"] is None
        assert await api.bus.waiting(WorkQueue.GENERATE) == 1
        assert await api.bus.waiting(WorkQueue.INTAKE) == 1
        assert _request_of(failed).webhook == webhook
        assert (missing, problem["code"]) == (404, "dead_letter_not_found")


async def test_the_commands_reach_the_one_process(serve, capsys, monkeypatch):
    """With `memory://`, every command of an operator uses the api of the running server."""
    async with serve() as api, janitor(api):
        monkeypatch.setenv("BUS_URL", "memory://")
        monkeypatch.setenv("API_PORT", str(api.port))
        letter = await a_dead_letter(api, an_image(created_at=CLOCK.now()))

        async def run(*arguments: str) -> tuple[int, str, str]:
            status = await asyncio.to_thread(main, arguments)
            return status, *capsys.readouterr()

        _, listed, count = await run("dead-letters", "list")
        _, shown, _ = await run("dead-letters", "show", letter)
        redriven = await run("dead-letters", "redrive", letter)
        gone = await run("dead-letters", "drop", letter)
        purged = await run("purge", "--older-than", "7d", "--dry-run")
        nothing = await run("purge")
        swept = await run("sweep", "--dry-run", "--url", api.url)

    assert listed.startswith(f"{letter}  ")
    assert ("\x1b" in listed, "1 dead letters" in count) == (False, True)
    assert json.loads(shown)["queue"] == "image.work.default"
    assert redriven[0] == 0
    assert (gone[0], "there is no dead letter" in gone[2]) == (1, True)
    assert (purged[0], json.loads(purged[1])["dryRun"]) == (0, True)
    assert (nothing[0], json.loads(nothing[1])["images"]) == (0, 0)  # reported at once
    assert (swept[0], json.loads(swept[1])["refused"]) == (0, None)


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(text="<html>Please sign in</html>", content_type="text/html"),
        web.Response(status=302, headers={"Location": "https://evil.example/"}),
        web.Response(status=502),
        web.json_response([1]),
        web.json_response({"deadLetters": "none"}),
        web.json_response({"code": "not_operator", "detail": "no \x1b[2J"}, status=403),
    ],
    ids=["page", "redirect", "proxy", "list", "other", "problem"],
)
async def test_an_odd_answer_is_a_sentence(capsys, monkeypatch, answer):
    async def handle(_request):
        return answer

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with serving(app, host="127.0.0.1", port=0, stop_timeout_s=0) as port:
        monkeypatch.setenv("BUS_URL", "memory://")
        status = await asyncio.to_thread(main, ["dead-letters", "list", "--url", f"http://127.0.0.1:{port}"])

    said = capsys.readouterr().err
    assert status == 1
    assert said.startswith("darkroom: ")
    assert "\x1b" not in said


def test_a_command_without_a_server_says_so(capsys, monkeypatch):
    monkeypatch.setenv("BUS_URL", "memory://")
    monkeypatch.setenv("API_PORT", "9")  # nothing listens there

    assert main(["dead-letters", "list"]) == 1
    assert "`darkroom up` starts a server" in capsys.readouterr().err


async def test_a_purge_without_a_retention_needs_an_age(serve):
    async with serve(RETENTION_DAYS="never") as api:
        status, _, problem = await api.ask("POST", STATUS + "purge/", json={})

    assert (status, problem["code"]) == (400, "no_retention")
