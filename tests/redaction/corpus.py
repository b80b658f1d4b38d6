"""Invented personal data in texts as people, programs and models write them; and clean texts beside it.

Main path: items(seed, each=30) -> Item(kind, value, text); clean() -> sentences without any personal data.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from stdnum import iban, luhn
from stdnum.de import idnr
from stdnum.es import dni
from stdnum.fr import nir
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.us import ssn

from course_lib import desk
from course_lib.redaction.forms import words

FIRST = "Anna Ben Chloé Daniel Emma Fiona Gareth Hugo Ingrid Jonas Katarzyna Lucía Mikko Nora Siobhán Zoë"
LAST = "Schmidt Carter Martin Okafor Lindholm MacLeod Rousseau Sørensen Haugen Becker Nowak O'Rourke Hale"
PARTICLES = "de Vries|van den Berg|von Thun|da Silva|García|Dubois-Martin"
STREETS = """{n} Elm Avenue, M20 5ZZ Manchester|{n} Cedar Road|{n} Quay Row, Galway
{n} Maple Street, Portland, OR 97201|{n} St. Mary's Lane
Ahornstr. {n}, 22085 Hamburg|Lindenweg {n}|Lange Straße {n}, 10115 Berlin
Wilgenlaan {n}, 6711 AB Ede|Molenstraat {n}, 2000 Antwerpen|Björkvägen {n}, 756 46 Uppsala
Storgata {n}, 0184 Oslo|Rua das Flores {n}, Porto|{n} rue des Tilleuls, 69003 Lyon
{n} bis avenue de la République
Via Roma {n}, 10121 Torino|Calle Mayor {n}, 28013 Madrid|ul. Długa {n}, 00-238 Warszawa
Flat {n}, 12 Park Crescent, London|P.O. Box {n}17"""


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of personal data, and a text that it stands in."""

    kind: str
    value: str
    text: str

    @property
    def telling(self) -> list[str]:
        """The parts of the value that must not be left: names, and digits or letters that stand together."""
        parts = re.split(r"[\s,/@]+", self.value)
        return [part for part in parts if len(part) > 2 and part not in _TELL_NOTHING]


_TELL_NOTHING = words(
    "rue des avenue Avenue Road Row Street Lane Flat ul. Box P.O. bis Via Calle Rua das Crescent Straße van"
    " den von BSN Bearer Portland March May June"
)


def _digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choice("0123456789") for _ in range(count))


def _filled(draw: random.Random, forms: str) -> str:
    """Return one of some forms, a line or a bar apart, with random digits for each #."""
    form = draw.choice(re.split(r"[|\n]", forms))
    return re.sub("#", lambda _: draw.choice("0123456789"), form)


def _name(draw: random.Random) -> str:
    last = draw.choice(LAST.split() + PARTICLES.split("|"))
    return f"{draw.choice(FIRST.split())} {last}"


def _email(draw: random.Random) -> str:
    first, last = draw.choice(FIRST.split()).lower(), re.sub(r"\W", "", draw.choice(LAST.split()).lower())
    host = draw.choice(
        ["example.com", "mail.example.org", "example.co.uk", "uni-köln.example", "post.example.dk"]
    )
    return _filled(draw, f"{first}.{last}@{host}|{first[0]}{last}##@{host}|{last}+shop@{host}")


PHONES = """+44 20 7946 0###|+49 30 23125 ###|+49 (0)151 2312####|+1 (415) 555-01##|(212) 555-01##
020 7946 0###|07700 900###|01 99 00 ## ##|+33 6 12 34 ## ##|+31 6 1234####
0151-2312####|+46 70-174 06 ##|555-01##
415.555.01##|0044 7700 900###"""


def _phone(draw: random.Random) -> str:
    return _filled(draw, PHONES)


def _iban(draw: random.Random) -> str:
    while True:
        country, number = draw.choice(["DE", "GB", "NL", "FR", "ES", "BE"]), ""
        forms = {
            "GB": "NWBK" + "#" * 14,
            "NL": "ABNA" + "#" * 10,
            "FR": "#" * 23,
            "ES": "#" * 20,
            "BE": "#" * 12,
        }
        number = _filled(draw, forms.get(country, "#" * 18))
        made = f"{country}{iban.calc_check_digits(f'{country}00{number}')}{number}"
        if iban.is_valid(made):
            return draw.choice([made, iban.format(made), iban.format(made).lower()])


def _card(draw: random.Random) -> str:
    head = draw.choice(["4", "51", "55", "2221", "6011"]) + _digits(draw, 15)
    number = head[:15] + luhn.calc_check_digit(head[:15])
    grouped = " ".join(number[at : at + 4] for at in range(0, 16, 4))
    amex = "37" + _digits(draw, 12)
    amex += luhn.calc_check_digit(amex)
    return draw.choice([number, grouped, grouped.replace(" ", "-"), f"{amex[:4]} {amex[4:10]} {amex[10:]}"])


def _ip(draw: random.Random) -> str:
    four = ".".join(str(draw.randint(130, 223)) for _ in range(4))
    six = ":".join(f"{draw.randint(1, 65535):x}" for _ in range(7))
    short = f"{draw.randint(1, 65535):x}"
    return draw.choice([four, f"2001:{six}", f"2001:db8::{short}", f"fe80::{short}:1"])


def _birth(draw: random.Random) -> str:
    day, month, year = draw.randint(1, 28), draw.randint(1, 12), draw.randint(1940, 2005)
    numbers = f"{day:02}.{month:02}.{year}|{year}-{month:02}-{day:02}|{day:02}/{month:02}/{year}"
    return _filled(
        draw, f"{numbers}|{day} March {year}|May {day}, {year}|{day}. Juni {year}|{day:02}-{month:02}-73"
    )


def _id(draw: random.Random) -> str:
    return _filled(draw, "O-#####|C-###|NP4########|R-####|INV-######|LG-7####")


def _national(draw: random.Random) -> str:
    def valid(form: str, check: Callable[[str], bool]) -> str:
        while not check(number := _filled(draw, form)):
            pass
        return number

    day = f"{draw.randint(50, 99)}{draw.randint(1, 12):02}{draw.randint(1, 28):02}"
    insee, fiscal = f"1{day[:4]}75{_digits(draw, 6)}", f"RSSMRA{day[:2]}A{draw.randint(10, 28)}H501"
    letters = "|".join(f"########{letter}" for letter in "TRWAGMYFPDXBNJZSQVHLCKE")
    return draw.choice(
        [
            lambda: valid("###-##-####", ssn.is_valid),
            lambda: _filled(draw, "AB ## ## ## C"),
            lambda: valid("###########", idnr.is_valid),
            lambda: valid(letters, dni.is_valid),
            lambda: insee + nir.calc_check_digits(insee),
            lambda: fiscal + codicefiscale.calc_check_digit(fiscal),
            lambda: valid(f"{day}#####", pesel.is_valid),
            lambda: f"BSN {valid('#########', bsn.is_valid)}",
        ]
    )()


def _secret(draw: random.Random) -> str:
    long = "".join(draw.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(28))
    keys = f"sk-pr-{long}|ghp_{long}|Bearer {long}|password={long[:10]}|AKIA{long[:16].upper()}|key: {long}"
    return draw.choice(
        [*keys.split("|"), f"postgresql://ann:{long[:8]}@db.internal/shop", f"eyJhbGciOi.{long}.{long}"]
    )


def _place(draw: random.Random) -> str:
    return draw.choice(re.split(r"[|\n]", STREETS)).format(n=draw.randint(1, 199))


SAID: dict[str, tuple[Callable[[random.Random], str], str]] = {
    "email": (
        _email,
        "write to {} please|My address is <{}>.|mailto:{}?subject=tent|{}, as always|Reply to:{}",
    ),
    "phone": (
        _phone,
        "You can call me: {}.|my number is {} after six|Tom\n{}\n|(phone {})|Tel.: {}, mornings only",
    ),
    "iban": (_iban, "send the money to {} please|IBAN: {}|my account ({}) is right|refund to {}."),
    "card": (
        _card,
        "I paid with {} yesterday|card {}, exp. 04/29|charged twice: {}.|my Visa is {} and it was refused",
    ),
    "ip": (_ip, "login from {} was refused|client={} status=403|from [{}]|the address {}, seen twice"),
    "address": (
        _place,
        "please send it to {} before Friday|I live at {}.|Address: {}|not to the office but to {}, ok?",
    ),
    "name": (
        _name,
        "Dear {},\nthank you for writing.|Mr {} called about it|My name is {}.|Hi {}, any news?"
        "|customer name: {}|The lamp is dead.\n\nBest,\n{}|Where is my parcel?\n\n{}|Frau {} hat angerufen",
    ),
    "date of birth": (
        _birth,
        "I was born on {} in Leeds|date of birth: {}|DOB {}|Geburtsdatum: {}|my birthday is {}",
    ),
    "id": (_id, "Where is {}?|it's about {}, the green one|order no. {} never came|({})"),
    "national id": (_national, "my number is {}|ID: {}|they asked for {} and I gave it|tax papers, {}."),
    "secret": (_secret, "the call failed with {}|sent {} to the server|log: {}|why does {} not work?"),
}
CARRIERS: tuple[Callable[[str], str], ...] = (
    str,
    lambda text: f"[[ ## ticket ## ]]\n{text}\n\n[[ ## category ## ]]",
    lambda text: json.dumps({"args": {"note": text}}, ensure_ascii=False),
    lambda text: f"ValueError: cannot read the ticket {text!r}",
)
"""As it is; in a prompt; in a tool's arguments; in an error."""


def items(seed: int, *, each: int = 30) -> list[Item]:
    """Return `each` items of every kind, the same ones for a seed."""
    draw, made = random.Random(seed), []
    for kind, (value_of, sentences) in SAID.items():
        forms = sentences.split("|")
        for number in range(each):
            value = value_of(draw)
            text = forms[number % len(forms)].format(value)
            made.append(Item(kind, value, CARRIERS[0 if "\n" in text else number // 3 % len(CARRIERS)](text)))
    return made


OWN = """\
The tent weighs 2.4 kg and packs to 45 x 18 cm.
Version 3.11.7 of Python was released on 4 December 2023.
Order before 14:00 and it leaves the same day, Monday to Friday.
Refunds take 3 to 5 working days; a bank may need 10 more.
The offer ends on 31.03.2026 at 23:59.
Use code SPRING10 for 10 % off, on orders over 60 EUR.
The Dovre 0 is comfortable at 1 °C and its limit is -5 °C.
Hello Lantern team, a quick question about the stove.
Hi there! Is the Halden 2 freestanding?
Dear Sir or Madam, I would like to order a catalogue.
Good morning, is the shop open on Easter Monday?
Our shop in Tilburg is open from 9 to 17.30.
Boots: sizes 36 to 47, in half sizes from 38.5 to 44.5.
HTTP 429 Too Many Requests, retry after 2.5 s
expected one of: billing, shipping, returns, warranty; got 'other'
the call took 1,234.5 ms and used 512 + 64 tokens
SKU TN-191 STL PG ST10 is a set of ten pegs.
AdapterParseError: the reply has no field `urgency`
The key to a dry tent is air. Open both vents.
It is a 5 minute drive from the station, down the road on the left.
A token of thanks: every tenth repair is free.
Walk the coast path in May and June, before the heat.
See the table: 23.5 cm is EU 38, UK 5.
Battery: 3.7 V, 5000 mAh, charges in 2 h 30 min.
127.0.0.1:8000 answered within 12 ms
127.0.0.1 - "POST /v1/chat/completions HTTP/1.1" 200
The manual is on page 12 of 40, chapter 3.
2026-02-03T17:25:00 INFO started with 8 workers
In 2024 we repaired 1,240 tents and 350 stoves.
The ratio is 1:1.61803398875, more or less.
Trees such as oak, elm and maple line the street.
I bought one in the winter sale and one last March.
For the Torv order one size up; the Lynn runs true to size.
Return Policy
Spare Parts
Best before 10/2027, batch 2231.
Questions? Ask us in the chat, we answer within 2 minutes.
Pi is 3.14159265358979 and e is 2.718281828.
uuid 123e4567-e89b-12d3-a456-426614174000 is not known
commit 83965a4e1d2c3b4a5f60718293a4b5c6d7e8f901 broke it
Thanks for the quick delivery, the boots are great.
We leave for Lapland on Friday and need two mats.
std::vector has no member named push
Room 101, floor 3, from 10:15 to 11:45
Mix 30 ml in 5 l of lukewarm water.
gen_ai.usage.input_tokens = 512
The answer is cited from [return-policy] and [start-return].
Is there a discount for groups of 12 or more?
A signature is needed when the parcel is worth over 200 EUR.
hi there, is it open?
hello again, me once more
dear all, the shop is closed
The Halden at Camp dot one is green.
Meet at seven dot com domains are cheap
Return Policy
Spare Parts
Shipping Costs
The Ember Duo and the Glow Max are new.
We sell: Solo Ridge, Fjord, Halden 2.
Best wishes for the new year
Thanks for Everything
From: Tilburg To: Oslo
Ticket 5 of 12 was answered.
Order 2 mats and get 1 free
Page 12 of 345
Call us between 9 and 17.
Call 112 in an emergency.
Text messages cost nothing.
In 2025 and 2026 we sold 12345 tents.
The tent is 210 x 140 x 110 cm.
temperature=0.7 max_tokens=1024 seed=12345678
took 0.123456789 s, 98765 tokens
Reference temperature 20 °C, tolerance 0.5
The account was closed. The invoice is attached.
Client error 404
HTTP/1.1 200 OK, content-length: 123456
2026-11-27T05:43:38.123456Z INFO ready
sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
12:34:56 up 16:38, load average: 13.63, 12.49, 11.18
span 0x14ffccaee34b327102d19e4cda828828 of trace 5e8f
ISBN 978-3-16-148410-0
EAN 4006381333931
Lot 20260312-0042
1.000.000 EUR in 10 years
3 x 2 = 6; 10/12 = 0.83
GPS 59.9139 N, 10.7522 E
Version 10.0.19045.3570 of Windows
Mr is a title. Dr is one too.
The Via Ferrata needs a helmet.
a place to park
Place the stove on flat ground.
10 Place settings
On the way to the square, 2 km.
Summer Sale
Frequently Asked Questions
Dear Customer, welcome.
Hello World!
Good Morning Vietnam
Sir Edmund's mountain
name: ticket
field name: urgency
this is The Way
This is Great news!
username must be set
Signed in successfully
Our customers love May and June.
Born to be wild
birthday cake for 12
Love Camping
the key: keep it dry
key=value pairs
token count: 512
secret to success
basic example
Is it a 4-season tent? Yes.
Weight 1,250 g; capacity 65 l
No. 7 gas cartridges
M8 x 40 bolts
Kind regards from the whole shop!
"""


def clean() -> list[str]:
    """Return sentences without personal data: those of the help centre, and the ones above."""
    texts = [article.body for article in desk.articles()]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    sentences = [each for line in lines for each in re.split(r"(?<=[.!?])\s+(?=[A-Z])", line)]
    return [each for each in [*sentences, *OWN.splitlines()] if len(each) > 3]
