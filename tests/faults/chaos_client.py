"""The client in a round of chaos: requests images, retries until answered, cancels some, deletes some.

One request of eight is for three images, and is cancelled and deleted as a whole.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence

import aiohttp

from tests.cluster import ORDER
from tests.faults.follower import Follower


class ChaosClient:
    """Requests images as a page does, and records what the api confirmed."""

    def __init__(
        self, http: aiohttp.ClientSession, urls: list[str], dice: random.Random, *, models: Sequence[str] = ()
    ) -> None:
        self.accepted: dict[str, str] = {}  # key to image id, of a batch to that of its first
        self.others: dict[str, list[str]] = {}  # key to the ids of the rest of a batch
        self.deleted: set[str] = set()
        self.may_be_deleted: set[str] = set()  # asked for, whether or not it was confirmed
        self.may_be_cancelled: set[str] = set()
        self.refused: Counter[str] = Counter()
        self.duplicates: list[str] = []
        self.follower = Follower(http, urls, random.Random(dice.random()), leaves=0.01)
        self.watcher = Follower(http, urls, random.Random(dice.random()), leaves=0.0)
        self._http = http
        self._urls = urls
        self._dice = dice
        self._models = models  # ordered in turn; without any, requests name none

    async def sees_models(self) -> bool:
        """Whether every api knows the models: one that is not known yet would be refused."""
        for url in self._urls:
            try:
                async with self._http.get(f"{url}/api/models/") as response:
                    known = {model["id"] for model in (await response.json())["models"]}
            except (aiohttp.ClientError, OSError, LookupError):
                return False
            if not known >= set(self._models):
                return False
        return True

    async def order(self, number: int) -> None:
        """Request one image and follow it; retries with the same key until it is answered."""
        key, chance = f"order-{number}", self._dice.random()
        answer = await self.accept(number)
        ids = [answer["id"], *self.others.get(key, ())]
        if chance < 0.05:  # a repeated click
            await self.accept(number)
        elif chance < 0.10:
            self.may_be_cancelled.update(ids)
            await self._ask("POST", f"/api/images/{ids[-1]}/cancel/?batch=true")
        elif chance < 0.13:
            await self._delete(ids)
        for image_id in ids:
            await self.watcher.until_final(image_id).wait()
        if 0.13 <= chance < 0.20:
            await self._delete(ids)

    @property
    def requested(self) -> set[str]:
        """Every image that the api has confirmed."""
        return {*self.accepted.values(), *(image_id for ids in self.others.values() for image_id in ids)}

    async def accept(self, number: int) -> dict:
        """Request one image, or a batch; retries with the same key until it is answered."""
        key = f"order-{number}"
        answer = await self._ask("POST", "/v1/images/generations", number, key=key)
        found = [image["id"] for image in answer.get("images", [answer])]
        known = [self.accepted.setdefault(key, found[0]), *self.others.setdefault(key, found[1:])]
        if known != found or len(found) != _count(number):
            self.duplicates.append(f"the key {key} gave {known} and {found}")
        return answer

    async def _delete(self, ids: list[str]) -> None:
        self.may_be_deleted.update(ids)
        await self._ask("DELETE", f"/api/images/{ids[0]}/?batch=true")
        self.deleted.update(ids)

    async def _ask(self, method: str, path: str, number: int = 0, *, key: str = "") -> dict:
        """Retry on any replica after 503 or a broken connection, until the api has answered."""
        body = {**ORDER, "prompt": f"number {number}", "steps": 2, "numImages": _count(number)} if key else None
        if body and self._models:
            body["model"] = self._models[number % len(self._models)]
        headers = {"Prefer": "respond-async", "Idempotency-Key": key} if key else {}
        while True:
            url = self._dice.choice(self._urls) + path
            try:
                async with self._http.request(
                    method, url, headers=headers, timeout=aiohttp.ClientTimeout(total=15), json=body
                ) as response:
                    text = await response.text()
                    if response.status not in {502, 503, 504}:
                        assert response.status in {200, 201, 202, 204, 404, 409, 410}, (response.status, text)
                        return json.loads(text) if text else {}
                    self.refused[str(response.status)] += 1
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.refused[type(error).__name__] += 1
            await asyncio.sleep(0.1)


def _count(number: int) -> int:
    return 3 if number % 8 == 3 else 1
