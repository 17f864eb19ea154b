"""A judgement as one HTML file that needs nothing else: no scripts, no fonts, no network."""

from pathlib import Path

from jinja2 import Environment, StrictUndefined

from paramgolf.verify.rules import RULES
from paramgolf.verify.ruling import Judgement, Verdict

WORDS = {
    Verdict.FAILED: "A rule is broken.",
    Verdict.DISPUTED: "Nothing is broken under every reading; what is disputed is shown with both.",
    Verdict.PASSED: "No rule is broken, as far as was looked.",
    Verdict.SKIPPED: "There was nothing to check.",
}


def html_report(judgement: Judgement, version: str) -> str:
    """The report of `judgement` by this `version` of the judge."""
    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    counts = {verdict: sum(ruling.verdict is verdict for ruling in judgement.rulings) for verdict in Verdict}
    return environment.from_string(template).render(
        judgement=judgement, rules=RULES, words=WORDS[judgement.verdict], counts=counts, version=version
    )
