#!/usr/bin/env bash
# The browser that opens the report in a test, and fonts for Japanese: installed where that is possible.
set -eu
if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; then
    exit 0
fi
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk >/dev/null
    exit 0
fi
echo "No chromium: the tests marked 'browser' will be skipped. Install it (Debian: apt install chromium fonts-noto-cjk)." >&2
