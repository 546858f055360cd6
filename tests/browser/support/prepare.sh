# Makes sure that there are a runner, a browser and the packages; read by `run` and `picture`.

export RUNNER_BIN="${RUNNER_BIN:-$PWD/../../target/debug/runner}"
export CHROMIUM="${CHROMIUM:-/usr/bin/chromium}"

fail() {
  echo "tests/browser: $*" >&2
  exit 2
}

[ -x "$RUNNER_BIN" ] || fail "there is no runner at $RUNNER_BIN: build it (cargo build -p runner) or set RUNNER_BIN"
command -v npm >/dev/null || fail "npm is missing: install Node.js 20 or newer"
if [ ! -x "$CHROMIUM" ]; then
  if [ "$CHROMIUM" = /usr/bin/chromium ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null
  else
    fail "there is no browser at $CHROMIUM: install Chromium (apt-get install chromium) or set CHROMIUM"
  fi
fi
if ! cmp -s package-lock.json node_modules/.installed; then
  npm ci --no-audit --no-fund --loglevel=error
  cp package-lock.json node_modules/.installed
fi
