"""Advice: the recommendation in plain words, its evidence and its cautions, in the report's language."""

from dataclasses import dataclass

from tenbin.report.comparisons import Comparison
from tenbin.report.evidence import Evidence, System, read_evidence
from tenbin.report.hosted import thousand_text
from tenbin.report.recommendation import Recommendation, recommend, seconds_per_example, weight_bytes
from tenbin.report.text import Scale, gib_text, p_text, scale_of, visible
from tenbin.report.words import Language, Words
from tenbin.runs import StudyFolder


@dataclass(frozen=True, slots=True)
class Advice:
    """The first paragraph of the report."""

    headline: str
    """One sentence: what to do."""
    sentences: tuple[str, ...]
    """The evidence."""
    cautions: tuple[str, ...]
    rule: tuple[str, ...]


def advise(evidence: Evidence, found: Recommendation, words: Words) -> Advice:
    """Put the recommendation into words."""
    voice = _Voice(evidence, found, words, scale_of(evidence.headline))
    rule = [
        words("rule.one", split=words.split(evidence.split)),
        words("rule.two", alpha=f"{1 - evidence.level:.2g}"),
        *(words(f"rule.{step}") for step in ("three", "four", "five")),
    ]
    return Advice(voice.headline(), tuple(voice.sentences()), tuple(voice.cautions()), tuple(rule))


@dataclass(frozen=True, slots=True)
class _Voice:
    evidence: Evidence
    found: Recommendation
    words: Words
    scale: Scale

    def headline(self) -> str:
        chosen = self.found.chosen
        if chosen is None:
            kind = "choose_none" if self.found.verdict == "no baseline beaten" else "choose_nothing"
            return self.words(f"advice.{kind}")
        if self.found.verdict == "base":
            key = "choose_base" if self.evidence.of_kind("tuned") else "choose_base_only"
            return self.words(f"advice.{key}", system=chosen.model)
        key = "choose" if self.found.verdict == "choose" else "choose_tied"
        return self.words(f"advice.{key}", system=chosen.name)

    def sentences(self) -> list[str]:
        best, chosen = self.found.best, self.found.chosen
        if best is None and any(s.result.points and not s.result.points[0].by for s in self.evidence.systems):
            return [self.words("advice.not_graded")]
        if best is None:
            return [self.words("advice.nothing", split=self.words.split(self.evidence.split))]
        if chosen is None:
            return [
                self._score("best_score", best),
                *(self._over_baseline(best, b) for b in self._baselines()),
            ]
        lines = [self._score("score", chosen)]
        if chosen is not best:
            value = self.scale.text(best.value(self.evidence.headline))
            lines.append(self.words("advice.not_best", system=best.name, value=value))
        lines += self._against_candidates(chosen)
        lines += self._reason(chosen)
        lines += self._hosted(chosen)
        lines += self._over_base(chosen)
        lines += [self._over_baseline(chosen, b) for b in self._baselines()]
        return lines if self._baselines() else [*lines, self.words("advice.no_baseline")]

    def _baselines(self) -> list[System]:
        return self.evidence.of_kind("baseline")

    def _score(self, key: str, system: System) -> str:
        estimate = system.result.metric(self.evidence.headline).estimate
        return self.words(
            f"advice.{key}",
            system=system.name,
            split=self.words.split(self.evidence.split),
            metric=self.evidence.headline_name,
            value=self.scale.text(estimate.value if estimate else None),
            interval=self.scale.interval(estimate),
            level=level_text(self.evidence.level),
            n=estimate.n if estimate else 0,
        )

    def _against_candidates(self, chosen: System) -> list[str]:
        """Clearly better than all, or whom it cannot be told apart from and what it would take."""
        pairs = [c for c in self.found.comparisons if chosen.key in (c.a.key, c.b.key)]
        pairs = [c for c in pairs if _other(c, chosen).kind != "baseline" and c.difference is not None]
        open_pairs = [c for c in pairs if not c.clear(self.evidence.level)]
        if not open_pairs and pairs:
            closest = min(pairs, key=lambda c: abs(c.difference.value) if c.difference else 0.0)
            return [
                self.words(
                    "advice.clearly",
                    n=len(pairs),
                    system=_other(closest, chosen).name,
                    corrected=self.words(
                        "advice.corrected", n=sum(1 for c in self.found.comparisons if c.p_value is not None)
                    ),
                    **self._figures(closest, chosen),
                )
            ]
        return [
            self.words(
                "advice.tied",
                system=_other(c, chosen).name,
                n=c.n,
                needed=self._needed(c),
                **self._figures(c, chosen),
            )
            for c in open_pairs
        ]

    def _needed(self, comparison: Comparison) -> str:
        if comparison.needed is None:
            return self.words("advice.needed_never")
        if comparison.needed <= comparison.n:
            return self.words("advice.needed_enough")
        return self.words("advice.needed", n=f"{_two_digits(comparison.needed):,}")

    def _figures(self, comparison: Comparison, system: System) -> dict[str, str]:
        """Difference from the side of `system`, and the corrected p."""
        assert comparison.difference is not None, comparison
        assert comparison.p_adjusted is not None, comparison
        sign = 1 if comparison.a.key == system.key else -1
        # `points` are always hundredths of the score's range, also for metrics shown as fractions.
        return {
            "difference": f"{100 * sign * comparison.difference.value:+.1f}",
            "p": p_text(comparison.p_adjusted),
        }

    def _reason(self, chosen: System) -> list[str]:
        size, seconds = weight_bytes(chosen, self.evidence), seconds_per_example(chosen, self.evidence)
        match self.found.reason:
            case "smaller" if size is not None:
                return [self.words("advice.smaller", size=gib_text(size))]
            case "faster" if seconds is not None:
                return [self.words("advice.faster", seconds=f"{seconds:.2g}")]
            case "cheaper" if (cost := thousand_text(chosen)) is not None:
                return [self.words("advice.cheaper", cost=cost)]
            case "base" | "local" as reason:
                return [self.words(f"advice.{reason}")]
            case None:
                return []
            case _:
                return [self.words("advice.highest")]

    def _over_base(self, chosen: System) -> list[str]:
        for base in self.evidence.of_kind("base"):
            if chosen.kind in ("tuned", "adapter") and base.model == chosen.model:
                comparison = self.found.between(chosen, base)
                if comparison and comparison.difference is not None and comparison.p_adjusted is not None:
                    better = comparison.better(chosen, self.evidence.level)
                    key = "over_base" if better else "not_over_base"
                    lines = [self.words(f"advice.{key}", **self._figures(comparison, chosen))]
                    answered = base.result.num_examples - base.result.num_errors
                    if answered and base.result.num_unparsed == answered:
                        lines.append(self.words("advice.base_unread", n=answered))
                    return lines
        return []

    def _hosted(self, chosen: System) -> list[str]:
        if chosen.kind != "hosted":
            return []
        cost = thousand_text(chosen)
        return [self.words("advice.hosted", cost=cost) if cost else self.words("advice.hosted_unknown")]

    def _over_baseline(self, system: System, baseline: System) -> str:
        comparison = self.found.between(system, baseline)
        value = self.scale.text(baseline.value(self.evidence.headline))
        unbeaten = baseline.key in {b.key for b in self.found.unbeaten}
        key = "not_over_baseline" if unbeaten else "over_baseline"
        if comparison is None or comparison.p_adjusted is None:
            return self.words(f"advice.{key}_interval", system=baseline.name, value=value)
        return self.words(
            f"advice.{key}", system=baseline.name, value=value, **self._figures(comparison, system)
        )

    def _passed_over(self) -> list[str]:
        """Runs above every weighed system on the reporting set that validation did not choose."""
        top = self.found.best.value(self.evidence.headline) if self.found.best else None
        return [
            self.words(
                "caution.passed_over",
                system=system.name,
                split=self.words.split(self.evidence.split),
                value=self.scale.text(value),
                chosen=self.words.split("validation"),
            )
            for system in self.evidence.of_kind("tuned")
            if not system.finalist
            and not self.evidence.same_set
            and (value := system.value(self.evidence.headline)) is not None
            and top is not None
            and value > top
        ]

    def _leaks(self) -> list[str]:
        """Examples of the reporting set that the training set gives away, where anything was trained."""
        if not self.evidence.of_kind("tuned"):
            return []
        leaks = (self.evidence.inspection or {}).get("leaks") or []
        ways = (self.evidence.split, "train")
        numbers = [x["num_examples"] for x in leaks if (x.get("second"), x.get("first")) == ways]
        name = self.words.split(self.evidence.split)
        return [self.words("caution.leak", set=name, n=max(numbers))] if numbers else []

    def _too_long(self) -> list[str]:
        """Examples that were cut or left out because a model could not take them whole."""
        return [
            self.words(
                "caution.too_long",
                model=model,
                set=self.words.split(split),
                n=len(items),
                what=self.words(f"caution.{'cut' if key == 'cut' else 'dropped'}", n=len(items)),
            )
            for model, plan in self.evidence.plan.items()
            for key in ("cut", "left_out")
            for split, items in (plan.get(key) or {}).items()
            if items
        ]

    def _short_logs(self) -> list[str]:
        """Runs whose log ends before their last step did."""
        return [
            self.words(
                "caution.short_log", system=system.name, last=f"{last:,}", total=f"{epochs[-1].step:,}"
            )
            for system in self.evidence.of_kind("tuned")
            if (epochs := system.run.epochs if system.run else ())
            and (last := system.losses[-1][0] if system.losses else 0) < epochs[-1].step
        ]

    def cautions(self) -> list[str]:
        lines = [self.words("caution.same_set")] if self.evidence.same_set else []
        shown = {s.key: s for s in (self.found.chosen, self.found.best, *self.found.tied) if s is not None}
        for system in shown.values():
            total = system.result.num_examples
            counts = {"errors": system.result.num_errors, "unparsed": system.result.num_unparsed}
            counts["ungraded"] = system.result.points[0].num_ungraded if system.result.points else 0
            for kind, n in counts.items():
                if n:
                    lines.append(self.words(f"caution.{kind}", system=system.name, n=n, total=total))
        for what, names in (
            ("incomplete", [run.name for run in self.evidence.incomplete]),
            ("left_out", [result.name for result in self.evidence.left_out]),
        ):
            if names:
                lines.append(self.words(f"caution.{what}", n=len(names), names=self.words.listed(names)))
        lines += [*self._leaks(), *self._too_long(), *self._short_logs()]
        lines += self._passed_over()
        candidates = [s for s in self.evidence.systems if s.finalist and s.kind != "baseline"]
        if not self.evidence.same_set and len(candidates) > 2:
            lines.append(self.words("caution.many", n=len(candidates)))
        if self.evidence.of_kind("tuned") and not self.evidence.of_kind("base"):
            lines.append(self.words("caution.no_base"))
        lines += [
            self.words("caution.no_rows", a=c.a.name, b=c.b.name, reason=c.reason)
            for c in self.found.comparisons
            if c.p_value is None
        ]
        return lines


def read_advice(study: StudyFolder, *, language: Language = "en") -> Advice:
    """What the report's first paragraph says, without making the report."""
    words = Words(language)
    evidence = read_evidence(study, words)
    return advise(evidence, recommend(evidence), words)


def recommendation_text(study: StudyFolder, *, language: Language = "en") -> str:
    """The recommendation, its evidence and its cautions as plain text, for a terminal."""
    advice = read_advice(study, language=language)
    sentences = Words(language).joined(list(advice.sentences))
    return "\n".join(
        visible(line) for line in (advice.headline, sentences, *(f"! {c}" for c in advice.cautions))
    )


def _other(comparison: Comparison, system: System) -> System:
    return comparison.b if comparison.a.key == system.key else comparison.a


def _two_digits(n: int) -> int:
    """Rounded up to two digits: more would claim to know too much."""
    step = int(10 ** max(0, len(str(n)) - 2))
    return -(-n // step) * step


def level_text(level: float) -> str:
    """A confidence level in percent: `95 %`."""
    return f"{100 * level:g} %"
