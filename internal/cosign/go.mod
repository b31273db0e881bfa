module github.com/llm-dev-ops/ghcr/internal/cosign

go 1.26.0

require (
	github.com/llm-dev-ops/ghcr v0.0.0
	github.com/opencontainers/go-digest v1.0.0
)

require (
	github.com/digitorus/pkcs7 v0.0.0-20230818184609-3a137a874352 // indirect
	github.com/digitorus/timestamp v0.0.0-20231217203849-220c5c2851b7 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
)

replace github.com/llm-dev-ops/ghcr => ../..
