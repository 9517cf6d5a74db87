"""The work of the fake programs under `/sdapi/v1`: one order at a time, the model it is painted with, its answer."""

import asyncio
import base64
import json
import secrets

from tests.engines.engine import EngineFake, EngineFault, Painting, picture
from tests.engines.sdapi_programs import FakeProgram, described_model, hash_of


class SdApiWork(EngineFake):
    """What one of the four programs has and does behind its routes."""

    def __init__(self, program: FakeProgram) -> None:
        super().__init__()
        self.program = program
        self.models = ["sd15-zero"] if program is FakeProgram.SDSERVER else ["tiny-sd", "dreamy-xl"]
        self.credentials: str | None = None  # user:password
        self.interrupts: list[dict | None] = []  # the order that each interrupt stopped; None: nothing ran
        self.loaded = self.models[0]  # empty: none (SD.Next)
        self.broken: list[str] = []  # models that it lists and cannot load
        self.forgotten: list[str] = []  # samplers that it lists, and no longer has
        self.watched = asyncio.Event()  # set when the progress is asked for
        self.info: object = None  # replaces the info of an answer
        self._current: Painting | None = None
        self._phase = ""
        self._is_interrupted = False  # until the next order begins
        self._pending: list[str] = []
        self._finished: list[str] = []

    async def work(self, order: dict, fault: EngineFault | None = None) -> Painting:
        """Wait for the lock, then paint; also called by tests, as the work of somebody else."""
        name = order.get("force_task_id") or secrets.token_hex(7)
        painting = Painting(order, steps=order.get("steps", 50), fault=fault, id=name)
        if self.program is not FakeProgram.SDNEXT:
            self._pending.append(name)
        async with self.lock:
            if name in self._pending:
                self._pending.remove(name)
            if self.program is FakeProgram.SDNEXT:
                await self._prepare(painting)
            self._current, self._phase, self._is_interrupted = painting, "Inference", False
            self._load(order)
            try:
                await self.paint(painting)
            finally:
                self._current, self._phase = None, ""
                self._finished = [*self._finished[-15:], name]
        return painting

    async def _prepare(self, painting: Painting) -> None:
        """SD.Next names each phase of one order by an id of its own, and each phase forgets an earlier interrupt."""
        for phase in ("API-TXT", "Styles"):
            self._phase, painting.id, self._current = phase, secrets.token_hex(8)[:15], painting
            await asyncio.sleep(0)
            painting.is_stopped = False
        painting.id = secrets.token_hex(8)[:15]

    def _is_loaded(self) -> bool:
        return bool(self.loaded and self.models)

    def _load(self, order: dict) -> None:
        if self.program is not FakeProgram.SDNEXT or self._is_loaded():
            self._choose(order.get("override_settings", {}).get("sd_model_checkpoint"))

    def begin_loading(self) -> None:
        """SD.Next loads the chosen model after its start, when its routes answer already."""
        self._current, self._phase = Painting({}, steps=1, fault=None, id="start"), "Load model"

    def _choose(self, wanted: str | None) -> None:
        for name in self.models if self.program is not FakeProgram.SDSERVER else []:
            described = described_model(self.program, name)
            if wanted in {name, described["title"], described["model_name"]}:
                self.loaded = "" if name in self.broken else name

    def interrupt(self) -> None:
        self.interrupts.append(self._current.order if self._current else None)
        self._is_interrupted = True
        if self._current:
            self._current.stop()

    # ------------------------------------------------------------- the answer

    def _answer(self, order: dict, painting: Painting, fault: EngineFault | None) -> dict:
        if fault is EngineFault.ERROR_INSIDE:
            return {"error": "OutOfMemoryError", "detail": "", "body": "", "errors": "CUDA out of memory"}
        size = (order.get("width", 512), order.get("height", 512))
        if order.get("enable_hr"):
            size = (order["hr_resize_x"], order["hr_resize_y"])
        images = (
            []
            if fault is EngineFault.NO_PICTURE or not self._can_paint(size)
            else [self._picture(order, size, painting)]
        )
        if fault is EngineFault.NOT_BASE64:
            images = ["%%%"]
        parameters = {**order, "override_settings": order.get("override_settings", {})}
        if self.program is FakeProgram.SDSERVER:
            return {"images": images, "parameters": order, "info": ""}
        return {"images": images, "parameters": parameters, "info": self._info(order) if self._is_loaded() else ""}

    def _can_paint(self, size: tuple[int, int]) -> bool:
        return self.program is not FakeProgram.SDNEXT or (self._is_loaded() and not any(side % 8 for side in size))

    def _picture(self, order: dict, size: tuple[int, int], painting: Painting) -> str:
        if self.program is FakeProgram.SDSERVER:
            size = (-(-size[0] // 64) * 64, -(-size[1] // 64) * 64)
        if painting.fault is EngineFault.WRONG_SIZE:
            size = (size[0] + 8, size[1])
        texts = (order.get("prompt"), order.get("negative_prompt"))
        about = (*texts, order.get("seed"), order.get("enable_hr"), self.loaded, painting.step)
        image_format = "JPEG" if self.program is FakeProgram.SDNEXT else "PNG"
        return base64.b64encode(picture(size, *about, image_format=image_format)).decode()

    def _info(self, order: dict) -> str:
        if self.info is not None:
            return self.info if isinstance(self.info, str) else json.dumps(self.info)
        seed = order.get("seed", -1)
        return json.dumps(
            {
                "prompt": order.get("prompt", ""),
                "negative_prompt": order.get("negative_prompt", ""),
                "seed": seed if seed >= 0 else secrets.randbelow(2**32),
                "sd_model_name": self.loaded,
                "sd_model_hash": hash_of(self.loaded),
                "index_of_first_image": 0,
            }
        )
