# `make help` lists what can be done here. All of it works offline once the
# packages are installed, as root or not.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# gin's msgpack renderer is half of gin's weight and nobody asks for it.
GOBUILD := go build -tags nomsgpack -ldflags '-s -w -X main.version=$(VERSION)'
export CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

WEB := $(shell find web/src web/public -type f) $(wildcard web/*.html web/*.js web/*.json)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: setup build ## set up what is missing, build, start everything with a demo sale (http://localhost:8080)
	@exec bin/usher dev

.PHONY: setup
setup: ## install what running needs and is missing: redis-server, PostgreSQL, npm packages
	@scripts/setup.sh run

.PHONY: setup-test
setup-test: # the same, and the browser
	@scripts/setup.sh test

.PHONY: setup-bench
setup-bench: # what running needs, and the peers that bench compares with
	@scripts/setup.sh bench

.PHONY: build
build: web/dist/index.html ## build bin/usher and bin/stampede
	@mkdir -p bin
	$(GOBUILD) -o bin/ ./cmd/usher ./cmd/stampede

web/dist/index.html: web/node_modules/.package-lock.json $(WEB)
	cd web && npm run --silent build
	@touch $@

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	@scripts/setup.sh run
	@touch $@

.PHONY: test
test: setup-test build ## set up what is missing, run every test: Go with the race detector, web, browser
	go test -race -count=1 -timeout 9m ./...
	cd web && npm test --silent && npm run --silent e2e

.PHONY: e2e
e2e: setup-test build ## the browser journeys alone; screenshots in web/e2e/screenshots
	cd web && npm run --silent e2e

.PHONY: bench
bench: setup-bench build ## measure against plain baselines, print ratios
	go run ./bench

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, known vulnerabilities
	@scripts/lint.sh
