"""Chromium, where it is installed: opens a page and gives back what it made of it."""

import shutil
import subprocess

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


def opened(page, profile):
    """(the page as Chromium has it, its complaints) of a file.

    Args:
        profile: a folder for Chromium's own files.
    """
    found = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    complaints = [line for line in found.stderr.splitlines() if "CONSOLE" in line or "Refused" in line]
    return found.stdout, complaints
