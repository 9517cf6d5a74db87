"""An inference service that answers at once: `python -m benchmarks.instant_inference PORT FILE`.

Every request gets the bytes of the file. POST `/change` reads the file again, so one server serves every sample.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aiohttp import web


def build_app(file: Path) -> web.Application:
    shown = [b""]

    async def generate(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=shown[0], content_type="application/octet-stream")

    async def change(_request: web.Request) -> web.Response:
        shown[0] = file.read_bytes()
        return web.Response()

    app = web.Application()
    app.router.add_post("/inference/images/generations", generate)
    app.router.add_post("/change", change)
    return app


if __name__ == "__main__":
    web.run_app(build_app(Path(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
