from .few_shots import prepare
from .help_line import HelpLine
from .inbox import Inbox
from .order_board import OrderBoard
from .parcel_watch import ParcelWatch
from .paybacks import pay_back
from .replies import Replies
from .scorecard import score

__all__ = [
    "HelpLine",
    "Inbox",
    "OrderBoard",
    "ParcelWatch",
    "Replies",
    "pay_back",
    "prepare",
    "score",
]
