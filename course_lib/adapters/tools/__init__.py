"""Tools: functions handed to a model, with limits on what it can do with them."""
