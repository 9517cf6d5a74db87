"""A picture dropped on the page: its settings are copied to the form."""

import base64
import zlib

import pytest
from PIL import ExifTags, Image, PngImagePlugin
from playwright.async_api import expect

from common.domain.images import Parameters
from common.provenance.marks import Marker
from tests.making import an_image
from tests.odd_pictures import encoded, jpeg_with, png_chunk, png_with

MARKER = Marker(embeds_parameters=True, max_bytes=1_000_000)
A1111 = (
    "a fox, snow\nin two lines\nNegative prompt: blurry\n"
    "Steps: 23, Sampler: DPM++ 2M, CFG scale: 6.5, Seed: 4123456789, Size: 512x768, Model hash: 6ce0161689, "
    'Model: elsewhere, Hires upscale: 2, Lora hashes: "a: 1, b: 2", Version: v1.10.1'
)
DROP = """async ([name, content]) => {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name));
    for (const type of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
    }
}"""


def of_a1111():
    """Its files: a tEXt chunk in PNG; in others a user comment as piexif writes it."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", A1111)
    data = Image.Exif()
    data.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + A1111.encode("utf-16-be")
    yield "a1111.png", encoded("PNG", pnginfo=texts)
    yield "packed.png", png_with(png_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(A1111.encode())))
    yield "a1111.jpg", encoded("JPEG", exif=data)
    yield "a1111.webp", encoded("WEBP", exif=data)


READ = """async (content) => {
    const { settingsIn } = await import("./playground/embedded.js");
    return settingsIn(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], "name"));
}"""


@pytest.mark.long
async def test_damaged_files_have_no_settings(visit):
    bomb = zlib.compress(b"Steps: 1, " * 3_000_000)
    damaged = [
        b"",
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 99,
        png_with(png_chunk(b"zTXt", b"parameters\0\0not zlib")),
        png_with(png_chunk(b"zTXt", b"parameters\0\0" + bomb)),
        png_with(png_chunk(b"tEXt", b"parameters\0a text about something else")),
        b"RIFF" + bytes(4) + b"WEBPEXIF" + b"\xff" * 20,
        jpeg_with((0xE1, b"Exif\0\0II*\0" + b"\xff" * 20)),
    ]

    found = [await visit.page.evaluate(READ, base64.b64encode(each).decode()) for each in damaged]

    assert found == [None] * len(damaged)


async def drop(visit, name, content):
    await visit.page.evaluate(DROP, [name, base64.b64encode(content).decode()])


async def test_settings_of_a_dropped_picture_are_in_the_form(visit):
    """Files of Darkroom and of A1111 in every format, then one without settings, which changes nothing."""
    page = visit.page
    parameters = Parameters(steps=12, cfg_scale=3.5, sampler="Euler", seed=4294967295, hires_fix=False)
    prompt = "ein Fuchs 🦊\nNegative prompt: no, a line\nSteps: 1, 2"
    for image_format in ("PNG", "JPEG", "WEBP"):
        image = an_image(prompt=prompt, negative_prompt="ünscharf", parameters=parameters, width=640, height=384)

        await drop(visit, "ours", MARKER.mark(encoded(image_format), image))

        await expect(page.get_by_label("Negative prompt")).to_have_value("ünscharf")
        assert await visit.prompt.input_value() == prompt
        assert await page.get_by_label("Steps", exact=True).input_value() == "12"
        assert await page.get_by_label("CFG scale", exact=True).input_value() == "3.5"
        assert await page.get_by_label("Seed", exact=True).input_value() == "4294967295"
        assert "640 × 384" in await page.locator(".summary").text_content()
        await page.get_by_label("Negative prompt").fill("")
    for name, content in of_a1111():
        await drop(visit, name, content)

        await expect(page.get_by_label("Negative prompt")).to_have_value("blurry")
        await expect(visit.notices).to_contain_text("its model is not offered here")
        assert await visit.prompt.input_value() == "a fox, snow\nin two lines"
        assert await page.get_by_label("Seed", exact=True).input_value() == "4123456789"
        assert "512 × 768" in await page.locator(".summary").text_content()
        await page.get_by_label("Negative prompt").fill("")
    await drop(visit, "without.png", encoded())
    await expect(visit.notices).to_contain_text("This file has no settings")
    assert await visit.prompt.input_value() == "a fox, snow\nin two lines"
    assert page.url == visit.url
