"""Bodies are read up to a size, plain text only; TLS is checked against the name."""

import asyncio
import datetime
import gzip
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from course_lib.adapters.data.api import APIAdapter, APIError
from course_lib.adapters.tools.limits import ToolRefused
from tests.adapters.web import adapter, get, reply, serving


def test_a_body_beyond_the_limit_is_given_up_in_the_middle():
    sent = []

    def endless(*_):
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"
        for _ in range(2000):
            sent.append(1)
            yield b"x" * 65536

    with serving(endless) as web, pytest.raises(ToolRefused, match="larger than 200000 bytes; ask for"):
        get(adapter(web))
    assert len(sent) < 500


@pytest.mark.parametrize(
    ("body", "headers", "text"),
    [
        (b"5 \xa4", {"content_type": "text/plain; charset=iso-8859-15"}, "5 €"),
        (b"5 \x80", {"content_type": "text/plain; charset=Windows-1252"}, "5 €"),
        ("5 €".encode("utf-16le"), {"content_type": 'text/plain; charset="utf-16le"'}, "5 €"),
    ],
)
def test_an_answer_is_decoded_as_declared(body, headers, text):
    with serving(lambda *_: reply(body, **headers)) as web:
        assert get(adapter(web)).text == text
        assert web.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (gzip.compress(b"x"), {"content_encoding": "gzip"}, "compressed as 'gzip', which was not asked for"),
        (b"\x89PNG", {"content_type": "image/png"}, "no text but 'image/png'"),
        (b"x", {"content_type": "text/plain; charset=rot13"}, "in the charset 'rot13', which is not read"),
        (b"x", {"content_type": "text/plain; charset=utf-99"}, "in the charset 'utf-99'"),
        (b"x", {"content_type": "text/plain; charset=punycode"}, "in the charset 'punycode'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_that_is_no_plain_text_is_not_read(body, headers, message):
    with serving(lambda *_: reply(body, **headers)) as web, pytest.raises(ToolRefused, match=message):
        get(adapter(web))


def certificate(file, name):
    """Write a certificate that signs itself, for one name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(who, who, key.public_key(), 1, now - day, now + day)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    made = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(*pem) + made.sign(key, hashes.SHA256()).public_bytes(pem[0]))


def test_tls_is_checked_against_the_name_although_the_connection_is_made_by_address(tmp_path):
    certificate(file := tmp_path / "server.pem", "api.test")
    names = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    tls.sni_callback = lambda _, name, __: names.append(name)

    async def loopback(name, port):
        return ["127.0.0.1"]

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(reply('"safe"'))
        await writer.drain()
        writer.close()

    async def asked(name, port):
        api = APIAdapter(
            f"https://{name}:{port}",
            allow_private=[f"https://127.0.0.1:{port}"],
            tls=ssl.create_default_context(cafile=file),
            resolver=loopback,
        )
        return await api.request("GET", "/")

    async def both():
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as server:
            port = server.sockets[0].getsockname()[1]
            right = await asked("api.test", port)
            with pytest.raises(APIError, match="the connection failed"):
                await asked("other.test", port)
            return right

    assert asyncio.run(both()).text == '"safe"'
    assert names == ["api.test", *["other.test"] * 3]
