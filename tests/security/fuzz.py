"""Schemathesis over every operation of `/openapi.json`, with its stock checks, against a real `darkroom up`.

`python -m tests.security.fuzz --cases 5000` is `make fuzz`; pytest runs it short, with a fixed seed.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from aiohttp import web
from PIL import Image

from tests.cluster import Cluster, embedded
from tests.inference_double import inference_double
from tests.security import callers

OPERATIONS = 19  # about: one without input takes fewer cases than its share, one with much takes more


async def blank(_request: web.Request, order: dict) -> web.Response:
    """A picture of one colour: an order may have four megapixels, and a gradient of them takes half a second."""
    out = BytesIO()
    Image.new("1", (order["width"], order["height"])).save(out, "PNG")
    return web.Response(body=out.getvalue(), content_type="image/png")


async def fuzz(folder: Path, *, examples: int, seed: int, has_identity: bool) -> tuple[int, int, str]:
    """Exit status, number of cases and what schemathesis said. It is given the URL, and a token if one is needed."""
    settings = callers.settings_of() if has_identity else {"MEDIA_SIGNING_KEYS": callers.SIGNING}
    settings["SHARE_LINKS"] = "true"
    credential = ("--header", f"Authorization: Bearer {callers.token(exp=2**32)}") if has_identity else ()
    async with (
        inference_double() as inference,
        embedded(folder, INFERENCE_SERVICE_URL=inference.url, **settings) as cluster,
    ):
        inference.always(blank)
        status, said = await _schemathesis(cluster, examples, seed, credential)
        log = (folder / "up.log").read_text()
    if "Traceback" in log:
        status, said = status or 1, f"{said}\n{log[-6000:]}"
    return status, _cases(said), said


async def _schemathesis(cluster: Cluster, examples: int, seed: int, credential: tuple[str, ...]) -> tuple[int, str]:
    # one worker: in two threads of CPython 3.11, ast.parse may fail ("AST constructor recursion depth mismatch")
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{cluster.url}/openapi.json", *credential),
        *("--max-examples", str(examples), "--seed", str(seed), "--workers", "1"),
        *("--generation-database", "none", "--no-color", "--continue-on-failure", "--request-timeout", "30"),
        *("--suppress-health-check", "all"),
        cwd=cluster.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def _cases(said: str) -> int:
    found = re.search(r"([\d,]+) (?:generated|test cases)", said) or re.search(r"Test cases:\s*([\d,]+)", said)
    return int(found[1].replace(",", "")) if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000, help="at least this many")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    done = 0
    examples = arguments.cases // OPERATIONS // 2  # half of them without identity
    for number in range(100):
        seed, has_identity = arguments.seed + number // 2, number % 2 == 1
        with tempfile.TemporaryDirectory() as folder:
            made = fuzz(Path(folder), examples=examples, seed=seed, has_identity=has_identity)
            status, cases, said = asyncio.run(made)
        sys.stdout.write(f"{said}\n")
        done += cases
        if status or not cases or (has_identity and done >= arguments.cases):
            sys.stdout.write(f"fuzz: {done} cases, exit status {status}\n")
            return status or int(not cases)
    return 1


if __name__ == "__main__":
    sys.exit(main())
