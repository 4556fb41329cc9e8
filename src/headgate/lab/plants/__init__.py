"""Simulated dependencies with a known capacity, and a closed loop around them that measures limiters.

A *plant* is what a controller acts on. `plant` is the dependency, `traffic` the calls, `simulate` one client with a
limiter in front of it, `catalogue` the situations that limiters are judged by. Virtual time, one thread, no
asyncio: hundreds of simulated hours take minutes.
"""
