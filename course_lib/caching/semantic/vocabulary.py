"""Words that decide what a question to the desk is about, by kind: what the guards compare.

Main path: named(text, "place") -> the meanings that a text names; spellings of one meaning are one word.
Written by hand, for a shop of camping gear in Europe. Another shop needs other words, and rewrites this part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType


def _meanings(lines: str) -> Mapping[str, str]:
    """Read lines of comma-separated spellings; the first of a line is the meaning of all in it."""
    read = {}
    for line in lines.strip().splitlines():
        spellings = [spelling.strip() for spelling in line.split(",")]
        read.update(dict.fromkeys(spellings, spellings[0]))
    return MappingProxyType(read)


def _each(words: str) -> Mapping[str, str]:
    """Read comma-separated words, each with a meaning of its own."""
    return MappingProxyType({word.strip(): word.strip() for word in words.split(",")})


KINDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "product": _each(
            "halden, fjord, solo ridge, alder, dovre, luna, pip, airo, airo wide, ember, ember duo, glow, "
            "glow max, beam, torv, lynn, vidda, brook"
        ),
        "place": _meanings(
            """
            uk, united kingdom, britain, great britain, england, british
            northern ireland
            ireland, irish
            switzerland, swiss
            norway, norwegian
            sweden, swedish
            denmark, danish
            finland, finnish
            iceland
            germany, german
            austria, austrian
            france, french
            belgium, belgian
            netherlands, holland, dutch
            luxembourg
            spain, spanish
            portugal, portuguese
            italy, italian
            greece, greek
            poland, polish
            czech republic, czechia, czech
            hungary, hungarian
            usa, us, united states, states, america, american
            canada, canadian
            australia, australian
            turkey, turkish
            eu, european union
            abroad, another country, other countries, overseas
            island, islands
            home, house
            office, work, workplace
            shop, store
            neighbour, neighbours, neighbor
            """
        ),
        "goods": _meanings(
            """
            tent, tents
            tarp, tarps
            sleeping bag, sleeping bags
            liner, liners
            mat, mats, mattress
            stove, stoves, cooker, burner
            cartridge, cartridges, canister, canisters
            kettle, kettles
            pot, pots
            mug, mugs
            lamp, lamps, lantern, lanterns
            headlamp, headlamps, head torch
            boots, boot
            shoes, shoe
            socks, sock
            backpack, backpacks, rucksack, rucksacks, pack
            rain cover, rain covers
            bottle, bottles
            filter, filters
            chair, chairs
            table, tables
            hammock, hammocks
            """
        ),
        "part": _meanings(
            """
            pole, poles
            peg, pegs
            zip, zips, zipper
            seam, seams
            strap, straps
            buckle, buckles
            sole, soles
            insole, insoles
            lace, laces
            battery, batteries
            cable, cables, charger
            ring, rings, seal
            valve, valves
            fabric, cloth
            lining
            footprint, groundsheet
            """
        ),
        "colour": _each("red, blue, green, grey, black, white, yellow, orange, brown, sand"),
        "material": _meanings(
            """
            down, feather
            synthetic, polyester
            leather
            silk
            cotton
            wool, merino
            gas
            petrol, gasoline
            steel
            titanium
            """
        ),
        "size": _meanings(
            """
            larger, bigger, size up
            smaller, size down
            wide, wider
            narrow, narrower
            long, longer
            short, shorter
            """
        ),
        "payment": _meanings(
            """
            visa
            mastercard
            american express, amex
            paypal
            ideal
            bancontact
            klarna, pay later
            apple pay
            google pay
            bank transfer, transfer, sepa
            credit card, credit cards
            debit card
            gift card, gift cards, gift voucher
            promo code, promo codes, discount code, voucher code, coupon
            cash
            points
            instalments, installments
            """
        ),
        "contact": _meanings(
            """
            password, passwords
            email, emails, e-mail, e-mails, mail address
            phone, telephone, mobile number
            address, addresses
            name, surname
            newsletter, newsletters, mailing list
            """
        ),
        "paper": _meanings(
            """
            invoice, invoices, bill, receipt
            label, labels
            packing slip
            tracking
            credit note
            """
        ),
        "person": _meanings(
            """
            child, children, kid, kids, child's, children's, kids', son, daughter, toddler
            adult, adults, grown-up, grown-ups
            dog, dogs
            women, woman, women's, ladies
            men, man, men's
            friend, friend's, friends
            company, business, firm
            """
        ),
        "time": _meanings(
            """
            monday, mondays
            tuesday, tuesdays
            wednesday, wednesdays
            thursday, thursdays
            friday, fridays
            saturday, saturdays
            sunday, sundays
            weekend, weekends
            christmas
            easter
            summer
            winter
            spring
            autumn
            today
            tomorrow
            yesterday
            """
        ),
        "act": _meanings(
            """
            return, returns, returned, returning, send back, sent back, give back, bring back
            exchange, exchanged, exchanging, swap, swapped, change for, replace, replacement
            refund, refunds, refunded, money back, reimbursed, reimbursement, pay back, paid back
            repair, repairs, repaired, mend, mended, fix, fixed, patch
            cancel, cancelled, canceled, cancelling, call off
            delete, deleted, erase, erased, close my account, remove my account
            reset
            wash, washing, washed, clean, cleaned, cleaning
            iron, ironed, ironing
            dry, dried, drying
            store, stored, storing, storage
            charge, charging, charged, recharge
            waterproof, waterproofing, reproof
            merge, merged, join
            track, follow
            """
        ),
    }
)
"""What a question may name; the kinds are the names under which a guard refuses."""

NEGATIVES = frozenset(
    _each("not, no, never, without, nothing, none, neither, nobody, fails, failed, stopped, unable")
)

OPPOSITES: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (frozenset(left.split(", ")), frozenset(right.split(", ")))
    for left, right in (
        line.strip().split(" | ")
        for line in """
            enable, turn on, switch on, activate | disable, turn off, switch off, deactivate
            open, opened | close, closed
            add, added, include | remove, removed, take off, take out
            subscribe, sign up, join | unsubscribe, leave, opt out
            earn, get points, collect | spend, use, redeem, lose
            buy, order | sell
            before | after
            inside, indoors, in the tent | outside, outdoors
            with | without
            more, increase, raise | less, fewer, reduce, lower
            minimum, least, min | maximum, most, max
            first, earliest | last, latest
            early, earlier, sooner | late, later
            new, unused | old, used, second-hand
            warm, hot, summer | cold, freezing, winter
            wet | dry
            free | paid
            accept, accepted, approved | refuse, refused, declined, rejected
            arrive, arrived, delivered | left, shipped, sent, dispatched
            lost, lose | found, find
            full | empty
            import | export
            standard, normal | express
            send, post | receive, get, collect
            increase | decrease
            upper, top | lower, bottom
            inner | outer
            left | right
            single, one-way | double
            pay | get back
            lend, rent | buy
            pick up | drop off
            lightest | heaviest
            cheapest | dearest, most expensive
            create, open | delete, close
            private | business
        """.strip().splitlines()
    )
)
"""Pairs of opposites; a question that says one is not answered by what answers the other."""


@cache
def _pattern(kind: str) -> re.Pattern[str]:
    longest_first = sorted(KINDS[kind], key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")


def named(text: str, kind: str) -> frozenset[str]:
    """Return the meanings of one kind that a text names, in small letters.

    >>> sorted(named("do you ship to the united kingdom or norway?", "place"))
    ['norway', 'uk']
    """
    return frozenset(KINDS[kind][spelling] for spelling in _pattern(kind).findall(text))


def says(text: str, phrases: frozenset[str]) -> bool:
    """Say whether a text in small letters has one of the words or phrases."""
    return any(re.search(rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", text) for phrase in phrases)
