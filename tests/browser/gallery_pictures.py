"""Pictures that a test puts into the gallery, by orders of another client."""

import asyncio


async def add_images(api, number: int, **fields) -> None:
    """Pictures in the gallery, `picture 0` the oldest."""
    for at in range(number):
        await api.order(prompt=f"picture {at}", **{"steps": 1, **fields})
    await until_there_are(api, number)


async def until_there_are(api, number: int) -> None:
    async with asyncio.timeout(50):
        while True:
            _, page = await api.get("/api/images/history/?perPage=1")
            if page["total"] == number:
                return
            await asyncio.sleep(0.02)
