# The whole list a contributor needs: `make help`.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

GOARCH  ?= $(shell go env GOARCH)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
DATE    := $(shell git log -1 --format=%cI 2>/dev/null || date -u +%FT%TZ)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)

# TESTFLAGS reaches every go test below, e.g. make test TESTFLAGS=-v.
TESTFLAGS ?=
# Packages that start whole gateways, damage disks or measure: run by name, not with the unit tests.
SYSTEM := /test/(arch|vectors|e2e|crash|bench)(/|$$)
UNITS   = $$(go list ./... | grep -Ev '$(SYSTEM)')
PRESENT = $(foreach d,$(1),$(if $(wildcard test/$(d)/*_test.go),./test/$(d)/...))
# How long each fuzz target runs in `make fuzz`.
FUZZTIME ?= 30s
# Flags for the bench, e.g. make bench BENCH="-case qos1-in -rounds 1".
BENCH ?=

.PHONY: help run build test lint arch unit vectors e2e crash-short fuzz crash soak bench cover deps

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

run: build ## build, then run the gateway here on embedded defaults (simulated field bus, data in ./data)
	bin/tidegate run --dev

build: ## bin/tidegate, static; also make build GOARCH=arm64
	CGO_ENABLED=0 GOARCH=$(GOARCH) go build -trimpath -ldflags '$(LDFLAGS)' -o bin/tidegate ./cmd/tidegate

test: deps lint arch unit vectors e2e crash-short ## everything CI runs: deps, lint, arch, unit with race, vectors, e2e, a short crash run

lint: ## gofmt, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); if [ -n "$$out" ]; then echo "not gofmt-clean (gofmt -w does it):"; echo "$$out"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

arch: ## floors, package comments, wrapped dependencies
	go test $(TESTFLAGS) -count=1 ./test/arch/...

unit: ## unit tests with the race detector
	CGO_ENABLED=1 go test $(TESTFLAGS) -race -timeout 10m $(UNITS)

vectors: ## the specification's test vectors (TIDEGATE_VECTORS=DIR for another set)
	@$(if $(call PRESENT,vectors),go test $(TESTFLAGS) $(call PRESENT,vectors),true)

e2e: deps ## whole gateways beside a real mosquitto and a Modbus slave
	@$(if $(call PRESENT,e2e),go test $(TESTFLAGS) -count=1 -timeout 20m $(call PRESENT,e2e),true)

crash-short: deps
	@$(if $(call PRESENT,crash),go test $(TESTFLAGS) -count=1 -timeout 10m $(call PRESENT,crash),true)

fuzz: ## each fuzz target for FUZZTIME (30s)
	@set -e; for p in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "go test -fuzz ^$$f\$$ -fuzztime $(FUZZTIME) $$p"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; done; done

crash: deps ## the long crash run: at least 100 kills and 100 power cuts
	go test -v -count=1 -timeout 2h ./test/crash -args -long

soak: deps ## a million messages while the upstream is away, the rest of the long e2e forms, and the broker's model for an hour
	go test -v -count=1 -timeout 4h ./test/e2e/... -args -long
	go test -v -count=1 -timeout 1h -run 'TestAnHourBesideStuckSubscribers' ./test/conformance -args -long
	go test -v -count=1 -timeout 4h -run '^TestModel$$' ./test/conformance -args -long

bench: build deps ## speed beside mosquitto, nats and bare mochi; raw figures in bench-out/
	go run ./test/bench $(BENCH)

cover: ## coverage of the unit tests, by function, worst first
	go test -coverprofile=coverage.out $(UNITS)
	@go tool cover -func=coverage.out | sort -t$$'\t' -k1,1 | awk '{print $$NF"\t"$$1" "$$2}' | sort -n | head -40
	@go tool cover -func=coverage.out | tail -1

deps: ## install what the tests need (says what, before it does)
	@bash test/harness/deps.sh
