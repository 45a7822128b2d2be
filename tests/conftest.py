"""What holds for every test: those marked `model` need the real model; and the command line as a fixture."""

import sys

import pytest
from tests.real_parts import real_model


@pytest.fixture(autouse=True)
def _needs_the_real_model(request):
    if request.node.get_closest_marker("model"):
        real_model()


@pytest.fixture
def cli(monkeypatch, capsys):
    """Runs a command as the entry point does: exit code, stdout and stderr."""

    import tenbin.cli

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["tenbin", *map(str, args)])
        capsys.readouterr()
        code = 0
        try:
            tenbin.cli.main()
        except SystemExit as stopped:
            code = stopped.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return call
