"""The OpenAPI document: published names, bodies of problems."""

from jsonschema import Draft202012Validator

from common.application.capabilities import Capabilities, Model
from services.api.app import OPERATIONS, ROUTES
from services.api.routes.openapi import describe_rest, with_offers

PROBLEM, FAILED = ({"$ref": f"#/components/schemas/{name}"} for name in ("Problem", "FailedProblem"))


def test_each_operation_id_is_unique():
    ids = [operation.id for operation in OPERATIONS]

    assert len(ids) == len(set(ids))


def test_schemas_keep_their_published_names():
    document = describe_rest(ROUTES)
    schemas = document["components"]["schemas"]

    assert {"Change", "Offers", "ModelOffer"} <= schemas.keys()
    assert not {"ImagePatch", "ModelsAnswer", "ModelAnswer"} & schemas.keys()
    body = document["paths"]["/api/images/{id}/"]["patch"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/Change"}
    assert schemas["Offers"]["properties"]["models"]["items"] == {"$ref": "#/components/schemas/ModelOffer"}


def test_a_failed_generation_answers_with_its_image():
    responses = describe_rest(ROUTES)["paths"]["/v1/images/generations"]["post"]["responses"]

    found = {
        status: responses[status]["content"]["application/problem+json"]["schema"]
        for status in ("409", "422", "502", "504")
    }

    assert found == {"409": PROBLEM, "422": {"anyOf": [PROBLEM, FAILED]}, "502": FAILED, "504": FAILED}


def test_each_operation_is_in_a_described_group():
    document = describe_rest(ROUTES)
    groups = {tag["name"] for tag in document["tags"]}
    found = {tag for path in document["paths"].values() for operation in path.values() for tag in operation["tags"]}

    assert found == groups
    assert len(groups) > 4


def test_swagger_ui_has_no_reason_to_warn():
    assert "jsonSchemaDialect" not in describe_rest(ROUTES)


def test_the_examples_are_valid_requests():
    for document in (
        describe_rest(ROUTES),
        with_offers(describe_rest(ROUTES), Capabilities(models=(Model(id="plain", samplers=("LCM",)),))),
    ):
        schemas = document["components"]["schemas"]
        for name in ("GenerationRequest", "Change", "OpenAIImageRequest"):
            (example,) = schemas[name]["examples"]
            Draft202012Validator({"$ref": f"#/components/schemas/{name}", **document}).validate(example)
    assert schemas["GenerationRequest"]["examples"][0]["model"] == "plain"
    assert schemas["GenerationRequest"]["examples"][0]["sampler"] == "LCM"
