"""The settings as text; the expected texts are as AUTOMATIC1111 1.10 writes them."""

from common.domain.images import Parameters
from common.provenance.parameters import text_of
from tests.making import an_image


def test_settings_are_written_as_a1111_does():
    parameters = Parameters(steps=20, cfg_scale=7.0, sampler="DPM++ 2M", seed=965400086, hires_fix=False)
    image = an_image(prompt="a cat,\non a mat", negative_prompt="dog", parameters=parameters, width=512, height=768)

    assert text_of(image) == (
        "a cat,\non a mat\nNegative prompt: dog\n"
        "Steps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 965400086, Size: 512x768, Model: sdxl, Version: Darkroom"
    )


def test_a_value_with_separators_is_quoted():
    text = text_of(an_image(model='a, b: "c"'))

    assert 'Model: "a, b: \\"c\\"", Version' in text


def test_an_ambiguous_prompt_says_how_many_lines_it_has():
    assert "Prompt lines: 2, " in text_of(an_image(prompt="one\nNegative prompt: two", negative_prompt="three"))
