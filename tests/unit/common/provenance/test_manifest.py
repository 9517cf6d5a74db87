"""C2PA manifests, read back by the reader of the same library."""

import io
import json
from datetime import timedelta

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.domain.errors import Misconfigured
from common.domain.images import Format
from common.provenance.connect import marker_of
from common.provenance.xmp import TRAINED
from common.runtime.reading_settings import read_settings
from tests.making import NOON, an_image
from tests.odd_pictures import encoded


def certified(folder, *, usage=ExtendedKeyUsageOID.EMAIL_PROTECTION):
    """Settings with a certificate that its own authority has signed."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("Root", authority, "Root", authority, is_authority=True)
    leaf = _certificate("Darkroom", key, "Root", authority, usage=usage)
    (folder / "cert.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return {"C2PA_CERT": str(folder / "cert.pem"), "C2PA_KEY": str(folder / "key.pem")}


def _certificate(name, key, issuer, issuer_key, *, is_authority=False, usage=None):
    def named(text):
        return x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"), x509.NameAttribute(NameOID.COMMON_NAME, text)]
        )

    signs = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    more = {"encipher_only": False, "decipher_only": False, "crl_sign": False, "key_cert_sign": is_authority}
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOON - timedelta(days=1))
        .not_valid_after(NOON + timedelta(days=7300))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **signs, **more), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def marker(variables):
    return marker_of(read_settings(variables), NOON)


@pytest.mark.parametrize("image_format", Format)
def test_a_signed_picture_is_verified_by_a_reader(tmp_path, image_format):
    made = marker(certified(tmp_path))

    marked = made.mark(encoded(image_format.name), an_image())

    def found(content):
        with c2pa.Reader(f"image/{image_format}", io.BytesIO(content)) as reader:
            return json.loads(reader.json())

    report = found(marked)
    manifest = report["manifests"][report["active_manifest"]]
    [actions] = [each for each in manifest["assertions"] if each["label"].startswith("c2pa.actions")]
    assert actions["data"]["actions"][0]["digitalSourceType"] == TRAINED
    failed = {status["code"] for status in report.get("validation_status", ())}
    assert failed <= {"signingCredential.untrusted"}  # nobody knows the authority of this test
    assert TRAINED.encode() in marked
    assert b"parameters" in marked or image_format is not Format.PNG
    assert made.mark(marked, an_image()) is marked
    changed = marked.replace(b"a lighthouse", b"a lightkeepr").replace("lighthouse".encode("utf-16-be"), b"x\0" * 10)
    assert {status["code"] for status in found(changed)["validation_status"]} - failed


def test_certificate_and_key_are_set_together(tmp_path):
    files = certified(tmp_path)

    for name in files:
        with pytest.raises(Misconfigured, match="set both or neither"):
            marker({name: files[name]})


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("C2PA_CERT", None, "cannot be read"),
        ("C2PA_CERT", b"no certificate", "holds no certificates in PEM"),
        ("C2PA_KEY", None, "cannot be read"),
        ("C2PA_KEY", b"no key", "holds no private key"),
        ("C2PA_KEY", b"x" * 70_000, "larger than"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, name, content, reason):
    files = certified(tmp_path) | {name: str(tmp_path / "other.pem")}
    if content is not None:
        (tmp_path / "other.pem").write_bytes(content)

    with pytest.raises(Misconfigured, match=f"{name}: .*{reason}"):
        marker(files)


def test_a_key_of_another_certificate_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    other = certified(tmp_path / "other")

    with pytest.raises(Misconfigured, match="C2PA_KEY: is not the key"):
        marker(certified(tmp_path) | {"C2PA_KEY": other["C2PA_KEY"]})


def test_an_expired_certificate_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="C2PA_CERT: is valid from"):
        marker_of(read_settings(certified(tmp_path)), NOON + timedelta(days=9000))


def test_a_certificate_for_other_purposes_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="C2PA_CERT: cannot sign a picture"):
        marker(certified(tmp_path, usage=ExtendedKeyUsageOID.SERVER_AUTH))
