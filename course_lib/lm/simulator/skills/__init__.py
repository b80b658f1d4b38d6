"""What the simulator can do: solving.py has the skills in the order in which they are tried for each field."""
