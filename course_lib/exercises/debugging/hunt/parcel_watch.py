# mypy: allow-subclassing-any
"""The parcel watch: an agent that knows orders and asks the carrier."""

from __future__ import annotations

from typing import Any

import dspy

from course_lib import desk


class WatchParcels(dspy.Signature):
    """Tell a customer where a parcel is, or when it arrives, from what the tools return."""

    ticket: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="what was found, in a few words")


class ParcelWatch(dspy.Module):
    """Answer a ticket about a parcel: `ticket` -> `answer`.

    A ticket names the order or the parcel. The carrier is asked with the tracking number of the parcel, such
    as NP400213517, for it knows no orders; the tracking numbers of an order are found by looking it up.
    """

    def __init__(self, session: desk.Session) -> None:
        super().__init__()

        def look_up_order(order_id: str) -> Any:
            """Look up an order: its status, its customer, and the tracking number of each parcel.

            Args:
                order_id: number of the order, such as O-10001
            """
            return session.look_up_order(order_id)

        def track_parcel(number: str) -> Any:
            """Track a parcel with the carrier: where it is now, its last scan, and when it should arrive.

            Args:
                number: number of the order, such as O-10001
            """
            try:
                return session.track_parcel(number)
            except desk.RefusedError as error:
                return f"refused: {error}"

        self.agent = dspy.ReAct(WatchParcels, tools=[look_up_order, track_parcel], max_iters=6)

    def forward(self, ticket: str) -> dspy.Prediction:
        """Answer one ticket."""
        return dspy.Prediction(answer=self.agent(ticket=ticket).answer)
