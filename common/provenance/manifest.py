"""C2PA manifests: a signed statement in a picture's file that it was generated, made by the extra `c2pa`.

Certificate and key are checked at the start, also by signing a picture of one pixel: no later picture fails for them.
"""

from __future__ import annotations

from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from common.domain.errors import Misconfigured
from common.domain.images import Format
from common.provenance.found import Unmarkable
from common.provenance.marks import Sign
from common.provenance.xmp import TRAINED

_MAX_FILE_BYTES: Final = 65_536
_ONE_PIXEL: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c63600000000200015e63d8e30000000049454e44ae426082"
)
_CURVES: Final = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_MANIFEST: Final = {
    "claim_generator_info": [{"name": "Darkroom"}],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": TRAINED}]},
        }
    ],
}
# a thumbnail of its own would be up to 1.3 MB; no manifest is fetched from elsewhere
_LIBRARY_SETTINGS: Final = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"remote_manifest_fetch": False}}

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def signing(certificates: str, key_file: str, now: datetime) -> Sign:
    """What signs with the certificates and the key in these files.

    Raises:
        Misconfigured: they cannot sign.
    """
    chain, certificate = _certificates(certificates, now)
    key = _private_key(key_file)
    if key.public_key() != certificate.public_key():
        raise _wrong("C2PA_KEY", "is not the key of the first certificate in C2PA_CERT")
    sign = _signer(chain, key)
    try:
        sign(_ONE_PIXEL, Format.PNG)
    except Unmarkable as error:
        raise _wrong("C2PA_CERT", f"cannot sign a picture: {error}") from error
    return sign


def _signer(chain: bytes, key: PrivateKey) -> Sign:
    try:
        import c2pa  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise _wrong("C2PA_CERT", "needs the extra c2pa: pip install 'darkroom[c2pa]'") from error
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    info = c2pa.C2paSignerInfo(_algorithm(key).encode(), chain, private, None)

    def sign(content: bytes, image_format: Format) -> bytes:
        out = BytesIO()
        try:
            with (
                c2pa.Context.from_dict(_LIBRARY_SETTINGS) as context,
                c2pa.Signer.from_info(info) as signer,
                c2pa.Builder(_MANIFEST, context=context) as builder,
            ):
                builder.sign(signer, f"image/{image_format}", BytesIO(content), out)
        except Exception as error:
            raise Unmarkable(str(error)) from error
        return out.getvalue()

    return sign


def _certificates(path: str, now: datetime) -> tuple[bytes, x509.Certificate]:
    """The chain in PEM, and its first certificate, which signs."""
    chain = _file("C2PA_CERT", path)
    try:
        first = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise _wrong("C2PA_CERT", f"{path} holds no certificates in PEM") from error
    if not first.not_valid_before_utc <= now <= first.not_valid_after_utc:
        valid = f"{first.not_valid_before_utc:%Y-%m-%d} to {first.not_valid_after_utc:%Y-%m-%d}"
        raise _wrong("C2PA_CERT", f"is valid from {valid} only")
    return chain, first


def _private_key(path: str) -> PrivateKey:
    content = _file("C2PA_KEY", path)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise _wrong("C2PA_KEY", f"{path} holds no private key in PEM without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        raise _wrong("C2PA_KEY", "must be a key for ECDSA, Ed25519 or RSA")
    return key


def _algorithm(key: PrivateKey) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.name not in _CURVES:
            raise _wrong("C2PA_KEY", f"C2PA does not allow the curve {key.curve.name}")
        return _CURVES[key.curve.name]
    return "ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "ps256"


def _file(name: str, path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _wrong(name, f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise _wrong(name, f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    return content


def _wrong(name: str, reason: str) -> Misconfigured:
    return Misconfigured(f"{name}: {reason}", code="bad_setting")
