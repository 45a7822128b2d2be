"""vLLM: started by tenbin for a model on this machine, asked through its API, and ended."""

from tenbin.generate.vllm.generator import VllmGenerator
from tenbin.generate.vllm.server import Launch, VllmServer, find_command

__all__ = ["Launch", "VllmGenerator", "VllmServer", "find_command"]
