"""The messages of MongoDB's wire protocol, as far as a simulated member has to read and write them."""

import asyncio
import struct
from typing import Any

import bson

BsonDocument = dict[str, Any]
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
HEADER = struct.Struct("<iiii")  # length, request, in answer to, kind
CHECKSUM_PRESENT = 1  # a flag of OP_MSG


def packed(in_answer_to: int, document: BsonDocument) -> bytes:
    body = struct.pack("<Ib", 0, 0) + bson.encode(document)  # no flags, one section of kind 0
    return HEADER.pack(HEADER.size + len(body), 1, in_answer_to, OP_MSG) + body


def packed_reply(in_answer_to: int, document: BsonDocument) -> bytes:
    """The answer to OP_QUERY, with which a driver says its first hello."""
    body = struct.pack("<iqii", 0, 0, 0, 1) + bson.encode(document)  # no flags, no cursor, from 0 on, one document
    return HEADER.pack(HEADER.size + len(body), 1, in_answer_to, OP_REPLY) + body


async def read_message(reader: asyncio.StreamReader) -> tuple[int, int, BsonDocument]:
    """The next message: its number, its kind, and its document with all that came beside it."""
    length, request, _, kind = HEADER.unpack(await reader.readexactly(HEADER.size))
    body = await reader.readexactly(length - HEADER.size)
    if kind == OP_QUERY:  # flags, the collection's name, skip, limit; then the document
        return request, kind, bson.decode(body[body.index(0, 4) + 9 :])
    (flags,) = struct.unpack_from("<I", body)
    return request, kind, _sections(body[4:-4] if flags & CHECKSUM_PRESENT else body[4:])


def _sections(body: bytes) -> BsonDocument:
    document: BsonDocument = {}
    while body:
        (size,) = struct.unpack_from("<i", body, 1)
        section, kind, body = body[1 : size + 1], body[0], body[size + 1 :]
        if kind == 0:
            document = {**bson.decode(section), **document}
        else:  # a list of documents under a name, beside the command
            name, _, documents = section[4:].partition(b"\x00")
            document[name.decode()] = bson.decode_all(documents)
    return document
