"""What errors of obstore mean, in words that say what to do.

The texts of obstore are not passed on: they hold the addresses, and what is signed of a request.
"""

from __future__ import annotations

import re
from typing import Final

from common.domain.errors import NotAccepted, Unavailable

NO_BUCKET: Final = "NoSuchBucket"
BEHIND_END: Final = "InvalidRange"

_REFUSALS: Final = {
    NO_BUCKET: "the bucket does not exist: make it, or correct MEDIA_ROOT",
    "InvalidAccessKeyId": "it does not know the access key: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret of the access key is wrong: check AWS_SECRET_ACCESS_KEY",
    "AccessDenied": "the access key lacks a right: it needs s3:ListBucket for the bucket, and s3:GetObject, "
    "s3:PutObject and s3:DeleteObject for its objects",
    "ExpiredToken": "the temporary key has expired: renew it, with AWS_SESSION_TOKEN",
    "InvalidToken": "the token of the temporary key is wrong: check AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "the clock of this machine differs from that of the object store: set it, or let NTP do so",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region: set AWS_REGION",
    "QuotaExceeded": "the quota of the bucket is used up: raise it, or lower RETENTION_DAYS",
    "XMinioStorageFull": "its disks are full: add some, or lower RETENTION_DAYS",
    "KeyTooLongError": "a key is too long: shorten the prefix in MEDIA_ROOT",
}
_REDIRECT: Final = "incorrectly configured region"  # obstore's own words
_CODE: Final = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_KIND: Final = re.compile(r"kind: (Timeout|Connect)\b")
_URL: Final = re.compile(r"https?://\S+")
_NO_KEY: Final = re.compile(r"169\.254\.|InstanceCredential|instance credential|latest/(?:api/token|meta-data)")


def code_of(error: Exception) -> str | None:
    """The code in the answer of the object store; an answer to HEAD has none."""
    found = _CODE.search(str(error))
    return found[1] if found else None


def unavailable(error: Exception) -> Unavailable:
    """`NotAccepted` if an operator has to change something, else `Unavailable`."""
    text = str(error)
    code = code_of(error) or ("PermanentRedirect" if _REDIRECT in text else None)
    if code in _REFUSALS:
        return NotAccepted("media", f"the object store refuses ({code}): {_REFUSALS[code]}")
    if _NO_KEY.search(text):
        return NotAccepted(
            "media", "there is no key for the object store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    status = _STATUS.search(text)
    return _without_answer(text) if status is None else _by_status(int(status[1]), code)


def _by_status(status: int, code: str | None) -> Unavailable:
    shown = f"{status} {code}" if code else str(status)
    if status in {401, 403}:
        return NotAccepted("media", f"the object store refuses ({shown}): check the keys (AWS_…) and their rights")
    if status in {429, 503}:
        return Unavailable("media", f"the object store is overloaded or starting ({shown}): wait, or ask its operator")
    return Unavailable("media", f"the object store answers {shown}: its log says why")


def _without_answer(text: str) -> Unavailable:
    kind = _KIND.search(text)
    if kind is None:
        return Unavailable("media", "the connection to the object store broke off: is the network between them sound?")
    if kind[1] == "Timeout":
        return Unavailable("media", "the object store does not answer within MEDIA_TIMEOUT: is it overloaded?")
    if "certificate" in _URL.sub("", text):
        return NotAccepted("media", "the certificate of the object store is not trusted: check AWS_CA_BUNDLE")
    return Unavailable("media", "the object store cannot be reached: is it running, and AWS_ENDPOINT_URL right?")
