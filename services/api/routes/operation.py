"""The shape of a route: one `Operation` each, from which the application and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, cast

from aiohttp import web
from pydantic import BaseModel

from common.domain.errors import Invalid
from services.api.auth.identity import Caller
from services.api.context import Context
from services.api.middleware.request_reading import drain, read_body, read_query

G = TypeVar("G")  # the group of routes, with what its handlers need
Q = TypeVar("Q")  # the model of the query, or None
B = TypeVar("B")  # the model of the body, or None
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Input(Generic[Q, B]):
    """The models of what a route reads from a request; NoneType if it reads nothing."""

    query: type[Q]
    body: type[B]
    is_ignored: bool = False  # the body is not even read: the answer is the same whatever it holds

    @property
    def query_model(self) -> type[BaseModel] | None:
        return self.query if issubclass(self.query, BaseModel) else None

    @property
    def body_model(self) -> type[BaseModel] | None:
        return self.body if issubclass(self.body, BaseModel) else None

    async def read(self, request: web.Request, *, timeout_s: float) -> tuple[Q, B]:
        """
        Raises:
            Invalid: the query or the body does not fit its model, or the body is too large or too slow.
        """
        query, body = None, None
        if self.body_model is None and not self.is_ignored:
            await drain(request, timeout_s=timeout_s)
        if self.query_model is not None:
            query = read_query(request, self.query_model)
        if self.body_model is not None:
            body = await read_body(request, self.body_model, timeout_s=timeout_s)
        # each is an instance of its model, or None if the type is NoneType: mypy cannot see that
        return cast("Q", query), cast("B", body)


NO_INPUT: Final = Input(NoneType, NoneType)
IGNORED_INPUT: Final = Input(NoneType, NoneType, is_ignored=True)


def query_of(model: type[M]) -> Input[M, None]:
    """The route reads the query."""
    return Input(model, NoneType)


def body_of(model: type[M]) -> Input[None, M]:
    """The route reads a JSON body."""
    return Input(NoneType, model)


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """One request with its caller and its parsed query and body."""

    request: web.Request
    caller: Caller
    query: Q
    body: B
    is_signed: bool = False  # a signed URL was accepted instead of a caller

    @property
    def owner(self) -> str:
        return self.caller.owner

    @property
    def image_id(self) -> str:
        """The id in the path, not yet validated."""
        return self.request.match_info["id"]


PlainCall: TypeAlias = Call[None, None]


@dataclass(frozen=True, slots=True)
class Operation(Generic[G, Q, B]):
    """A route: what it reads, what it answers by status, and which problems it may answer with."""

    id: str  # the `operationId` of OpenAPI: a published name, so it never changes
    method: str
    path: str
    input: Input[Q, B]
    handle: Callable[[G, Call[Q, B]], Awaitable[web.StreamResponse]]
    summary: str
    answers: dict[int, type[BaseModel] | None]
    problems: tuple[int, ...] = ()
    problem_models: dict[int, tuple[type[BaseModel], ...]] = field(default_factory=dict)  # if not `Problem` alone
    error_model: type[BaseModel] | None = None  # what its errors are instead of problems
    explain: Callable[[Invalid, web.Request], Invalid] | None = None  # says more about a body that is refused
    is_public: bool = False  # served without identity
    needs: Literal["share_links"] | None = None  # the setting that switches it on
    other_credential: Literal["signature", "ticket", "api-key"] | None = None  # accepted from clients that cannot send
    # the header Authorization
    media_types: tuple[str, ...] = ("application/json",)
    headers: dict[str, str] = field(default_factory=dict)  # request headers that it reads: name to meaning
    notes: str = ""  # more about it in the OpenAPI document
    gives_headers: tuple[str, ...] = ()  # its own response headers, beside those of every answer

    @property
    def gives_json(self) -> bool:
        return self.media_types == ("application/json",) and any(self.answers.values())


AnyOperation: TypeAlias = Operation[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class RouteGroup(Generic[G]):
    """The operations of one module, and how the object with their handlers is built."""

    build: Callable[[Context], G]
    operations: Sequence[Operation[G, Any, Any]]


def answer(model: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A model as JSON."""
    return web.Response(
        status=status, text=model.model_dump_json(by_alias=True), content_type="application/json", headers=headers
    )
