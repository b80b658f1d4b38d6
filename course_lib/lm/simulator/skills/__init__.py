"""What the simulator can do; solving.py has the order in which the skills are tried for each field."""
