"""XMP packets that name the origin of a picture: IPTC's `DigitalSourceType`, trained algorithmic media.

Sources: XMP specification part 1 (2012), section 7; IPTC Photo Metadata Standard 2025.1, "Digital Source Type".
"""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree as ET

TRAINED: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_SOURCE_TYPE: Final = f"{{{_IPTC}}}DigitalSourceType"
_PROVENANCE: Final = "{http://purl.org/dc/terms/}provenance"  # the URL of a C2PA manifest that is elsewhere
_MAX_BYTES: Final = 1_048_576  # of a packet that is parsed
_DESCRIPTION: Final = (
    '<rdf:Description rdf:about="%s" xmlns:rdf="' + _RDF + '" xmlns:Iptc4xmpExt="' + _IPTC + '" '
    'Iptc4xmpExt:DigitalSourceType="' + TRAINED + '"/>'
)
PACKET: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">{_DESCRIPTION % ""}</rdf:RDF></x:xmpmeta>\n'
    '<?xpacket end="w"?>'
).encode()
_ABOUT: Final = re.compile(rb"""[\w-]+:about\s*=\s*(?:"([^"<]*)"|'([^'"<]*)')""")
_RDF_END: Final = re.compile(rb"</(?:[\w-]+:)?RDF\s*>")
_VALUES: Final = re.compile(rb"""(DigitalSourceType(?:\s[^<>]*)?(?:\s*=\s*["']|>))[^"'<>]*""")


def is_marked(packet: bytes) -> bool:
    """Whether the packet says that the picture is trained algorithmic media, and nothing else of its origin."""
    return _source_types(packet) == {TRAINED}


def names_manifest(packet: bytes) -> bool:
    """Whether the packet refers to a C2PA manifest."""
    root = _parsed(packet)
    return root is not None and any(each.tag == _PROVENANCE or _PROVENANCE in each.attrib for each in root.iter())


def merged(packet: bytes, max_bytes: int) -> bytes | None:
    """The packet with the mark, everything else in it as it was; None if it cannot be changed safely."""
    found = _source_types(packet)
    if found is None or found == {TRAINED}:
        return packet if found else None
    changed = _VALUES.sub(rb"\g<1>" + TRAINED.encode(), packet) if found else _with_description(packet)
    return changed if len(changed) <= max_bytes and is_marked(changed) else None


def _with_description(packet: bytes) -> bytes:
    ends = list(_RDF_END.finditer(packet))
    if not ends:
        return packet
    about = _ABOUT.search(packet)  # all descriptions of a packet are about the same thing
    subject = (about[1] or about[2] or b"").decode(errors="replace") if about else ""
    description = (_DESCRIPTION % subject).encode()
    return packet[: ends[-1].start()] + description + packet[ends[-1].start() :]


def _source_types(packet: bytes) -> set[str] | None:
    """The values of DigitalSourceType; None if the packet cannot be read."""
    root = _parsed(packet)
    if root is None:
        return None
    found = set[str]()
    for element in root.iter():
        if _SOURCE_TYPE in element.attrib:
            found.add(element.attrib[_SOURCE_TYPE].strip())
        if element.tag == _SOURCE_TYPE:
            found.add(element.attrib.get(f"{{{_RDF}}}resource", element.text or "").strip())
    return found


def _parsed(packet: bytes) -> ET.Element | None:
    if len(packet) > _MAX_BYTES or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet or b"\0" in packet.strip(b"\0"):
        return None
    try:
        root = ET.fromstring(packet.strip(b"\0 \t\r\n"))  # noqa: S314 - as above
    except (ET.ParseError, ValueError, LookupError):
        return None
    has_rdf = any(each.tag == f"{{{_RDF}}}RDF" for each in root.iter())
    return root if has_rdf else None
