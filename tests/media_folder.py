"""What is in the media of running services: a folder, or a bucket if TEST_MEDIA is `objects`.

A bucket is read and written by boto3, which shares no code with Darkroom.
"""

import os
import shutil
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

from common.media.connect import open_media
from common.media.port import Media
from common.runtime.settings import Settings
from tests.servers.object_store import REGION, Bucket, ObjectStore, open_server

IN_BUCKET: Final = os.environ.get("TEST_MEDIA") == "objects"


class Buckets:
    """The buckets of a run whose services keep their media in an object store."""

    def __init__(self) -> None:
        self._server: ObjectStore | None = None
        self._of: dict[Path, Bucket] = {}

    def fresh(self) -> Bucket:
        self._server = self._server or open_server()
        return self._server.fresh_bucket()

    def of(self, folder: Path) -> Bucket:
        """The bucket that a test has in place of this folder."""
        if folder not in self._of:
            self._of[folder] = self.fresh()
        return self._of[folder]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


BUCKETS: Final = Buckets()


def place_of(folder: Path) -> Path | Bucket:
    """Where the media of a test are: in this folder, or in a bucket in place of it."""
    return BUCKETS.of(folder) if IN_BUCKET else folder


def media_in(folder: Path) -> AbstractAsyncContextManager[Media]:
    """The media at the place of this folder."""
    place = place_of(folder)
    return open_media(place.root, place.settings()) if isinstance(place, Bucket) else open_media(str(place))


def back_up(media: Path | Bucket, copy: Path) -> None:
    """Copy everything into a new folder."""
    if isinstance(media, Path):
        shutil.copytree(media, copy)
        return
    for key in _keys(media):
        file = copy / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_client(media).get_object(Bucket=media.name, Key=f"{media.prefix}/{key}")["Body"].read())


def restore(media: Path | Bucket, copy: Path) -> None:
    """Put back what `back_up` has copied; what is newer is gone."""
    if isinstance(media, Path):
        shutil.rmtree(media)
        shutil.copytree(copy, media)
        return
    for key in _keys(media):
        remove_file(media, key)
    for file in copy.rglob("*"):
        if file.is_file():
            write_file(media, str(file.relative_to(copy)), file.read_bytes())


def media_of(settings: Settings) -> Path | Bucket:
    """The media of services with these settings."""
    if not settings.media_root.startswith("s3://"):
        return Path(settings.media_root)
    return Bucket(settings.media_root, settings.aws_endpoint_url or "")


def files_in(media: Path | Bucket) -> set[str]:
    """All files, by their paths below the folder; without the notes of Darkroom about it, and their temporary files."""
    if isinstance(media, Bucket):
        return {key for key in _keys(media) if not key.startswith(".darkroom-")}
    paths = [path for path in media.rglob("*") if path.is_file()]
    return {str(path.relative_to(media)) for path in paths if not path.name.lstrip(".").startswith("darkroom-")}


def write_file(media: Path | Bucket, key: str, content: bytes) -> None:
    if isinstance(media, Bucket):
        _client(media).put_object(Bucket=media.name, Key=f"{media.prefix}/{key}", Body=content)
    else:
        (media / key).write_bytes(content)


def remove_file(media: Path | Bucket, key: str) -> None:
    if isinstance(media, Bucket):
        _client(media).delete_object(Bucket=media.name, Key=f"{media.prefix}/{key}")
    else:
        (media / key).unlink()


def _keys(bucket: Bucket) -> list[str]:
    pages = _client(bucket).get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=f"{bucket.prefix}/")
    return [each["Key"].removeprefix(f"{bucket.prefix}/") for page in pages for each in page.get("Contents", ())]


def _client(bucket: Bucket) -> Any:
    import boto3  # takes half a second

    keys = {"aws_access_key_id": bucket.key, "aws_secret_access_key": bucket.secret}
    return boto3.client("s3", endpoint_url=bucket.endpoint, region_name=REGION, **keys)
