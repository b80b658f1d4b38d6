"""Bodies are read up to a size, plain text only; TLS is checked against the name."""

import asyncio
import datetime
import gzip
import ssl

import pytest

from course_lib.adapters.data.api import APIAdapter, APIError, Patience
from course_lib.adapters.tools.limits import ToolRefused
from tests.adapters.web import adapter, get, reply, serving


def test_a_body_beyond_the_limit_is_given_up_in_the_middle():
    sent = []

    def endless(*_):
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"
        for _ in range(2000):
            sent.append(1)
            yield b"x" * 65536

    with serving(endless) as web:
        with pytest.raises(ToolRefused, match="larger than 200000 bytes; ask for less"):
            get(adapter(web))
        assert len(sent) < 500


def test_a_bomb_is_not_blown_up():
    bomb = gzip.compress(b"0" * 50_000_000)

    with (
        serving(lambda *_: reply(bomb, content_encoding="gzip")) as web,
        pytest.raises(ToolRefused, match="larger than 200000 bytes"),
    ):
        get(adapter(web))


@pytest.mark.parametrize(("body", "text"), [(gzip.compress(b'"fine"'), '"fine"'), (b"", "")])
def test_a_compressed_answer_is_read_also_one_without_a_body(body, text):
    with serving(lambda *_: reply(body, content_encoding="gzip")) as web:
        assert get(adapter(web)).text == text
        assert web.asked[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"x", {"content_encoding": "br"}, "compressed as 'br', which was not asked for"),
        (b"x", {"content_encoding": "gzip, gzip"}, "compressed as 'gzip, gzip'"),
        (b"\x89PNG", {"content_type": "image/png"}, "no text but 'image/png'"),
        (b"plain", {"content_encoding": "gzip"}, "is not gzip, as it claims"),
        (gzip.compress(b"x" * 99)[:-6], {"content_encoding": "gzip"}, "cut short"),
        (gzip.compress(b"x") * 2, {"content_encoding": "gzip"}, "after the end of the compressed answer"),
    ],
    ids=("unknown", "twice", "an image", "no gzip", "cut short", "two in one"),
)
def test_an_answer_that_is_no_plain_text_is_not_read(body, headers, message):
    with (
        serving(lambda *_: reply(body, **headers)) as web,
        pytest.raises((ToolRefused, APIError), match=message),
    ):
        get(adapter(web, patience=Patience(retries=0)))


@pytest.mark.parametrize(
    ("charset", "body"),
    [("iso-8859-15", b"5 \xa4"), ("Windows-1252", b"5 \x80"), ('"utf-16le"', "5 €".encode("utf-16le"))],
)
def test_text_is_decoded_as_declared(charset, body):
    with serving(lambda *_: reply(body, content_type=f"text/plain; charset={charset}")) as web:
        assert get(adapter(web)).text == "5 €"


@pytest.mark.parametrize("charset", ["rot13", "utf-99", "punycode"])
def test_a_charset_that_is_none_is_refused(charset):
    with (
        serving(lambda *_: reply(b"5", content_type=f"text/plain; charset={charset}")) as web,
        pytest.raises(ToolRefused, match=f"in the charset '{charset}', which is not read"),
    ):
        get(adapter(web))


def certificate(folder, name):
    """A certificate that signs itself, for one name, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return file


def test_tls_is_checked_against_the_name_although_the_connection_is_made_by_address(tmp_path):
    file = certificate(tmp_path, "api.test")
    names = []
    serving_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving_tls.load_cert_chain(file)
    serving_tls.sni_callback = lambda _, name, __: names.append(name)
    trust = ssl.create_default_context(cafile=file)

    async def loopback(name, port):
        return ["127.0.0.1"]

    def https(name, port):
        return APIAdapter(
            f"https://{name}:{port}",
            allow_private=[f"https://127.0.0.1:{port}"],
            tls=trust,
            resolver=loopback,
            patience=Patience(retries=0),
        )

    async def both():
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.writelines(reply('"safe"'))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=serving_tls)
        async with server:
            port = server.sockets[0].getsockname()[1]
            right = await https("api.test", port).request("GET", "/")
            with pytest.raises(APIError, match="the connection failed"):
                await https("other.test", port).request("GET", "/")
            return right

    assert asyncio.run(both()).text == '"safe"'
    assert names == ["api.test", "other.test"]
