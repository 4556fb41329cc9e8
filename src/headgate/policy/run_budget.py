"""What one run may use: calls, model tokens, money and running time, over all its attempts.

Decides: whether a call may begin, and what is left. Source: holds as in payment cards: an estimate is taken before
the call and settled to what it took afterwards, so calls in flight together cannot overshoot what they declared.

Rule: a call is held if every ceiling has room for its estimate. A call on a model without an estimate needs some
room, and is held at the run's own mean so far, so that others see it. Where nothing tells yet what a model call
costs, neither a price nor an earlier call, the first one holds all the money that is left: others wait for its cost.

Invariants: what is held is never negative and is 0 when nothing is in flight. What was used at the end exceeds a
ceiling by at most what calls in flight took beyond their estimates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from headgate.errors import BudgetExhausted

N = TypeVar("N", int, float)

MOST = 10**15
"""No ceiling is raised beyond this."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The ceilings of a run; ``None`` is without."""

    calls: int | None = None
    model_tokens: int | None = None
    money: float | None = None
    wall_s: float | None = None


def raised(present: N | None, to: N | None, by: N | None) -> N | None:
    """A ceiling after somebody raised it to a total, or by an amount: never lower than it was, at most `MOST`, and
    still ``None`` where there was none."""
    if present is None:
        return None
    wanted = (present if to is None else to) + (0 if by is None else by)
    return max(present, min(wanted, type(present)(MOST)))


@dataclass(frozen=True, slots=True)
class Remaining:
    """What a run may still use, calls in flight counted as used; ``None`` is without a ceiling."""

    calls: int | None
    model_tokens: int | None
    money: float | None = None
    wall_s: float | None = None
    """Seconds of running time."""
    deadline_s: float | None = None
    """Seconds until nobody wants the result."""

    def words(self) -> str:
        """One sentence for a model or a person."""
        parts = []
        if self.calls is not None:
            parts.append("1 call" if self.calls == 1 else f"{self.calls} calls")
        if self.model_tokens is not None:
            parts.append(f"{self.model_tokens} model tokens")
        if self.money is not None:
            parts.append(f"{self.money:.4g} of money")
        if self.wall_s is not None:
            parts.append(f"{_duration(self.wall_s)} of running time")
        if self.deadline_s is not None:
            parts.append(f"{_duration(self.deadline_s)} until the deadline")
        if not parts:
            return "This run has no limits of its own."
        listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
        return f"Left for this run: {listed}."


def _duration(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 2 * 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass(frozen=True, slots=True)
class Below:
    """What the sub-runs of a run take of its budget: what unfinished ones may use, and what ended ones used."""

    calls: int = 0
    model_tokens: int = 0
    money: float = 0.0


NOTHING_BELOW = Below()


@dataclass(frozen=True, slots=True)
class Hold:
    """What one call has taken in advance."""

    model_tokens: float = 0.0
    money: float = 0.0


class RunBudget:
    """The account of one run. Moments are seconds on one monotonic scale."""

    __slots__ = ("_held_money", "_held_tokens", "_model_calls", "_model_money", "_model_tokens", "below", "ceiling",
                 "used_calls", "used_model_tokens", "used_money", "used_wall_s")  # fmt: skip

    def __init__(
        self,
        ceiling: Ceiling,
        *,
        used_calls: int = 0,
        used_model_tokens: int = 0,
        used_money: float = 0.0,
        used_wall_s: float = 0.0,
    ) -> None:
        """``used_*``: by attempts before this one."""
        self.ceiling = ceiling
        self.used_calls = used_calls
        self.used_model_tokens = used_model_tokens
        self.used_money = used_money
        self.used_wall_s = used_wall_s
        self.below = NOTHING_BELOW
        self._held_tokens = 0.0
        self._held_money = 0.0
        self._model_calls = 0
        self._model_tokens = 0
        self._model_money = 0.0

    def remaining(self, *, ran_s: float, deadline_s: float | None = None) -> Remaining:
        """What is left, ``ran_s`` into this attempt."""
        ceiling = self.ceiling
        tokens, money, wall_s = ceiling.model_tokens, ceiling.money, ceiling.wall_s
        return Remaining(
            None if ceiling.calls is None else max(0, ceiling.calls - self._calls),
            None if tokens is None else max(0, int(tokens - self._tokens)),
            None if money is None else max(0.0, money - self._money),
            None if wall_s is None else max(0.0, wall_s - self.used_wall_s - ran_s),
            None if deadline_s is None else max(0.0, deadline_s),
        )

    def hold(
        self,
        *,
        model: bool,
        model_tokens: float | None = None,
        guess: float = 0.0,
        price_per_1k: float | None = None,
        ran_s: float = 0.0,
    ) -> Hold:
        """Take one call.

        Args:
            model: it is a call on a model.
            model_tokens: the caller's estimate; ``None`` is unknown.
            guess: for a model call without an estimate, before any was made.
            price_per_1k: money for 1000 model tokens, ``None`` if unknown.
            ran_s: how long this attempt has run.

        Raises:
            BudgetExhausted: a ceiling has no room for it.
        """
        ceiling = self.ceiling
        if ceiling.calls is not None and self._calls + 1 > ceiling.calls:
            raise BudgetExhausted("calls", limit=ceiling.calls, used=self._calls)
        wall_s = ceiling.wall_s
        if wall_s is not None and self.used_wall_s + ran_s >= wall_s:
            raise BudgetExhausted("seconds of running time", limit=wall_s, used=self.used_wall_s + ran_s)
        asked = model_tokens or 0.0
        if ceiling.model_tokens is not None:
            used = self._tokens
            if (model and used >= ceiling.model_tokens) or used + asked > ceiling.model_tokens:
                raise BudgetExhausted("model tokens", limit=ceiling.model_tokens, used=used)
        if ceiling.money is not None:
            used = self._money
            if (model and used >= ceiling.money) or used + asked * (price_per_1k or 0.0) / 1000 > ceiling.money:
                raise BudgetExhausted("money", limit=ceiling.money, used=used)
        self.used_calls += 1
        if model and model_tokens is None:
            asked = self._model_tokens / self._model_calls if self._model_calls else guess
        money = asked * price_per_1k / 1000 if price_per_1k is not None else self._unpriced(model=model)
        held = Hold(asked, money)
        self._held_tokens += held.model_tokens
        self._held_money += held.money
        return held

    def settle(self, held: Hold, *, tries: int, model_tokens: int, money: float = 0.0, model: bool = False) -> None:
        """The call ended, and took so many tries, model tokens and money in fact."""
        self._release(held)
        self.used_calls += max(1, tries) - 1
        self.used_model_tokens += model_tokens
        self.used_money += money
        if model:
            self._model_calls += 1
            self._model_tokens += model_tokens
            self._model_money += money

    def give_back(self, held: Hold) -> None:
        """The call never began."""
        self._release(held)
        self.used_calls -= 1

    def _unpriced(self, *, model: bool) -> float:
        if not model or self.ceiling.money is None:
            return 0.0
        if self._model_calls:
            return self._model_money / self._model_calls
        return max(0.0, self.ceiling.money - self._money)

    @property
    def _calls(self) -> int:
        return self.used_calls + self.below.calls

    @property
    def _tokens(self) -> float:
        return self.used_model_tokens + self._held_tokens + self.below.model_tokens

    @property
    def _money(self) -> float:
        return self.used_money + self._held_money + self.below.money

    def _release(self, held: Hold) -> None:
        self._held_tokens = max(0.0, self._held_tokens - held.model_tokens)
        self._held_money = max(0.0, self._held_money - held.money)
