"""The contract of `capabilities`, also while they change."""

import pytest

from common.application.capabilities import MAX_MODELS, MAX_NAME
from common.domain.errors import Rejected


async def test_a_server_describes_what_it_offers(bench):
    offered = await bench.backend.capabilities()

    assert offered.dialect
    assert offered.features is not None
    lacking = {"progress", "previews", "cancel", "negative_prompt", "hires_fix"} & bench.dialect.lacks.keys()
    assert not lacking & set(offered.features)


@pytest.mark.needs("model_list")
async def test_models_are_those_of_the_server(bench):
    names = [bench.engine.model(name) for name in (*bench.engine.models, "another")]
    bench.engine.set_models(*names)

    assert sorted(model.id for model in (await bench.backend.capabilities()).models) == sorted(names)


@pytest.mark.needs("model_list")
async def test_a_new_model_is_shown_when_asked_afresh(bench):
    await bench.backend.capabilities()
    new = bench.engine.model("another")
    bench.engine.set_models(*bench.engine.models, new)

    assert new not in {model.id for model in (await bench.backend.capabilities()).models}
    assert new in {model.id for model in (await bench.backend.capabilities(fresh=True)).models}
    assert (await bench.paint(bench.job(model=new))).content


@pytest.mark.needs("model_list")
async def test_a_model_that_is_gone_is_refused(bench):
    await bench.paint()
    bench.engine.set_models(bench.engine.model("another"))

    with pytest.raises(Rejected, match="model"):
        await bench.paint()


@pytest.mark.needs("model_list")
async def test_odd_and_many_names_are_bounded(bench):
    odd = ["a\x00b", "x" * 200, "", " blank", "\u202edrow"]
    bench.engine.set_models(*(bench.engine.model(name) for name in (*bench.engine.models, *odd)))
    some = await bench.backend.capabilities(fresh=True)
    bench.engine.set_models(*(bench.engine.model(f"m{number}") for number in range(2 * MAX_MODELS)))
    many = await bench.backend.capabilities(fresh=True)

    assert all(model.id.isprintable() and 0 < len(model.id) <= MAX_NAME for model in some.models)
    assert len(many.models) == MAX_MODELS


async def test_capabilities_are_asked_once_a_minute(bench):
    await bench.backend.capabilities()
    asked = bench.proxy.requests

    for _ in range(5):
        await bench.backend.capabilities()

    assert bench.proxy.requests == asked
