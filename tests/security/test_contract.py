"""The contracts, checked from outside: by the schemas of their specifications, by a fuzzer at a real server."""

import json
from pathlib import Path

import jsonschema
import pytest

from services.api.app import OPERATIONS, ROUTES
from services.api.routes.asyncapi import describe_bus
from services.api.routes.openapi.document import describe_rest
from tests.security.fuzz import fuzz

SCHEMAS = Path(__file__).parents[1] / "schemas"


@pytest.mark.long
@pytest.mark.border(rule="D8")
@pytest.mark.timeout(180)  # 15 s on two cores with other work, 117 s at a load of 20
@pytest.mark.parametrize("has_identity", [False, True])
async def test_a_stock_fuzzer_finds_nothing_undocumented(tmp_path, has_identity):
    status, cases, said = await fuzz(tmp_path, examples=3, seed=20_250_115, has_identity=has_identity)

    assert status == 0, said
    assert cases > 150, said


def test_asyncapi_keeps_its_specification():
    schema = json.loads((SCHEMAS / "asyncapi-3.0.0.json").read_text())

    jsonschema.Draft7Validator(schema).validate(describe_bus())


def test_openapi_keeps_its_specification():
    schema = json.loads((SCHEMAS / "openapi-3.1.json").read_text())

    jsonschema.Draft202012Validator(schema).validate(describe_rest(ROUTES))


def test_openapi_names_every_route_with_its_statuses():
    paths = describe_rest(ROUTES)["paths"]

    for route in ROUTES:
        if route.path == "/ws":
            continue
        described = paths[route.path.replace(":.+", "").replace(":(?!history)[^/]+", "")][route.method.lower()]
        assert {int(status) for status in described["responses"]} == {*route.answers, *route.problems, 403, 500}
        assert ("security" in described) is not route.is_public
    assert len(OPERATIONS) > len(ROUTES)


def test_every_model_in_the_contract_describes_itself_once():
    schemas = describe_rest(ROUTES)["components"]["schemas"]

    assert {"GenerationRequest", "ImageAnswer", "HistoryPage", "Limits", "Ticket", "Problem"} <= set(schemas)
    assert "negative_prompt" in schemas["GenerationRequest"]["properties"], "as the playground sends it"
    assert "negativePrompt" in schemas["ImageAnswer"]["properties"], "as the playground reads it"


def test_the_place_in_the_queue_is_said_by_rest_and_by_no_event():
    answered = describe_rest(ROUTES)["components"]["schemas"]["ImageAnswer"]
    told = describe_bus()["components"]["schemas"]["ImageView"]

    assert answered["properties"].keys() - told["properties"].keys() == {
        "queuePlace",
        "queuePlaceEstimated",
        "estimatedSeconds",
        "waitingFor",
    }
    assert {"queuePlace", "waitingFor"} <= set(answered["required"])
    assert answered["properties"]["queuePlace"]["anyOf"] == [
        {"type": "integer", "minimum": 1, "maximum": 1001},
        {"type": "null"},
    ]
