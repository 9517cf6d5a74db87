"""ComfyUI: workflows that a server cannot run, refusals, unusual ends of runs."""

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import resources

import aiohttp
import pytest
from aiohttp import web

from common.domain.errors import BadImage, Denied, Misconfigured, Rejected, Transient
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.inference.comfyui.workflow import SHIPPED, parse_workflow, read_workflow
from services.generator.inference.connect import connect_inference
from tests.engines.comfyui import Comfyui, comfyui
from tests.engines.comfyui_nodes import CLASSES
from tests.making import a_job
from tests.waiting import until

SDXL, FLUX = "sd_xl_base_1.0.safetensors", "flux1-dev-fp8.safetensors"
PACKAGE = "services.generator.inference.comfyui"


def ignore(_step: int, _steps: int) -> None:
    """For tests without progress."""


def job(**fields):
    return replace(a_job(), **{"model": SDXL, **fields})


def shipped(name="sd.json", **changes) -> dict:
    """A shipped workflow with other values at these places, such as `graph__9__class_type`."""
    found = json.loads(resources.files(PACKAGE).joinpath("workflows", name).read_text())
    for place, value in changes.items():
        *path, last = place.split("__")
        inner = found
        for key in path:
            inner = inner[key]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return found


@asynccontextmanager
async def connected(query="", **settings):
    given = {"INFERENCE_TIMEOUT": "5", **settings}
    async with comfyui() as fake, aiohttp.ClientSession() as http:
        url = f"comfyui+{fake.url}{query}"
        yield fake, connect_inference(url, http=http, settings=read_settings(given), clock=SystemClock())


@asynccontextmanager
async def with_workflow(tmp_path, found: object, **settings):
    path = tmp_path / "own.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found))
    async with connected(f"?workflow={path}", **settings) as made:
        yield made


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ("{not json", "is not JSON"),
        ({"nodes": [], "links": []}, "Export (API)"),
        (shipped()["graph"], "has no placeholders"),
        (shipped(placeholders__prompt=None), "lacks the placeholders prompt"),
        (shipped(placeholders__seed=[]), "lacks the placeholders seed"),
        (shipped(placeholders__prompt="66.text"), "has no node '66', which the placeholder 'prompt' names"),
        (shipped(placeholders__words="6.text"), "is not a workflow file: placeholders.words"),
        (shipped(output="99"), "has no node '99', which is its output"),
        (shipped(graph__6__class_type=None), "graph.6.class_type: Field required"),
        ([], "is not a workflow file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_file_is_refused_at_the_start(tmp_path, found, reason):
    with pytest.raises(Misconfigured) as raised:
        async with with_workflow(tmp_path, found):
            pass

    assert reason in raised.value.detail
    assert "own.json" in raised.value.detail


@pytest.mark.parametrize("query", ["?workflow=no-such.json", "?work=sd.json", "?workflow=sd.json&model=x"])
async def test_a_wrong_url_is_refused_at_the_start(query):
    with pytest.raises(Misconfigured, match="INFERENCE_SERVICE_URL"):
        async with connected(query):
            pass


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_workflow_is_complete(name):
    workflow = read_workflow(name)

    for node in workflow.graph.values():
        assert set(CLASSES[node["class_type"]]) == set(node["inputs"])
        for value in node["inputs"].values():
            assert not isinstance(value, list) or value[0] in workflow.graph


def test_values_are_put_into_a_copy():
    workflow = parse_workflow("w", shipped())
    before = json.dumps(workflow.graph)

    graph = workflow.filled(job(prompt='", "x": "{seed}', seed=5), sampler("DPM++ 2M Karras"))

    assert json.dumps(workflow.graph) == before
    assert graph["6"]["inputs"] == {"clip": ["4", 1], "text": '", "x": "{seed}'}
    sampled = {key: graph["3"]["inputs"][key] for key in ("seed", "steps", "cfg", "sampler_name", "scheduler")}
    assert sampled == {"seed": 5, "steps": 4, "cfg": 7.5, "sampler_name": "dpmpp_2m", "scheduler": "karras"}


def sampler(name):
    from services.generator.inference.comfyui.samplers import KNOWN

    return KNOWN[name]


# ---------------------------------------------------------------------- what the server has


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"graph__9__class_type": "SaveImageToMoon"}, "node 9 (SaveImageToMoon) is not installed"),
        ({"graph__8__inputs__tiles": 4}, "node 8 (VAEDecode) has no input 'tiles'"),
        ({"graph__5__inputs__batch_size": None}, "node 5 (EmptyLatentImage) lacks the inputs batch_size"),
        (
            {"placeholders__model": None, "graph__4__inputs__ckpt_name": "gone.ckpt"},
            f"node 4 (CheckpointLoaderSimple) needs ckpt_name 'gone.ckpt', and the server has {SDXL}",
        ),
        ({"models": ["*pony*"]}, f"has no model: it is for ['*pony*'], and the server has {SDXL}"),
        ({"placeholders__prompt": "6.words"}, "has no input 'words'"),
    ],
    ids=["node", "input", "missing input", "fixed model", "no model", "placeholder"],
)
async def test_a_workflow_that_the_server_cannot_run_is_the_operators(tmp_path, changes, reason):
    async with with_workflow(tmp_path, shipped(**changes)) as (fake, backend):
        with pytest.raises(Denied) as raised:
            await backend.capabilities()
        with pytest.raises(Denied):
            await backend.generate(job(), ignore)

        assert reason in raised.value.reason
        assert fake.graphs == {}


async def test_shipped_workflows_that_cannot_run_are_left_out(caplog):
    caplog.set_level(logging.INFO)
    async with connected() as (fake, backend):
        del fake.classes["FluxGuidance"]

        offered = await backend.capabilities()

        assert [model.id for model in offered.models] == [SDXL]
        assert "FluxGuidance" in caplog.text


async def test_each_model_has_what_its_workflows_can_do():
    async with connected() as (_, backend):
        offered = {model.id: model for model in (await backend.capabilities()).models}

    assert (offered[SDXL].hires_fix, offered[SDXL].negative_prompt, offered[SDXL].grid) == (True, True, 8)
    assert (offered[FLUX].hires_fix, offered[FLUX].negative_prompt, offered[FLUX].grid) == (False, False, 16)
    assert "DPM++ 2M Karras" in offered[SDXL].samplers
    assert "DPM++ 2M Karras" not in offered[FLUX].samplers  # its workflow has a fixed scheduler
    assert "res_multistep" in offered[SDXL].samplers  # has no name that people know


async def test_options_of_new_nodes_are_read():
    async with connected("?workflow=sd.json") as (fake, backend):
        fake.classes["KSampler"]["input"]["required"]["sampler_name"] = ["COMBO", {"options": ["heun"]}]

        assert (await backend.capabilities()).models[0].samplers[0] == "Heun"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": FLUX, "negative_prompt": "blurred"}, "negative_prompt"),
        ({"model": FLUX, "hires_fix": True}, "hires_fix"),
        ({"model": FLUX, "width": 72}, "width"),
        ({"steps": 10_001}, "steps"),
        ({"sampler": "PNDM"}, "sampler"),
        ({"model": "sdxl"}, "model"),
        ({"prompt": "a cat, embedding:../../secret"}, "prompt"),
        ({"prompt": "(embedding:/etc/passwd:1.2)"}, "prompt"),
        ({"negative_prompt": r"embedding:C:\keys"}, "negative_prompt"),
        ({"prompt": r"x embedding:sub\..\..\up"}, "prompt"),
    ],
    ids=str,
)
async def test_what_cannot_be_painted_is_refused_by_name(fields, field):
    async with connected() as (fake, backend):
        with pytest.raises(Rejected, match=f"^{field}: "):
            await backend.generate(job(**fields), ignore)

        assert fake.graphs == {}


async def test_a_hires_fix_paints_at_half_the_size_first():
    async with connected() as (fake, backend):
        steps: list[tuple[int, int]] = []
        painted = job(width=256, height=192, hires_fix=True)
        await backend.generate(painted, lambda *step: steps.append(step))

        graph = fake.graphs[painted.remote_id]
        sizes = [(node["inputs"]["width"], node["inputs"]["height"]) for node in (graph["5"], graph["10"])]
        assert sizes == [(128, 96), (256, 192)]
        assert steps[-1] == (8, 8)


async def test_wishes_in_a_prompt_are_left_as_they_are():
    wish = "(masterpiece:1.2), embedding:EasyNegative, embedding:sdxl/style... [red], {a|b} <lora:x:1>"
    async with connected() as (fake, backend):
        painted = job(prompt=wish)
        await backend.generate(painted, ignore)

        assert fake.graphs[painted.remote_id]["6"]["inputs"]["text"] == wish


# ---------------------------------------------------------------------- refusals and odd ends


async def test_a_model_that_was_just_removed_is_refused_by_name():
    async with connected() as (fake, backend):
        await backend.capabilities()
        fake.checkpoints = ["other.safetensors"]

        with pytest.raises(Rejected, match=r"^model: .*other\.safetensors"):
            await backend.generate(job(), ignore)


async def test_a_node_that_was_removed_is_the_operators_problem():
    async with connected() as (fake, backend):
        await backend.capabilities()
        del fake.classes["VAEDecode"]

        with pytest.raises(Denied) as raised:
            await backend.generate(job(), ignore)

    assert "Node 'VAEDecode' not found" in raised.value.reason


async def test_a_success_with_errors_of_our_output_is_a_failure():
    """A 200 may hold errors: the bad output is dropped, and the rest runs."""
    async with connected() as (fake, backend):
        fake.bad_output = True
        fake.hold()
        painted = job()

        with pytest.raises(Denied):
            await backend.generate(painted, ignore)

        await until(lambda: painted.remote_id in fake.interrupted + fake.deleted, limit_s=2)


@pytest.mark.parametrize("status", ["500", "text"])
async def test_a_prompt_that_is_not_confirmed_is_transient(status):
    async with connected() as (fake, backend):
        text = b"500 Internal Server Error\n\nServer got itself in trouble"
        fake.answers["prompt"] = web.Response(status=500, body=text) if status == "500" else web.Response(body=b"{}")

        with pytest.raises(Transient) as raised:
            await backend.generate(job(), ignore)

    assert not raised.value.needs_new_id


async def test_a_run_interrupted_by_others_needs_a_new_id():
    async with connected() as (fake, backend):
        fake.hold()
        painting = asyncio.create_task(backend.generate(job(), ignore))
        await fake.held.wait()
        async with aiohttp.ClientSession() as http, http.post(f"{fake.url}/interrupt"):
            pass

        with pytest.raises(Transient, match="interrupted") as raised:
            await painting

    assert raised.value.needs_new_id


async def test_a_half_done_picture_is_no_result():
    """An interrupted run whose history names a file, as a workflow with two outputs has it."""
    async with connected() as (fake, backend):
        painted = job()
        messages = [["execution_start", {}], ["execution_interrupted", {}]]
        fake.history[painted.remote_id] = {
            "prompt": [0, painted.remote_id, {}, {}, ["9"]],
            "outputs": {"9": {"images": [{"filename": "half.png", "subfolder": "", "type": "temp"}]}},
            "status": {"status_str": "error", "completed": False, "messages": messages},
        }
        fake.files["half.png", "", "temp"] = b"half"

        with pytest.raises(Transient, match="interrupted"):
            await backend.generate(painted, ignore)


async def test_a_failed_run_says_where_it_failed():
    async with connected() as (fake, backend):
        fake.fails = "CUDA out of memory\n/srv/comfy/execution.py\x00"

        with pytest.raises(Transient) as raised:
            await backend.generate(job(), ignore)

    assert raised.value.needs_new_id
    assert (
        raised.value.detail == "the run failed on the inference service in KSampler: RuntimeError: CUDA out of memory"
    )


async def test_a_picture_that_is_gone_is_painted_again_under_a_new_id():
    async with connected() as (fake, backend):
        painted = job()
        await backend.generate(painted, ignore)
        fake.files.clear()

        with pytest.raises(BadImage) as raised:
            await backend.generate(painted, ignore)
        again = await backend.generate(replace(painted, refused=1, remote_id=job().remote_id), ignore)

    assert raised.value.needs_new_id
    assert again.content


async def test_a_server_that_does_not_take_ids_is_too_old():
    async with connected() as (fake, backend):
        fake.ignores_prompt_id = True
        fake.pending.append([0, "another", fake.graphs, {}, []])  # nothing of ours starts before it is removed

        with pytest.raises(Denied) as raised:
            await backend.generate(job(), ignore)

        assert "too old" in raised.value.reason


async def test_a_lost_websocket_is_opened_again():
    async with connected(INFERENCE_TIMEOUT="10") as (fake, backend):
        steps: list[tuple[int, int]] = []
        fake.hold()
        painting = asyncio.create_task(backend.generate(job(), lambda *step: steps.append(step)))
        await fake.held.wait()
        await fake.sockets.close()
        await until(lambda: fake.requests.count("GET /ws") == 2, limit_s=3)
        fake.release()

        await painting

    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_a_late_timeout_stops_nothing(monkeypatch):
    """This process was stopped for a minute: another worker may follow the same run by now."""
    stopped_s = 0.0
    monkeypatch.setattr(SystemClock, "monotonic", lambda _clock: time.monotonic() + stopped_s)
    async with connected(INFERENCE_TIMEOUT="1") as (fake, backend):
        fake.hold()
        call = asyncio.create_task(backend.generate(job(), ignore))
        await fake.held.wait()
        stopped_s = 60.0
        with pytest.raises(Transient, match="within 1 s"):
            await call

        assert "POST /interrupt" not in fake.requests


async def test_a_redirect_of_the_websocket_is_not_followed():
    async with comfyui() as elsewhere, connected() as (fake, backend):
        fake.answers["ws"] = web.Response(status=302, headers={"Location": f"{elsewhere.url}/queue"})

        assert (await backend.generate(job(), ignore)).content

    assert elsewhere.requests == []


@pytest.mark.parametrize("how", ["refused", "silent"])
async def test_a_server_without_a_websocket_paints_all_the_same(how):
    async with connected() as (fake, backend):
        if how == "refused":
            fake.answers["ws"] = web.Response(status=404)
        else:
            fake.silent.add("ws")

        assert (await backend.generate(job(), ignore)).content


async def test_work_that_somebody_removed_is_lost():
    async with connected() as (fake, backend):
        fake.hold()
        running = asyncio.create_task(backend.generate(job(), ignore))
        await fake.held.wait()
        waiting = asyncio.create_task(backend.generate(job(seed=8), ignore))
        await until(lambda: bool(fake.pending), limit_s=2)
        async with aiohttp.ClientSession() as http, http.post(f"{fake.url}/queue", json={"clear": True}):
            pass

        with pytest.raises(Transient, match="lost the run") as raised:
            await asyncio.wait_for(waiting, 2)
        fake.release()
        await running

    assert not raised.value.needs_new_id


async def test_a_cancel_while_the_prompt_is_on_its_way_stops_it():
    """The prompt arrives after the call was cancelled: `stop` must still find it."""
    async with connected() as (fake, backend):
        await backend.capabilities()
        fake.hold()
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def slow(request):
            arrived.set()
            await go_on.wait()
            return await Comfyui._prompt(fake, request)

        fake.slow_prompt = slow
        painted = job()
        call = asyncio.create_task(backend.generate(painted, ignore))
        await asyncio.wait_for(arrived.wait(), 5)
        call.cancel()
        asyncio.get_running_loop().call_later(0.2, go_on.set)
        await asyncio.wait([call])
        await backend.stop(painted)

        await until(lambda: painted.remote_id in fake.interrupted + fake.deleted, limit_s=2)
