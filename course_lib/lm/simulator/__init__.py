"""The simulated model: reads a prompt, and nothing else, and answers in the format that it asks for."""
