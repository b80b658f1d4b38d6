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
            usa, united states, states, america, american
            canada, canadian
            australia, australian
            turkey, turkish
            eu, european union
            """
        ),
        "spot": _meanings(
            """
            home, my house
            office, workplace
            neighbour, neighbours, neighbor, next door
            garage, shed, porch
            pick-up point, parcel shop, locker
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
            backpack, backpacks, rucksack, rucksacks
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
            cable, cables
            valve, valves
            footprint, groundsheet
            """
        ),
        "colour": _each("red, blue, green, grey, black, white, yellow, orange, brown, sand"),
        "material": _meanings(
            """
            synthetic, polyester
            leather
            silk
            cotton
            wool, merino
            steel
            titanium
            """
        ),
        "size": _meanings(
            """
            larger, bigger, size up, too small, too tight
            smaller, size down, too big, too large, tighter
            wide, wider
            narrow, narrower
            """
        ),
        "payment": _meanings(
            """
            visa
            mastercard
            american express, amex
            paypal
            bancontact
            klarna, pay later
            apple pay
            google pay
            bank transfer, sepa
            credit card, credit cards
            debit card
            gift card, gift cards, gift voucher
            promo code, promo codes, discount code, discount codes, voucher, voucher code, coupon
            cash
            points
            instalments, installments
            """
        ),
        "contact": _meanings(
            """
            password, passwords
            e-mail, email, emails, e-mails, e-mailed, mailed, mail address, e-mail address, email address
            text message, sms, text messages
            phone, telephone, phone call, mobile number
            delivery address, postal address, street
            post, by post, letter, letter box, mailbox
            billing address
            newsletter, newsletters, mailing list
            """
        ),
        "paper": _meanings(
            """
            invoice, invoices, bill, bills, receipt, receipts, proof of purchase
            label, labels
            packing slip
            packaging
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
            first
            second
            third
            """
        ),
        "value": _meanings(
            """
            comfort
            limit
            extreme
            weight, weigh, weighs
            width
            height
            length
            volume
            """
        ),
        "cause": _meanings(
            """
            wear, wear and tear, worn out
            accident, accidents, fall, dropped, storm
            manufacturing fault, factory fault, defect
            """
        ),
        "act": _meanings(
            """
            return, returns, returned, returning, send back, sent back, give back, bring back
            exchange, exchanged, exchanging, swap, swapped, swapping, change for, replace, replacement
            refund, refunds, refunded, money back, reimbursed, reimbursement, pay back, paid back
            refuse, refused, refuses, decline, declined, declines, rejected
            repair, repairs, repaired, mend, mended, fix, fixed, patch
            cancel, cancelled, canceled, cancelling, call off
            delete, deleted, erase, erased, close my account, remove my account
            reset
            wash, washing, washed, machine washing, clean, cleaned, cleaning
            iron, ironed, ironing
            dry, dried, drying
            store, stored, storing, storage
            pay, pays, paid, paying, payment, payments, charge, charges, charged
            waterproof, waterproofing, reproof
            merge, merged, join
            track, follow
            """
        ),
    }
)
"""What a question may name; the kinds are the names under which a guard refuses."""

STRICT_KINDS = frozenset({"product", "place", "colour", "person"})
"""Kinds of which a question that names none is not the same as one that names some."""

NEGATIVES = frozenset(
    _each("not, no, never, nothing, none, neither, nobody, unpaid, unused, unopened, unable")
)

OPPOSITES: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (frozenset(left.split(", ")), frozenset(right.split(", ")))
    for left, right in (
        line.strip().split(" | ")
        for line in """
            enable, turn on, switch on, activate | disable, turn off, switch off, deactivate
            open, opened | close, closed
            add, added, include | remove, removed, take off, take out
            subscribe, sign up, join, receive | unsubscribe, leave, opt out, stop
            earn, spend to get | redeem, lose, worth
            buy, order | sell
            before | after, once i, once the, once it
            inside, indoors, in the tent | outside, outdoors
            with | without
            more, increase, raise | less, fewer, reduce, lower
            minimum, least, min | maximum, most, max
            first, earliest | last, latest
            early, earlier, sooner | late, later
            new, unused, unopened, in its wrapping | old, used, second-hand
            warm, hot, summer | cold, freezing, winter
            wet | dry
            free | paid
            accept, accepted, approved | refuse, refused, declined, rejected
            arrive, arrived, arrives, delivered | left, shipped, dispatched
            lost, lose | found, find
            full | empty
            import | export
            standard, normal | express
            deliver, delivered, delivery, bring, brought | collect, collected, pick up, fetch
            send, ship | receive
            ordered | received
            merge, combine, put together | split, divide
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
            create, open, make | delete, close, erase
            pending, reserved | booked
            include, includes, cover, covers | exclude, excludes
            low, lowest | high, highest, full
            private | business
        """.strip().splitlines()
    )
)
"""Pairs of opposites; a question that says one is not answered by what answers the other."""


@cache
def _pattern(kind: str) -> re.Pattern[str]:
    longest_first = sorted(KINDS[kind], key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")


def named(text: str, kind: str) -> tuple[str, ...]:
    """Return the meanings of one kind that a text in small letters names, in the order in which it does.

    >>> named("do you ship to the united kingdom or norway?", "place")
    ('uk', 'norway')
    """
    return tuple(dict.fromkeys(KINDS[kind][spelling] for spelling in _pattern(kind).findall(text)))


def says(text: str, phrases: frozenset[str]) -> bool:
    """Say whether a text in small letters has one of the words or phrases."""
    return any(re.search(rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", text) for phrase in phrases)
