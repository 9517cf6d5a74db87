"""The OpenAPI document: published names, bodies of problems."""

from jsonschema import Draft202012Validator

from common.application.capabilities import Model
from common.application.fleet.view import CatalogueUnion, OfferedModel
from services.api.app import OPERATIONS, ROUTES
from services.api.routes.openapi.document import describe_rest
from services.api.routes.openapi.models import with_offers

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
    """Also for a model with other samplers and lower limits than those of the examples."""
    few = OfferedModel(
        Model(id="few", samplers=("LCM",), max_width=256, max_steps=8, grid=64, negative_prompt=False),
        pool="default",
        is_live=True,
    )
    union = CatalogueUnion((few,), unlisted=None, engine=None, notice=None)
    for document in (describe_rest(ROUTES), with_offers(describe_rest(ROUTES), union)):
        schemas = document["components"]["schemas"]
        found = [(name, example) for name, schema in schemas.items() for example in schema.get("examples", ())]
        for name, example in found + list(body_examples(document)):
            Draft202012Validator({"$ref": f"#/components/schemas/{name}", **document}).validate(example)
        assert {"GenerationRequest", "Change", "OpenAIImageRequest"} <= {name for name, _ in found}
    example = schemas["GenerationRequest"]["examples"][0]
    assert [example[name] for name in ("sampler", "width", "steps")] == ["LCM", 256, 8]
    (short,) = [
        example for name, example in body_examples(document) if name == "GenerationRequest" and "seed" not in example
    ]
    assert (short["width"], short["steps"], short["sampler"]) == (256, 8, "LCM"), "its defaults are not allowed"


def test_each_body_and_each_path_has_an_example():
    document = describe_rest(ROUTES)
    operations = [(path, operation) for path, each in document["paths"].items() for operation in each.values()]

    without = [
        path
        for path, each in operations
        for part in each["parameters"]
        if part["in"] == "path" and "example" not in part
    ]
    assert without == []
    bodies = {each["operationId"] for _, each in operations if "requestBody" in each}
    assert len(list(body_examples(document))) > len(bodies)


def body_examples(document):
    """The name of the schema and the value of each example of a body."""
    for operations in document["paths"].values():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in content.get("examples", {}).values():
                yield content["schema"]["$ref"].rpartition("/")[2], example["value"]


def test_batches_are_described():
    document = describe_rest(ROUTES)
    schemas, paths = document["components"]["schemas"], document["paths"]
    responses = paths["/v1/images/generations"]["post"]["responses"]

    assert schemas["GenerationRequest"]["properties"]["num_images"]["maximum"] == 10
    assert {"images", "batch"} <= schemas["GenerationAnswer"]["properties"].keys()
    assert not {"images", "batch"} & set(schemas["GenerationAnswer"]["required"])
    assert schemas["Batch"]["required"] == ["id", "index", "count"]
    for status in ("201", "202"):
        assert responses[status]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/GenerationAnswer"
        }
    for path, method in (("/api/images/{id}/", "delete"), ("/api/images/{id}/cancel/", "post")):
        [query] = [each for each in paths[path][method]["parameters"] if each["in"] == "query"]
        assert (query["name"], query["schema"]["type"]) == ("batch", "boolean")
