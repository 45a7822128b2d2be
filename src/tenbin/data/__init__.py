"""Reading, splitting and inspecting tables of examples."""

from tenbin.data.dataset import Dataset
from tenbin.data.load import load_dataset
from tenbin.data.readers import ReadResult, read_examples
from tenbin.data.splits import Leak, Splits, find_leaks

__all__ = ["Dataset", "Leak", "ReadResult", "Splits", "find_leaks", "load_dataset", "read_examples"]
