"""Zip files, as Python's reader understands them."""

import zipfile
from datetime import datetime
from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st

from services.api.archives.zip_format import ZipWriter
from tests.making import NOON

FAR = 5 << 30  # bytes


def written(files, *, before=0):
    """The bytes of a zip file with these contents; `before` bytes in front are counted, but not written."""
    writer = ZipWriter(offset=before)
    return b"".join(writer.header(name, content, at=NOON) + content for name, content in files) + writer.end()


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=9)


@given(st.dictionaries(names, st.binary(max_size=99), max_size=5))
def test_any_files_are_read_back(files):
    with zipfile.ZipFile(BytesIO(written(files.items()))) as found:
        assert found.testzip() is None
        assert {name: found.read(name) for name in found.namelist()} == files


def test_the_files_are_dated_stored_and_ordinary():
    with zipfile.ZipFile(BytesIO(written([("café.png", b"x" * 9)]))) as found:
        (info,) = found.infolist()

    assert (info.filename, info.date_time, info.compress_type) == ("café.png", (2025, 1, 15, 12, 0, 0), 0)
    assert (info.file_size, info.flag_bits & 8, info.external_attr >> 16) == (9, 0, 0o100644)


def test_a_large_file_has_the_end_of_zip64():
    """Five GiB come before the files. Python's reader finds the directory by its size, and so the shift."""
    content = written([("a", b"1"), ("b", b"22")], before=FAR)

    with zipfile.ZipFile(Shifted(content)) as found:
        assert [info.header_offset for info in found.infolist()] == [FAR, FAR + 32]
        assert found.read("b") == b"22"


def test_more_files_than_sixteen_bits_can_count():
    files = [(str(number), b"") for number in range(65_540)]

    with zipfile.ZipFile(BytesIO(written(files))) as found:
        assert len(found.infolist()) == 65_540


def test_a_time_beyond_the_format_is_its_first():
    writer = ZipWriter()
    content = writer.header("a", b"", at=datetime(1979, 1, 1, tzinfo=NOON.tzinfo)) + writer.end()

    with zipfile.ZipFile(BytesIO(content)) as found:
        assert found.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


class Shifted(BytesIO):
    """A file of which the first bytes are not stored."""

    def seek(self, offset, whence=0):
        return super().seek(offset - FAR if whence == 0 else offset, whence) + FAR

    def tell(self):
        return super().tell() + FAR
