"""The lab: the real code on virtual time, with simulated traffic and providers."""
