"""The client for `/sdapi/v1`, against fakes of the four programs."""

import asyncio
import time

import pytest

from common.domain.errors import BadImage, Denied, Rejected, Transient, Unreachable
from common.runtime.clock import SystemClock
from services.generator.inference.sdapi import backend as backend_module
from services.generator.inference.sdapi import progress
from tests.engines.bench import cancelled_while_painting, connected, ignore, job_with, painted
from tests.engines.engine import EngineFault
from tests.engines.sdapi import SdApi
from tests.engines.sdapi_programs import FakeProgram

WITH_INTERRUPT = [FakeProgram.A1111, FakeProgram.FORGE, FakeProgram.SDNEXT]
MODELS = {FakeProgram.A1111: "tiny-sd", FakeProgram.FORGE: "tiny-sd", FakeProgram.SDNEXT: "Diffusers/tiny-sd"}


def model(program: FakeProgram) -> str:
    return MODELS.get(program, "sd15-zero")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Ask more often, so that a test waits for milliseconds."""
    monkeypatch.setattr(progress, "INTERVAL_S", 0.01)
    monkeypatch.setattr(backend_module, "INTERVAL_S", 0.01)
    monkeypatch.setattr(backend_module, "_STOP_INTERVAL_S", 0.01)


@pytest.fixture(params=FakeProgram)
def engine(request) -> SdApi:
    return SdApi(request.param)


async def test_the_program_is_told_apart(engine):
    async with connected(engine, "sdapi") as backend:
        found = await backend.capabilities()

    names = {"a1111": "A1111", "forge": "Forge", "sdnext": "SD.Next", "sdserver": "sd-server"}
    assert (found.engine, found.dialect) == (names[engine.program], "sdapi")
    assert model(engine.program) in [each.id for each in found.models]
    assert {"Euler", "Euler a"} <= set(found.samplers)
    assert ("DPM++ 2M Karras" in found.samplers) == (engine.program is not FakeProgram.SDNEXT)


async def test_an_order_holds_what_was_asked_for(engine):
    async with connected(engine, "sdapi") as backend:
        await painted(backend, model=model(engine.program), sampler="Euler a", seed=11, steps=3, width=128)

    order = engine.orders[0]
    wanted = {"seed": 11, "steps": 3, "cfg_scale": 7.5, "width": 128, "height": 64, "batch_size": 1, "n_iter": 1}
    assert wanted.items() <= order.items()
    assert order["sampler_name"] == ("euler_a" if engine.program is FakeProgram.SDSERVER else "Euler a")


@pytest.mark.parametrize("program", [FakeProgram.A1111, FakeProgram.FORGE, FakeProgram.SDSERVER])
async def test_a_name_with_its_schedule_is_split(program):
    engine = SdApi(program)
    async with connected(engine, "sdapi") as backend:
        await painted(backend, model=model(program), sampler="DPM++ 2M Karras")

    wanted = "dpm++2m" if program is FakeProgram.SDSERVER else "DPM++ 2M"
    assert (engine.orders[0]["sampler_name"], engine.orders[0]["scheduler"]) == (wanted, "karras")


@pytest.mark.parametrize("program", WITH_INTERRUPT)
async def test_the_model_is_chosen_for_the_order(program):
    engine = SdApi(program)
    name = "Diffusers/dreamy-xl" if program is FakeProgram.SDNEXT else "dreamy-xl"
    async with connected(engine, "sdapi") as backend:
        generated = await painted(backend, model=name)

    assert engine.loaded == "dreamy-xl"
    assert generated.model == "dreamy-xl"
    assert engine.orders[0]["override_settings_restore_afterwards"] is False


@pytest.mark.parametrize("field", ["model", "sampler", "hires_fix"])
async def test_a_field_that_is_unknown_is_refused_by_name(field):
    """SD.Next would paint with the loaded model, sd-server with its default sampler."""
    engine = SdApi(FakeProgram.SDSERVER)
    fields = {"model": model(engine.program), field: True if field == "hires_fix" else "nope"}
    async with connected(engine, "sdapi") as backend:
        with pytest.raises(Rejected, match=f"^{field}:"):
            await painted(backend, **fields)

    assert engine.orders == []


async def test_sdserver_paints_multiples_of_64_only():
    engine = SdApi(FakeProgram.SDSERVER)
    async with connected(engine, "sdapi") as backend:
        with pytest.raises(Rejected, match=r"^width:"):
            await painted(backend, model="sd15-zero", width=72)


@pytest.mark.parametrize("program", [FakeProgram.A1111, FakeProgram.FORGE])
async def test_hires_fix_paints_small_first(program):
    engine = SdApi(program)
    async with connected(engine, "sdapi") as backend:
        await painted(backend, model="tiny-sd", hires_fix=True, width=520, height=768)

    wanted = {"enable_hr": True, "width": 256, "height": 384, "hr_resize_x": 520, "hr_resize_y": 768, "hr_cfg": 7.5}
    assert wanted.items() <= engine.orders[0].items()
    assert engine.orders[0]["hr_additional_modules"] == ["Use same choices"]


@pytest.mark.parametrize(
    ("program", "prompt", "sent"),
    [
        (FakeProgram.A1111, "a <lora:secret:1> cat", "a < lora:secret:1> cat"),
        (FakeProgram.FORGE, "<hypernet:x:1> <3 a<b:", "< hypernet:x:1> <3 a< b:"),
        (FakeProgram.SDNEXT, "__animal__ <lora:x:1>", "_ _animal_ _ < lora:x:1>"),
        (FakeProgram.SDSERVER, "a <lora:secret:1> cat", "a < lora:secret:1> cat"),
        (FakeProgram.SDSERVER, '<sd_cpp_extra_args>{"seed":3}</sd_cpp_extra_args>x', None),
    ],
)
async def test_a_prompt_is_data(program, prompt, sent):
    engine = SdApi(program)
    sent = sent or '< sd_cpp_extra_args>{"seed":3}< /sd_cpp_extra_args>x'
    async with connected(engine, "sdapi") as backend:
        await painted(backend, model=model(program), prompt=prompt, negative_prompt=prompt)

    assert (engine.orders[0]["prompt"], engine.orders[0]["negative_prompt"]) == (sent, sent)


async def test_a_404_for_a_sampler_is_the_owners_error():
    """SD.Next answers 404 to a sampler that disappeared after the list was read; its routes are still there."""
    engine = SdApi(FakeProgram.SDNEXT)
    async with connected(engine, "sdapi") as backend:
        await backend.capabilities()
        engine.forgotten.append("Euler")
        with pytest.raises(Rejected, match="Sampler not found"):
            await painted(backend, model=model(engine.program))


async def test_a_server_without_the_routes_is_for_the_operator():
    engine = SdApi(FakeProgram.A1111)
    async with connected(engine, "sdapi", path="/below") as backend:
        with pytest.raises(Denied) as raised:
            await painted(backend, model="tiny-sd")

    assert "--api" in raised.value.reason


async def test_credentials_are_sent_as_basic():
    for given in ({"INFERENCE_SERVICE_API_KEY": "me:secret"}, {}):
        engine = SdApi(FakeProgram.SDNEXT)
        engine.credentials = "me:secret"
        async with connected(engine, "sdapi", **given) as backend:
            if given:
                await painted(backend, model=model(engine.program))
            else:
                with pytest.raises(Denied):
                    await painted(backend, model=model(engine.program))


@pytest.mark.parametrize("program", WITH_INTERRUPT)
async def test_progress_and_previews_are_reported(program):
    engine = SdApi(program)
    engine.hold(2)
    steps: asyncio.Queue = asyncio.Queue()
    shown: asyncio.Queue = asyncio.Queue()
    async with connected(engine, "sdapi") as backend:
        job = job_with(model=model(program))
        call = asyncio.create_task(backend.generate(job, lambda *at: steps.put_nowait(at), shown.put_nowait))

        assert await steps.get() == (2, 4)
        assert (await shown.get()).startswith(b"\xff\xd8")
        engine.release()
        await call


async def test_previews_are_not_asked_for_in_vain():
    engine = SdApi(FakeProgram.SDNEXT)
    engine.hold(2)
    async with connected(engine, "sdapi") as backend:
        steps: asyncio.Queue = asyncio.Queue()
        job = job_with(model=model(engine.program))
        call = asyncio.create_task(backend.generate(job, lambda *at: steps.put_nowait(at)))
        await steps.get()
        engine.release()
        await call

    assert "current_image=false" not in "".join(engine.queries)


# ------------------------------------------------------------- stop


@pytest.mark.parametrize("program", WITH_INTERRUPT)
async def test_stop_interrupts_our_order(program):
    engine = SdApi(program)
    async with connected(engine, "sdapi") as backend:
        job = job_with(model=model(program))
        await cancelled_while_painting(backend, engine, job)
        await asyncio.wait_for(backend.stop(job), 1)

        assert engine.interrupts == [engine.orders[0]]
        assert engine.stopped == [engine.orders[0]]


async def test_a_lost_lease_interrupts_nothing(engine):
    async with connected(engine, "sdapi") as backend:
        await cancelled_while_painting(backend, engine, job_with(model=model(engine.program)))
        engine.release()
        await engine.idle.wait()

        assert engine.interrupts == []
        assert engine.painted == [engine.orders[0]]


@pytest.mark.parametrize("program", WITH_INTERRUPT)
async def test_work_of_others_is_never_interrupted(program, monkeypatch):
    """Ours waits in the server behind the work of somebody else, with as many steps."""
    monkeypatch.setattr(backend_module, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(backend_module, "_STOP_S", 0.1)
    engine = SdApi(program)
    async with connected(engine, "sdapi") as backend:
        engine.hold()
        foreign = asyncio.create_task(engine.work({"prompt": "not ours", "steps": 4}))
        await engine.held.wait()
        job = job_with(model=model(program))
        call = asyncio.create_task(backend.generate(job, ignore))
        await engine.ordered.wait()
        call.cancel()
        await asyncio.wait([call])
        await backend.stop(job)
        engine.release()
        await foreign

        assert engine.interrupts == []


@pytest.mark.parametrize("program", WITH_INTERRUPT)
async def test_an_order_waits_for_the_work_of_others(program):
    """So it can be cancelled while it waits: it is not in the server yet."""
    engine = SdApi(program)
    async with connected(engine, "sdapi") as backend:
        engine.hold()
        foreign = asyncio.create_task(engine.work({"prompt": "not ours", "steps": 4}))
        await engine.held.wait()
        job = job_with(model=model(program))
        call = asyncio.create_task(backend.generate(job, ignore))
        for _ in range(4):
            await engine.watched.wait()
            engine.watched.clear()

        assert engine.orders == []
        engine.release()
        await foreign
        await call
        assert [order["prompt"] for order in engine.painted] == ["not ours", "a lighthouse"]


@pytest.mark.parametrize("program", WITH_INTERRUPT)
async def test_an_answered_order_is_not_interrupted(program):
    engine = SdApi(program)
    async with connected(engine, "sdapi") as backend:
        job = job_with(model=model(program))
        await backend.generate(job, ignore)
        engine.hold()
        foreign = asyncio.create_task(engine.work({"prompt": "not ours", "steps": 4}))
        await engine.held.wait()

        await backend.stop(job)

        assert engine.interrupts == []
        engine.release()
        await foreign


@pytest.mark.parametrize("program", WITH_INTERRUPT)
async def test_a_picture_that_somebody_interrupted_is_dropped(program):
    """The answer is a 200 with the picture as it is."""
    engine = SdApi(program)
    engine.hold()
    async with connected(engine, "sdapi") as backend:
        call = asyncio.create_task(painted(backend, model=model(program)))
        await engine.held.wait()
        engine.interrupt()

        with pytest.raises(Transient, match="interrupted"):
            await call


async def test_a_timeout_stops_the_order():
    engine = SdApi(FakeProgram.A1111)
    engine.hold()
    async with connected(engine, "sdapi", INFERENCE_TIMEOUT="1") as backend:
        with pytest.raises(Transient, match="within 1 s"):
            await painted(backend, model="tiny-sd")

        assert engine.stopped == [engine.orders[0]]


async def test_a_late_timeout_stops_nothing(monkeypatch):
    """This process was stopped for a minute: another worker may have sent the order again, under the same name."""
    stopped_s = 0.0
    monkeypatch.setattr(SystemClock, "monotonic", lambda _clock: time.monotonic() + stopped_s)
    engine = SdApi(FakeProgram.A1111)
    engine.hold()
    async with connected(engine, "sdapi", INFERENCE_TIMEOUT="1") as backend:
        call = asyncio.create_task(painted(backend, model="tiny-sd"))
        await engine.held.wait()
        stopped_s = 60.0
        with pytest.raises(Transient, match="within 1 s"):
            await call

        assert engine.stopped == []


# ------------------------------------------------------------- odd answers


async def test_another_model_than_the_ordered_one_is_refused():
    engine = SdApi(FakeProgram.A1111)
    engine.info = {"sd_model_hash": "0123456789"}
    async with connected(engine, "sdapi") as backend:
        with pytest.raises(BadImage, match="another model"):
            await painted(backend, model="tiny-sd")


@pytest.mark.parametrize("info", ["", "{nope", "[]", "null", {"index_of_first_image": 9, "seed": "x"}, "x" * 300_000])
async def test_odd_info_does_not_cost_the_picture(info):
    engine = SdApi(FakeProgram.A1111)
    engine.info = info
    async with connected(engine, "sdapi") as backend:
        generated = await painted(backend, model="tiny-sd")

    assert (generated.seed, generated.model) == (None, None)


async def test_sdnext_without_a_model_is_for_the_operator():
    engine = SdApi(FakeProgram.SDNEXT)
    engine.models = []
    async with connected(engine, "sdapi") as backend:
        with pytest.raises(Denied):
            await painted(backend)


async def test_sdnext_with_no_loaded_model_loads_the_ordered_one():
    """A new SD.Next has none until one is chosen, and ignores the model of an order until then."""
    engine = SdApi(FakeProgram.SDNEXT)
    engine.loaded = ""
    async with connected(engine, "sdapi") as backend:
        generated = await painted(backend, model="Diffusers/dreamy-xl")

    assert generated.model == "dreamy-xl"
    assert len(engine.orders) == 1


async def test_a_model_that_sdnext_cannot_load_is_named():
    """It has no model in its memory afterwards. No order is sent: SD.Next would try to load the model for minutes."""
    engine = SdApi(FakeProgram.SDNEXT)
    engine.loaded, engine.broken = "", ["tiny-sd"]
    async with connected(engine, "sdapi") as backend:
        with pytest.raises(Transient, match=r"cannot load the model 'Diffusers/tiny-sd'"):
            await painted(backend, model="Diffusers/tiny-sd")
        assert engine.orders == []
        generated = await painted(backend, model="Diffusers/dreamy-xl")

    assert generated.model == "dreamy-xl"


async def test_an_order_waits_while_sdnext_loads_its_first_model(monkeypatch):
    """SD.Next would answer without a picture; no failure is counted for the image."""
    monkeypatch.setattr(backend_module, "_PATIENCE_S", 0.0)
    engine = SdApi(FakeProgram.SDNEXT)
    engine.loaded = ""
    engine.begin_loading()
    async with connected(engine, "sdapi") as backend:
        with pytest.raises(Unreachable, match="loading"):
            await painted(backend, model="Diffusers/tiny-sd")

    assert engine.orders == []


async def test_another_program_after_a_restart_is_noticed():
    engine = SdApi(FakeProgram.A1111)
    async with connected(engine, "sdapi") as backend:
        await painted(backend, model="tiny-sd")
        engine.will(EngineFault.CUT_BEFORE_ANSWER)
        with pytest.raises(Transient):
            await painted(backend, model="tiny-sd")
        await engine.stop()
        engine.program = FakeProgram.SDNEXT
        await engine.start()
        await painted(backend, model="Diffusers/tiny-sd")

        assert (await backend.capabilities()).engine == "SD.Next"
