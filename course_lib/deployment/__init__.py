"""The service of section 5: its parts, from the settings to what an auditor asks for."""
