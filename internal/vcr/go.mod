module github.com/llm-dev-ops/ghcr/internal/vcr

go 1.26.0

replace github.com/llm-dev-ops/ghcr => ../..

require (
	github.com/llm-dev-ops/ghcr v0.0.0
	github.com/opencontainers/go-digest v1.0.0
	gopkg.in/dnaeon/go-vcr.v4 v4.0.7
)

require (
	github.com/opencontainers/image-spec v1.1.1 // indirect
	go.yaml.in/yaml/v4 v4.0.0-rc.6 // indirect
)
