"""The four programs with routes under `/sdapi/v1`: how each describes its samplers, models and errors."""

from enum import StrEnum

from aiohttp import web

SAMPLERS = {
    "a1111": ["DPM++ 2M", "DPM++ SDE", "Euler a", "Euler", "Heun", "DPM2", "DDIM", "UniPC", "LCM"],
    "sdnext": ["Default", "UniPC", "DDIM", "Euler", "Euler a", "DPM++ 2M", "Heun", "LCM"],
    "sdserver": ["default", "euler", "euler_a", "heun", "dpm2", "dpm++2s_a", "dpm++2m", "dpm++2mv2", "lcm"],
}
SAMPLERS["forge"] = [*SAMPLERS["a1111"], "Flux Realistic"]
SCHEDULERS = ["automatic", "uniform", "karras", "exponential", "sgm_uniform"]


class FakeProgram(StrEnum):
    A1111 = "a1111"
    FORGE = "forge"
    SDNEXT = "sdnext"
    SDSERVER = "sdserver"


def error_answer(program: FakeProgram, status: int, detail: str, kind: str = "HTTPException") -> web.Response:
    if program is FakeProgram.SDSERVER:
        return web.json_response({"error": detail}, status=status)
    body: dict = {"error": kind, "detail": detail, "body": "", "errors": f"{status}: {detail}"}
    if program is FakeProgram.SDNEXT:
        body = {"error": kind, "code": status, "detail": detail, "body": "", "errors": f"{status}: {detail}"}
    return web.json_response(body, status=status)


def described_model(program: FakeProgram, name: str) -> dict:
    short = hash_of(name)
    titles = {FakeProgram.SDNEXT: f"Diffusers/{name}", FakeProgram.SDSERVER: name}
    return {
        "title": titles.get(program, f"{name}.safetensors [{short}]"),
        "model_name": f"Diffusers/{name}" if program is FakeProgram.SDNEXT else name,
        "hash": short,
        "sha256": short + "0" * 54,
        "filename": f"{name}.safetensors",
        "config": None,
    }


def hash_of(name: str) -> str:
    return f"{sum(name.encode()) * 2_654_435_761 % 16**10:010x}"
