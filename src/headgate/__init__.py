"""headgate: the control loop between AI agents and what they call."""
