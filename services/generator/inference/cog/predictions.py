"""A prediction of a cog container: its events, its result and its failures.

Source: cog `docs/http.md`; tests/transcripts has answers of cog 0.23.1.
"""

from __future__ import annotations

import re
from typing import Any, Final

import aiohttp

from common.domain.errors import BadImage, Transient
from common.domain.texts import clean_text
from services.generator.inference.encoded_pictures import decoded_picture
from services.generator.inference.event_stream import server_sent_events
from services.generator.inference.port import GeneratedImage, OnProgress
from services.generator.inference.service_client import ServiceClient, read_result

# tqdm's `50%|█████     | 10/20 [00:01<00:01]`, and `10/20` alone; the last one counts
_STEPS: Final = re.compile(r"(?<![\d/.])(\d{1,6})/(\d{1,6})(?![\d/.])")
_MAX_LINE: Final = 4_000  # characters of a log event that are searched


async def read_prediction(
    response: aiohttp.ClientResponse, client: ServiceClient, on_progress: OnProgress, *, steps: int, max_bytes: int
) -> GeneratedImage:
    """The result of a prediction that was accepted, as a stream or as one answer.

    Raises:
        Transient: it failed, was cancelled, or ended without an answer.
        BadImage: its output is no picture.
    """
    if response.content_type != "text/event-stream":
        answer = await read_result(response, max_bytes=max_bytes)
        return await _result(answer, client, max_bytes=max_bytes)
    # the picture comes twice, as an output and with the end; base64 makes 4 characters of 3 bytes
    limit = 2 * max_bytes * 4 // 3 + 1_000_000
    async for event, data in server_sent_events(response, max_bytes=limit):
        if event == "log":
            _report(data, on_progress, steps=steps)
        elif event == "completed":
            return await _result(data, client, max_bytes=max_bytes)
        elif event == "error":
            raise Transient(f"the stream of the inference service broke: {clean_text(str(data.get('error')), 200)}")
    raise Transient("the inference service ended its answer without a picture")


def _report(data: dict[str, object], on_progress: OnProgress, *, steps: int) -> None:
    """A model prints what it likes; only a count of our steps is progress of ours."""
    found = _STEPS.findall(str(data.get("data"))[-_MAX_LINE:])
    counts = [(int(done), int(total)) for done, total in found if int(total) == steps]
    if counts:
        on_progress(*counts[-1])


async def _result(answer: Any, client: ServiceClient, *, max_bytes: int) -> GeneratedImage:
    if not isinstance(answer, dict):
        raise BadImage("the answer of the inference service is not a JSON object")
    status = answer.get("status")
    if status == "canceled":
        raise Transient("the prediction was cancelled at the inference service")
    if status == "failed" or answer.get("error"):  # a failure has the status 200
        raise Transient(f"the prediction failed: {clean_text(str(answer.get('error')), 300)}")
    return GeneratedImage(await _picture(answer.get("output"), client, max_bytes=max_bytes), painting_s=_time(answer))


async def _picture(output: object, client: ServiceClient, *, max_bytes: int) -> bytes:
    """A data URL, the first of a list, or a file of the container itself."""
    first = output[0] if isinstance(output, list) and output else output
    if isinstance(first, str) and first[:5].lower() == "data:":
        return await decoded_picture(first, max_bytes=max_bytes)
    if isinstance(first, str) and re.match(r"https?://", first, re.IGNORECASE):
        return await client.fetch_picture(first, max_bytes=max_bytes)
    raise BadImage("the output of the inference service is no picture")


def _time(answer: dict[str, Any]) -> float | None:
    metrics = answer.get("metrics")
    found = metrics.get("predict_time") if isinstance(metrics, dict) else None
    return float(found) if isinstance(found, int | float) and 0 <= found < 1e6 else None
