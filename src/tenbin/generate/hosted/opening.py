"""open_hosted, plan_hosted, served: from a [[model]] of the study to its generator and its plan."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from tenbin.config import ModelConfig
from tenbin.config_hosted import HostedSection, hosted_source, parse_money
from tenbin.errors import ModelError, Problem, UserError
from tenbin.generate.hosted.answers import AnswerStore
from tenbin.generate.hosted.asking import Terms
from tenbin.generate.hosted.generator import HostedGenerator, no_price
from tenbin.generate.hosted.pace import Pace
from tenbin.generate.hosted.prices import Prices, read_prices
from tenbin.generate.hosted.purses import Purses
from tenbin.generate.hosted.request import Service
from tenbin.generate.hosted.secret import ENTRA_VARIABLE, Secret, find_key, missing
from tenbin.generate.hosted.spending import Spending
from tenbin.generate.hosted.tokens import TokenEstimate
from tenbin.generate.hosted.usage import CallPlan, Tally
from tenbin.types import GenerationConfig, Message


def open_hosted(
    model: ModelConfig,
    folder: Path,
    *,
    prices: Prices,
    spending: Spending | None = None,
    offline: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> HostedGenerator:
    """The generator of a hosted model. Reads the answers that are kept; sends and writes nothing.

    Args:
        folder: the study folder; answers are kept in its `hosted`.
        spending: the study's purse. Open every model before the first one generates, so that the purse
            knows what each has cost so far.
        offline: refuse: a hosted model needs the network.
        say: shows a line to the user.

    Raises:
        UserError: everything that keeps the model from being asked: no key, offline, a limit on money
            without a price, a library that is not installed, damaged answers.
    """
    where, hosted = _where(model), model.hosted or HostedSection()
    errors: list[UserError] = []
    if offline:
        found = "a hosted model needs the network, and --offline forbids it"
        remedy = "leave --offline or the model out"
        errors.append(ModelError(Problem(where=where, found=found, remedy=remedy)))
    secret: Secret | None = None
    try:
        secret = find_key(hosted_source(model.source), hosted, where)
        _check_libraries(model, hosted, secret)
    except UserError as error:
        errors.append(error)
    generator = _make(model, folder, prices, spending, secret, say)
    limited = spending is not None and spending.limit is not None
    if (limited or hosted.max_cost is not None) and generator.terms.purses.price is None:
        name = hosted.price or generator.terms.service.source.model
        errors.append(no_price(where, name, prices))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ModelError([problem for error in errors for problem in error.problems])
    generator.terms.purses.begin(generator.terms.store)
    return generator


def plan_hosted(
    model: ModelConfig,
    folder: Path,
    prompts: Sequence[Sequence[Message]],
    config: GenerationConfig,
    *,
    prices: Prices,
) -> CallPlan:
    """What is still to be asked, for all repeats: without a key, the network or the library.

    Raises:
        DataError: the kept answers are damaged.
    """
    return _make(model, folder, prices, None, None, lambda text: None).plan(prompts, config)


def served(
    label: str, folder: Path, service: Service, model_id: str, say: Callable[[str], None]
) -> HostedGenerator:
    """The generator of a server on this machine that tenbin starts: its calls cost nothing.

    It can plan; to ask it needs a service that says where the server is (`Service.at`), and its key.

    Args:
        label: of the model, for errors.
        folder: the study folder; answers are kept in its `hosted`.

    Raises:
        MissingExtra: the library is not installed.
        DataError: the kept answers are damaged.
    """
    if not (_is_installed("openai") and _is_installed("httpx2")):
        raise missing(f"model {label}", "openai", 'pip install "tenbin[hosted]"')
    terms = _terms(f"model {label}", folder, service, None)
    return HostedGenerator(model_id=model_id, terms=terms, prices=read_prices(), say=say, tally=Tally())


def _make(
    model: ModelConfig,
    folder: Path,
    prices: Prices,
    spending: Spending | None,
    secret: Secret | None,
    say: Callable[[str], None],
) -> HostedGenerator:
    hosted = model.hosted or HostedSection()
    service = Service(source=hosted_source(model.source), hosted=hosted)
    terms = _terms(_where(model), folder, service, secret)
    own = [] if hosted.max_cost is None else [Spending(parse_money(hosted.max_cost), prices)]
    purses = replace(
        terms.purses,
        price=prices.find(hosted.price or service.source.model),
        spendings=own + ([] if spending is None else [spending]),
    )
    return HostedGenerator(
        model_id=model.label,
        terms=replace(terms, purses=purses),
        prices=prices,
        say=say,
        repeats=hosted.repeats,
        tally=Tally(),
    )


def _terms(where: str, folder: Path, service: Service, secret: Secret | None) -> Terms:
    """Of calls that cost nothing that is known."""
    path = folder / "hosted" / _file_name(service)
    return Terms(
        where=where,
        service=service,
        secret=secret,
        store=AnswerStore(path),
        pace=Pace(service.hosted.requests_per_minute, service.hosted.tokens_per_minute),
        purses=Purses(account=str(path.resolve()), price=None, spendings=()),
        estimate=TokenEstimate(),
    )


def _where(model: ModelConfig) -> str:
    return f"model {model.label}"


def _file_name(service: Service) -> str:
    """Readable, and different for every address and model."""
    stem = "".join(c if c.isalnum() or c in "._-" else "-" for c in service.source.model)
    place = f"{service.source.kind} {service.address} {service.source.model}"
    return f"{stem[:60]}-{hashlib.sha256(place.encode()).hexdigest()[:8]}.jsonl"


def _check_libraries(model: ModelConfig, hosted: HostedSection, secret: Secret | None) -> None:
    if not (_is_installed("openai") and _is_installed("httpx2")):
        raise missing(_where(model), "openai", 'pip install "tenbin[hosted]"')
    if hosted.auth == "entra" and secret is None and not _is_installed("azure.identity"):
        line = f'pip install "tenbin[azure]" and sign in (`az login`), or set {ENTRA_VARIABLE}'
        raise missing(_where(model), f"{ENTRA_VARIABLE} is not set, and azure-identity", line)


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
