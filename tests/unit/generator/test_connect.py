import aiohttp
import pytest

from common.domain.errors import Misconfigured
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.inference.connect import connect_inference


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8001",
        "ftp://secret@host/",
        "",
        "nope+http://secret@host",
        "sdapi+http://",
        "cog+http://secret@host:x",
        "cog+http://host?concurrency=0",
        "sdapi+http://host?secret=x",
        "openai+http://host?server=secret",
    ],
)
async def test_an_unknown_scheme_is_refused_without_the_url(url):
    async with aiohttp.ClientSession() as http:
        with pytest.raises(Misconfigured, match="INFERENCE_SERVICE_URL") as raised:
            connect_inference(url, http=http, settings=read_settings({}), clock=SystemClock())

    assert "secret" not in raised.value.detail
