"""The catalogue that a generator writes about its back ends."""

import json

import pytest

from common.application.capabilities import MAX_NAME, Capabilities, Feature, Model
from common.application.fleet.announcements import (
    CATALOGUES,
    MAX_CATALOGUE_BYTES,
    catalogue_data,
    catalogue_key,
    catalogue_of,
    read_catalogue,
)
from common.store.port import Entry


def stored(*found, pool="default"):
    return catalogue_data(catalogue_of(found, pool=pool))


def test_a_catalogue_is_read_as_it_was_written():
    found = Capabilities(
        engine="ComfyUI",
        models=(Model(id="a", samplers=("Euler",), max_width=512, grid=64), Model(id="b")),
        samplers=("DDIM", "LCM"),
        features=(Feature.HIRES_FIX,),
    )
    catalogue = catalogue_of([found, Capabilities(samplers=("any",))], pool="gpu-1")
    data = catalogue_data(catalogue)

    assert read_catalogue(Entry(CATALOGUES, catalogue_key(data), 1, json.loads(json.dumps(data)))) == catalogue
    assert "null" not in json.dumps(data)
    assert (catalogue.find("a").samplers, catalogue.find("b").samplers) == (("Euler",), ("DDIM", "LCM"))
    assert catalogue.find("other").samplers == ("any",)
    assert catalogue.find("b").negative_prompt is False, "the server does not offer it"


def test_the_key_is_that_of_what_can_be_painted_and_where():
    one, other = Capabilities(models=(Model(id="a"),)), Capabilities(models=(Model(id="b"),))
    keys = [catalogue_key(data) for data in (stored(one), stored(one), stored(other), stored(one, pool="gpu"))]

    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[2J", "x" * (MAX_NAME + 1), "\u202egnp"])
def test_a_name_that_no_request_can_have_is_left_out(name):
    found = catalogue_of([Capabilities(models=(Model(id=name), Model(id="a", samplers=(name, "Euler"))))], pool="p")

    assert [model.id for model in found.models] == ["a"]
    assert found.models[0].samplers == ("Euler",)
    assert found.unlisted is None, "a server that lists a bad name lists its models all the same"


def test_a_huge_server_fits_into_one_entry():
    """Names of full length in four bytes each, and as many samplers as are kept, different for each model."""
    models = tuple(
        Model(id=f"{number:04}{'灯' * 96}", samplers=tuple(f"{number} {n} {'🦊' * 90}" for n in range(500)))
        for number in range(1000)
    )
    data = stored(Capabilities(models=models, notice="n" * 10_000))

    assert len(json.dumps(data, ensure_ascii=False).encode()) < 1.1 * MAX_CATALOGUE_BYTES
    assert data["models"]


def test_samplers_that_models_share_are_stored_once():
    samplers = tuple(f"sampler {number}" for number in range(200))
    data = stored(Capabilities(models=tuple(Model(id=f"model {n}") for n in range(1000)), samplers=samplers))

    assert (len(data["models"]), data["samplers"]) == (1000, [list(samplers)])
