#!/bin/sh
# Installs what is missing: `setup.sh run` what `make run` needs, `setup.sh test`
# also the browser, nginx and Caddy, `setup.sh bench` also the peers to compare with. Says one line for each thing it does, nothing when all is there.
set -eu
cd "$(dirname "$0")/.."

have() { command -v "$1" >/dev/null 2>&1; }
have_postgres() {
	have postgres && return 0
	for bin in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres \
		/opt/homebrew/opt/postgresql@*/bin/postgres /usr/local/opt/postgresql@*/bin/postgres; do
		[ -x "$bin" ] && return 0
	done
	return 1
}
have_browser() { [ -n "${CHROMIUM:-}" ] && [ -x "$CHROMIUM" ] || have chromium || have chromium-browser || have google-chrome; }
have_node() { have npm && have node && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; }

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

updated=
install() { # install THING APT-PACKAGE BREW-PACKAGE
	log=$(mktemp)
	if have apt-get && { [ "$(id -u)" = 0 ] || have sudo; }; then
		echo "setup: installing $1 (apt-get install $2)"
		[ -n "$updated" ] || as_root apt-get update -qq >"$log" 2>&1 || true # an old list may still do
		updated=1
		as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$2" >"$log" 2>&1 || failed "$1" "$log"
	elif have brew; then
		echo "setup: installing $1 (brew install $3)"
		brew install --quiet $3 >"$log" 2>&1 || failed "$1" "$log"
	else
		echo "setup: $1 is missing and neither apt-get (as root or with sudo) nor brew is here." >&2
		echo "setup: install it by hand, or run the containers of deploy/compose.yaml." >&2
		exit 1
	fi
	rm -f "$log"
}
failed() {
	tail -n 5 "$2" >&2
	echo "setup: $1 could not be installed. Install it by hand, or run the containers of deploy/compose.yaml." >&2
	rm -f "$2"
	exit 1
}

have go || { echo "setup: Go is missing: see https://go.dev/dl/ (go.mod names the version)." >&2; exit 1; }
have_node || { echo "setup: Node 20 or later with npm is missing: see https://nodejs.org/." >&2; exit 1; }
have redis-server || have valkey-server || install redis-server redis-server redis
have_postgres || install PostgreSQL postgresql postgresql
if [ "${1:-run}" = test ]; then
	have_browser || install chromium chromium "--cask chromium"
	# The ACME authority of the tests is built by them, from modules fetched here.
	go list -modfile=tools.mod -deps github.com/letsencrypt/pebble/v2/cmd/pebble >/dev/null
	have nginx || [ -x /usr/sbin/nginx ] || install nginx nginx nginx # the two that docs/protect-any-site.md is tried with
	have caddy || install Caddy caddy caddy
fi
if [ "${1:-run}" = bench ]; then
	PATH="$PATH:/usr/sbin" # where Debian keeps two of them
	have nginx || install nginx nginx nginx
	have haproxy || install HAProxy haproxy haproxy
	have caddy || install Caddy caddy caddy
fi

# npm writes this file when it has installed what the lock file names.
installed=web/node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ -n "$(find web/package-lock.json -newer "$installed")" ]; then
	echo "setup: installing web/node_modules (npm ci)"
	log=$(mktemp)
	(cd web && npm ci --prefer-offline --no-audit --no-fund >"$log" 2>&1) || failed "web/node_modules" "$log"
	touch "$installed"
	rm -f "$log"
fi
