"""Bad input to every route: a problem with a stable code, no stored image."""

import json

import pytest
from yarl import URL

from tests.cluster import ORDER, embedded, front_end
from tests.media_folder import files_in
from tests.waiting import until

IMAGE = "01890000-0000-7000-8000-000000000000"
JSON = {"Content-Type": "application/json"}

BAD = [
    ("POST", "/v1/images/generations", b"", JSON, 400, "invalid_json"),
    ("POST", "/v1/images/generations", b"{", JSON, 400, "invalid_json"),
    ("POST", "/v1/images/generations", b"[" * 60_000, JSON, 400, "invalid_json"),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "cfg_scale": NaN}', JSON, 400, "invalid_json"),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "prompt": "b"}', JSON, 400, "invalid_json"),
    ("POST", "/v1/images/generations", b'{"prompt": "\xff"}', JSON, 400, "invalid_json"),
    ("POST", "/v1/images/generations", b'{"prompt": "\\ud800"}', JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b'{"prompt": "nul \\u0000"}', JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b"[]", JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b'{"prompt": "%s"}' % (b"a" * 10_000), JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b'{"prompt": "a\\u001b[2Jb"}', JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b'{"prompt": " \\n\\u2003"}', JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "seed": %s}' % (b"9" * 6000), JSON, 400, "invalid_json"),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "seed": 1e400}', JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "steps": 1e308}', JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "cfg_scale": 1, "cfgScale": 2}', JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b'{"a":' * 12_000 + b"1" + b"}" * 1, JSON, 400, "invalid_json"),
    ("POST", "/v1/images/generations", b"{}", JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "width": "64"}', JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "styles": []}', JSON, 400, "invalid_request"),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "model": "none"}', JSON, 400, "unknown_model"),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "sampler": "none"}', JSON, 400, "unknown_sampler"),
    ("POST", "/v1/images/generations", b'{"prompt": "a"}', {"Content-Type": "text/plain"}, 415, "not_json"),
    ("POST", "/v1/images/generations", b" " * 131_073, JSON, 413, "body_too_large"),
    ("POST", "/v1/images/generations", b'{"prompt": "a"}', JSON | {"Prefer": "wait=x"}, 400, "invalid_header"),
    (
        "POST",
        "/v1/images/generations",
        b'{"prompt": "a"}',
        JSON | {"Idempotency-Key": "k" * 201},
        400,
        "invalid_header",
    ),
    ("GET", "/v1/images/generations", None, {}, 405, "method_not_allowed"),
    ("GET", "/api/images/history/?page=0", None, {}, 400, "invalid_request"),
    ("GET", "/api/images/history/?perPage=101", None, {}, 400, "invalid_request"),
    ("GET", "/api/images/history/?page=1&page=2", None, {}, 400, "invalid_request"),
    ("GET", "/api/images/history/?sort=up", None, {}, 400, "invalid_request"),
    ("GET", "/api/images/history/?status=lost", None, {}, 400, "invalid_request"),
    ("GET", "/api/images/history/?cursor=abc", None, {}, 400, "invalid_request"),
    ("GET", "/api/images/nobody/", None, {}, 400, "invalid_id"),
    ("GET", f"/api/images/{IMAGE}/", None, {}, 404, "image_not_found"),
    ("DELETE", "/api/images/..%2f..%2fetc/", None, {}, 400, "invalid_id"),
    ("DELETE", f"/api/images/{IMAGE}/", None, {}, 404, "image_not_found"),
    ("POST", f"/api/images/{IMAGE}/cancel/", None, {}, 404, "image_not_found"),
    ("PATCH", f"/api/images/{IMAGE}/", b'{"pinned": true}', JSON, 404, "image_not_found"),
    ("PATCH", f"/api/images/{IMAGE}/", b'{"pinned": "yes"}', JSON, 400, "invalid_request"),
    ("PATCH", f"/api/images/{IMAGE}/", b"{}", JSON, 400, "invalid_request"),
    ("GET", "/media/..%2f..%2fdarkroom.db", None, {}, 404, "file_not_found"),
    ("GET", f"/media/generated_images/2025/01/{IMAGE}.png", None, {}, 404, "file_not_found"),
    ("GET", "/media/%00", None, {}, 404, "file_not_found"),
    ("GET", "/nowhere", None, {}, 404, "not_found"),
]


async def knows_models(page) -> bool:
    """Before the generator has announced its models, every model is accepted."""
    return (await page.get("/api/models/"))[1]["known"]


@pytest.mark.fault(row=58)
async def test_bad_input_gets_a_problem_and_stores_nothing(tmp_path):
    async with embedded(tmp_path) as cluster, front_end(cluster.url) as page:
        await until(lambda: knows_models(page))
        wrong: list[tuple] = []
        for method, path, body, headers, status, code in BAD:
            url = URL(page.url + path, encoded=True)
            async with page.http.request(method, url, data=body, headers=headers) as response:
                text = await response.text()
                if response.status != status or response.content_type != "application/problem+json":
                    wrong.append((method, path, (body or b"")[:40], response.status, text[:200]))
                    continue
                problem = json.loads(text)
                assert set(problem) >= {"type", "title", "status", "code", "detail"}
                if (problem["status"], problem["code"]) != (status, code):
                    wrong.append((method, path, (body or b"")[:40], text[:200]))
                if status == 405:
                    assert response.headers["Allow"] == "POST"
        assert wrong == []

        assert (await page.get("/api/images/history/?status=all"))[1]["total"] == 0
        assert files_in(cluster.media) == set()
        assert (await page.post("/v1/images/generations", ORDER))[0] == 201
        assert "Traceback" not in cluster.services["up"].log
