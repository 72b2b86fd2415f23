#!/usr/bin/env bash
# The whole suite: on SQLite, then on PostgreSQL and Redis when both answer. Under CI=true both must.
# Arguments go to the test binary: tests/run.sh credits::
set -euo pipefail
cd "$(dirname "$0")/.."

# Whether the server of a URL takes connections. $2 is the port when the URL names none.
answers() {
  local place=${1#*://}
  place=${place##*@}
  place=${place%%/*}
  [[ $place == *:* ]] || place=$place:$2
  timeout 2 bash -c "exec 3<>/dev/tcp/${place%:*}/${place##*:}" 2>/dev/null
}

echo "== The suite on SQLite"
MUSUBI_TEST_DATABASE=sqlite cargo test --locked --test it -- "$@"

missing=
answers "${MUSUBI_TEST_POSTGRES:-postgres://postgres@127.0.0.1:5432}" 5432 || missing="PostgreSQL"
answers "${MUSUBI_TEST_REDIS:-redis://127.0.0.1:6379}" 6379 || missing="${missing:+$missing and }Redis"
if [[ -z $missing ]]; then
  echo "== The suite on PostgreSQL and Redis"
  MUSUBI_TEST_DATABASE=postgres cargo test --locked --test it -- "$@"
elif [[ ${CI:-} == true ]]; then
  echo "== FAILED: $missing does not answer, and under CI=true the suite must run there too" >&2
  exit 1
else
  echo "============================================================================" >&2
  echo "== NOT TESTED on PostgreSQL and Redis: $missing does not answer." >&2
  echo "== MUSUBI_TEST_POSTGRES and MUSUBI_TEST_REDIS name servers elsewhere." >&2
  echo "============================================================================" >&2
fi
