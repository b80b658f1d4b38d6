"""Everything that would make an API tool reach another place is refused before any connection is made."""

import ipaddress

import pytest

from course_lib.adapters.data.addresses import is_public
from course_lib.adapters.data.api import APIAdapter
from course_lib.adapters.tools.limits import ToolRefused
from tests.adapters.web import get, serving


@pytest.fixture(scope="module")
def canary():
    """A server on loopback that nobody may touch."""
    with serving() as web:
        yield web


def words(table):
    """Return the entries of a table that is too long for a line each."""
    return table.split()


def resolving(*answers):
    """A resolver that gives these lists of addresses in turn, the last one for ever."""
    left = list(answers)

    async def resolve(name, port):
        resolve.calls += 1
        return left.pop(0) if len(left) > 1 else left[0]

    resolve.calls = 0
    return resolve


HOSTS = [
    *words("""
    127.0.0.1 127.1 0 0.0.0.0 2130706433 0x7f000001 0x7f.0x0.0x0.0x1 0x7f.1 017700000001 0177.0.0.1
    127.0.0.1. 127.0.0.256 127.255.255.254 localhost localhost. LocalHost api.localhost 127.0.0.1.nip.example
    [::1] [0:0:0:0:0:0:0:1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [64:ff9b::7f00:1]
    [64:ff9b:1::7f00:1] [2002:7f00:1::] [2001:0:7f00:1::] [::1%25lo] [::1%lo] [fe80::1%25eth0] [fe80::1]
    [fec0::1] [fd00:ec2::254] [ff02::1] [v1.x] 169.254.169.254 168.63.129.16 100.100.100.200 10.0.0.1
    172.16.0.1 192.168.1.1 198.18.0.1 192.0.0.192 224.0.0.1 255.255.255.255 ①②⑦.0.0.1 127。0。0。1
    %31%32%37.0.0.1 api_test -x.example api.test@127.0.0.1 user:word@127.0.0.1 api.test%00.example *
    """),
    *("l\u043ecalhost", "api.test\\@127.0.0.1", "127.0.0.1\\.api.test"),  # the first with a Cyrillic o
    *("api.test\r\nX-Other: 1", "api.test\t", "api.test ", ""),
]


URLS = [
    *(f"http://{host}:{{port}}/secret" for host in HOSTS),
    *words("""
    file:///etc/passwd gopher://127.0.0.1:{port}/_GET ftp://127.0.0.1:{port}/x dict://127.0.0.1:{port}/x
    ws://api.test:{port}/ https://api.test:{port}/ unix:///run/x.sock http+unix://%2Frun%2Fx.sock/
    data:text/plain,x javascript:alert(1) jar:http://127.0.0.1:{port}/!/ http:127.0.0.1:{port}/
    http:/127.0.0.1:{port}/ http:///127.0.0.1:{port}/ //127.0.0.1:{port}/
    http://api.test:{port}#@127.0.0.1:{port}/ http://api.test:{port}?@127.0.0.1:{port}/ http://api.test/x
    http://api.test:22/ http://api.test:0/ http://api.test:99999/ http://api.test:0{port}/
    http://api.test:{port}:80/ http://api.test:+{port}/ http://other.test:{port}/
    http://api.test.other.test:{port}/ http://xapi.test:{port}/ http://api.test.:{port}/
    http://xn--pi-8cd.test:{port}/ http://api.test:{port}/v1/é
    """),
    *("http:\\\\127.0.0.1:{port}\\", " http://127.0.0.1:{port}/", ""),
    *("http://api.test:{port}/v1/x HTTP/1.1", "http://api.test:{port}/v1/x\r\nX-Other: 1"),
    *("http://api.test:{port}/v1/x\n", "http://api.test:{port}/v1/\x00"),
    "http://api.test:{port}/v1/" + "a" * 3000,
]


@pytest.mark.parametrize("url", URLS, ids=lambda url: ascii(url)[:50])
def test_no_form_of_an_address_leads_to_the_canary(canary, url):
    url = url.replace("{port}", str(canary.port))
    resolver = resolving(["127.0.0.1"])
    api = APIAdapter(f"http://api.test:{canary.port}/v1", resolver=resolver)

    with pytest.raises(ToolRefused):
        get(api, url)
    assert resolver.calls == 0
    with pytest.raises(ToolRefused):  # nor when somebody made it the base, without opening the address
        get(APIAdapter(url, resolver=resolver), "/secret")
    assert canary.connections == 0


PATHS = [
    *words("""
    /../admin /x/../../admin /./x /x/.. /%2e%2e/admin /%2E%2e/admin /.%2e/admin /..%2fadmin /..%5cadmin /x%2fy
    /%252e%252e/admin //other.test/ /x//y /x%00 /x%0d%0aX-Other:1 /x?y=%0d%0aX-Other:1 /x?y=%0A /x#y
    /@127.0.0.1/ x ?x
    """),
    *("/\\other.test", "/x y", "/x\r\nX-Other: 1"),
    *words("{url}/v2/x {url}/v1x {url}/ {url}"),  # whole addresses, outside the base path
]


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_no_path_leads_out_of_the_api_or_into_its_headers(path):
    with serving() as web:
        api = APIAdapter(f"{web.url}/v1", allow_private=[web.url])

        with pytest.raises(ToolRefused):
            get(api, path.replace("{url}", web.url))
        assert web.connections == 0
        assert get(api, f"{web.url}/v1/x?y=a%2Fb").status == 200


ANSWERS = [
    *(["::1%1"], ["fe80::1%eth0"], ["2606:4700::1%1"]),  # with a zone, the last one public without
    *([address] for address in words("127.0.0.1 ::1 0.0.0.0 169.254.169.254 192.168.0.10 100.64.1.1")),
    *([address] for address in words("::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::1")),
    *([address] for address in words("2001:0:4136:e378:8000:63bf:3fff:fdd2 fd12::1 239.1.1.1")),
    *([address] for address in words("2130706433 canary")),  # no address in its usual spelling
    *(["9.9.9.9", "127.0.0.1"], ["127.0.0.1", "9.9.9.9"]),  # a good one among them
]


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_a_name_that_resolves_to_a_place_inside_is_refused(canary, answer):
    api = APIAdapter(f"http://api.test:{canary.port}", resolver=resolving(answer))

    with pytest.raises(ToolRefused, match=r"^api\.test leads to an address that is not public"):
        get(api, "/")
    assert canary.connections == 0


def test_an_opened_address_is_connected_to_at_its_port_only_and_until_the_name_s_answer_changes(canary):
    with serving() as web:
        resolver = resolving(["127.0.0.1"], ["127.0.0.1"], ["::1"])
        allowed = {"allow_private": [web.url], "resolver": resolver}
        with pytest.raises(ToolRefused):
            get(APIAdapter(f"http://api.test:{canary.port}", **allowed), "/")
        api = APIAdapter(f"http://api.test:{web.port}", **allowed)

        assert get(api, "/first").status == 200
        assert resolver.calls == 2
        with pytest.raises(ToolRefused):
            get(api, "/second")

        assert [(one.target, one.headers["host"]) for one in web.asked] == [
            ("/first", f"api.test:{web.port}")
        ]
        assert canary.connections == 0
    with pytest.raises(ToolRefused, match="'localhost' is a name; open an address"):
        APIAdapter("http://localhost:8080", allow_private=["http://localhost:8080"])


NUMBERS = ["a\\b", "a\r\nX: 1", "a\x00", "", *words("../health .. . a/b a?b=1 a#b %2e%2e a%2fb a;b")]


@pytest.mark.parametrize(
    ("path", "place", "schema", "value"),
    [*(("/x/{id}", "path", {}, number) for number in NUMBERS), ("/x", "query", {"pattern": "^a$"}, "a\n")],
    ids=ascii,
)
def test_no_value_changes_the_path_and_a_pattern_lets_no_line_end_through(path, place, schema, value):
    parameter = {"name": "id", "in": place, "required": True, "schema": {"type": "string"} | schema}
    spec = {"openapi": "3.0.3", "paths": {path: {"get": {"parameters": [parameter]}}}}
    with serving() as web:
        (tool,) = APIAdapter(web.url, spec, allow_private=[web.url]).tools()

        assert tool(id=value).startswith("refused: ")
        assert web.connections == 0
        assert tool(id="a") == "{}"


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "2606:4700::1111", "2a00::1"]
)
def test_addresses_of_the_internet_are_public(text):
    assert is_public(ipaddress.ip_address(text))
