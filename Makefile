# linkerd-go: the commands of the project. `make` alone lists them.
#
# Everything is built with the Go toolchain; OS packages that the embedded
# cluster needs are installed by it (`devcluster deps`).

VERSION ?= dev
MODULE  := github.com/linkerd-go/linkerd-go
BIN     := $(CURDIR)/bin
LDFLAGS := -s -w -X $(MODULE)/internal/version.Version=$(VERSION)
GO      := CGO_ENABLED=0 go
# Go's cryptographic module for FIPS=1: the newest that has a certificate, see docs/fips.md.
FIPSMODULE := v1.0.0

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 22

.PHONY: demo
demo: ## from a bare machine to a meshed application; leaves it running
	@go run ./build/demo

.PHONY: demo-down
demo-down: ## remove every trace of the demo
	@go run ./build/demo -down

.PHONY: test
test: ## every test: repository rules, units under the race detector, end to end on the embedded cluster
	@go run ./build/runtests

.PHONY: unit
unit: ## the tests that need no cluster
	@go run ./build/runtests -only unit

.PHONY: e2e
e2e: ## the tests on the embedded cluster; RUN=regexp chooses some
	@go run ./build/runtests -only e2e $(if $(RUN),-run '$(RUN)')

.PHONY: controlplane
controlplane: ## the controllers against an API server that fails them; RUN=regexp chooses some
	@go run ./build/runtests -only controlplane $(if $(RUN),-run '$(RUN)')

.PHONY: bench
bench: ## measure the proxy next to nginx and HAProxy, and the controllers; SCENARIO=name for one (needs root)
	@go run ./bench $(if $(SCENARIO),-scenario $(SCENARIO)) $(BENCHFLAGS)

.PHONY: h2spec
h2spec: ## the HTTP/2 conformance suite against both listeners of the proxy
	@go run ./test/h2spec

.PHONY: grpc-interop
grpc-interop: ## the gRPC interoperability suite through both proxies
	go test -count=1 -v ./test/grpcinterop

.PHONY: conformance
conformance: ## the official Gateway API suite on a cluster of its own; RUN=name runs one test, KEEP=1 leaves the cluster
	@# The newest suite may want a newer Go than the project does.
	cd test/conformance && GOTOOLCHAIN=auto go run . $(if $(RUN),-run-test '$(RUN)',-report $(CURDIR)/docs/conformance/gateway-api.yaml) $(if $(KEEP),-keep)

.PHONY: cni
cni: ## the mesh with the CNI plugin in place of init containers, on a cluster of its own; not part of `make test`
	@go run ./build/runtests -only cni $(if $(RUN),-run '$(RUN)') $(if $(KEEP),-keep)

.PHONY: certmanager
certmanager: ## the mesh with its credentials kept by the real cert-manager and trust-manager, on a cluster of its own; not part of `make test`
	@go run ./build/runtests -only certmanager $(if $(RUN),-run '$(RUN)') $(if $(KEEP),-keep)

.PHONY: soak
soak: ## load and faults through whole proxies, then look for leaks; DURATION=3m
	go test -count=1 -v -timeout 0 ./test/soak -soak $(or $(DURATION),3m)

.PHONY: fips
fips: ## mTLS, identity and webhooks as a FIPS 140-3 build, in which any other cryptography is an error
	GOFIPS140=$(FIPSMODULE) GODEBUG=fips140=only go test -count=1 ./proxy/meshtls ./control/identity ./internal/webhook

.PHONY: cli
cli: ## build bin/linkerd
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/linkerd ./cmd/linkerd

.PHONY: images
images: ## build the container images into out/images; ARCH=amd64,arm64 or PUSH=registry/path for more, FIPS=1 for FIPS 140-3
	go run ./build/images -version $(VERSION) $(if $(FIPS),-fips $(FIPSMODULE)) $(if $(ARCH),-arch $(ARCH)) $(if $(PUSH),-push $(PUSH)) $(if $(ONLY),-only $(ONLY))

.PHONY: devcluster
devcluster: ## build the embedded Kubernetes: bin/devcluster, bin/kubectl
	$(MAKE) --no-print-directory -C devcluster BIN=$(BIN)

.PHONY: generate
generate: ## regenerate all that is generated
	go generate ./...

.PHONY: clean
clean: ## remove what was built (not the demo: make demo-down)
	rm -rf bin out
