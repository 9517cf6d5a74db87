"""A replica set of two members on one server, whose primary steps down on demand.

    driver ──▶ member 0 ─┐  hello is answered here, as is every command that a real set refuses or has answered before
           └─▶ member 1 ─┴──▶ the server, without sessions

It speaks MongoDB's wire protocol (mongodb.com/docs, OP_MSG; retryable writes, server discovery and monitoring in the
driver specifications, read in 2026) as far as the driver needs it to see a set, to know at once of an election, and to
send a write again under its number. It has no replication, so nothing lags and nothing is ever rolled back.

    async with replica_set(database) as members:
        async with MongoStore.open(members.url, timeout_s=5) as store:
            members.step_down_at("update", how="interrupted")
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from bson.int64 import Int64
from bson.objectid import ObjectId

from tests.mongodb_messages import OP_MSG, BsonDocument, packed, packed_reply, read_message

# before the write: refused. After it, so that the client cannot know: an error, a write that no majority has confirmed,
# or no answer at all
StepDownKind = Literal["refused", "interrupted", "unconfirmed", "cut"]

HELLO = frozenset({"hello", "ismaster", "isMaster"})
ANY_MEMBER = HELLO | {"ping", "saslStart", "saslContinue"}  # all else is for the primary
SESSIONS = frozenset({"lsid", "txnNumber", "$clusterTime", "$readPreference", "readConcern"})  # of a set only
NOT_PRIMARY = {"code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary"}
INTERRUPTED = {"code": 11602, "codeName": "InterruptedDueToReplStateChange", "errmsg": "operation was interrupted"}
RETRYABLE = {"errorLabels": ["RetryableWriteError"]}


class ReplicaSet:
    """Made by `replica_set`; member 0 is the primary at first."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._members = [_Member(self), _Member(self)]
        self._election = 0
        self._elected = asyncio.Event()
        self._plan: _StepDown | None = None
        self._answers: dict[tuple[bytes, int], BsonDocument] = {}
        self._sessions: defaultdict[bytes, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.primary: int | None = 0
        self.remembers = True  # off: a write that comes again is made again, as if it were another
        self.applied: list[BsonDocument] = []  # numbered writes that the server was given
        self.repeated = 0  # numbered writes that were answered from memory

    @property
    def url(self) -> str:
        hosts = ",".join(member.address for member in self._members)
        credentials, at, _ = self._parts.netloc.rpartition("@")
        query = "&".join(filter(None, [self._parts.query, "replicaSet=test"]))
        return urlunsplit(self._parts._replace(netloc=f"{credentials}{at}{hosts}", query=query))

    def step_down_at(self, command: str, *, how: StepDownKind, among: int = 1, successor: int | None = 1) -> None:
        """End the primary's term at the next `command`: or when `among` of them have come, at the first of these.

        All of them find it stepped down, once the first was refused or was made.
        """
        self._plan = _StepDown(command, how=how, among=among, successor=successor)

    def elect(self, member: int | None) -> None:
        """Make this member the primary, or none; the driver learns of it at once."""
        self.primary = member
        self._election += 1
        self._elected.set()
        self._elected = asyncio.Event()

    async def listen(self) -> None:
        for member in self._members:
            await member.listen()

    async def close(self) -> None:
        for member in self._members:
            await member.close()

    async def answer(
        self, member: "_Member", command: BsonDocument, server: "_ServerConnection"
    ) -> BsonDocument | None:
        """What this member answers; None cuts the connection."""
        name = next(iter(command))
        if name in HELLO:
            return await self._hello(member, command)
        if name == "endSessions":
            return {"ok": 1.0}
        is_hit = self._plan is not None and self._plan.command == name and self._is_primary(member)
        if is_hit and self._plan is not None:
            return await self._step_down(self._plan, member, command, server)
        if name not in ANY_MEMBER and not self._is_primary(member):
            return self._error(NOT_PRIMARY, member, command)
        return await self._apply(command, server)

    async def _step_down(
        self, plan: "_StepDown", member: "_Member", command: BsonDocument, server: "_ServerConnection"
    ) -> BsonDocument | None:
        is_first = plan.came == 0
        plan.came += 1
        if plan.came == plan.among:
            plan.all_came.set()
        await plan.all_came.wait()
        if not is_first:
            await plan.done.wait()
            return None if plan.how == "cut" else self._error(NOT_PRIMARY, member, command)
        applied = None if plan.how == "refused" else await self._apply(command, server)
        self._plan = None
        self.elect(plan.successor)
        plan.done.set()
        match plan.how:
            case "refused":
                return self._error(NOT_PRIMARY, member, command)
            case "interrupted":
                return self._error(INTERRUPTED, member, command)
            case "unconfirmed":
                assert applied is not None
                return {**applied, "writeConcernError": INTERRUPTED, **RETRYABLE}
            case "cut":
                return None

    async def _apply(self, command: BsonDocument, server: "_ServerConnection") -> BsonDocument:
        """Give it to the server; a write of a number known gets the answer of its first time."""
        if "txnNumber" not in command:
            return await server.ask(command)
        session = bytes(command["lsid"]["id"])
        key = session, int(command["txnNumber"])
        async with self._sessions[session]:
            if self.remembers and key in self._answers:
                self.repeated += 1
                return self._answers[key]
            self.applied.append(command)
            self._answers[key] = await server.ask(command)
            return self._answers[key]

    async def _hello(self, member: "_Member", command: BsonDocument) -> BsonDocument:
        known = command.get("topologyVersion")
        if known == self._version(member):  # the driver waits for news
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._elected.wait(), command["maxAwaitTimeMS"] / 1000)
        is_primary = self._is_primary(member)
        answer = {
            "helloOk": True,
            "isWritablePrimary": is_primary,
            "ismaster": is_primary,
            "secondary": not is_primary,
            "setName": "test",
            "setVersion": 1,
            "hosts": [each.address for each in self._members],
            "me": member.address,
            "topologyVersion": self._version(member),
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": 17,  # MongoDB 6.0
            "maxBsonObjectSize": 16 * 1024 * 1024,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "ok": 1.0,
        }
        if self.primary is not None:
            answer["primary"] = self._members[self.primary].address
        if is_primary:
            answer["electionId"] = ObjectId(f"7fffffff{self._election:016x}")
        return answer

    def _error(self, error: BsonDocument, member: "_Member", command: BsonDocument) -> BsonDocument:
        label = RETRYABLE if "txnNumber" in command else {}
        return {"ok": 0.0, **error, **label, "topologyVersion": self._version(member)}

    def _is_primary(self, member: "_Member") -> bool:
        return self.primary is not None and self._members[self.primary] is member

    def _version(self, member: "_Member") -> BsonDocument:
        return {"processId": member.process_id, "counter": Int64(self._election)}

    @property
    def server_address(self) -> tuple[str | None, int]:
        return self._parts.hostname, self._parts.port or 27017


class _StepDown:
    """A planned step-down, with the number of matching commands that have arrived."""

    def __init__(self, command: str, *, how: StepDownKind, among: int, successor: int | None) -> None:
        self.command = command
        self.how = how
        self.among = among
        self.successor = successor
        self.came = 0
        self.all_came = asyncio.Event()
        self.done = asyncio.Event()


class _Member:
    """One member: a port with its connections."""

    def __init__(self, of: ReplicaSet) -> None:
        self._set = of
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.process_id = ObjectId()
        self.address = ""

    async def listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = "127.0.0.1:{1}".format(*self._listener.sockets[0].getsockname())

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        server = _ServerConnection(self._set.server_address)
        try:
            while True:
                request, kind, command = await read_message(reader)
                answer = await self._set.answer(self, command, server)
                if answer is None:
                    break
                writer.write(packed(request, answer) if kind == OP_MSG else packed_reply(request, answer))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the driver, or the server, has closed its end
        finally:
            server.close()
            writer.close()


class _ServerConnection:
    """The connection to the server behind one of the driver's."""

    def __init__(self, address: tuple[str | None, int]) -> None:
        self._address = address
        self._line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, command: BsonDocument) -> BsonDocument:
        if self._line is None:
            self._line = await asyncio.open_connection(*self._address)
        reader, writer = self._line
        writer.write(packed(0, {name: value for name, value in command.items() if name not in SESSIONS}))
        await writer.drain()
        _, _, answer = await read_message(reader)
        return answer

    def close(self) -> None:
        if self._line is not None:
            self._line[1].close()


@contextlib.asynccontextmanager
async def replica_set(url: str) -> AsyncIterator[ReplicaSet]:
    """A set that keeps its data in the server and database of `url`."""
    members = ReplicaSet(url)
    await members.listen()
    try:
        yield members
    finally:
        await members.close()
