"""What a model may read of an error: no secret, no place, one line."""

from __future__ import annotations

import html
import json
from base64 import b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.redaction.secrets import hide, hide_secrets, one_line

SECRET = "hunter2-Xy7"
TEXTS = {
    "dsn": f"could not connect to postgresql://lantern:{SECRET}@db.internal:5432/shop",
    "dsn with an at": f"redis://:p@{SECRET}@cache/0 refused",
    "sqlalchemy": f"(psycopg.OperationalError) postgresql+psycopg://u:{SECRET}@h/d?sslmode=require",
    "key words": f"connection failed: host=db password={SECRET} user=shop",
    "traceback": f"Traceback (most recent call last):\n  File 'x'\nRuntimeError: no: password={SECRET}",
    "json": f'{{"api_key": "{SECRET}", "n": 1}}',
    "header": f"Authorization: Bearer {SECRET}",
    "bearer": f"sent bearer {SECRET}abcdef",
    "cookie": f"Set-Cookie: session={SECRET}; Path=/",
    "json in json": json.dumps(json.dumps({"password": SECRET})),
    "json in HTML": html.escape(json.dumps({"api_key": SECRET})),
    "json in a URL": quote(json.dumps({"password": SECRET})),
    "xml": f"<ns:password type='x'>{SECRET}</ns:password>",
    "escaped quotes": f'{{"password": "a\\"{SECRET}"}}',
    "option": f"psql --password {SECRET} -h db",
    "azure account": f"AccountName=a;AccountKey={SECRET}==;EndpointSuffix=core",
    "shared access": f"https://x.example/y?sv=1&sig={SECRET}%3D&se=2",
    "dsn with quotes": f"postgresql://bob:h'u\"{SECRET}@127.0.0.1/x",
    "google": f"bad key AIza{SECRET * 4}",
    "slack": f"https://hooks.slack.com/services/T0/B0/{SECRET}",
    "sendgrid": f"SG.{SECRET}.{SECRET}",
    "openai": "bad key sk-proj-hunter2-Xy7-abcdefgh",
    "github": "remote: ghp_hunter2-Xy7abcdefgh rejected",
    "grafana": f"glsa_{SECRET}abcdef",
    "vault": f"hvs.{SECRET}abcdef",
    "curl": f"curl -s -u ann:{SECRET} https://api.example/v1",
    "mysql": f"mysqldump -uann -p{SECRET} shop",
    "pem": f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    "path": f"cannot open /home/ann/{SECRET}/db.conf",
    "path with a space": f"no such file: '/home/ann smith/{SECRET}.txt'",
    "windows": f"cannot read C:\\Users\\{SECRET}\\x.txt",
    "role": f'FATAL: password authentication failed for user "{SECRET}"',
    "sql": f"ALTER ROLE ann WITH PASSWORD 'it''s {SECRET}'",
    "sql between dollars": f"CREATE USER ann ENCRYPTED PASSWORD $a$ {SECRET} $a$ LOGIN",
    "header without a colon": f"the header X-Shop-Token {SECRET} was refused",
    "dsn without its scheme": f"cannot reach //ann:{SECRET}@db.internal/shop",
    "query": f"no such page: ?page=1&auth={SECRET}&n=2",
    "frame": f'File "/srv/{SECRET}/app.py", line 3, in main',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_secret_or_a_place_is_not_shown(text):
    assert SECRET not in one_line(text)


KEYS = [
    "dapi" + 4 * "0a1b2c3d",
    "NRAK-ABCDEFGHIJ",
    "sbp_0123456789ab",
    "AGE-SECRET-KEY-1QQPQPQPQP",
    "lsv2_pt_0123abcd",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_stands_alone_is_not_shown(key):
    assert key not in one_line(f"{key} was refused")


PLAIN = [
    "order O-10001 is not known; orders begin with O-",
    "429 Too Many Requests from https://api.example/v1/parcels",
    "and/or 3/4 of 50 km/h, at 12:30",
    "expected 'key' in the answer",
    "the header X-Api-Key is missing",
    "mysql -p asks for it; curl -u ann does, too",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_words_stay_as_they_are_and_of_a_traceback_its_last_line(text):
    assert one_line(text) == one_line(f"Traceback (most recent call last):\n  File 'x'\n{text}") == text


def test_the_longest_known_secret_is_hidden_first():
    assert hide_secrets("it is swordfish", ["sword", "swordfish", ""]) == "it is [hidden]"


ENCODINGS = {
    "json": lambda key: json.dumps(key)[1:-1],
    "json of letters": lambda key: json.dumps(key, ensure_ascii=False)[1:-1],
    "json in json": lambda key: json.dumps(json.dumps(key)[1:-1])[1:-1],
    "json for pages": lambda key: json.dumps(key)[1:-1].replace("<", "\\u003c").replace("/", "\\/"),
    "html": html.escape,
    "html in html": lambda key: html.escape(html.escape(key)),
    "url": quote,
    "form": quote_plus,
    "url in a url": lambda key: quote(quote(key, safe=""), safe=""),
    "json in a url": lambda key: quote(json.dumps(key)[1:-1]).lower(),
    "python": lambda key: repr(key)[1:-1],
    "bytes": lambda key: repr(key.encode())[2:-1],
    "hex": lambda key: key.encode().hex(),
    "html by number": lambda key: "".join(f"&#{ord(sign)};" for sign in key),
    "json by number": lambda key: "".join(f"\\u{ord(sign):04X}" for sign in key),
    "base64": lambda key: b64encode(key.encode()).decode().rstrip("="),
}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize(
    "key", ['a"b\\c<d+e', "p@ss w/rd&x'", "h\u00fcnt\u20acr", "x\ny%41", "plain7"], ids=ascii
)
def test_a_known_key_is_hidden_in_every_encoding(key, encode):
    assert hide(f"it is {encode(key)} indeed", [key]).replace("=", "") == "it is [hidden] indeed"


@pytest.mark.parametrize("user", ["", "u", "me", "ann"])
def test_a_known_key_is_hidden_in_the_base64_of_user_and_password(user):
    sent = b64encode(f"{user}:{SECRET}".encode()).decode()

    shown = hide(f"Basic {sent}", [SECRET])

    assert "[hidden]" in shown
    assert len(shown) <= len("Basic [hidden]") + len(b64encode(f"{user}:".encode())) + 3


UNITS = [
    *("a", "/", "-----BEGIN ", "key:", "a://", "~/", "'/", '"', " ", "eyJaaaa.", "key_"),
    *("\\", "\\\\", "%5c", "&amp;", "\\\\a"),
    *("//a", "password '", "x-key ", "$$"),
]


@pytest.mark.parametrize("unit", UNITS)
def test_a_hostile_text_takes_no_time(unit):
    text = unit * (200_000 // len(unit))  # minutes, if a pattern's time grew with the square

    one_line(text)
    hide(text, ["a" * 40 + "b", '\\"&'])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_any_text_becomes_one_short_printable_line(text):
    line = one_line(text)

    assert len(line) <= 300
    assert line.isprintable()
