"""The board on which every process reads what is set by hand, and writes what its own pause rules hold back.

The store is the truth about what operators set; it is read about once a second. What a rule holds back concerns
this process alone. Where both speak about one target, the operator's word counts. Changes are applied to the
resources, told as events, and handed to whoever asks for `in_force`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from headgate.clock import Clock
from headgate.config.settings import GateSettings
from headgate.controls.rules import PauseRules, RuleEffect
from headgate.controls.targets import check, known_targets
from headgate.guard.registry import Resources
from headgate.intake.effective import rate_of
from headgate.intake.in_force import NOTHING, InForce
from headgate.model.control import ENDS_COOLDOWN, Control, ControlKind
from headgate.observe.bus import EventBus
from headgate.store.protocols import Store

END_COOLDOWN_HEARD_MS = 10_000
"""How long the word that ends a cooldown stands in the store: every process reads it about once a second."""
RULE = "rule of "
"""How rules sign."""


class ControlBoard:
    """What is in force in this process. Use from one event loop."""

    def __init__(
        self,
        settings: GateSettings,
        resources: Resources,
        *,
        clock: Clock,
        bus: EventBus,
        workflows: Callable[[], Collection[str]],
        on_change: Callable[[InForce], None],
    ) -> None:
        """``workflows`` names those that exist in code; ``on_change`` hears of every change."""
        self._settings = settings
        self._resources = resources
        self._clock = clock
        self._bus = bus
        self._workflows = workflows
        self._on_change = on_change
        self._rules = PauseRules(settings)
        self._stored: Sequence[Control] = ()
        self._effects: Sequence[RuleEffect] = ()
        self._heard: Mapping[str, Control] = {}
        """The words that ended cooldowns, by resource."""
        self.in_force: InForce = NOTHING
        self.settings = settings
        """As declared, with what is set by hand in its place."""

    async def refresh(self, store: Store) -> None:
        """Read what is set by hand, look at the rules, and apply what has changed.

        Raises:
            StoreError: the store cannot be read; the rules and the ends of what is known are applied all the same.
        """
        try:
            self._stored = self._hear(await store.controls.all(now_ms=self._clock.now_ms()))
        finally:
            if self._rules.any:
                self._effects = self._rules.look(self._resources.statistics(), now_s=self._clock.monotonic())
            self._apply()

    async def put(self, store: Store, *controls: Control) -> None:
        """Set them for the whole fleet: here at once, elsewhere within about a second.

        Raises:
            InvalidRequest: one does not fit its target; nothing is set. UnknownTarget: there is no such target.
        """
        for control in controls:
            known = known_targets(self._settings, self._workflows())
            what, _, name = control.target.partition(":")
            if what == "tenant" and name not in known["tenant"]:
                known["tenant"] = [*known["tenant"], *await store.controls.tenants(name)]
            check(control, self._settings, known)
        for control in controls:
            await store.controls.put(control)
        await self._reread(store)

    async def drop(
        self, store: Store, target: str, kinds: Collection[ControlKind], *, by: str, reason: str
    ) -> list[Control]:
        """End what is set by hand on a target; returns what was in force. Targets that are gone are ended too."""
        now_ms = self._clock.now_ms()
        dropped = [await store.controls.drop(target, kind, by=by, reason=reason, now_ms=now_ms) for kind in kinds]
        await self._reread(store)
        return [control for control in dropped if control is not None]

    async def end_cooldown(self, store: Store, target: str, *, by: str, reason: str) -> bool:
        """Let calls on a resource start again in the whole fleet, although the dependency asked for a pause; False if
        there is no such resource. Nothing else may be overridden on it."""
        if target not in {resource.scope for resource in self._resources.all()}:
            return False
        now_ms = self._clock.now_ms()
        word = Control(target, ControlKind.OVERRIDE, reason, by, now_ms, now_ms + END_COOLDOWN_HEARD_MS)
        await store.controls.put(word)
        await self._reread(store)
        return True

    def _hear(self, controls: Sequence[Control]) -> Sequence[Control]:
        """End cooldowns where that is new; the other controls."""
        ended = {control.target: control for control in controls if control.words == ENDS_COOLDOWN}
        for resource in self._resources.all() if ended else ():
            word = ended.get(resource.scope)
            if word is None or word == self._heard.get(resource.scope) or resource.statistics().cooldown is None:
                continue
            resource.end_cooldown()
            what = {"target": resource.scope, "old": "cooldown", "new": "none"}
            self._bus.emit("control_changed", **what, by=word.set_by, reason=word.reason)
        self._heard = ended
        return [control for control in controls if control.words != ENDS_COOLDOWN]

    async def _reread(self, store: Store) -> None:
        self._stored = self._hear(await store.controls.all(now_ms=self._clock.now_ms()))
        self._apply()

    def _apply(self) -> None:
        before, now_ms = self.in_force, self._clock.now_ms()
        after = self._judged(now_ms)
        if after == before:
            return
        self.in_force = after
        self.settings = after.effective(self._settings)
        self._resources.use(self.settings, after.model_tokens)
        for kind in (ControlKind.OVERRIDE, ControlKind.PAUSE):
            for target in sorted({*_of(before, kind), *_of(after, kind)}):
                old, new = before.of(target, kind), after.of(target, kind)
                if old != new:
                    self._set(target, kind, new, now_ms)
                    self._tell(target, old, new)
        for target, share in after.thinned.items():
            if before.thinned.get(target) != share:
                self._tell_thinned(target, before.thinned.get(target), share)
        for target in before.thinned.keys() - after.thinned.keys():
            self._tell_thinned(target, before.thinned[target], None)
        self._on_change(after)

    def _judged(self, now_ms: int) -> InForce:
        """The operators' controls that hold, and the rules' where no operator has spoken."""
        pauses: dict[str, Control] = {}
        overrides: dict[str, Control] = {}
        thinned: dict[str, float] = {}
        for control in self._stored:
            if control.holds(now_ms):
                (pauses if control.kind is ControlKind.PAUSE else overrides)[control.target] = control
        for effect in self._effects:
            what, _, name = effect.target.partition(":")
            if effect.thin_to is None:
                pauses.setdefault(effect.target, self._by_rule(effect, ControlKind.PAUSE, now_ms))
            elif what == "lane":
                thinned[name] = min(effect.thin_to, thinned.get(name, 1.0))
            else:
                most = self._resources.get(name).settings.concurrency.most
                limit = max(1, int(effect.thin_to * most))
                least = overrides.get(effect.target)
                if least is None or (least.set_by.startswith(RULE) and limit < (least.limit_to or limit)):
                    overrides[effect.target] = self._by_rule(effect, ControlKind.OVERRIDE, now_ms, limit)
        return InForce(pauses, overrides, thinned)

    def _by_rule(self, effect: RuleEffect, kind: ControlKind, now_ms: int, limit: int | None = None) -> Control:
        """A rule's control; it keeps the moment at which it began, and its first reason."""
        known = self.in_force.of(effect.target, kind)
        signed = RULE + effect.rule
        if known is not None and known.set_by == signed:
            return known
        return Control(effect.target, kind, effect.reason, signed, now_ms, limit_to=limit)

    def _set(self, target: str, kind: ControlKind, control: Control | None, now_ms: int) -> None:
        """Apply one change to a resource; everything else is looked up in `in_force`."""
        what, _, name = target.partition(":")
        known = {resource.name: resource for resource in self._resources.all()}
        if what != "resource" or name not in known:
            return
        resource = known[name]
        until = None
        if control is not None and control.until_ms is not None:
            until = self._clock.monotonic() + (control.until_ms - now_ms) / 1000
        if kind is ControlKind.PAUSE:
            if control is None:
                resource.resume()
            else:
                resource.pause(control.reason, until)
        elif control is None or (control.limit_to is None and rate_of(control) is None):
            resource.reset()
        else:
            resource.override(limit=control.limit_to, rate=rate_of(control), reason=control.reason, until=until)

    def _tell(self, target: str, old: Control | None, new: Control | None) -> None:
        told = new or old
        self._bus.emit(
            "control_changed",
            target=target,
            old="none" if old is None else old.words,
            new="none" if new is None else new.words,
            by=None if told is None else told.set_by,
            reason="ended" if new is None else new.reason,
            until_ms=None if new is None else new.until_ms,
        )

    def _tell_thinned(self, lane: str, old: float | None, new: float | None) -> None:
        effect = next((one for one in self._effects if one.target == f"lane:{lane}"), None)
        self._bus.emit(
            "control_changed",
            target=f"lane:{lane}",
            old="none" if old is None else f"thinned to {old:.0%}",
            new="none" if new is None else f"thinned to {new:.0%}",
            by="a pause rule" if effect is None else RULE + effect.rule,
            reason="ended" if effect is None else effect.reason,
        )


def _of(in_force: InForce, kind: ControlKind) -> Collection[str]:
    return (in_force.pauses if kind is ControlKind.PAUSE else in_force.overrides).keys()
