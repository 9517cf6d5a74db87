"""The form of a problem."""

import json

import pytest

from common.domain.errors import Invalid, InvalidTransition, LimitReached, ServiceError, Unauthorized, Unavailable
from services.api.middleware.problems import error_response


def members(response):
    return json.loads(response.text)


def test_a_problem_has_the_members_of_rfc_9457():
    response = error_response(Invalid("the width is wrong", code="invalid_request", fields={"width": "too small"}))

    assert response.content_type == "application/problem+json"
    assert members(response) == {
        "type": "urn:darkroom:problem:invalid_request",
        "title": "Invalid request",
        "status": 400,
        "code": "invalid_request",
        "detail": "the width is wrong",
        "fields": {"width": "too small"},
    }


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (Invalid("", code="not_json"), 415, {}),
        (Unauthorized(), 401, {"WWW-Authenticate": "Bearer"}),
        (InvalidTransition("", status="failed"), 409, {}),
        (LimitReached("", retry_after_s=1.2, code="hourly_limit"), 429, {"RateLimit": '"hour";r=0;t=2'}),
        (LimitReached("", retry_after_s=2, code="hourly_limit", left=3), 429, {"RateLimit": '"hour";r=3;t=2'}),
        (LimitReached("", retry_after_s=0.1), 429, {"Retry-After": "1"}),
        (Unavailable("store"), 503, {"Retry-After": "2"}),
    ],
)
def test_an_error_has_its_status_and_headers(error, status, headers):
    response = error_response(error)

    assert response.status == status
    assert headers.items() <= dict(response.headers).items()


def test_an_internal_error_shows_no_detail():
    response = error_response(ServiceError("the password is 1234"))

    assert (response.status, members(response)["code"]) == (500, "internal")
    assert "1234" not in members(response)["detail"]


def test_a_lone_surrogate_in_a_detail_can_be_sent():
    assert members(error_response(Invalid("\ud800 is unknown")))["detail"] == "\ud800 is unknown"
