"""Reading of bodies, queries and Accept into models."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from common.domain.errors import Invalid
from services.api.history.query import HistoryQuery
from services.api.middleware.request_reading import parse, read_query, require_json_accepted
from services.api.routes.schema import ImagePatch


def test_a_body_becomes_its_model():
    assert parse(b'{"pinned": true}', ImagePatch) == ImagePatch(pinned=True)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b'{"pinned": NaN}', "invalid_json"),
        (b'{"pinned": true, "pinned": false}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"\xff", "invalid_json"),
        (b'{"pinned": 1}', "invalid_request"),
        (b'{"pinned": true, "more": 1}', "invalid_request"),
        (b"[]", "invalid_request"),
    ],
)
def test_a_body_that_does_not_fit_is_refused(body, code):
    with pytest.raises(Invalid) as refused:
        parse(body, ImagePatch)

    assert refused.value.code == code


def test_a_query_becomes_its_model():
    request = make_mocked_request("GET", "/?perPage=5&status=all")

    assert read_query(request, HistoryQuery) == HistoryQuery(per_page=5, status="all")


@pytest.mark.parametrize("query", ["page=1&page=2", "page=0", "unknown=1", "status=lost"])
def test_a_query_that_does_not_fit_is_refused(query):
    with pytest.raises(Invalid) as refused:
        read_query(make_mocked_request("GET", f"/?{query}"), HistoryQuery)

    assert refused.value.code == "invalid_request"


def test_several_accept_headers_are_one():
    headers = CIMultiDict([("Accept", "text/html"), ("Accept", "application/json;q=0.1")])

    require_json_accepted(make_mocked_request("GET", "/", headers=headers))


def test_json_that_is_not_accepted_is_refused():
    with pytest.raises(Invalid) as refused:
        require_json_accepted(make_mocked_request("GET", "/", headers={"Accept": "text/html"}))

    assert refused.value.code == "not_acceptable"
