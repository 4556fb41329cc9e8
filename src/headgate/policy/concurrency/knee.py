"""Where a dependency's knee is, as far as latencies tell: a belief that is updated by every group of calls.

Model: with n calls in flight the log of latency by size is ``base`` below the knee and rises with ln(n) above it:
y = base + max(0, ln n − ln knee), as any server does that shares a fixed capacity. Both can change at any time: the
knee is the dependency's capacity for us, the base is everything that our load has no part in. A slowdown alone cannot
tell them apart; two groups at different n can. So nothing is decided by a threshold: a belief over both is kept, and
what is not known makes the limit move, which makes it known.

The belief is a grid over ln(knee); each cell holds how likely it is and a normal belief about the base given that
knee (a mixture of Kalman filters). Before each observation a little of the belief moves to the neighbouring cells,
a little to all cells (the knee may have jumped), and the base may have drifted; each cell weighs the
observation as it stands against a jump of the base.
"""

from __future__ import annotations

import math

STEP = 0.12
CELLS_MOST = 64
KNEE_DRIFTS = 0.15
"""Part of the belief that moves to the neighbouring cells with each observation."""
KNEE_JUMPS = 0.05
BASE_DRIFT = 0.01
"""Standard deviation per observation."""
BASE_JUMPS = 0.02
JUMP = 1.0
"""Standard deviation of a jump of the base."""
ROUGH = 0.04
"""Standard deviation by which the model itself is wrong."""


class KneeBelief:
    """What is believed of one dependency whose knee lies between ``least`` and ``most`` calls, or beyond."""

    __slots__ = ("_bases", "_knees", "_spreads", "_weights", "known")

    def __init__(self, least: float, most: float) -> None:
        low, high = math.log(0.7 * least), math.log(1.5 * most)
        cells = max(3, min(CELLS_MOST, math.ceil((high - low) / STEP) + 1))
        self._knees = [low + (high - low) * i / (cells - 1) for i in range(cells)]
        self._weights = [1 / cells] * cells
        self._bases = [0.0] * cells
        self._spreads = [0.0] * cells
        """Variances of the bases."""
        self.known = False

    def observe(self, log_calls: float, log_latency: float, error: float) -> None:
        """A group of calls: mean log of calls in flight, mean log of latency by size, and its standard error."""
        noise = error * error + ROUGH * ROUGH
        if not self.known:
            self.known = True
            self._bases = [log_latency - max(0.0, log_calls - knee) for knee in self._knees]
            self._spreads = [noise] * len(self._knees)
            return
        self._predict()
        total = 0.0
        for i, knee in enumerate(self._knees):
            base, spread = self._bases[i], self._spreads[i]
            off = log_latency - max(0.0, log_calls - knee) - base
            stays, jumps = spread + noise, spread + noise + JUMP * JUMP
            stay = (1 - BASE_JUMPS) * math.exp(-0.5 * off * off / stays) / math.sqrt(stays)
            jump = BASE_JUMPS * math.exp(-0.5 * off * off / jumps) / math.sqrt(jumps)
            like = stay + jump + 1e-30
            gain, leap = spread / stays, 1 - noise / jumps
            part = jump / like
            move = (1 - part) * gain + part * leap
            apart = (leap - gain) * off
            self._bases[i] = base + move * off
            self._spreads[i] = (1 - part) * gain * noise + part * leap * noise + part * (1 - part) * apart * apart
            self._weights[i] *= like
            total += self._weights[i]
        self._weights = [weight / total for weight in self._weights]

    def base(self) -> tuple[float, float]:
        """Mean and standard deviation of the base."""
        mean = math.fsum(w * b for w, b in zip(self._weights, self._bases, strict=True))
        variance = math.fsum(
            w * (v + (b - mean) ** 2) for w, b, v in zip(self._weights, self._bases, self._spreads, strict=True)
        )
        return mean, math.sqrt(variance)

    def knee(self, quantile: float) -> float:
        """The log of the knee that with probability ``quantile`` is not exceeded."""
        seen = 0.0
        step = self._knees[1] - self._knees[0]
        for knee, weight in zip(self._knees, self._weights, strict=True):
            if seen + weight >= quantile:
                return knee + step * ((quantile - seen) / weight - 0.5)
            seen += weight
        return self._knees[-1]

    def _predict(self) -> None:
        """Let time pass: the knee drifts or jumps, the base drifts."""
        weights, bases, spreads = self._weights, self._bases, self._spreads
        mean, error = self.base()
        last = len(weights) - 1
        anywhere = KNEE_JUMPS / len(weights)
        stay, side = 1 - KNEE_JUMPS - KNEE_DRIFTS, KNEE_DRIFTS / 2
        drift = BASE_DRIFT * BASE_DRIFT
        self._weights, self._bases, self._spreads = [], [], []
        for i in range(last + 1):
            left, right = max(0, i - 1), min(last, i + 1)
            own, below, above = stay * weights[i], side * weights[left], side * weights[right]
            total = own + below + above + anywhere
            base = (own * bases[i] + below * bases[left] + above * bases[right] + anywhere * mean) / total
            spread = own * (spreads[i] + (bases[i] - base) ** 2)
            spread += below * (spreads[left] + (bases[left] - base) ** 2)
            spread += above * (spreads[right] + (bases[right] - base) ** 2)
            spread += anywhere * (error * error + (mean - base) ** 2)
            self._weights.append(total)
            self._bases.append(base)
            self._spreads.append(spread / total + drift)
