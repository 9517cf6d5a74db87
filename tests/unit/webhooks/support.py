"""Support for the tests of webhooks: receivers over real HTTP, a courier with a real store."""

import asyncio
import socket
from contextlib import asynccontextmanager

from aiohttp import web
from standardwebhooks import Webhook

from common.application.webhooks.deliveries import Deliveries
from common.runtime.reading_settings import read_settings
from services.webhooks.courier import Courier
from services.webhooks.sender import WebhookSender
from tests.making import an_event_factory, an_image
from tests.waiting import until

SECRET = "whsec_" + "c2VjcmV0" * 6
OLD_SECRET = "whsec_" + "b2xkIG9u" * 6


class Receiver:
    """Answers by its handlers in turn, the last again and again; keeps what it got."""

    def __init__(self, *handlers):
        self.handlers = list(handlers)
        self.got = []  # pairs of headers and body
        self.port = 0
        self.scheme = "http"

    async def handle(self, request):
        self.got.append((dict(request.headers), await request.read()))
        handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
        return await handler(request)

    def url(self, host="localhost", path="/hook"):
        return f"{self.scheme}://{host}:{self.port}{path}"

    @property
    def ids(self):
        return [headers["webhook-id"] for headers, _ in self.got]


def arrivals_of(receiver, image_id):
    """The types of what has arrived for an image by their ids, each once, in the order of the first arrivals."""
    found: dict[str, str] = {}
    for headers, body in receiver.got:
        event = Webhook(SECRET).verify(body, headers)
        if event["data"]["id"] == image_id:
            found.setdefault(headers["webhook-id"], event["type"])
    return found


def status(code, **headers):
    async def answer(_request):
        return web.Response(status=code, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


async def hang(_request):
    await asyncio.sleep(3600)


async def break_off(request):
    request.transport.abort()
    return web.Response()


async def break_off_within_the_headers(request):
    request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    request.transport.close()
    return web.Response()


async def break_off_within_the_body(request):
    request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe beginning")
    request.transport.close()
    return web.Response()


async def drip(request):
    """Send a header without end, so that the connection is never idle."""
    request.transport.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        request.transport.write(b"x")
        await asyncio.sleep(0.02)


async def speak_another_protocol(request):
    request.transport.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    request.transport.close()
    return web.Response()


async def never_ending(request):
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65_536)


@asynccontextmanager
async def receiving(*handlers, host="127.0.0.1", port=0, tls=None):
    receiver = Receiver(*handlers or [status(204)])
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
    receiver.scheme = "http" if tls is None else "https"
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


def to_loopback(host, port, **_):
    """Every name is this machine, at the port of the URL."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


def webhook_settings(**more):
    return read_settings(
        {"WEBHOOK_SECRETS": f"{SECRET},{OLD_SECRET}", "WEBHOOK_ALLOWED_HOSTS": "localhost,127.0.0.1,*.test", **more}
    )


@asynccontextmanager
async def delivering(store, clock, *, look_up=to_loopback, tls=True, poll_s=0.02, **more):
    """A courier at work; at the end it is stopped, and its tries are waited for."""
    settings = webhook_settings(**more)
    stopping = asyncio.Event()
    async with WebhookSender.opened(settings, clock, look_up=look_up, tls=tls) as sender:
        courier = Courier(settings, deliveries=Deliveries(store, clock), sender=sender, clock=clock, poll_s=poll_s)
        task = asyncio.create_task(courier.run(stopping))
        try:
            yield courier
        except BaseException:
            task.cancel()
            await asyncio.wait([task])
            raise
        stopping.set()
        courier.wake()
        await task


async def recorded(store, clock, url, *, image=None, types=("image.completed",)):
    """Deliveries of events of one image, by their ids."""
    image = image or an_image(created_at=clock.now(), webhook=url)
    events = an_event_factory(clock)
    ids = []
    for revision, event_type in enumerate(types, image.revision):
        event = events.changed(image.model_copy(update={"revision": revision}), event_type)
        await Deliveries(store, clock).record(image, event)
        ids.append(event.id)
    return ids


async def tried(deliveries, delivery_id, times=1):
    """The delivery once it has been tried so often and the outcome is on record."""
    await until(lambda: _has(deliveries, delivery_id, times), pause_s=0.01)
    return await deliveries.get(delivery_id)


async def _has(deliveries, delivery_id, times):
    return len((await deliveries.get(delivery_id)).tries) >= times
