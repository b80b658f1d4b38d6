from .adapter_xray import xray
from .architecture_view import architecture
from .cache_explorer_view import cache_explorer
from .flight_view import flight_lab, scorecard
from .mission_control_view import mission_control
from .names import names_table
from .progress_board import board
from .reading import plot, show_messages, table
from .selftest import self_test
from .streaming_race_view import streaming_race
from .trace_viewer_view import trace_viewer
from .usage_meter import meter
from .wind_tunnel_view import wind_tunnel

__all__ = [
    "architecture",
    "board",
    "cache_explorer",
    "flight_lab",
    "meter",
    "mission_control",
    "names_table",
    "plot",
    "scorecard",
    "self_test",
    "show_messages",
    "streaming_race",
    "table",
    "trace_viewer",
    "wind_tunnel",
    "xray",
]
