# One command each: make demo, make test, make check, make bench.
GO ?= go
export GOFLAGS ?= -buildvcs=false
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS = -X github.com/breakwater-mesh/breakwater/pkg/telemetry.Version=$(VERSION) -X main.version=$(VERSION)

.PHONY: all build tools test test-long differential check bench bench-swarm bench-agent demo fuzz clean

all: build

build: ## the programs, into bin/
	$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/breakwater ./cmd/controlplane
	$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/bwctl ./cmd/bwctl
	$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/breakwater-agent ./cmd/agent

tools: ## the pinned Envoy, into .cache/envoy; ENVOY=/path uses another
	tools/fetch-envoy.sh

test: ## everything, with the race detector where there are goroutines, against the real Envoy and a real etcd; ALLOW_SKIP=1 lists missing parts instead of failing
	tools/run-tests.sh

test-long: ## the crash tests more often, a random walk of a million steps, 10,000 edits under traffic, more random corpora, larger bodies, longer attacks
	BREAKWATER_LONG=1 $(GO) test -count=1 -timeout 60m -run 'Long|Survives|Moves|RandomEdits' ./integration/...
	BREAKWATER_LONG=1 $(GO) test -count=1 -run Corpus ./pkg/world
	$(GO) test -count=1 -timeout 30m -v -run RandomWalk ./pkg/xds -walks 5000

differential: tools ## the agent beside a real Envoy, every scenario; make test runs those that no tick decides
	BREAKWATER_DIFFERENTIAL=all $(GO) test -race -count=1 -v ./integration/differential

check: ## vet, staticcheck, gofmt, tidy drift
	tools/check.sh

bench: tools bench-swarm ## figures: the fleet's cost, policy write to Envoy's ACK, and the benchmarks of the packages
	$(GO) test -count=1 -timeout 20m -run '^$$' -bench . -benchmem ./pkg/... ./integration/bench/...

bench-swarm: ## what a fleet costs the control plane, beside bare grpc-go streams and LinearCache; one cell: BENCH_FLAGS='-n 1000 -s 100'
	@$(GO) build -o bin/bench-swarm ./integration/bench/swarm
	@exec bin/bench-swarm $(BENCH_FLAGS)

bench-agent: tools ## CPU of a request through the agent, beside a real Envoy and a bare ReverseProxy; BENCH_FLAGS='-rounds 9 -only "GET 64 B"'
	@$(GO) build -o bin/bench-agent ./integration/bench/agent
	@exec bin/bench-agent -most 1.15 $(BENCH_FLAGS)

demo: ## the chain orders -> payments -> billing -> email before and after its policies; DEMO_SECONDS=N ends it; DEMO_PROXY=envoy|agent|mixed
	@[ "$(DEMO_PROXY)" = agent ] || tools/fetch-envoy.sh || [ -z "$(DEMO_PROXY)" ]
	@$(GO) build -o bin/demo ./integration/demo
	@exec bin/demo

fuzz: ## each fuzz target for a while; FUZZ_TIME=1m
	tools/fuzz.sh

clean:
	rm -rf bin .cache
