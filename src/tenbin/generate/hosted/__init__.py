"""Models that others run: OpenAI, Azure OpenAI, and every server that speaks their protocol."""

from tenbin.generate.hosted.generator import HostedGenerator
from tenbin.generate.hosted.opening import open_hosted, plan_hosted, served
from tenbin.generate.hosted.prices import Cost, Prices, read_prices, shipped_prices
from tenbin.generate.hosted.spending import Spending
from tenbin.generate.hosted.usage import CallPlan, Usage

__all__ = [
    "CallPlan",
    "Cost",
    "HostedGenerator",
    "Prices",
    "Spending",
    "Usage",
    "open_hosted",
    "plan_hosted",
    "read_prices",
    "served",
    "shipped_prices",
]
