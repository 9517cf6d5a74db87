"""What an operator does by hand, over HTTP: the bus of `darkroom up` is in its process, which serves `/api/status/`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, ValidationError

from common.messages import PurgeReport, SweepReport, TickData
from common.runtime.bounded_read import TooLarge, read_body
from services.api.status.schema import DeadLetterContent, DeadLetterList, Redriven
from services.cli.console import CommandFailed, json_text
from services.cli.dead_letters import print_count, print_letter, print_redriven

ANSWER_S: Final = 90.0  # a server waits 20 s for the report of a janitor
MAX_ANSWER: Final = 20_000_000  # a dead letter of 1 MB, escaped
_LETTERS: Final = "api/status/dead-letters/"

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class OperatorClient:
    """The actions of the operator's commands; each returns the exit status."""

    url: str
    token: str | None

    async def purge(self, data: TickData) -> int:
        return await self._run_timer("purge", PurgeReport, data)

    async def sweep(self, data: TickData) -> int:
        return await self._run_timer("sweep", SweepReport, data)

    async def list_letters(self) -> int:
        found = self._read(DeadLetterList, await self._ask("GET", _LETTERS))
        for letter in found.dead_letters:
            print_letter(letter.id, letter.died_at, letter.queue, letter.reason)
        print_count(len(found.dead_letters))
        return 0

    async def show_letter(self, letter_id: str) -> int:
        found = self._read(DeadLetterContent, await self._ask("GET", _letter(letter_id)))
        fields = json.loads(found.model_dump_json(by_alias=True))
        names = ("id", "reason", "queue", "diedAt", "body")  # in the order of the command over the bus
        sys.stdout.write(json_text({name: fields[name] for name in names}) + "\n")
        return 0

    async def redrive_letter(self, letter_id: str) -> int:
        found = self._read(Redriven, await self._ask("POST", _letter(letter_id) + "redrive/"))
        print_redriven(found.image_id)
        return 0

    async def drop_letter(self, letter_id: str) -> int:
        await self._ask("DELETE", _letter(letter_id))
        return 0

    async def _run_timer(self, name: str, model: type[PurgeReport | SweepReport], data: TickData) -> int:
        body = data.model_dump(mode="json", by_alias=True, exclude_none=True)
        answer = await self._ask("POST", f"api/status/{name}/", body)
        if isinstance(answer, dict) and answer.get("published") is True:
            raise CommandFailed("the tick is published, but no janitor has reported yet")
        report = json.loads(self._read(model, answer).model_dump_json(by_alias=True))
        sys.stdout.write(json_text(report) + "\n")
        return 1 if report.get("refused") else 0

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> object:
        """The JSON of a good answer, None without a body.

        Raises:
            CommandFailed: there is no answer, or it is an error.
        """
        url = f"{self.url.rstrip('/')}/{path}"
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_S)) as http,
                http.request(method, url, json=body, headers=headers, allow_redirects=False) as response,
            ):
                content = await read_body(response, max_bytes=MAX_ANSWER)
                return self._answer(response.status, content)
        except aiohttp.ClientConnectorCertificateError as error:
            text = f"the certificate of {self.url} is not accepted ({_reason(error)})"
            raise CommandFailed(f"{text}; SSL_CERT_FILE names a file of trusted certificates") from error
        except aiohttp.ClientSSLError as error:
            raise CommandFailed(f"there is no TLS at {self.url} ({_reason(error)})") from error
        except TimeoutError as error:
            raise CommandFailed(f"{self.url}: no answer within {ANSWER_S:g} s") from error
        except (aiohttp.ClientError, TooLarge, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise CommandFailed(f"{self.url}: {reason}; `darkroom up` starts a server") from error

    def _answer(self, status: int, content: bytes) -> object:
        if status == 204:
            return None
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if 200 <= status < 300 and isinstance(answer, dict):
            return answer
        if isinstance(answer, dict) and isinstance(answer.get("detail"), str):
            raise CommandFailed(f"{answer.get('code')}: {answer['detail']}", code=str(answer.get("code")))
        raise CommandFailed(f"{self.url} answered {status}: is --url the address of a Darkroom server?")

    def _read(self, model: type[M], answer: object) -> M:
        try:
            return model.model_validate(answer)
        except ValidationError as error:
            raise CommandFailed(f"{self.url}: the answer cannot be read; is it a Darkroom server?") from error


def _reason(error: aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError) -> str:
    """What OpenSSL says, without the rest of its exception."""
    cause = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error.os_error
    return getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or str(cause)


def _letter(letter_id: str) -> str:
    return f"{_LETTERS}{quote(letter_id, safe='')}/"
