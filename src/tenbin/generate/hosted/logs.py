"""What the libraries log while a connection is open, without keys: services repeat what they were sent."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LIBRARIES = ("openai", "httpx2", "httpcore2", "azure", "msal")


@contextmanager
def struck_logs(strike: Callable[[str], str]) -> Iterator[None]:
    """Let every logger of the libraries say its lines struck.

    A filter on each logger, not on a handler: it holds whoever listens, and however low the level is.
    """

    def struck(record: logging.LogRecord) -> bool:
        record.msg, record.args = strike(record.getMessage()), None
        if record.exc_info and record.exc_info[1] is not None:
            record.msg, record.exc_info = f"{record.msg} ({type(record.exc_info[1]).__name__})", None
        return True

    loggers = [
        logging.getLogger(name)
        for name in list(logging.root.manager.loggerDict)
        if name.split(".")[0] in LIBRARIES
    ]
    for logger in loggers:
        logger.addFilter(struck)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(struck)
