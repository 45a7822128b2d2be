"""[[judge]]: a model that grades answers to questions of a bank."""

from pydantic import Field, model_validator

from tenbin.config_hosted import HostedSection, hosted_mistakes
from tenbin.config_section import Section
from tenbin.config_vllm import VllmSection, vllm_mistakes


class JudgeConfig(Section):
    """[[judge]]: which model, how often it is asked, and when its grades are leant on."""

    source: str = Field(min_length=1)
    """Hub name, folder, .gguf file, `vllm:` before one of these, or a hosted model, as of a [[model]]."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Short name; from the source without it."""
    tokenizer: str | None = None
    hosted: HostedSection | None = None
    """Only of a hosted model."""
    vllm: VllmSection | None = None
    """Only of a model that vLLM serves on this machine."""
    chat: bool = True
    """Put the prompt into a local model's chat template."""
    repeats: int = Field(default=2, ge=1, le=20)
    """Judgements of each answer; every second one lists the grades and the parts of the question in the other
    order."""
    max_new_tokens: int = Field(default=400, ge=20)
    calibrate: bool = True
    """Also judge answers to questions that people grade. Those judgements count in no score."""
    pairs: bool = False
    """Also compare the answers of every two systems side by side, in both positions."""
    min_human: int = Field(default=20, ge=2)
    """Answers that people must have graded, too, before the judge may be called calibrated."""
    min_kappa: float = Field(default=0.4, ge=-1, le=1)
    """And the lower end of the interval of its weighted kappa with them must reach this."""
    seed: int = 0

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> "JudgeConfig":
        mistakes = hosted_mistakes(self.source, self.hosted, self.tokenizer)
        mistakes += vllm_mistakes(self.source, self.vllm)
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self
