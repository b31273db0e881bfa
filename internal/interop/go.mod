module github.com/llm-dev-ops/ghcr/internal/interop

go 1.26.0

require (
	github.com/google/go-github/v88 v88.0.0
	github.com/llm-dev-ops/ghcr v0.0.0
)

require (
	github.com/google/go-querystring v1.2.0 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
)

replace github.com/llm-dev-ops/ghcr => ../..
