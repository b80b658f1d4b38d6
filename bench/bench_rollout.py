"""A bad version is rolled back by itself within its first 200 requests, a good one promoted; three seeds.

First with drawn outcomes, many rollouts for the rates of error; then on the stack, with the desk's tickets:
the live program, one with spoiled instructions, and one that is told what each category means.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SEEDS, MANY, AT_ONCE = (1, 2, 3), 100, 50
WITHIN = 200
RATES = {
    "as good": {},
    "10 points better": {"score": 0.9},
    "15 points worse": {"score": 0.65},
    "25 points worse": {"score": 0.55},
    "10 points more failures": {"failed": 0.11},
    "20 points more slow ones": {"slow": 0.22},
}
SPOILED = "\nChoose warranty if unsure."
MEANINGS = """
- shipping: where a parcel is, delivery times, costs and addresses, late or lost parcels
- returns: sending something back, exchanges, and the refund for it
- billing: charges, invoices, payments, vouchers and gift cards
- account: login, password, e-mail address, personal data
- product: questions about an article: sizes, care, use, stock
- warranty: something broke or is faulty, repairs, spare parts, guarantee"""


class Drawn:
    """Customers whose requests end as a version's rates say."""

    def __init__(self, seed: int, canary: dict[str, float]) -> None:
        live = {"failed": 0.01, "slow": 0.02, "score": 0.8}
        self.rates, self.random, self.share = {"1": live, "2": {**live, **canary}}, random.Random(seed), 0
        self.seen: dict[str, list[Any]] = {version: [0, 0, 0, []] for version in "12"}

    def use(self, weights: dict[str, int]) -> None:
        """Take the canary's share."""
        self.share = weights["2"]

    def observe(self, version: str) -> Any:
        """Tell what was seen of a version."""
        from course_lib.deployment import Seen

        requests, failed, slow, scores = self.seen[version]
        return Seen(requests, failed, slow, list(scores))

    def ask(self, requests: int = 20) -> None:
        """Draw who answers so many requests, and how they end."""
        for _ in range(requests):
            version = "2" if self.random.uniform(0, 100) < self.share else "1"
            rates, seen = self.rates[version], self.seen[version]
            drawn = {name: self.random.random() < rate for name, rate in rates.items()}
            seen[0], seen[1], seen[2] = seen[0] + 1, seen[1] + drawn["failed"], seen[2] + drawn["slow"]
            seen[3].append(float(drawn["score"]))


def drawn(seed: int, canary: dict[str, float], folder: Path) -> tuple[str, int]:
    """Roll a version out among drawn customers; return how it ended, after how many of its requests."""
    from course_lib import desk
    from course_lib.deployment import Registry, Rollout

    registry, traffic = Registry(folder), Drawn(seed, canary)
    for version in "12":
        registry.register("triage", desk.Triage(), version)
    registry.promote("triage", "1")
    rollout = Rollout(registry, "triage", "2", use=traffic.use, observe=traffic.observe)
    while rollout.step() == "going on":
        traffic.ask()
    return rollout.state, rollout.requests


def told(name: str, ends: Sequence[tuple[str, int]], *, good: bool) -> bool:
    """Print how rollouts ended; return whether each of the first three is as it should be."""
    wanted = "promoted" if good else "rolled back"
    right = [state == wanted and (good or requests <= WITHIN) for state, requests in ends]
    requests = sorted(count for _, count in ends)
    print(
        f"{name}: {wanted} in {sum(right)} of {len(ends)}, after {requests[len(ends) // 2]} of its requests "
        f"(median; {requests[0]} to {requests[-1]}); three seeds: {'hold' if all(right[:3]) else 'MISSED'}"
    )
    return all(right[:3])


async def on_the_stack(folder: Path) -> bool:
    """Roll a bad and a good version out on the stack, with tickets that neither has seen."""
    import httpx

    from course_lib import desk, lm
    from course_lib.deployment import Registry, Rollout, observing, running_stack, save_program

    registry, customers, programs = Registry(folder), desk.examples("test"), {}
    lm.profile("weather", ttft_p50_ms=50)
    for version, (words, demos) in {"1": ("", 0), "2": (SPOILED, 0), "3": (MEANINGS, 16)}.items():
        program = desk.Triage()
        instructions = program.sort.signature.instructions + words
        program.sort.signature = program.sort.signature.with_instructions(instructions)
        program.sort.demos = desk.examples("train")[:demos]
        registry.register("triage", programs.setdefault(version, program), version)
        save_program(desk.Answer(), folder, "answer", version)
    results = []
    with running_stack(
        versions=("1", "2", "3"), programs_folder=folder, model="sim-large@weather", queue="nats"
    ) as stack:
        async with httpx.AsyncClient(base_url=stack.url, headers=stack.headers, timeout=20) as client:
            for version in ("2", "3"):
                ends = []
                for seed in SEEDS:
                    registry.promote("triage", "1")
                    if registry.version("triage", version).stage == "retired":
                        registry.register("triage", programs[version], version)  # is a candidate again
                    scores: dict[str, list[float]] = {"1": [], version: []}

                    async def ask(row: Any, scores: dict[str, list[float]] = scores) -> None:
                        said = (await client.post("/v1/triage", json={"ticket": row.ticket})).json()
                        scores[said["version"]].append(float(said["category"] == row.category))

                    seen = observing(stack, "triage", scores=scores.__getitem__)
                    rollout = Rollout(registry, "triage", version, use=stack.use, observe=seen)
                    draw = random.Random(seed)
                    while rollout.step() == "going on":
                        await asyncio.gather(*map(ask, draw.choices(customers, k=AT_ONCE)))
                    print(f"    seed {seed}: {rollout.state}, {rollout.reason}")
                    ends.append((rollout.state, rollout.requests))
                what = {"2": "on the stack, spoiled", "3": "on the stack, better"}[version]
                results.append(told(what, ends, good=version == "3"))
    return all(results)


def main() -> bool:
    """Print all figures; return whether all bars hold."""
    results = []
    with tempfile.TemporaryDirectory(prefix="lantern-") as name:
        for number, (what, canary) in enumerate(RATES.items()):
            ends = [drawn(seed, canary, Path(name) / f"{number}-{seed}") for seed in range(1, MANY + 1)]
            results.append(told(what, ends, good=what in ("as good", "10 points better")))
        results.append(asyncio.run(on_the_stack(Path(name) / "programs")))
    return all(results)


if __name__ == "__main__":
    raise SystemExit(not main())
