"""A web service that orders pictures: FastAPI in front, Darkroom behind.

DARKROOM_URL=http://127.0.0.1:8000 uvicorn --app-dir examples fastapi_app:app --port 8080
curl -X POST 'http://127.0.0.1:8080/postcards?place=Lisbon' -H 'Idempotency-Key: 1'
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from darkroom_client import AsyncDarkroom, DarkroomError, InvalidRequest, LimitReached, NotFound


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # one client for the life of the service: it keeps its connections
    async with AsyncDarkroom() as darkroom:
        app.state.darkroom = darkroom
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(DarkroomError)
async def on_error(_request: Request, error: DarkroomError) -> JSONResponse:
    """What the caller can do about an error: come back later, or change the request."""
    if isinstance(error, LimitReached):
        seconds = 60 if error.retry_after_s is None else math.ceil(error.retry_after_s)  # up: never too early
        return JSONResponse({"code": error.code}, status_code=429, headers={"Retry-After": str(seconds)})
    if isinstance(error, InvalidRequest):
        return JSONResponse({"code": error.code, "fields": error.fields}, status_code=400)
    return JSONResponse({"code": error.code}, status_code=404 if isinstance(error, NotFound) else 502)


@app.post("/postcards", status_code=202)
async def order(
    request: Request, place: str, idempotency_key: Annotated[str | None, Header()] = None
) -> dict[str, str]:
    """Order a postcard; a repeated call with the same key orders it once."""
    darkroom: AsyncDarkroom = request.app.state.darkroom
    key = f"postcard-{idempotency_key}" if idempotency_key else None
    handle = await darkroom.submit(f"a postcard of {place}", width=256, height=256, idempotency_key=key)
    return {"id": handle.id}


@app.get("/postcards/{postcard_id}")
async def fetch(request: Request, postcard_id: str) -> Response:
    """The picture, or 409 while it is not there."""
    darkroom: AsyncDarkroom = request.app.state.darkroom
    image = await darkroom.get(postcard_id)
    if not image.is_completed:
        raise HTTPException(409, f"it is {image.status}")
    return Response(await darkroom.download(image, format="webp"), media_type="image/webp")
