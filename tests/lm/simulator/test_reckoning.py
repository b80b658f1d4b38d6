"""Word problems, dates and durations; what is not understood is not guessed at."""

from __future__ import annotations

import pytest

from course_lib.lm.simulator.skills.days import when
from course_lib.lm.simulator.skills.problems import solve

PROBLEMS = [
    ("Rita has 9 plums. She eats 2 and then picks 5 more. How many plums does she have?", "12"),
    ("A crate holds 24 bottles. How many bottles are in 6 crates?", "144"),
    ("A coat costs $120 and is reduced by 15%. What does it cost now?", "102"),
    ("I buy 2 pies at $3.50 each and 3 teas at $1.10 each. How much do I pay?", "10.30"),
    ("A van does 70 km an hour. How far does it get in 3 hours?", "210"),
    ("If 5 tickets cost 40 euros, how much do 8 tickets cost?", "64"),
    ("A bus has 50 seats. How many buses are needed for 120 people?", "3"),
    ("Tickets are $9 for adults and $4 for children. How much do 2 adults and 3 children pay?", "30"),
    ("Out of 40 eggs 6 broke. What percentage is that?", "15"),
    ("The fare rose from 20 to 25 euros. By how many percent did it rise?", "25"),
    ("Lou is 4 years younger than Max, who is 15. How old is Lou?", "11"),
    ("How many grams are 1.2 kg?", "1200"),
    ("96 pens are shared equally among 8 pupils. How many does each get?", "12"),
    ("Of 80 tickets, 35% are already sold. How many have been sold?", "28"),
    ("A shirt costs 30 euros after a discount of 10 euros. What did it cost before?", "40"),
    ("He rides 15 km per hour for 2 hours and then 20 km per hour for 1 hour. How far is that?", "50"),
    ("A class of 24 goes out. A ticket costs 7 euros. How much do they pay altogether?", None),
    ("How many bricks are in the wall of 7 houses with 3 cats?", None),
    ("Why do 3 of 4 people like 2 films?", None),
]


@pytest.mark.parametrize(("text", "result"), PROBLEMS)
def test_a_problem_is_worked_out_or_left_alone(text: str, result: str | None) -> None:
    worked = solve(text)

    assert (worked and worked.text) == result


MOMENTS = [
    ("What date is ten days after 24 February 2028?", "5 March 2028"),
    ("Which date is one month after 31 August 2026?", "30 September 2026"),
    ("What is the date two weeks before 2026-01-09?", "2025-12-26"),
    ("How long is it from 8:50 to 10:05?", "1 hour 15 minutes"),
    ("How many minutes pass between 8:50 and 10:05?", "75"),
    ("A film starts at 21:30 and lasts 105 minutes. When does it end?", "23:15"),
    ("I must be there by 9:00 and the ride takes 40 minutes. When must I leave?", "8:20"),
    ("How many days are there between 1 May 2026 and 20 May 2026?", "19"),
    ("What day of the week was 1 January 2000?", "Saturday"),
    ("What weekday comes 9 days after a Monday?", "Wednesday"),
    ("Someone was born on 3 June 1980. How old is he on 2 June 2026?", "45"),
    ("How many days are there from 3 April to 21 April?", "18"),
    ("How many days are there from 20 February to 10 March?", None),
    ("It is quarter past nine. What time was it half an hour ago?", "8:45"),
    ("Do we meet at 10:00 or at 11:00?", None),
    ("When was the war of 1870?", None),
]


@pytest.mark.parametrize(("text", "result"), MOMENTS)
def test_dates_and_durations_are_reckoned_or_left_alone(text: str, result: str | None) -> None:
    moment = when(text)

    assert (moment and moment.text) == result
